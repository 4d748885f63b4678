"""The result of a comparison: per-task scores and seconds of every method, and what follows from them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from adapt.adapter import Role
from adapt.compare.metric import ACCURACY, METRICS, Metric
from adapt.compare.statistics import Interval, Speedup, mean_interval, paired_difference, ratio_interval
from adapt.errors import AdaptError

__all__ = ["Comparison", "Curve", "MethodResult"]


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
        peak_mb: peak memory of the tensors of one adaptation, MB.
        curves: one per task if the method was watched, else empty.
        energy_wh: electricity of one adaptation, watt-hours, mean over tasks; None if it is not known.
        co2_g: emissions of that electricity, grams.
        usd: price of one adaptation: electricity, or the machine by the hour, as the config says.
        process_mb: the most memory that the process held beyond what it held before, MB; None: not sampled.
    """

    name: str
    role: Role
    score: tuple[float, ...]
    seconds: tuple[float, ...]
    forward_equivalents: float
    peak_mb: float
    curves: tuple[Curve, ...] = ()
    energy_wh: float | None = None
    co2_g: float | None = None
    usd: float | None = None
    process_mb: float | None = None

    @property
    def n(self) -> int:
        """Number of tasks."""
        return len(self.score)

    @property
    def mean_score(self) -> Interval:
        """Over tasks."""
        return mean_interval(self.score)

    @property
    def adapt_seconds(self) -> float:
        """Median over tasks: a user waits for one task, and single tasks are disturbed by whatever else the
        machine does."""
        return float(np.median(self.seconds))

    @property
    def watts(self) -> float | None:
        """Mean power while adapting; None if energy is not known."""
        return None if self.energy_wh is None else 3600 * self.energy_wh / float(np.mean(self.seconds))


@dataclass(frozen=True)
class Comparison:
    """Methods side by side on the same tasks.

    Attributes:
        experiment: its name.
        task: source, ways, shots, queries, number of tasks …: what the tasks were.
        seed: of the tasks and of the methods.
        device: "cpu" or "cuda", with ``environment`` holding versions, threads and hardware.
        methods: results by name, in the order they were configured.
        meta_seconds: what meta-training the adapter took, if known; for the break-even.
        metric: what the scores are.
        energy_source: "measured" (counters of the machine) or "estimated"; None: no energies.
    """

    experiment: str
    task: Mapping[str, Any]
    seed: int
    device: str
    methods: Mapping[str, MethodResult]
    meta_seconds: float | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    metric: Metric = ACCURACY
    energy_source: str | None = None

    def by_role(self, role: Role) -> MethodResult | None:
        """The most accurate method of that role, or None."""
        found = [method for method in self.methods.values() if method.role == role]
        return max(found, key=lambda method: self.metric.gain(method.mean_score.mean), default=None)

    @property
    def ours(self) -> MethodResult | None:
        """The forward method, if it took part."""
        return self.by_role("forward")

    @property
    def best_head(self) -> MethodResult | None:
        """The most accurate head. Choosing it on these very tasks favours the heads, never us."""
        return self.by_role("head")

    def difference(self, method: MethodResult, reference: MethodResult) -> Interval:
        """Paired difference of scores, method − reference, on the tasks that both ran."""
        return paired_difference(method.score, reference.score)

    def speedup(self, other: MethodResult, ours: MethodResult) -> Speedup:
        """Seconds(other) ÷ seconds(ours), task by task; see :class:`Speedup`.

        For retraining it is the time to first reach our score on the same task's queries. The others stop by
        themselves after a few steps, chosen for their best score: their time is that of the whole.
        """
        if other.role != "retrain" or not other.curves:
            return ratio_interval(other.seconds, ours.seconds)
        reached = self._reached(other, ours)
        censored = [total if r is None else r for r, total in zip(reached, other.seconds, strict=False)]
        return ratio_interval(censored, ours.seconds, never=sum(r is None for r in reached))

    def to_target_seconds(self, method: MethodResult) -> float | None:
        """Median seconds in which ``method`` first reaches our score (its whole time where it never does);
        None if it was not watched."""
        if not method.curves or self.ours is None:
            return None
        reached = zip(self._reached(method, self.ours), method.seconds, strict=False)
        return float(np.median([total if r is None else r for r, total in reached]))

    def failures(self, method: MethodResult) -> int | None:
        """Tasks on which ``method`` never reached our score; None if it was not watched."""
        if not method.curves or self.ours is None:
            return None
        return sum(reached is None for reached in self._reached(method, self.ours))

    def energy_ratio(self, other: MethodResult, ours: MethodResult) -> Speedup | None:
        """Energy(other) ÷ energy(ours), as :meth:`speedup` counts time: of retraining what it takes to first
        reach our score. None if one of them is not known."""
        if not other.watts or not ours.watts:
            return None
        return self.speedup(other, ours).times(other.watts / ours.watts)

    def _reached(self, watched: MethodResult, ours: MethodResult) -> list[float | None]:
        """Task by task: seconds in which ``watched`` first got as far as ``ours``; None: it never did."""
        pairs = zip(watched.curves, ours.score, strict=False)
        return [curve.first_reach(score, self.metric) for curve, score in pairs]

    @property
    def break_even_tasks(self) -> float | None:
        """Tasks after which meta-training has paid off against retraining each time; None if unknown or
        never."""
        retrain = self.by_role("retrain")
        if self.ours is None or retrain is None or self.meta_seconds is None:
            return None
        saved = (self.to_target_seconds(retrain) or retrain.adapt_seconds) - self.ours.adapt_seconds
        return self.meta_seconds / saved if saved > 0 else None

    def metrics(self) -> dict[str, float]:
        """The parent run's ``compare/…`` metrics; scores are differences, ours − the other's, times and
        energies are ratios, the other's ÷ ours. ``_low`` and ``_high`` are the ends of a 95 % interval,
        ``_is_lower_bound`` is 1 where the ratio should be shown as ``≥``, else 0."""
        ours = self.ours
        if ours is None:
            return {}
        values: dict[str, float] = {}
        timed: tuple[Role, ...] = ("retrain", "finetune", "backprop")
        for role in timed:
            if (other := self.by_role(role)) is not None:
                speedup = self.speedup(other, ours)
                values[f"compare/speedup_vs_{role}"] = speedup.ratio
                values[f"compare/speedup_vs_{role}_low"] = speedup.low
                values[f"compare/speedup_vs_{role}_high"] = speedup.high
                values[f"compare/speedup_vs_{role}_is_lower_bound"] = float(speedup.bound)
                if (energy := self.energy_ratio(other, ours)) is not None:
                    values[f"compare/energy_vs_{role}"] = energy.ratio
        scored: tuple[Role, ...] = ("backprop", "head")
        for role in scored:
            if (other := self.by_role(role)) is not None:
                difference = self.difference(ours, other)
                values[f"compare/{self.metric.name}_vs_{role}"] = difference.mean
                values[f"compare/{self.metric.name}_vs_{role}_ci95"] = difference.ci95
        if self.break_even_tasks is not None:
            values["compare/break_even_tasks"] = self.break_even_tasks
        return values

    def method_metrics(self, method: MethodResult) -> dict[str, float]:
        """A child run's metrics."""
        score = method.mean_score
        values = {
            f"eval/{self.metric.name}": score.mean,
            f"eval/{self.metric.name}_ci95": score.ci95,
            "eval/tasks": float(score.n),
            "time/adapt_seconds": method.adapt_seconds,
            "cost/forward_equivalents": method.forward_equivalents,
            "memory/peak_mb": method.peak_mb,
        }
        if (target := self.to_target_seconds(method)) is not None:
            values["time/to_target_seconds"] = target
            values["time/to_target_failures"] = float(self.failures(method) or 0)
        more = {
            "cost/energy_wh": method.energy_wh,
            "cost/co2_g": method.co2_g,
            "cost/usd": method.usd,
            "memory/process_peak_mb": method.process_mb,
        }
        return values | {key: value for key, value in more.items() if value is not None}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, everything included; :meth:`from_dict` reads it back."""
        return {**asdict(self), "metric": self.metric.name}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Comparison":
        """Read :meth:`to_dict`, also of versions that knew accuracy only and called the scores so.

        Raises:
            AdaptError: a metric that this version does not know.
        """
        name = value.get("metric", ACCURACY.name)
        if name not in METRICS:
            raise AdaptError(
                f"a comparison by '{name}', which this version does not know: known are {', '.join(METRICS)}"
            )
        methods = {method: _method(result) for method, result in value["methods"].items()}
        return cls(**{**value, "methods": methods, "metric": METRICS[name]})


def _method(result: Mapping[str, Any]) -> MethodResult:
    curves = tuple(Curve(tuple(c["seconds"]), _score(c)) for c in result["curves"])
    lists = {"score": _score(result), "seconds": tuple(result["seconds"]), "curves": curves}
    return MethodResult(**{**{key: result[key] for key in result if key != "accuracy"}, **lists})


def _score(entry: Mapping[str, Any]) -> tuple[float, ...]:
    """Files from before there was a second metric say ``accuracy``."""
    return tuple(entry["score"] if "score" in entry else entry["accuracy"])
