"""The result of a comparison: per-task scores and seconds of every method, and what follows from them."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from adapt.adapter import Role
from adapt.compare.bootstrap import RESAMPLES, Resampled, resampled_difference
from adapt.compare.examples import Examples
from adapt.compare.metric import ACCURACY, METRICS, Metric
from adapt.compare.result import Curve, MethodResult, in_text, method_of
from adapt.compare.statistics import (
    LEVEL,
    Estimate,
    Interval,
    Speedup,
    difference_of,
    holm,
    ratio_interval,
)
from adapt.errors import AdaptError
from adapt.files import read_json, reading

__all__ = ["Comparison", "Curve", "MethodResult", "check_ours"]


#: Of the way from guessing to no errors: less is near chance.
NEAR_CHANCE = 0.2
#: Of an error that has a logarithm.
LEAST = np.finfo(float).tiny


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
        examples: what the tasks were drawn from; None: not recorded, and taken for independent.
        chosen: name of the forward method that is ours; None: the first that was configured.

    Raises:
        AdaptError: ``chosen`` is no forward method, or a method has more tasks than there are examples of.
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
    examples: Examples | None = None
    chosen: str | None = None

    def __post_init__(self) -> None:
        if self.chosen is not None:
            check_ours(self.chosen, {name: method.role for name, method in self.methods.items()})
        known = {name: self._with_examples(method) for name, method in self.methods.items()}
        object.__setattr__(self, "methods", known)

    def _with_examples(self, method: MethodResult) -> MethodResult:
        own = None if self.examples is None else self.examples.first(method.n)
        share = self.metric.share and own is not None
        if method.examples is own and method.share == share:
            return method
        return replace(method, examples=own, share=share)

    def by_role(self, role: Role) -> MethodResult | None:
        """The method that stands for a role, or None: of ``forward`` :attr:`ours`, of the others the most
        accurate. Choosing that on these very tasks favours them, never us. One that sees all queries at once
        stands for none where ours sees one at a time, if there are others."""
        if role == "forward":
            return self.ours
        found = self.of_role(role)
        if self.ours is None or not self.ours.transductive:
            found = [method for method in found if not method.transductive] or found
        return max(found, key=lambda method: self.metric.gain(float(np.mean(method.score))), default=None)

    def of_role(self, role: Role) -> list[MethodResult]:
        """All methods of a role, in the order they were configured."""
        return [method for method in self.methods.values() if method.role == role]

    @property
    def ours(self) -> MethodResult | None:
        """The forward method that was named, else the first that was configured; None if none took part. It
        is never chosen by its score: the best of several on the tasks that it is judged by looks better than
        it is."""
        if self.chosen is not None:
            return self.methods[self.chosen]
        return next(iter(self.of_role("forward")), None)

    @property
    def best_head(self) -> MethodResult | None:
        """The most accurate head."""
        return self.by_role("head")

    def difference(self, method: MethodResult, reference: MethodResult) -> Interval:
        """Paired difference of scores, method − reference, on the tasks that both ran. Its interval is not
        adjusted for how many differences there are; :meth:`p` is."""
        return self._difference(method, reference).interval

    def _difference(self, method: MethodResult, reference: MethodResult) -> Estimate | Resampled:
        if method.queries and reference.queries:
            return resampled_difference(method.queries, reference.queries, method.supports)
        return difference_of(method.score, reference.score, self.examples, shares=self.metric.share)

    def _by_ratio(self, method: MethodResult, reference: MethodResult) -> bool:
        return self.metric.log_axis and not (method.queries and reference.queries)

    def _tested(self, method: MethodResult, reference: MethodResult) -> Estimate | Resampled:
        """What is tested of the two: of errors that may lie decades apart the logarithms, for a difference of
        their means is one of the largest few."""
        if not self._by_ratio(method, reference):
            return self._difference(method, reference)
        ours, theirs = (np.log(np.maximum(it.score, LEAST)) for it in (method, reference))
        return difference_of(ours, theirs, self.examples)

    def times_the_error(self, method: MethodResult, reference: MethodResult) -> float | None:
        """The error of ``method`` in units of that of ``reference``, the geometric mean over the tasks that
        both ran; None where scores are not tested as errors are."""
        if not self._by_ratio(method, reference):
            return None
        return math.exp(self._tested(method, reference).interval.mean)

    def p(self, method: MethodResult, reference: MethodResult) -> float:
        """Chance of such a difference, or a larger one, between equal methods: two-sided, paired, and
        adjusted for all pairs of methods of this comparison (Holm), so that it holds for whichever pair."""
        pair = frozenset((method.name, reference.name))
        return self._chances[pair] if len(pair) == 2 else 1.0

    def better(self, method: MethodResult, reference: MethodResult) -> bool:
        """Whether ``method`` is shown to be better: :meth:`p` is at most 5 %."""
        found = self.difference(method, reference), self._tested(method, reference).interval
        gains = all(self.metric.gain(each.mean) > 0 for each in found)
        return gains and self.p(method, reference) <= LEVEL

    @cached_property
    def _chances(self) -> dict[frozenset[str], float]:
        pairs = list(combinations(self.methods.values(), 2))
        adjusted = holm([self._tested(one, other).p for one, other in pairs])
        return {frozenset((a.name, b.name)): p for (a, b), p in zip(pairs, adjusted, strict=True)}

    @property
    def chance(self) -> float | None:
        """The accuracy of guessing; None where there is none, or tasks differ in their number of classes."""
        ways = self.task.get("ways")
        return 1 / ways if self.metric.share and isinstance(ways, int) and ways > 1 else None

    def learned(self, method: MethodResult) -> bool:
        """Whether ``method`` got anywhere, so that its time says something: retraining that ends near chance,
        at less than :data:`NEAR_CHANCE` of the way to no errors, did not, unless it was as good as ours on
        every task, and is no measure of speed."""
        if method.role != "retrain" or self.chance is None:
            return True
        near = float(np.mean(method.score)) - self.chance < NEAR_CHANCE * (1 - self.chance)
        return not near or (self.ours is not None and self.failures(method) == 0)

    @property
    def exhausted(self) -> bool:
        """Whether tasks share so many examples that nothing can be shown; see
        :attr:`adapt.compare.examples.Examples.exhausted`."""
        return self.test_examples == 0 and self.examples is not None and self.examples.exhausted

    @property
    def test_examples(self) -> int:
        """Of fixed tasks, how many examples intervals are drawn from; 0: tasks were drawn, and intervals are
        about other tasks."""
        return max((len(task) for method in self.methods.values() for task in method.queries), default=0)

    @property
    def interval(self) -> str:
        """What the intervals of means and differences are, in words."""
        if not self.test_examples:
            return f"Student's t over {self.task.get('tasks', 'the')} tasks"
        drawn = f"{self.test_examples:,} test examples, {RESAMPLES:,} resamples"
        return f"bootstrap over {drawn}, the same for all methods"

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
        if self.ours is None or retrain is None or self.meta_seconds is None or not self.learned(retrain):
            return None
        saved = (self.to_target_seconds(retrain) or retrain.adapt_seconds) - self.ours.adapt_seconds
        return self.meta_seconds / saved if saved > 0 else None

    def metrics(self) -> dict[str, float]:
        """The parent run's ``compare/…`` metrics; scores are differences, ours − the other's, times and
        energies are ratios, the other's ÷ ours. ``_low`` and ``_high`` are the ends of a 95 % interval,
        ``_is_lower_bound`` is 1 where the ratio should be shown as ``≥``, else 0."""
        ours = self.ours
        if ours is None:
            return self.evidence()
        values: dict[str, float] = {}
        timed: tuple[Role, ...] = ("retrain", "finetune", "backprop")
        for role in timed:
            if (other := self.by_role(role)) is not None:
                if not self.learned(other):
                    values[f"compare/{role}_near_chance"] = 1.0
                    continue
                speedup = self.speedup(other, ours)
                values[f"compare/speedup_vs_{role}"] = speedup.ratio
                if speedup.ends is not None:
                    values[f"compare/speedup_vs_{role}_low"] = speedup.ends[0]
                    values[f"compare/speedup_vs_{role}_high"] = speedup.ends[1]
                values[f"compare/speedup_vs_{role}_is_lower_bound"] = float(speedup.bound)
                if (energy := self.energy_ratio(other, ours)) is not None:
                    values[f"compare/energy_vs_{role}"] = energy.ratio
        scored: tuple[Role, ...] = ("backprop", "head")
        for role in scored:
            if (other := self.by_role(role)) is not None:
                difference = self.difference(ours, other)
                values[f"compare/{self.metric.name}_vs_{role}"] = difference.mean
                if difference.ci95 is not None:
                    values[f"compare/{self.metric.name}_vs_{role}_ci95"] = difference.ci95
                values[f"compare/{self.metric.name}_vs_{role}_p"] = self.p(ours, other)
        if self.break_even_tasks is not None:
            values["compare/break_even_tasks"] = self.break_even_tasks
        return values | self.evidence()

    def evidence(self) -> dict[str, float]:
        """How many different support sets, query sets and examples there were, and the independent tasks that
        carry at least as much evidence (``compare/effective_tasks``); empty where it is not recorded."""
        if self.test_examples:
            return {"compare/test_examples": float(self.test_examples)}
        if self.examples is None:
            return {}
        found = self.examples.counts
        values = {
            "compare/support_sets": float(found.support_sets),
            "compare/query_sets": float(found.query_sets),
            "compare/examples": float(found.examples),
            "compare/effective_tasks": self.examples.effective_tasks,
        }
        return values | ({"compare/groups": float(found.groups)} if found.groups else {})

    def method_metrics(self, method: MethodResult) -> dict[str, float]:
        """A child run's metrics."""
        score = method.mean_score
        values = {
            f"eval/{self.metric.name}": score.mean,
            **({} if score.ci95 is None else {f"eval/{self.metric.name}_ci95": score.ci95}),
            "eval/tasks": float(score.n),
            "time/adapt_seconds": method.adapt_seconds,
            "cost/forward_equivalents": method.forward_equivalents,
        }
        if (target := self.to_target_seconds(method)) is not None:
            values["time/to_target_seconds"] = target
            values["time/to_target_failures"] = float(self.failures(method) or 0)
        more = {
            "cost/energy_wh": method.energy_wh,
            "cost/co2_g": method.co2_g,
            "cost/usd": method.usd,
            "memory/peak_mb": method.peak_mb,
            "memory/process_peak_mb": method.process_mb,
        }
        values |= {} if method.reliability is None else method.reliability.metrics()
        values |= {} if method.robustness is None else method.robustness.metrics(self.metric)
        return values | {key: value for key, value in more.items() if value is not None}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, everything included; :meth:`from_dict` reads it back."""
        plain = asdict(replace(self, examples=None))  # which takes them from the methods as well
        for method in plain["methods"].values():
            del method["examples"], method["share"]
            method["queries"] = [*map(in_text, method["queries"])]
        kept = None
        if self.examples is not None:
            counts, effective = self.examples.counts._asdict(), self.examples.effective_tasks
            kept = {"counts": {**counts, "effective_tasks": effective}, **self.examples.to_dict()}
        return {**plain, "metric": self.metric.name, "examples": kept, "interval": self.interval}

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
        methods = {method: method_of(result) for method, result in value["methods"].items()}
        kept = value.get("examples")
        examples = None if kept is None else Examples.from_dict(kept)
        value = {
            key: entry for key, entry in value.items() if key != "interval"
        }  # which follows from the rest
        return cls(**{**value, "methods": methods, "metric": METRICS[name], "examples": examples})

    @classmethod
    def read(cls, path: Path) -> "Comparison":
        """Read the JSON file that holds :meth:`to_dict`.

        Raises:
            AdaptError: a file that cannot be read, or holds something else.
        """
        value = read_json(path)
        with reading(path, "holds no comparison"):
            return cls.from_dict(value)


def check_ours(name: str, roles: Mapping[str, Role]) -> None:
    """Check that the method which is to be ours takes part and adapts by forward mode.

    Raises:
        AdaptError: it does not.
    """
    forward = [known for known, role in roles.items() if role == "forward"]
    if name not in forward:
        there = f"there are {', '.join(forward)}" if forward else "there is none"
        raise AdaptError(f"ours={name}: no forward method of that name takes part; {there}")
