"""Means, paired differences and speed-ups with 95 % intervals, and which of many differences are shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from adapt.compare.examples import Examples
from adapt.errors import AdaptError

__all__ = [
    "LEVEL",
    "Estimate",
    "Interval",
    "Speedup",
    "difference_of",
    "estimate",
    "holm",
    "mean_interval",
    "median_interval",
    "paired_difference",
    "ratio_interval",
    "wilson",
]

#: Share of intervals that miss the truth, and of tables in which an equal method is called different.
LEVEL = 0.05
#: Scores that are equal up to rounding are equal.
ROUNDING = 1e-12


class Interval(NamedTuple):
    """A mean over ``n`` tasks and the half-width of its 95 % confidence interval; None: there is none, as of
    a single task."""

    mean: float
    ci95: float | None
    n: int

    def times(self, factor: float) -> Interval:
        """In another unit: 100 for per cent."""
        return Interval(factor * self.mean, None if self.ci95 is None else abs(factor) * self.ci95, self.n)


@dataclass(frozen=True)
class Estimate:
    """A mean, and what is known of its error.

    Attributes:
        mean: over ``n`` tasks.
        error: standard error; None: not known, as of one task, or of tasks that share all of their examples.
        freedom: degrees of freedom of Student's t.
        n: tasks.
        effective: independent tasks that carry at least as much evidence.
    """

    mean: float
    error: float | None
    freedom: float
    n: int
    effective: float

    @property
    def interval(self) -> Interval:
        """Student's t, at 95 %. Scores that are all equal have an interval of width 0, as its formula says;
        but not where tasks share examples, which may be why, and are worth less than six."""
        shared = self.effective < self.n - 0.5
        if self.error is None or (self.error == 0 and shared and self._equal >= LEVEL):
            return Interval(self.mean, None, self.n)
        return Interval(self.mean, _quantile(1 - LEVEL / 2, self.freedom) * self.error, self.n)

    @property
    def p(self) -> float:
        """Two-sided chance of such a mean if the true one were 0."""
        return min(1.0, 2 * min(self.below(0.0), 1 - self.below(0.0, strictly=True)))

    def below(self, value: float, *, strictly: bool = False) -> float:
        """Chance of a mean of at most this (``strictly``: of less) if the true one were ``value``.

        Where all scores are equal the t test has no scale; the chance is then that of n fair signs being all
        the same (Fisher's sign-flip test), with the number of independent tasks for n.
        """
        if self.error is None:
            return 0.0 if strictly else 1.0
        if self.error > 0:
            return _chance((self.mean - value) / self.error, self.freedom)
        if abs(self.mean - value) <= ROUNDING * max(1.0, abs(value)):
            return 0.0 if strictly else 1.0
        tail = self._equal / 2
        return tail if self.mean < value else 1 - tail

    @property
    def _equal(self) -> float:
        """Two-sided chance that so many signs are the same."""
        return 2.0 ** (1 - math.floor(self.effective + 1e-9))


class Speedup(NamedTuple):
    """Median over ``n`` tasks of seconds(other) ÷ seconds(ours), with a 95 % interval.

    ``low`` and ``high`` are None for a single task. ``never`` counts tasks on which the other method never
    reached our accuracy within its budget; their ratio enters with the seconds of that whole budget, so the
    median is then a lower bound (``bound``), shown as ``≥``.
    """

    ratio: float
    low: float | None
    high: float | None
    n: int
    never: int = 0

    @property
    def bound(self) -> bool:
        """True if the ratio is only a lower bound."""
        return self.never > 0

    @property
    def ends(self) -> tuple[float, float] | None:
        """Both ends of the interval; None: there is none."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    def times(self, factor: float) -> Speedup:
        """The ratio of something that each second takes, ``factor`` times as much on the other side."""
        low, high = (None, None) if self.ends is None else (self.ends[0] * factor, self.ends[1] * factor)
        return self._replace(ratio=self.ratio * factor, low=low, high=high)

    def between(self, digits: str = ".3g") -> str:
        """``11 to 14``; empty where there is no interval."""
        return "" if self.ends is None else f"{self.ends[0]:{digits}} to {self.ends[1]:{digits}}"

    def __str__(self) -> str:
        return f"{'≥ ' if self.bound else ''}{self.ratio:.3g}×"


def estimate(
    values: Sequence[float] | np.ndarray,
    examples: Examples | None = None,
    squares: np.ndarray | None = None,
) -> Estimate:
    """The mean of ``values``, one per task, with the error that Student's t knows.

    Args:
        values: ``[n]``, finite.
        examples: what the tasks were drawn from, of at least as many tasks: those that share examples count
            as what they are (:mod:`adapt.compare.examples`). None: the tasks are independent.
        squares: ``[n]``, how much the queries of each task vary, see :meth:`Examples.within`; None: unknown.

    Raises:
        AdaptError: no values, or one that is not finite.
    """
    array = np.asarray(values, dtype=float)
    n = len(array)
    if not n or not np.isfinite(array).all():
        what = "no values" if not n else f"a value that is not finite ({array[~np.isfinite(array)][0]})"
        raise AdaptError(f"{what}: nothing can be said of their mean; leave out what failed")
    mean = float(array.mean())
    shared = None if examples is None else examples.first(n)
    effective = float(n) if shared is None else shared.effective_tasks
    if n == 1 or (shared is not None and shared.exhausted):
        return Estimate(mean, None, 0.0, n, effective)
    residuals = array - mean
    if float(np.abs(residuals).max()) <= ROUNDING * max(1.0, abs(mean)):
        return Estimate(mean, 0.0, n - 1.0, n, effective)
    if shared is None:
        variance, freedom = float(residuals @ residuals) / (n * (n - 1)), n - 1.0
    else:
        within = None if squares is None else shared.within(squares)
        variance, freedom = shared.variance(residuals, within)
    return Estimate(mean, math.sqrt(variance), freedom, n, effective)


def mean_interval(
    values: Sequence[float] | np.ndarray, examples: Examples | None = None, *, shares: bool = False
) -> Interval:
    """Mean of ``values`` with its 95 % interval; see :func:`estimate`. ``shares``: each is the share of a
    task's queries that are right, as accuracies are.

    Example:
        >>> mean, ci95, n = mean_interval([0.7, 0.8, 0.9])
        >>> f"{mean:.1f} ± {ci95:.3f}"
        '0.8 ± 0.248'
    """
    array = np.asarray(values, dtype=float)
    return estimate(array, examples, array * (1 - array) if shares else None).interval


def difference_of(
    a: Sequence[float] | np.ndarray,
    b: Sequence[float] | np.ndarray,
    examples: Examples | None = None,
    *,
    shares: bool = False,
) -> Estimate:
    """Mean of a − b over the tasks that both have (the first min(len)), paired. ``shares``: scores are
    shares of a task's queries, on which the two differ at most where one of them errs, or is right."""
    n = min(len(a), len(b))
    one, other = np.asarray(a[:n], dtype=float), np.asarray(b[:n], dtype=float)
    squares = np.minimum(one + other, 2 - one - other) - (one - other) ** 2 if shares else None
    return estimate(one - other, examples, squares)


def paired_difference(
    a: Sequence[float] | np.ndarray,
    b: Sequence[float] | np.ndarray,
    examples: Examples | None = None,
    *,
    shares: bool = False,
) -> Interval:
    """:func:`difference_of` with its 95 % interval."""
    return difference_of(a, b, examples, shares=shares).interval


def holm(chances: Sequence[float]) -> list[float]:
    """p-values adjusted for all of them together, in their order: the i-th smallest of m times m − i + 1, and
    never below a smaller one. Calling those of at most 5 % different calls any equal one different with at
    most 5 %, however the tests depend on each other (Holm, *A simple sequentially rejective multiple test
    procedure*, Scandinavian Journal of Statistics 6, 1979).

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    if not all(0 <= chance <= 1 for chance in chances):
        raise AdaptError(f"p-values {list(chances)}: each must lie between 0 and 1")
    adjusted, floor = [1.0] * len(chances), 0.0
    for place, index in enumerate(sorted(range(len(chances)), key=chances.__getitem__)):
        floor = max(floor, min(1.0, (len(chances) - place) * chances[index]))
        adjusted[index] = floor
    return adjusted


def median_interval(values: Sequence[float] | np.ndarray) -> tuple[float, float, float] | None:
    """Median of positive ``values`` and both ends of its 95 % interval; None for a single one.

    From six values on the ends are order statistics, whatever the distribution: with the k-th from either
    side they miss the median with 2 P(B < k) ≤ 5 %, B binomial of n fair coins (the sign test turned round).
    Fewer values cannot tell so much alone: there it is Student's t for the logarithms, whose mean is their
    median if they are symmetric, widened to hold the median of the sample.
    """
    array = np.sort(np.asarray(values, dtype=float))
    n, median = len(array), float(np.median(array))
    if n < 2:
        return None
    if n < 6:
        logs = np.log(array)
        half = _quantile(1 - LEVEL / 2, n - 1) * float(logs.std(ddof=1)) / math.sqrt(n)
        middle = float(logs.mean())
        return median, min(median, math.exp(middle - half)), max(median, math.exp(middle + half))
    from scipy.special import bdtr

    k = np.arange(1, n // 2 + 1)
    last = int(k[bdtr(k - 1.0, n, 0.5) <= LEVEL / 2][-1])
    return median, float(array[last - 1]), float(array[n - last])


def ratio_interval(other: Sequence[float], ours: Sequence[float], never: int = 0) -> Speedup:
    """Median of the paired ratios other ÷ ours, with the interval of :func:`median_interval`."""
    n = min(len(other), len(ours))
    ratios = np.asarray(other[:n], dtype=float) / np.asarray(ours[:n], dtype=float)
    found = median_interval(ratios)
    low, high = (None, None) if found is None else found[1:]
    return Speedup(float(np.median(ratios)), low, high, n, never)


def wilson(right: float, n: int, level: float = LEVEL) -> tuple[float, float]:
    """The interval of a share (Wilson 1927, *Probable inference, the law of succession, and statistical
    inference*).

    >>> tuple(round(limit, 3) for limit in wilson(9, 10))
    (0.596, 0.982)
    """
    z = NormalDist().inv_cdf(1 - level / 2)
    share, z2 = right / n, z**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def _quantile(chance: float, freedom: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, chance))


def _chance(value: float, freedom: float) -> float:
    from scipy.special import stdtr

    return float(stdtr(freedom, value))
