"""The numbers behind the figures: what is drawn, before anything is drawn. No plotting library is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from adapt.compare.comparison import Comparison, Curve, MethodResult
from adapt.compare.metric import Metric
from adapt.compare.statistics import Speedup, ratio_interval

__all__ = [
    "BreakEven",
    "Reached",
    "break_even_of",
    "log_range",
    "mean_curve",
    "on_log_axis",
    "opponents",
    "reached",
    "score_limits",
    "speedups_of",
]

#: From this ratio of the largest score to the smallest on, a log axis shows more than a linear one.
DECADE = 10


class Reached(NamedTuple):
    """When a method first got as far as ours, task by task.

    Attributes:
        method: which.
        seconds: ``[n]``; of a task on which it never got there, all that it took.
        there: ``[n]``, whether it got there.
        median: of ``seconds``, and both ends of its 95 % interval.
    """

    method: MethodResult
    seconds: tuple[float, ...]
    there: tuple[bool, ...]
    median: tuple[float, float | None, float | None]

    @property
    def never(self) -> int:
        """Number of tasks on which it never got there."""
        return len(self.there) - sum(self.there)


class BreakEven(NamedTuple):
    """Total seconds after so many tasks: ``start + tasks · each`` for ours, ``tasks · other`` for retraining
    each time; ``tasks`` is where they are equal."""

    start: float
    each: float
    other: float
    bound: bool
    tasks: float


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Mean score and median seconds over tasks, look by look.

    Tasks with more data have more looks; all are read at the same fractions of their own budget, so that
    every task counts everywhere and the curve ends where the method ends.
    """
    length = min(len(curve.seconds) for curve in curves)
    rows = [np.linspace(0, len(curve.seconds) - 1, length).round().astype(int) for curve in curves]
    seconds = [np.asarray(curve.seconds)[row] for curve, row in zip(curves, rows, strict=True)]
    score = [np.asarray(curve.score)[row] for curve, row in zip(curves, rows, strict=True)]
    return Curve(tuple(np.median(seconds, axis=0).tolist()), tuple(np.mean(score, axis=0).tolist()))


def on_log_axis(metric: Metric, means: Sequence[float]) -> bool:
    """Whether scores lie decades apart. Zero, the error of a perfect method, has no place on a log axis."""
    return metric.log_axis and 0 < DECADE * min(means) <= max(means)


def score_limits(metric: Metric, methods: Sequence[MethodResult], log: bool) -> tuple[float, float]:
    """Limits, as shown, that hold all points; curves come in from the worse side, where learning starts."""
    scores = [method.mean_score for method in methods]
    ends = [metric.scale * (score.mean + sign * (score.ci95 or 0.0)) for score in scores for sign in (-1, 1)]
    best = [
        metric.scale * max(mean_curve(method.curves).score, key=metric.gain)
        for method in methods
        if method.curves
    ]
    if log:
        floor = metric.scale * min(score.mean for score in scores) / DECADE  # an interval may reach below 0
        return log_range([max(value, floor) for value in ends + best], 0.1)
    most = metric.scale * metric.most
    whole = most if np.isfinite(most) else max(ends) or 1.0
    margin = max(0.1 * (max(ends) - min(ends)), 0.005 * whole)
    return min(ends + best) - margin, min(max(ends + best) + margin, 1.01 * most)


def log_range(values: Sequence[float], share: float = 0.12) -> tuple[float, float]:
    """Limits of a log axis with room (a ``share`` of the whole) at both ends, also around a single value."""
    room = max((max(values) / min(values)) ** share, 1.1)
    return min(values) / room, max(values) * room


def reached(comparison: Comparison) -> list[Reached]:
    """For every method that ran with ours: when it first was as good as ours on the same task; ours first.

    A method that was not watched gets there at its end or not at all. Empty without ours.
    """
    ours = comparison.ours
    if ours is None:
        return []
    found = []
    for method in [ours, *opponents(comparison)]:
        seconds, there = [], []
        for task, (score, total) in enumerate(zip(method.score, method.seconds, strict=True)):
            if task >= ours.n:
                break
            curve = method.curves[task] if len(method.curves) == method.n else Curve((total,), (score,))
            first = total if method is ours else curve.first_reach(ours.score[task], comparison.metric)
            seconds.append(total if first is None else first)
            there.append(first is not None)
        found.append(Reached(method, tuple(seconds), tuple(there), _median(seconds)))
    return found


def speedups_of(comparison: Comparison) -> list[tuple[MethodResult, Speedup]]:
    """Time of every other method ÷ time of ours (of heads, the best one only); empty without ours."""
    ours, head = comparison.ours, comparison.best_head
    if ours is None:
        return []
    shown = [other for other in opponents(comparison) if other.role != "head" or other is head]
    others = [other for other in shown if comparison.learned(other)]
    return [(other, comparison.speedup(other, ours)) for other in others]


def opponents(comparison: Comparison) -> list[MethodResult]:
    """All methods but ours, in the order they were configured."""
    return [method for method in comparison.methods.values() if method is not comparison.ours]


def break_even_of(comparison: Comparison) -> BreakEven | None:
    """None where meta-training took nobody knows how long, or never pays off against retraining."""
    ours, retrain, tasks = comparison.ours, comparison.by_role("retrain"), comparison.break_even_tasks
    if ours is None or retrain is None or comparison.meta_seconds is None or tasks is None:
        return None
    other = comparison.to_target_seconds(retrain) or retrain.adapt_seconds
    bound = comparison.speedup(retrain, ours).bound
    return BreakEven(comparison.meta_seconds, ours.adapt_seconds, other, bound, tasks)


def _median(seconds: Sequence[float]) -> tuple[float, float | None, float | None]:
    found = ratio_interval(seconds, [1.0] * len(seconds))
    return found[:3]
