"""Tasks of any size, classes of any share: the episode sampling of Meta-Dataset.

Triantafillou et al. (2020), *Meta-Dataset: A Dataset of Datasets for Learning to Learn from Few Examples*,
section 3.2 and appendix A. |c| is the number of examples of class c, U is uniform:

    ways         n ~ U{5, …, min(50, classes)} ,  then n classes without replacement
    queries      q = min(10, min_c ⌊|c| / 2⌋)                             the same for every class
    support size s = min(500, Σ_c ⌈β min(100, |c| − q)⌉) ,                β ~ U(0, 1]
    shots        k_c = min(⌊R_c (s − n)⌋ + 1, |c| − q) ,                  R_c ∝ e^{α_c} |c| ,  Σ_c R_c = 1 ,
                                                                          α_c ~ U[log ½, log 2)

Differences: classes are drawn uniformly, without the ontologies that the paper has for ImageNet and
Omniglot; supports and queries may come from two splits, each of which then bounds its own number;
``least_shots`` above 1 raises every k_c to it, for a support loss that leaves one example out.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import numpy as np

from ._settings import MOST, Number, check_settings, least
from .sizes import Uniform
from .source import TaskError

__all__ = ["MetaDataset"]

LOG_WEIGHT = log(2)  # α_c lies between −LOG_WEIGHT and it


@dataclass(frozen=True)
class MetaDataset:
    """How many classes, supports per class and queries a task has; for ``Distribution(sizes=…)``.

    Args:
        least_ways, most_ways: n above; no more than there are classes.
        most_queries: per class, q above.
        most_support: examples in the support set, s above.
        most_per_class: how much of a class counts towards the size of the support set.
        least_shots: examples that every class has at least.

    Example:
        >>> from tasks import Digits, Distribution
        >>> tasks = Distribution(Digits(), sizes=MetaDataset(), support_split="support", query_split="query")
        >>> str(tasks.ways), [int((tasks.episode(0).support_y == label).sum()) for label in range(3)]
        ('5–10', [10, 31, 10])
    """

    least_ways: int = 5
    most_ways: int = 50
    most_queries: int = 10
    most_support: int = 500
    most_per_class: int = 100
    least_shots: int = 1

    def __post_init__(self) -> None:
        once = least(1)
        check_settings(
            self,
            "MetaDataset",
            least_ways=Number(whole=True, ceiling=MOST),
            most_ways=Number(whole=True, ceiling=MOST),
            most_support=Number(whole=True, ceiling=MOST),
            most_queries=once,
            most_per_class=once,
            least_shots=once,
        )
        if not 2 <= self.least_ways <= self.most_ways:
            raise TaskError(
                f"MetaDataset: least_ways={self.least_ways} and most_ways={self.most_ways} are no range: use "
                "2<=least_ways<=most_ways"
            )
        if self.most_support < self.most_ways * self.least_shots:
            raise TaskError(
                f"MetaDataset: most_support={self.most_support} is too small for most_ways={self.most_ways}: "
                f"use most_support>={self.most_ways * self.least_shots}"
            )

    def limits(
        self, supports: np.ndarray, queries: np.ndarray, *, shared: bool
    ) -> tuple[Uniform, Uniform, Uniform]:
        """Between what ways, shots per class and queries per class lie, for pools of these sizes.

        Args:
            supports, queries: examples for supports and for queries, int64 [classes].
            shared: whether both are the same examples.

        Raises:
            TaskError: too few classes, or a class with too few examples.
        """
        if len(supports) < self.least_ways:
            raise TaskError(
                f"MetaDataset: least_ways={self.least_ways} but there are {len(supports)} classes: use "
                f"least_ways<={len(supports)}"
            )
        # With one pool, up to half of a class is queries, and one at least.
        least = max(2, 2 * self.least_shots - 1) if shared else self.least_shots
        if supports.min() < least:
            raise TaskError(
                f"MetaDataset: a class has {supports.min()} examples for supports and least_shots="
                f"{self.least_shots} needs {least}: leave that class out"
            )
        if queries.min() < 1:
            raise TaskError("MetaDataset: a class has no examples for queries: leave that class out")
        largest = min(self.most_support, int(supports.max()) - shared)
        half = queries // 2 if shared else queries
        top = min(self.most_queries, int(half.max()))
        return (
            Uniform(self.least_ways, min(self.most_ways, len(supports))),
            Uniform(self.least_shots, max(largest, self.least_shots)),
            Uniform(min(top, int(half.min())), top),
        )

    def draw(
        self, rng: np.random.Generator, supports: np.ndarray, queries: np.ndarray, *, shared: bool
    ) -> tuple[np.ndarray, list[int], int]:
        """Classes [n], shots of each [n] and queries per class of one task; arguments as for `limits`."""
        ways = Uniform(self.least_ways, min(self.most_ways, len(supports))).draw(rng)
        chosen = rng.choice(len(supports), size=ways, replace=False)
        have = supports[chosen]
        per_class = min(self.most_queries, int((have // 2 if shared else queries[chosen]).min()))
        left = have - per_class if shared else have  # for supports
        share = np.ceil((1 - rng.random()) * np.minimum(self.most_per_class, left))
        size = min(self.most_support, int(share.sum()))
        weight = np.exp(rng.uniform(-LOG_WEIGHT, LOG_WEIGHT, ways)) * have
        shots = np.floor(weight / weight.sum() * (size - ways)).astype(np.int64) + 1
        shots = np.minimum(np.maximum(shots, self.least_shots), left)
        return chosen, shots.tolist(), per_class
