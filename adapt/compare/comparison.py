"""The result of a comparison: per-task accuracies and seconds of every method, and what follows from them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from adapt.adapter import Role
from adapt.compare.statistics import Interval, Speedup, mean_interval, paired_difference, ratio_interval

__all__ = ["Comparison", "Curve", "MethodResult"]


@dataclass(frozen=True)
class Curve:
    """Query accuracy (0 … 1) of one task against seconds of adaptation, increasing."""

    seconds: tuple[float, ...]
    accuracy: tuple[float, ...]

    def first_reach(self, target: float) -> float | None:
        """Seconds at which the accuracy was first at least ``target``, or None."""
        return next((s for s, a in zip(self.seconds, self.accuracy, strict=True) if a >= target), None)


@dataclass(frozen=True)
class MethodResult:
    """One method on the first ``n`` tasks of a comparison.

    Attributes:
        name: its key in the config.
        role: see :class:`adapt.adapter.Method`.
        accuracy: on each task's queries, 0 … 1, ``[n]``.
        seconds: to adapt to each task, ``[n]``.
        forward_equivalents: FLOPs of one adaptation ÷ FLOPs of one forward pass of the support set.
        peak_mb: peak memory of the tensors of one adaptation, MB.
        curves: one per task if the method was watched, else empty.
    """

    name: str
    role: Role
    accuracy: tuple[float, ...]
    seconds: tuple[float, ...]
    forward_equivalents: float
    peak_mb: float
    curves: tuple[Curve, ...] = ()

    @property
    def n(self) -> int:
        """Number of tasks."""
        return len(self.accuracy)

    @property
    def mean_accuracy(self) -> Interval:
        """Over tasks, 0 … 1."""
        return mean_interval(self.accuracy)

    @property
    def adapt_seconds(self) -> float:
        """Median over tasks: a user waits for one task, and single tasks are disturbed by whatever else the
        machine does."""
        return float(np.median(self.seconds))


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
    """

    experiment: str
    task: Mapping[str, Any]
    seed: int
    device: str
    methods: Mapping[str, MethodResult]
    meta_seconds: float | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)

    def by_role(self, role: Role) -> MethodResult | None:
        """The most accurate method of that role, or None."""
        found = [method for method in self.methods.values() if method.role == role]
        return max(found, key=lambda method: method.mean_accuracy.mean, default=None)

    @property
    def ours(self) -> MethodResult | None:
        """The forward method, if it took part."""
        return self.by_role("forward")

    @property
    def best_head(self) -> MethodResult | None:
        """The most accurate head. Choosing it on these very tasks favours the heads, never us."""
        return self.by_role("head")

    def difference(self, method: MethodResult, reference: MethodResult) -> Interval:
        """Paired accuracy difference method − reference on the tasks that both ran, 0 … 1."""
        return paired_difference(method.accuracy, reference.accuracy)

    def speedup(self, other: MethodResult, ours: MethodResult) -> Speedup:
        """Seconds(other) ÷ seconds(ours), task by task; see :class:`Speedup`.

        For a watched method (retraining) it is the time to first reach our accuracy on the same task's
        queries.
        """
        if not other.curves:
            return ratio_interval(other.seconds, ours.seconds)
        reached = [curve.first_reach(a) for curve, a in zip(other.curves, ours.accuracy, strict=False)]
        censored = [total if r is None else r for r, total in zip(reached, other.seconds, strict=False)]
        return ratio_interval(censored, ours.seconds, never=sum(r is None for r in reached))

    def to_target_seconds(self, method: MethodResult) -> float | None:
        """Median seconds in which ``method`` first reaches our accuracy (its whole budget where it never
        does); None if it was not watched."""
        if not method.curves or self.ours is None:
            return None
        pairs = zip(method.curves, method.seconds, self.ours.accuracy, strict=False)
        return float(np.median([s if (r := curve.first_reach(a)) is None else r for curve, s, a in pairs]))

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
        """The parent run's ``compare/…`` metrics; accuracies are differences in 0 … 1."""
        ours = self.ours
        if ours is None:
            return {}
        values: dict[str, float] = {}
        timed: tuple[Role, ...] = ("retrain", "finetune", "backprop")
        for role in timed:
            if (other := self.by_role(role)) is not None:
                values[f"compare/speedup_vs_{role}"] = self.speedup(other, ours).ratio
        scored: tuple[Role, ...] = ("backprop", "head")
        for role in scored:
            if (other := self.by_role(role)) is not None:
                difference = self.difference(ours, other)
                values[f"compare/accuracy_vs_{role}"] = difference.mean
                values[f"compare/accuracy_vs_{role}_ci95"] = difference.ci95
        if self.break_even_tasks is not None:
            values["compare/break_even_tasks"] = self.break_even_tasks
        return values

    def method_metrics(self, method: MethodResult) -> dict[str, float]:
        """A child run's metrics."""
        accuracy = method.mean_accuracy
        values = {
            "eval/accuracy": accuracy.mean,
            "eval/accuracy_ci95": accuracy.ci95,
            "eval/tasks": float(accuracy.n),
            "time/adapt_seconds": method.adapt_seconds,
            "cost/forward_equivalents": method.forward_equivalents,
            "memory/peak_mb": method.peak_mb,
        }
        if (target := self.to_target_seconds(method)) is not None:
            values["time/to_target_seconds"] = target
        return values

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, everything included; :meth:`from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Comparison":
        """Read :meth:`to_dict`."""
        methods = {}
        for name, result in value["methods"].items():
            curves = tuple(Curve(tuple(c["seconds"]), tuple(c["accuracy"])) for c in result["curves"])
            lists = {
                "accuracy": tuple(result["accuracy"]),
                "seconds": tuple(result["seconds"]),
                "curves": curves,
            }
            methods[name] = MethodResult(**{**result, **lists})
        return cls(**{**value, "methods": methods})
