"""Episodes: N-way K-shot tasks drawn from a source, each a pure function of (seed, index)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np
import torch

from .source import Source, TaskError
from .transforms import Transform

__all__ = ["Distribution", "Episode", "EpisodeMeta"]

Pools = dict[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, eq=False)
class EpisodeMeta:
    """Where an episode came from: enough to draw it again and to prove that nothing leaked.

    Args:
        index: i in `Distribution.episode(i)`.
        seed: the distribution's seed.
        classes: class names in label order, so `classes[y]` names label y.
        support_indices: int64 [N*K], the source's indices of the support.
        query_indices: int64 [N*Q], the source's indices of the queries.
        parameters: what was drawn for the function of a regression task, by name.

    In regression there are neither classes nor indices: they are empty.
    """

    index: int
    seed: int
    classes: tuple[str, ...]
    support_indices: np.ndarray
    query_indices: np.ndarray
    parameters: Mapping[str, float] = field(default_factory=dict)


class Episode(NamedTuple):
    """One task: N ways, K shots, Q queries per way. Rows are class-major: all of label 0 first.

    In regression (`FunctionTasks`) there are n support and m query points in all, and targets are float32,
    [n, outputs] and [m, outputs].
    """

    support_x: torch.Tensor  # [N*K, *shape] float32
    support_y: torch.Tensor  # [N*K] int64 in 0..N-1
    query_x: torch.Tensor  # [N*Q, *shape] float32
    query_y: torch.Tensor  # [N*Q] int64 in 0..N-1
    meta: EpisodeMeta


@dataclass(frozen=True)
class Distribution:
    """A distribution over tasks: a source, the size of a task, and what varies from task to task.

    Episode i draws `ways` classes, then examples of each, from `np.random.default_rng([seed, i])` alone, so
    ranks and workers may share the work by index, in any order.

    Args:
        source: where examples come from.
        ways: classes per task, N.
        shots: support examples per class, K.
        queries: query examples per class, Q.
        support_split: split that supports are drawn from.
        query_split: split that queries are drawn from; None: the same one. An example is never in both the
            support and the queries of an episode.
        transform: `(x [n, *shape], generator) -> x`, applied once to support and queries together, so that a
            style that it shares between images covers both.
        replace: lets a class with fewer than shots + queries examples be drawn from with replacement. Its
            examples are first divided between support and queries (in proportion, at least one each), so the
            two still share nothing. Needs a transform, without which repeats would be copies.
        seed: non-negative.

    Raises:
        TaskError: if no such task can be drawn; the message names the setting and the fix.

    Example:
        >>> from tasks import Digits
        >>> tasks = Distribution(Digits(), ways=3, shots=2, support_split="support", query_split="query")
        >>> episode = tasks.episode(7)
        >>> episode.support_y
        tensor([0, 0, 1, 1, 2, 2])
    """

    source: Source
    ways: int = 5
    shots: int = 5
    queries: int = 15
    support_split: str = "train"
    query_split: str | None = None
    transform: Transform | None = None
    replace: bool = False
    seed: int = 0
    regression: ClassVar[bool] = False
    # Class name -> (indices for supports, indices for queries); one array twice if the splits are equal.
    _pools: Pools = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, least in (("ways", 2), ("shots", 1), ("queries", 1), ("seed", 0)):
            value = getattr(self, name)
            if value < least:
                raise TaskError(f"task.{name}={value} is too small: use task.{name}>={least}")
        if self.replace and self.transform is None:
            raise TaskError(
                "task.replace=true without a transform would repeat identical examples: "
                "set task.transform, or use task.replace=false"
            )
        object.__setattr__(self, "_pools", self._common_classes())
        self._check_sizes()

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that tasks are made of, in the source's order."""
        return tuple(self._pools)

    @property
    def _query_split(self) -> str:
        return self.support_split if self.query_split is None else self.query_split

    def episode(self, index: int) -> Episode:
        """Episode `index` >= 0: the same one on every call, machine and worker."""
        if index < 0:
            raise TaskError(f"episode index {index} is negative: use an index >= 0")
        rng = np.random.default_rng([self.seed, index])
        names = self.class_names
        chosen = tuple(names[j] for j in rng.choice(len(names), size=self.ways, replace=False))
        drawn = [self._draw(rng, *self._pools[name]) for name in chosen]
        support = np.concatenate([s for s, _ in drawn])
        query = np.concatenate([q for _, q in drawn])

        x = self.source.load(np.concatenate([support, query]))  # [N*K + N*Q, *shape]
        if self.transform is not None:
            generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
            x = self.transform(x, generator)
        labels = torch.arange(self.ways)
        return Episode(
            support_x=x[: len(support)],
            support_y=labels.repeat_interleave(self.shots),
            query_x=x[len(support) :],
            query_y=labels.repeat_interleave(self.queries),
            meta=EpisodeMeta(index, self.seed, chosen, support, query),
        )

    def episodes(self, start: int, stop: int) -> Iterator[Episode]:
        """Episodes start, start + 1, ..., stop - 1, drawn as they are asked for."""
        return (self.episode(index) for index in range(start, stop))

    def _draw(
        self, rng: np.random.Generator, for_support: np.ndarray, for_query: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the support [K] and the queries [Q] of one class."""
        if for_support is for_query:
            shuffled = rng.permutation(for_support)
            cut = self.shots
            if len(shuffled) < self.shots + self.queries:  # only with replace: __post_init__ made sure
                share = self.shots / (self.shots + self.queries)
                cut = min(max(round(len(shuffled) * share), 1), len(shuffled) - 1)
            for_support, for_query = shuffled[:cut], shuffled[cut:]
        return (
            rng.choice(for_support, self.shots, replace=len(for_support) < self.shots),
            rng.choice(for_query, self.queries, replace=len(for_query) < self.queries),
        )

    def _common_classes(self) -> Pools:
        """The classes of both splits, with their pools. Raises if a class has one example in both splits."""
        query_split = self._query_split
        supports, queries = self.source.classes(self.support_split), self.source.classes(query_split)
        if query_split == self.support_split:
            return {name: (pool, pool) for name, pool in supports.items()}
        pools = {name: (pool, queries[name]) for name, pool in supports.items() if name in queries}
        if not pools:
            raise TaskError(
                f"{self.source.name} has no class in both split {self.support_split!r} and split "
                f"{query_split!r}: they are disjoint in classes, so use one of them for both"
            )
        for_support, for_query = (np.concatenate(side) for side in zip(*pools.values(), strict=True))
        shared = np.intersect1d(for_support, for_query)
        if len(shared):
            raise TaskError(
                f"{self.source.name} has {len(shared)} examples in both split {self.support_split!r} and "
                f"split {query_split!r}: use splits that share no example, or one split for both"
            )
        return pools

    def _check_sizes(self) -> None:
        name, split, query_split = self.source.name, self.support_split, self._query_split
        if self.ways > len(self._pools):
            where = f"in split {split!r}"
            if len(self._pools) < len(self.source.classes(split)):
                where = f"common to splits {split!r} and {query_split!r}"
            raise TaskError(
                f"task.ways={self.ways} but {name} has {len(self._pools)} classes {where}: "
                f"use task.ways<={len(self._pools)}"
            )
        if query_split != split:
            least = (1, 1) if self.replace else (self.shots, self.queries)
            self._check_smallest(0, split, least[0], f"task.shots={self.shots}", "use task.shots<={}")
            self._check_smallest(
                1, query_split, least[1], f"task.queries={self.queries}", "use task.queries<={}"
            )
        else:
            both = self.shots + self.queries
            asked = f"task.shots={self.shots} and task.queries={self.queries} need {both} examples per class"
            self._check_smallest(0, split, 2 if self.replace else both, asked, "use at most {} together")

    def _check_smallest(self, side: int, split: str, least: int, asked: str, fix: str) -> None:
        """Raise if a class has fewer than `least` examples for supports (side 0) or queries (side 1)."""
        smallest = min(self._pools, key=lambda name: len(self._pools[name][side]))
        have = len(self._pools[smallest][side])
        if have >= least:
            return
        if self.replace:
            asked, fix = f"task.replace=true needs {least} examples per class", "leave that class out"
        elif self.transform is not None:
            fix += ", or task.replace=true"
        place = f"class {smallest!r} of {self.source.name} has {have} in split {split!r}"
        raise TaskError(f"{asked} but {place}: {fix.format(have)}")
