"""Means, paired differences and speed-ups with 95 % intervals."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["Interval", "Speedup", "mean_interval", "paired_difference", "ratio_interval"]


class Interval(NamedTuple):
    """A mean over ``n`` tasks and the half-width of its 95 % confidence interval (0 for a single task)."""

    mean: float
    ci95: float
    n: int


class Speedup(NamedTuple):
    """Median over ``n`` tasks of seconds(other) ÷ seconds(ours), with a bootstrap 95 % interval.

    ``never`` counts tasks on which the other method never reached our accuracy within its budget; their ratio
    enters with the seconds of that whole budget, so the median is then a lower bound (``bound``), shown as
    ``≥``.
    """

    ratio: float
    low: float
    high: float
    n: int
    never: int = 0

    @property
    def bound(self) -> bool:
        """True if the ratio is only a lower bound."""
        return self.never > 0

    def times(self, factor: float) -> "Speedup":
        """The ratio of something that each second takes, ``factor`` times as much on the other side."""
        return self._replace(ratio=self.ratio * factor, low=self.low * factor, high=self.high * factor)

    def __str__(self) -> str:
        return f"{'≥ ' if self.bound else ''}{self.ratio:.3g}×"


def mean_interval(values: Sequence[float]) -> Interval:
    """Mean of ``values`` with the normal-approximation interval 1.96·s/√n."""
    array = np.asarray(values, dtype=float)
    spread = array.std(ddof=1) / np.sqrt(len(array)) if len(array) > 1 else 0.0
    return Interval(float(array.mean()), float(1.96 * spread), len(array))


def paired_difference(a: Sequence[float], b: Sequence[float]) -> Interval:
    """Mean of a − b over the tasks that both have (the first min(len)), as a paired interval."""
    n = min(len(a), len(b))
    return mean_interval(np.asarray(a[:n], dtype=float) - np.asarray(b[:n], dtype=float))


def ratio_interval(other: Sequence[float], ours: Sequence[float], never: int = 0) -> Speedup:
    """Median of the paired ratios other ÷ ours; 2,000 bootstrap resamples of tasks, fixed seed."""
    n = min(len(other), len(ours))
    ratios = np.asarray(other[:n], dtype=float) / np.asarray(ours[:n], dtype=float)
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(ratios, size=(2000, n)), axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return Speedup(float(np.median(ratios)), float(low), float(high), n, never)
