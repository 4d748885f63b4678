"""What one method did on the tasks of a comparison."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from adapt.adapter import Role
from adapt.compare.bootstrap import Scores, resampled
from adapt.compare.examples import Examples, Indices
from adapt.compare.metric import Metric
from adapt.compare.reliability import Reliability
from adapt.compare.robustness import Robustness
from adapt.compare.statistics import Interval, mean_interval

__all__ = ["MEASURED", "Curve", "MethodResult", "from_text", "in_text", "method_of"]

#: What is measured of a method besides its score, by the attribute of a result.
MEASURED: dict[str, Any] = {"reliability": Reliability, "robustness": Robustness}


@dataclass(frozen=True)
class Curve:
    """Score on the queries of one task against seconds of adaptation, increasing."""

    seconds: tuple[float, ...]
    score: tuple[float, ...]

    def first_reach(self, target: float, metric: Metric) -> float | None:
        """Seconds at which the score was first as good as ``target``, or None."""
        looks = zip(self.seconds, self.score, strict=True)
        return next((seconds for seconds, score in looks if metric.reached(score, target)), None)


@dataclass(frozen=True)
class MethodResult:
    """One method on the first ``n`` tasks of a comparison.

    Attributes:
        name: its key in the config.
        role: see :class:`adapt.adapter.Method`.
        score: on each task's queries, ``[n]``: accuracy (0 … 1) or mean squared error, as
            :attr:`Comparison.metric` says.
        seconds: to adapt to each task, ``[n]``.
        forward_equivalents: FLOPs of one adaptation ÷ FLOPs of one forward pass of the support set.
        peak_mb: peak memory of the tensors of one adaptation, MB; None: not measured.
        curves: one per task if the method was watched, else empty.
        energy_wh: electricity of one adaptation, watt-hours, mean over tasks; None if it is not known.
        co2_g: emissions of that electricity, grams.
        usd: price of one adaptation: electricity, or the machine by the hour, as the config says.
        process_mb: the most memory that the process held beyond what it held before, MB; None: not sampled.
        examples: what the tasks were drawn from; the comparison that the result is part of sets it. None: not
            known.
        share: whether scores are shares of the queries; the comparison sets it too.
        transductive: whether what it predicts for a query depends on the others of the task.
        queries: where tasks are fixed, of each the score of every query; :mod:`adapt.compare.bootstrap`.
        reliability: how far its probabilities may be believed; None: it gives none, or that was not asked.
        robustness: how it does on worse queries; None: that was not asked.
    """

    name: str
    role: Role
    score: tuple[float, ...]
    seconds: tuple[float, ...]
    forward_equivalents: float
    peak_mb: float | None
    curves: tuple[Curve, ...] = ()
    energy_wh: float | None = None
    co2_g: float | None = None
    usd: float | None = None
    process_mb: float | None = None
    transductive: bool = False
    examples: Examples | None = field(default=None, repr=False, compare=False)
    share: bool = field(default=False, repr=False, compare=False)
    queries: Scores = field(default=(), repr=False)
    reliability: Reliability | None = field(default=None, repr=False)
    robustness: Robustness | None = field(default=None, repr=False)

    @property
    def n(self) -> int:
        """Number of tasks."""
        return len(self.score)

    @property
    def shown(self) -> str:
        """The name, and what has to be known beside it."""
        return f"{self.name} (transductive)" if self.transductive else self.name

    @property
    def mean_score(self) -> Interval:
        """Over tasks; see :func:`adapt.compare.statistics.estimate`. Of fixed tasks, over test examples."""
        if self.queries:
            return resampled(self.queries, self.supports).interval
        return mean_interval(self.score, self.examples, shares=self.share)

    @property
    def supports(self) -> tuple[Indices, ...]:
        """What each task was learned from. Without examples each task is a training set of its own."""
        kept = self.examples
        return tuple((place,) for place in range(self.n)) if kept is None else kept.support[: self.n]

    @property
    def adapt_seconds(self) -> float:
        """Median over tasks: a user waits for one task, and single tasks are disturbed by whatever else the
        machine does."""
        return float(np.median(self.seconds))

    @property
    def watts(self) -> float | None:
        """Mean power while adapting; None if energy is not known."""
        return None if self.energy_wh is None else 3600 * self.energy_wh / float(np.mean(self.seconds))


def method_of(result: Mapping[str, Any]) -> MethodResult:
    """Read one method of :meth:`adapt.compare.Comparison.to_dict`."""
    curves = tuple(Curve(tuple(c["seconds"]), _score(c)) for c in result["curves"])
    queries = tuple(from_text(task) for task in result.get("queries", ()))
    known = {name: kind.from_dict(result[name]) for name, kind in MEASURED.items() if result.get(name)}
    lists = {
        **known,
        "score": _score(result),
        "seconds": tuple(result["seconds"]),
        "curves": curves,
        "queries": queries,
    }
    return MethodResult(**{**{key: result[key] for key in result if key != "accuracy"}, **lists})


def in_text(scores: Sequence[float]) -> str:
    """Numbers as one text, of which a file with thousands stays readable."""
    return " ".join(f"{score:.9g}" for score in scores)


def from_text(text: str) -> tuple[float, ...]:
    """Read :func:`in_text`."""
    return tuple(map(float, text.split()))


def _score(entry: Mapping[str, Any]) -> tuple[float, ...]:
    """Files from before there was a second metric say ``accuracy``."""
    return tuple(entry["score"] if "score" in entry else entry["accuracy"])
