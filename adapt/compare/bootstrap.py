"""Intervals where the tasks are given: a published training set, or several, with one test set.

Such tasks are no sample of anything. What can be other is the test set: its m examples are drawn again, with
replacement, B times (Efron 1979), the same ones for every method, so that differences are paired:

    θ*_b = mean of the scores of the drawn examples ,    the interval goes from its 2.5 % to its 97.5 %
    quantile

With several training sets, these are drawn too, T − 1 of the T, so that the variance has no bias (Rao and Wu
1988): examples and training sets are crossed, and the bootstrap that draws both errs on the wide side (Owen
2007). A single training set is taken as it is: with another one, methods may differ otherwise.

The chance of a difference between equal methods is that of a θ* at least as far from the mean as zero is,

    p = (1 + #{b : |θ*_b − θ| ≥ |θ|}) / (B + 1) ,

and no less than that of as many fair coins falling alike as there are examples on which the two differ
(Fisher's sign test), which is all that a few examples can show.

References: Efron, *Bootstrap methods: another look at the jackknife*, Annals of Statistics 7 (1979); Rao and
Wu, *Resampling inference with complex survey data*, JASA 83 (1988); Owen, *The pigeonhole bootstrap*, Annals
of Applied Statistics 1 (2007).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from adapt.compare.examples import Indices
from adapt.compare.statistics import LEVEL, Interval

__all__ = ["RESAMPLES", "Resampled", "resampled", "resampled_difference"]

#: How often the test examples are drawn again.
RESAMPLES = 4000
#: Drawn numbers that are held at once.
BLOCK = 2**22
ROUNDING = 1e-12

#: Of each task, the scores of all of its queries.
Scores = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Resampled:
    """A mean over test examples, and what it is when these are drawn again.

    Attributes:
        mean: over tasks and examples.
        draws: the mean of each resample ``[B]``.
        examples: how many test examples there are.
        telling: how many of them are not zero: those on which two methods differ.
    """

    mean: float
    draws: np.ndarray
    examples: int
    telling: int

    @property
    def interval(self) -> Interval:
        """At 95 %, as far on either side as the further end; ``n`` counts test examples. None where all of
        them are alike, of which drawing them again tells nothing."""
        low, high = np.quantile(self.draws, [LEVEL / 2, 1 - LEVEL / 2])
        half = max(float(high) - self.mean, self.mean - float(low))
        alike = float(np.ptp(self.draws)) <= ROUNDING * max(1.0, abs(self.mean))
        return Interval(self.mean, None if alike else half, self.examples)

    @property
    def p(self) -> float:
        """Two-sided chance of such a mean if the true one were 0."""
        if abs(self.mean) <= ROUNDING:
            return 1.0
        further = int((np.abs(self.draws - self.mean) >= abs(self.mean) - ROUNDING).sum())
        return min(1.0, max((1 + further) / (len(self.draws) + 1), 2.0 ** (1 - min(self.telling, 1000))))


def resampled(queries: Scores, supports: Sequence[Indices]) -> Resampled:
    """The mean of scores of test examples.

    Args:
        queries: of every task, one for each of the m test examples, which are the same for all.
        supports: what every task was learned from; tasks of the same training set are one.
    """
    values = _by_training_set(queries, supports)
    return Resampled(
        float(values.mean()), _draws(queries, _sets(supports)), values.shape[1], _telling(values)
    )


def resampled_difference(one: Scores, other: Scores, supports: Sequence[Indices]) -> Resampled:
    """The mean of one − other, by the same resamples, on the tasks that both have."""
    n = min(len(one), len(other))
    one, other, sets = one[:n], other[:n], _sets(supports[:n])
    values = _by_training_set(one, supports[:n]) - _by_training_set(other, supports[:n])
    draws = _draws(one, sets) - _draws(other, sets)
    return Resampled(float(values.mean()), draws, values.shape[1], _telling(values))


def _telling(values: np.ndarray) -> int:
    return int((np.abs(values) > ROUNDING).any(0).sum())


def _sets(supports: Sequence[Indices]) -> tuple[int, ...]:
    """The number of the training set of each task."""
    number: dict[Indices, int] = {}
    return tuple(number.setdefault(tuple(sorted(support)), len(number)) for support in supports)


def _by_training_set(queries: Scores, supports: Sequence[Indices]) -> np.ndarray:
    return _averaged(np.array(queries, float), _sets(supports))


def _averaged(values: np.ndarray, sets: Sequence[int]) -> np.ndarray:
    """``[T, m]``: means over the tasks of each training set."""
    return np.stack([values[np.array(sets) == which].mean(0) for which in range(max(sets) + 1)])


@lru_cache(maxsize=64)  # of each method, for its mean and for its differences to all others
def _draws(queries: Scores, sets: tuple[int, ...]) -> np.ndarray:
    """``[B]``: resamples follow from the number of examples and of training sets alone."""
    values = _averaged(np.array(queries, float), sets)  # [T, m]
    count, m = values.shape
    rng = np.random.default_rng([0, count, m])
    means = np.concatenate([values[:, rows].mean(-1) for rows in _resamples(rng, m)], axis=1)  # [T, B]
    if count == 1:
        return means[0]
    chosen = rng.integers(count, size=(RESAMPLES, count - 1))
    return np.take_along_axis(means.T, chosen, axis=1).mean(1)


def _resamples(rng: np.random.Generator, m: int) -> Iterator[np.ndarray]:
    """Numbers of examples ``[b, m]``, B rows in all."""
    each = max(1, min(RESAMPLES, BLOCK // m))
    for start in range(0, RESAMPLES, each):
        yield rng.integers(m, size=(min(each, RESAMPLES - start), m))
