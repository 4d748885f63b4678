"""Tasks that come as groups: the patients of one hospital, one series, one variant of a game.

In a `Distribution` a task is a set of classes, in `FunctionTasks` a function from an endless family. Here it
is a group with a name; its examples share something that an example alone does not tell. Targets are labels
or numbers. Groups, not examples, are divided between the splits.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch

from ._settings import SEED, SIZE, check_index, check_settings
from .distribution import Episode, EpisodeMeta
from .elsewhere import FromSource
from .sizes import check_task
from .source import AnySource, Card, TaskError, TaskWarning

__all__ = ["GroupArrays", "GroupDraw", "GroupSource", "GroupedTasks", "draw_rows"]

NO_ROWS = np.empty(0, np.int64)


class GroupDraw(NamedTuple):
    """Examples of one group, the caller's to keep.

    Labels are int64, class by class (all of label 0 first), K supports and Q queries each. Numbers are
    float32 ``[n, outputs]``, K supports and Q queries in all. `classes` names the labels; the rows
    are indices into the source where it holds its examples. All three are empty where there is nothing to
    say.
    """

    support_x: np.ndarray
    support_y: np.ndarray
    query_x: np.ndarray
    query_y: np.ndarray
    classes: tuple[str, ...] = ()
    support_rows: np.ndarray = NO_ROWS
    query_rows: np.ndarray = NO_ROWS


@runtime_checkable
class GroupSource(AnySource, Protocol):
    """A collection of named groups. The flag `grouped` tells it from other sources."""

    @property
    def grouped(self) -> bool: ...

    @property
    def regression(self) -> bool:
        """Whether targets are numbers (True) or labels (False)."""
        ...

    def groups(self, split: str) -> Mapping[str, int | None]:
        """Group -> the most supports and queries together that it can give (of each class, or numbers in
        all); None: any number. Deterministic order; a name is in one split only."""
        ...

    def sample(self, rng: np.random.Generator, group: str, shots: int, queries: int) -> GroupDraw:
        """Examples of `group`, from `rng` alone."""
        ...


@dataclass(frozen=True)
class GroupedTasks(FromSource):
    """A distribution over groups: episode i draws a group, then examples of it.

    Episode i is drawn from `np.random.default_rng([seed, number of the split, i])` alone.

    Args:
        source: the groups.
        shots: supports per class; in regression, in all.
        queries: queries per class; in regression, in all.
        support_split: split whose groups are drawn.
        query_split: None or the same, for support and queries are of one group.
        seed: non-negative.
        validation: settings that differ where choices are made, see `Distribution`.

    Raises:
        TaskError: if no such task can be drawn. Groups that are too small are left out with a `TaskWarning`.

    Example:
        >>> from tasks import Gridworld
        >>> episode = GroupedTasks(Gridworld(), shots=2, queries=1).episode(7)
        >>> episode.support_y.tolist(), episode.meta.classes
        ([0, 0, 1, 1, 2, 2, 3, 3], ('action 1', 'action 2', 'action 3', 'action 4'))
    """

    source: GroupSource
    shots: int = 5
    queries: int = 15
    support_split: str = "train"
    query_split: str | None = None
    seed: int = 0
    validation: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)
    grouped: ClassVar[bool] = True
    names: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.check_validation()
        check_settings(self, "task", shots=SIZE, queries=SIZE, seed=SEED)
        said = f"task.shots={self.shots} and task.queries={self.queries}"
        check_task(self.shots + self.queries, self.source.shape, said)
        if self.query_split not in (None, self.support_split):
            raise TaskError(
                f"task.query_split={self.query_split} is not task.support_split={self.support_split}, but "
                "support and queries are of one group: use task.query_split=null"
            )
        rooms, asked = self.source.groups(self.support_split), self.shots + self.queries
        kept = tuple(name for name, room in rooms.items() if room is None or room >= asked)
        unit = "in all" if self.regression else "per class"
        needed = (
            f"{self.source.name}: task.shots={self.shots} and task.queries={self.queries} need {asked} {unit}"
        )
        if not kept:
            largest = max((room for room in rooms.values() if room is not None), default=0)
            raise TaskError(
                f"{needed}, but no group of split {self.support_split!r} has more than {largest}: use fewer"
            )
        if left_out := len(rooms) - len(kept):
            place = f"{left_out} of {len(rooms)} groups of split {self.support_split!r}"
            warnings.warn(f"{needed}: {place} have fewer and were left out", TaskWarning, stacklevel=3)
        object.__setattr__(self, "names", kept)

    @property
    def regression(self) -> bool:
        """Whether targets are numbers (True) or labels (False)."""
        return self.source.regression

    def episode(self, index: int) -> Episode:
        """Episode `index` >= 0: the same one on every call and worker. `meta.parameters["group"]` is the
        position of its group in `names`."""
        index = check_index(index)
        split = self.source.splits.index(self.support_split)
        rng = np.random.default_rng([self.seed, split, index])
        group = int(rng.integers(len(self.names)))
        drawn = self.source.sample(rng, self.names[group], self.shots, self.queries)
        where = {"group": float(group)}
        meta = EpisodeMeta(
            index,
            self.seed,
            drawn.classes,
            drawn.support_rows,
            drawn.query_rows,
            where,
            group=self.names[group],
        )
        support_x, support_y, query_x, query_y = map(torch.from_numpy, drawn[:4])
        return Episode(support_x, support_y, query_x, query_y, meta)

    def episodes(self, start: int, stop: int) -> Iterator[Episode]:
        """Episodes start, start + 1, ..., stop - 1, drawn as they are asked for."""
        return (self.episode(index) for index in range(start, stop))


class GroupArrays:
    """Groups of the rows of one array.

    Args:
        card: its data sheet; `card.name` becomes `name`.
        examples: float32 [n, *shape]; uint8 is read as fractions of 255.
        members: split -> group -> class -> rows [m]. For numbers there is one class, named "".
        values: float32 [n, outputs], the targets, if they are numbers.

    Raises:
        TaskError: if a group is in two splits.
    """

    grouped: ClassVar[bool] = True

    def __init__(
        self,
        card: Card,
        examples: np.ndarray,
        members: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]],
        values: np.ndarray | None = None,
    ) -> None:
        names = [name for groups in members.values() for name in groups]
        if twice := {name for name, times in Counter(names).items() if times > 1}:
            raise TaskError(f"{card.name}: group {min(twice)!r} is in two splits: give each group one split")
        self.card, self.name = card, card.name
        self.splits, self.shape = tuple(members), tuple(examples.shape[1:])
        self.regression = values is not None
        self._examples, self._values = examples, values
        self._members = {split: {g: dict(c) for g, c in groups.items()} for split, groups in members.items()}
        self._groups = {
            name: classes for groups in self._members.values() for name, classes in groups.items()
        }

    def groups(self, split: str) -> Mapping[str, int | None]:
        """Group -> the size of its smallest class; `TaskError` if there is no such split."""
        if split not in self._members:
            raise TaskError(f"{self.name} has no split {split!r}: use one of {', '.join(self._members)}")
        return {name: min(map(len, classes.values())) for name, classes in self._members[split].items()}

    def sample(self, rng: np.random.Generator, group: str, shots: int, queries: int) -> GroupDraw:
        """Rows of `group` without replacement; see `GroupSource.sample`."""
        classes = self._groups[group]
        support, query = self.rows(rng, [*classes.values()], shots, queries)
        support_x, query_x = self._load(support), self._load(query)
        if self._values is not None:
            y = self._values
            return GroupDraw(support_x, y[support], query_x, y[query], (), support, query)
        labels = np.arange(len(classes))
        return GroupDraw(
            support_x, labels.repeat(shots), query_x, labels.repeat(queries), (*classes,), support, query
        )

    def rows(
        self, rng: np.random.Generator, pools: Sequence[np.ndarray], shots: int, queries: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows of supports and queries from the pools of the classes of a group: see :func:`draw_rows`."""
        return draw_rows(rng, pools, shots, queries)

    def _load(self, rows: np.ndarray) -> np.ndarray:
        found = self._examples[rows]
        return found.astype(np.float32) / 255 if found.dtype == np.uint8 else found

    def digest(self) -> str:
        """sha256 (hex) of examples, targets, groups, class names and split assignment."""
        sha = hashlib.sha256(repr(self._examples.shape).encode())
        for array in (self._examples, self._values):
            if array is not None:
                kind = "|u1" if array.dtype == np.uint8 else "<f4"
                sha.update(np.ascontiguousarray(array, kind).data)
        for split, groups in self._members.items():
            for group, classes in groups.items():
                for name, rows in classes.items():
                    sha.update(repr((split, group, name, len(rows))).encode())
                    sha.update(rows.astype("<i8").tobytes())
        return sha.hexdigest()


def draw_rows(
    rng: np.random.Generator, pools: Sequence[np.ndarray], shots: int, queries: int
) -> tuple[np.ndarray, np.ndarray]:
    """`shots` and `queries` of every pool, none twice, pool by pool: [N*K] and [N*Q], int64."""
    drawn = [rng.choice(pool, shots + queries, replace=False) for pool in pools]
    return np.concatenate([d[:shots] for d in drawn]), np.concatenate([d[shots:] for d in drawn])
