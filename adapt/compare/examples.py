"""Which examples every task was drawn from, and how much evidence tasks that share them are.

Twenty tasks drawn from the same six photographs are closer to one task than to twenty. Let Y_t be the score
of task t, drawn with support set S_t and queries Q_t. The part of Var(Y) that comes from the supports is
shared by two tasks at most in proportion to the supports that they share, |S_t ∩ S_u| / |S|, whatever the
method does with them, and so for the queries (Hoeffding 1948, theorem 5.2: of a symmetric function of n
independent draws the covariance of two values with c draws in common is at most c/n of the variance). In the
worst case, that of additive effects, which multiple membership models assume (Browne et al. 2001),

    Cov(Y_t, Y_u) = σ² (h_S K_S + h_Q K_Q + √(h_S h_Q) ρ K_X),     h_S + h_Q ≤ 1,

with K the cosine of the tasks' incidence vectors (1 on the diagonal; for sets of one size the share that is
common), K_X that of supports with queries, which is zero unless both come from one pool. Hence

    Var(Ȳ) = σ² R,   R = 1/T + κ_S h_S + κ_Q h_Q + 2χ √(h_S h_Q) ρ,     E[Σ (Y_t − Ȳ)²/T] = σ² (1 − R),

where κ and χ are means of the kernels off the diagonal, summed over T² pairs: 1/R is the number of
independent tasks that carry as much evidence (the inverse of Kish's design effect, times T). Without shared
examples R = 1/T, and the variance is s²/T as always.

The shares h are not known. Each is taken as large as its one-sided 95 % limit from regressing the products
(Y_t − Ȳ)(Y_u − Ȳ) on the three kernels (Haseman and Elston 1972), and as 1 where there is nothing to tell
them by. That of the queries is also at most what drawing them can add at all, which accuracies tell: given
the support, the share y of m queries that are right varies by y(1 − y)/m (:meth:`Examples.within`). Of all
(h_S, h_Q) within these limits those that make R largest count, so that the interval errs on the wide side.
Degrees of freedom are Satterthwaite's (1946), those of a kernel K being tr(CKC)² / ‖CKC‖².

Tasks of groups (the patients of a hospital) have one kernel in place of these: whether the group is the same.
Classes are taken as given: what an interval covers is other examples, or groups, of the same kind.

References: Hoeffding, *A class of statistics with asymptotically normal distribution*, Annals of Mathematical
Statistics 19 (1948); Kish, *Survey Sampling* (1965); Haseman and Elston, *The investigation of linkage
between a quantitative trait and a marker locus*, Behavior Genetics 2 (1972); Satterthwaite, *An approximate
distribution of estimates of variance components*, Biometrics Bulletin 2 (1946); Browne, Goldstein and
Rasbash, *Multiple membership multiple classification models*, Statistical Modelling 1 (2001).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np

from adapt.errors import AdaptError
from tasks.distribution import EpisodeMeta

__all__ = ["Counts", "Examples"]

Indices = tuple[int, ...]


class Counts(NamedTuple):
    """How many different ones there are among ``tasks`` tasks; ``groups`` is 0 where tasks are no groups."""

    tasks: int
    support_sets: int
    query_sets: int
    support_examples: int
    query_examples: int
    examples: int
    groups: int


@dataclass(frozen=True)
class Examples:
    """What the tasks of a comparison were drawn from, in their order.

    Attributes:
        support, query: of every task, indices into its source; empty where examples are made for the task.
        groups: name of the group that every task is of; None where tasks are no groups.
    """

    support: tuple[Indices, ...]
    query: tuple[Indices, ...]
    groups: tuple[str | None, ...]

    def __post_init__(self) -> None:
        lengths = {len(self.support), len(self.query), len(self.groups)}
        if len(lengths) > 1:
            raise AdaptError(f"examples of different numbers of tasks ({sorted(lengths)}): give all of each")

    @classmethod
    def of(cls, metas: Iterable[EpisodeMeta]) -> Examples:
        """Those of drawn episodes."""
        found = list(metas)
        return cls(
            tuple(tuple(meta.support_indices.tolist()) for meta in found),
            tuple(tuple(meta.query_indices.tolist()) for meta in found),
            tuple(meta.group for meta in found),
        )

    @classmethod
    def joined(cls, parts: Sequence[Examples | None], *, in_turn: bool = False) -> Examples | None:
        """Of several comparisons on the same source: one after the other, or the first of each, the second
        of each, and so on. None if one of them is not known."""
        known = [part for part in parts if part is not None]
        if len(known) < len(parts) or not known:
            return None
        columns = [zip(part.support, part.query, part.groups, strict=True) for part in known]
        if in_turn:
            rows = [row for task in zip(*columns, strict=True) for row in task]
        else:
            rows = [row for column in columns for row in column]
        support, query, groups = zip(*rows, strict=True) if rows else ((), (), ())
        return cls(tuple(support), tuple(query), tuple(groups))

    def __len__(self) -> int:
        return len(self.support)

    def first(self, n: int) -> Examples:
        """Those of the first ``n`` tasks.

        Raises:
            AdaptError: there are fewer.
        """
        if n > len(self):
            raise AdaptError(f"{n} tasks with the examples of {len(self)} only: keep those of every task")
        if n == len(self):
            return self
        return Examples(self.support[:n], self.query[:n], self.groups[:n])

    @cached_property
    def counts(self) -> Counts:
        """What is different; sets are equal that hold the same examples, in whatever order."""
        support = {index for task in self.support for index in task}
        query = {index for task in self.query for index in task}
        return Counts(
            len(self),
            _sets(self.support),
            _sets(self.query),
            len(support),
            len(query),
            len(support | query),
            len({group for group in self.groups if group is not None}),
        )

    @property
    def effective_tasks(self) -> float:
        """Independent tasks that carry at least as much evidence about the mean; the number of tasks where
        they share nothing."""
        return _sharing(self).effective_tasks

    @property
    def exhausted(self) -> bool:
        """Whether two tasks have, on average, more than half of what they depend on in common. However many
        there are, they are then less evidence than two independent tasks, and nothing can be said of how much
        their mean would differ with other examples."""
        n = len(self)
        common = (1 / self.effective_tasks - 1 / n) / (1 - 1 / n) if n > 1 else 0.0
        return common > 0.5 + 1e-9

    def variance(self, residuals: np.ndarray, within: float | None = None) -> tuple[float, float]:
        """Variance of the mean of scores, and its degrees of freedom.

        Args:
            residuals: scores − their mean, ``[T]``, not all zero.
            within: the most that the draw of a task's queries can add to the variance of its score; None: not
                known.
        """
        return _sharing(self).variance(residuals, within)

    def within(self, squares: np.ndarray) -> float | None:
        """The most that drawing the queries can add to the variance of a task's score, where a score is the
        mean of one value per query.

        Args:
            squares: ``[T]``, of each task the mean square of its values less the square of their mean, or an
                upper bound of it.

        Returns:
            its unbiased mean: of m queries mean(squares) / (m − 1), and N / (N − 1) times that, since they
            are drawn from N examples. None if tasks have a single query, or queries that are not recorded.
        """
        sizes = np.array([len(task) for task in self.query])
        pool = self.counts.query_examples
        if len(sizes) == 0 or sizes.min() < 2 or pool < 2:
            return None
        return float((squares / (sizes - 1)).mean()) * pool / (pool - 1)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: the indices of a task as one text; :meth:`from_dict` reads it back."""
        texts = {
            name: [" ".join(map(str, task)) for task in getattr(self, name)] for name in ("support", "query")
        }
        return {**texts, "groups": list(self.groups)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Examples:
        """Read :meth:`to_dict`."""
        support, query = (
            tuple(tuple(map(int, text.split())) for text in value[name]) for name in ("support", "query")
        )
        return cls(support, query, tuple(value["groups"]))


def _sets(tasks: Sequence[Indices]) -> int:
    """Different sets; one that is empty was made for its task."""
    made = sum(not task for task in tasks)
    return made + len({tuple(sorted(task)) for task in tasks if task})


@lru_cache(maxsize=16)  # of a comparison, all methods and all their differences have the same tasks
def _sharing(examples: Examples) -> Any:
    from adapt.compare.sharing import Sharing

    if any(group is not None for group in examples.groups):
        alone = [("task", task) if name is None else name for task, name in enumerate(examples.groups)]
        number = {name: place for place, name in enumerate(dict.fromkeys(alone))}
        return Sharing([[(number[name],) for name in alone]])
    return Sharing([examples.support, examples.query])
