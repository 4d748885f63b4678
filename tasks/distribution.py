"""Episodes: N-way K-shot tasks drawn from a source, each a pure function of (seed, index)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import lru_cache
from math import prod
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch

from ._settings import SEED, check_index, check_settings, least
from .elsewhere import FromSource
from .meta_dataset import MetaDataset
from .pools import Pools, check_outside, check_sizes, common_classes, outside_indices
from .sizes import Size, check_task, checked_size, draw_size, most
from .source import Source, TaskError
from .transforms import Transform
from .vectorised import Table, draw_block

__all__ = ["Distribution", "Episode", "EpisodeMeta"]

BLOCK = 128  # tasks whose indices are drawn at once, if vectorised
MOST_WAYS = 5  # classes per task where nobody says how many
CACHED = 2**21  # bytes of examples that are loaded at once: more do not stay in a processor's cache


@dataclass(frozen=True, eq=False)
class EpisodeMeta:
    """Where an episode came from: enough to draw it again and to prove that nothing leaked.

    Args:
        index: i in `Distribution.episode(i)`.
        seed: the distribution's seed.
        classes: class names in label order, so `classes[y]` names label y.
        support_indices: int64 [n], the source's indices of the support.
        query_indices: int64 [m], the source's indices of the queries.
        parameters: what was drawn for the function of a regression task, or for a condition, by name.
        outside_indices: int64 [o], the source's indices of `outside_x`.
        outside_x: [o, *shape], examples of classes that the task does not have; None: none were asked for.
        unlabelled_indices: int64 [u], the source's indices of `unlabelled_x`.
        unlabelled_x: [u, *shape], further support examples, without labels; None: none were asked for.
        clean_y: int64 [n], the labels of the support before some were replaced; None: none were.
        group: name of the group that the task is of (`GroupedTasks`), or of its condition (`Conditions`);
            None: it has neither.
        domain: name of the component that the task is of (`Mixture`); None: there is one domain.
        whole: whether the task is a training set with its test set (`FixedTasks`), and nothing was drawn.

    In regression there are neither classes nor indices: they are empty.
    """

    index: int
    seed: int
    classes: tuple[str, ...]
    support_indices: np.ndarray
    query_indices: np.ndarray
    parameters: Mapping[str, float] = field(default_factory=dict)
    outside_indices: np.ndarray | None = None
    outside_x: torch.Tensor | None = None
    unlabelled_indices: np.ndarray | None = None
    unlabelled_x: torch.Tensor | None = None
    clean_y: torch.Tensor | None = None
    group: str | None = None
    domain: str | None = None
    whole: bool = False


class Episode(NamedTuple):
    """One task of N classes. Rows are class-major: all of label 0 first; a class has at least one of each.

    With K shots and Q queries per class there are n = N K and m = N Q rows; where numbers are drawn class by
    class (`imbalanced`, `MetaDataset`), the classes of the support differ in size.

    Where all of the support may be without labels (`Conditions` with shots=0), n may be 0.

    In regression (`FunctionTasks`) there are n support and m query points in all, and targets are float32,
    [n, outputs] and [m, outputs].
    """

    support_x: torch.Tensor  # [n, *shape] float32 (token ids: int64)
    support_y: torch.Tensor  # [n] int64 in 0..N-1
    query_x: torch.Tensor  # [m, *shape]
    query_y: torch.Tensor  # [m] int64 in 0..N-1
    meta: EpisodeMeta


class AllClasses(int):
    """A number of ways that follows from the classes there are. Being told apart from one that was asked for,
    it is counted anew for another split."""


@dataclass(frozen=True)
class Distribution(FromSource):
    """A distribution over tasks: a source, the size of a task, and what varies from task to task.

    Episode i draws `ways` classes, then examples of each, from `np.random.default_rng([seed, i])` alone, so
    ranks and workers may share the work by index, in any order. A size that is a distribution is drawn task
    by task, from the same stream: ways before the classes, then shots, then queries.

    Args:
        source: where examples come from.
        ways: classes per task, N; like the next two a number, or `Uniform` or `Choice` over numbers. None:
            all classes, at most five; the attribute then says how many.
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
        imbalanced: whether every class draws a number of shots of its own.
        sizes: instead of ways, shots and queries (which then say between what they lie): all three together.
        outside: examples per task of classes that it does not have, for `meta.outside_x`. They are no part of
            the queries, so that accuracy does not know them; see `tasks.auroc`.
        vectorised: draw from another stream, a block of tasks at a time: `episodes` is then several times as
            fast, and episode i still the same however it is drawn, but not the one of `vectorised=False`.
            Needs sizes that are numbers.
        validation: by name, those of the settings above that differ where choices are made (`on_split`), such
            as splits or another source; None: the split alone.

    Raises:
        TaskError: if no such task can be drawn; the message names the setting and the fix.

    Example:
        >>> from tasks import Digits, Uniform
        >>> tasks = Distribution(Digits(), ways=3, shots=2, support_split="support", query_split="query")
        >>> episode = tasks.episode(7)
        >>> episode.support_y
        tensor([0, 0, 1, 1, 2, 2])
        >>> shots = Uniform(1, 4)
        >>> uneven = Distribution(Digits(), 3, shots, support_split="query", imbalanced=True)
        >>> uneven.episode(1).support_y
        tensor([0, 0, 0, 0, 1, 2, 2, 2, 2])
    """

    source: Source
    ways: Size | None = 5
    shots: Size = 5
    queries: Size = 15
    support_split: str = "train"
    query_split: str | None = None
    transform: Transform | None = None
    replace: bool = False
    seed: int = 0
    imbalanced: bool = False
    sizes: MetaDataset | None = None
    outside: int = 0
    vectorised: bool = False
    validation: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)
    regression: ClassVar[bool] = False
    # Class name -> (indices for supports, indices for queries); one array twice if the splits are equal.
    _pools: Pools = field(init=False, repr=False, compare=False)
    _names: tuple[str, ...] = field(init=False, repr=False, compare=False)
    # The same as arrays: sizes of the pools for supports and queries, and, if vectorised, what is in them.
    _counts: tuple[np.ndarray, np.ndarray] = field(init=False, repr=False, compare=False)
    _tables: tuple[Table, Table] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_settings(self, "task", seed=SEED, outside=least(0))
        if self.replace and self.transform is None:
            raise TaskError(
                "task.replace=true without a transform would repeat identical examples: "
                "set task.transform, or use task.replace=false"
            )
        self.check_validation()
        all_classes = self.ways is None or isinstance(self.ways, AllClasses)
        if self.sizes is None:  # else they are results
            for name, fewest in (("ways", 2), ("shots", 1), ("queries", 1))[all_classes:]:
                size = checked_size(f"task.{name}", getattr(self, name), fewest)
                object.__setattr__(self, name, size)
        pools = common_classes(self.source, self.support_split, self.query_split)
        if all_classes:
            ways = min(len(pools), MOST_WAYS)
            checked_size("task.ways", ways, fewest=2)
            object.__setattr__(self, "ways", AllClasses(ways))
        counts = tuple(np.array([len(pair[side]) for pair in pools.values()]) for side in (0, 1))
        object.__setattr__(self, "_pools", pools)
        object.__setattr__(self, "_names", tuple(pools))
        object.__setattr__(self, "_counts", counts)
        object.__setattr__(self, "_tables", None)
        if self.sizes is not None:
            limits = self.sizes.limits(*counts, shared=self._shared)
            for name, size in zip(("ways", "shots", "queries"), limits, strict=True):
                object.__setattr__(self, name, size)
        else:
            check_sizes(pools, self)
        check_outside(pools, self)
        self._check_memory()
        if self.vectorised:
            sizes = (self.ways, self.shots, self.queries)
            if self.replace or self.outside or not all(isinstance(size, int) for size in sizes):
                raise TaskError(
                    "task.vectorised=true needs tasks of one size, drawn without replacement and with "
                    "nothing outside: use numbers for task.ways, task.shots and task.queries, "
                    "task.replace=false and task.outside=0, or task.vectorised=false"
                )
            tables = [Table.of([pair[side] for pair in pools.values()]) for side in (0, 1)]
            object.__setattr__(self, "_tables", (tables[0], tables[0] if self._shared else tables[1]))

    def _check_memory(self) -> None:
        assert self.ways is not None
        rows = most(self.ways) * (most(self.shots) + most(self.queries)) + self.outside
        asked = f"task.ways={self.ways}, task.shots={self.shots} and task.queries={self.queries}"
        if self.sizes is not None:
            queries = most(self.ways) * self.sizes.most_queries
            rows, asked = self.sizes.most_support + queries + self.outside, f"task.sizes={self.sizes}"
        check_task(rows, self.source.shape, asked)

    def __repr__(self) -> str:
        """What decides the tasks, the same in any process: a source by its name."""
        settings = [f"{f.name}={_as_text(getattr(self, f.name))}" for f in fields(self) if f.repr]
        return f"Distribution({', '.join(settings)})"

    @property
    def described(self) -> dict[str, Any]:
        """What a reader of a report should know of the tasks beside source and sizes."""
        return {"outside": self.outside} if self.outside else {}

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that tasks are made of, in the source's order."""
        return self._names

    @property
    def _shared(self) -> bool:
        """Whether supports and queries are drawn from the same examples."""
        return self.query_split in (None, self.support_split)

    def episode(self, index: int) -> Episode:
        """Episode `index` >= 0: the same one on every call, machine and worker."""
        index = check_index(index)
        if self.vectorised:
            return next(self._block(index, index + 1))
        rng = np.random.default_rng([self.seed, index])
        chosen, shots, queries = self._draw_sizes(rng)
        classes = tuple(self._names[j] for j in chosen)
        drawn = [
            self._draw(rng, *self._pools[name], k, queries) for name, k in zip(classes, shots, strict=True)
        ]
        support = np.concatenate([s for s, _ in drawn])
        query = np.concatenate([q for _, q in drawn])
        outside = outside_indices(rng, self._pools, classes, self.outside)

        n, m = len(support), len(query)
        x = self.source.load(np.concatenate([support, query, outside]))  # [n + m + o, *shape]
        if self.transform is not None:
            x = self.transform(x, torch.Generator().manual_seed(int(rng.integers(2**63))))
        meta = EpisodeMeta(index, self.seed, classes, support, query)
        if self.outside:
            meta = replace(meta, outside_indices=outside, outside_x=x[n + m :])
        support_y, query_y = _labels(tuple(shots)).clone(), _labels((queries,) * len(classes)).clone()
        return Episode(x[:n], support_y, x[n : n + m], query_y, meta)

    def episodes(self, start: int, stop: int) -> Iterator[Episode]:
        """Episodes start, start + 1, ..., stop - 1, drawn as they are asked for."""
        if not self.vectorised:
            yield from map(self.episode, range(start, stop))
            return
        for first in range(start, stop, BLOCK):
            yield from self._block(first, min(first + BLOCK, stop))

    def _block(self, start: int, stop: int) -> Iterator[Episode]:
        """Episodes start, ..., stop - 1 if vectorised: drawn at once, then loaded a few at a time."""
        assert self._tables is not None and isinstance(self.ways, int)
        assert isinstance(self.shots, int) and isinstance(self.queries, int)
        block = draw_block(
            self.seed, start, stop, *self._tables, ways=self.ways, shots=self.shots, queries=self.queries
        )
        tasks, n, size = stop - start, self.ways * self.shots, self.ways * (self.shots + self.queries)
        rows = np.concatenate([block.support.reshape(tasks, -1), block.query.reshape(tasks, -1)], axis=1)
        support_y, query_y = _labels((self.shots,) * self.ways), _labels((self.queries,) * self.ways)
        together = max(1, CACHED // (4 * size * prod(self.source.shape)))
        for first in range(0, tasks, together):
            part = rows[first : first + together]
            count = len(part)
            x = self.source.load(part.ravel()).unflatten(0, part.shape)  # [tasks, n + m, *shape]
            if self.transform is not None:  # which belongs to one task
                generators = (torch.Generator().manual_seed(s) for s in block.seeds[first:].tolist())
                x = torch.stack([self.transform(*pair) for pair in zip(x, generators, strict=False)])
            # Whole columns are cut at once: an operation on each task would take longer than drawing it.
            columns = zip(
                x[:, :n].unbind(),
                support_y.repeat(count, 1).unbind(),
                x[:, n:].unbind(),
                query_y.repeat(count, 1).unbind(),
                part,
                block.classes[first : first + count].tolist(),
                strict=True,
            )
            for index, (*tensors, row, chosen) in enumerate(columns, start + first):
                classes = tuple([self._names[j] for j in chosen])
                meta = EpisodeMeta(index, self.seed, classes, row[:n], row[n:])
                yield Episode._make([*tensors, meta])

    def _draw_sizes(self, rng: np.random.Generator) -> tuple[np.ndarray, list[int], int]:
        """Classes [N], the shots of each [N], and queries per class. Numbers take nothing from `rng`."""
        if self.sizes is not None:
            return self.sizes.draw(rng, *self._counts, shared=self._shared)
        assert self.ways is not None
        ways = draw_size(self.ways, rng)
        chosen = rng.choice(len(self._names), size=ways, replace=False)
        if self.imbalanced:
            shots = [draw_size(self.shots, rng) for _ in range(ways)]
        else:
            shots = [draw_size(self.shots, rng)] * ways
        return chosen, shots, draw_size(self.queries, rng)

    def _draw(
        self, rng: np.random.Generator, for_support: np.ndarray, for_query: np.ndarray, k: int, q: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the support [k] and the queries [q] of one class."""
        if for_support is for_query:
            shuffled = rng.permutation(for_support)
            cut = k
            if len(shuffled) < k + q:  # only with replace: __post_init__ made sure
                cut = min(max(round(len(shuffled) * (k / (k + q))), 1), len(shuffled) - 1)
            for_support, for_query = shuffled[:cut], shuffled[cut:]
        return (
            rng.choice(for_support, k, replace=len(for_support) < k),
            rng.choice(for_query, q, replace=len(for_query) < q),
        )


@lru_cache(maxsize=256)
def _labels(counts: tuple[int, ...]) -> torch.Tensor:
    """0, …, 0, 1, …, 1, … with as many of each as `counts` says, int64; not to be handed out."""
    return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))


def _as_text(value: object) -> str:
    plain = value is None or isinstance(value, int | str) or is_dataclass(value)
    return repr(value) if plain else getattr(value, "name", type(value).__qualname__)
