"""Tasks that nobody draws: a training set and a test set as they are, every example of both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ._settings import SEED, check_index, check_settings
from .distribution import Episode, EpisodeMeta
from .elsewhere import FromSource
from .sizes import Size, Uniform, check_task
from .source import TaskError

__all__ = ["QUERY", "FixedTasks"]

#: The split that holds the test set.
QUERY = "query"


@dataclass(frozen=True)
class FixedTasks(FromSource):
    """As many tasks as there are training sets: all examples of one are the support of its task, and the
    whole test set is the queries of each.

    Args:
        source: says which of its splits are training sets (`published`); "query" is the test set.
        seed: of what is random in methods; the tasks are the same for any.
        support_split, query_split: the first training set and the test set; they cannot be others.
        validation: settings that differ where choices are made; there are none.

    Raises:
        TaskError: no training sets, training sets of different classes, or other splits.

    Example:
        >>> from tasks import ArraySource, Card
        >>> card = Card("signs", "", "us", "CC0", "", {}, (), "None.")
        >>> members = {"support": {"a": [0, 1], "b": [2]}, "query": {"a": [3], "b": [4, 5]}}
        >>> source = ArraySource(card, np.arange(6, dtype=np.float32)[:, None], members)
        >>> source.published = ("support",)
        >>> tasks = FixedTasks(source)
        >>> tasks.count, tasks.episode(0).support_y.tolist(), tasks.episode(0).query_y.tolist()
        (1, [0, 0, 1], [0, 1, 1])
    """

    source: Any  # a Source or a ValueSource with published training sets
    seed: int = 0
    support_split: str = ""
    query_split: str | None = QUERY
    validation: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)
    #: Says that intervals are about other test examples, for the tasks are no sample of any.
    fixed: bool = field(default=True, init=False, repr=False)
    ways: int | None = field(default=None, init=False, repr=False)
    shots: Size = field(default=0, init=False, repr=False)
    queries: Size = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        self.check_validation()
        check_settings(self, "task", seed=SEED)
        published: tuple[str, ...] = getattr(self.source, "published", ())
        if not published:
            raise TaskError(
                f"{self.source.name} names no training set and test set: draw tasks from it instead"
            )
        if self.support_split not in ("", *published) or self.query_split != QUERY:
            raise TaskError(
                f"{self.source.name} is a training set with its test set, one fixed task, and has no split "
                f"{self.support_split!r} to draw others from: leave out task.test_file (task.test_root), or "
                "what trains or chooses on other tasks"
            )
        object.__setattr__(self, "support_split", published[0])
        if self.regression:
            sizes = [len(self.source.rows(split)) for split in published]
            self._set(None, sizes, [len(self.source.rows(QUERY))])
        else:
            self._check_classes(published)
            shots = [len(rows) for split in published for rows in self.source.classes(split).values()]
            self._set(len(self.class_names), shots, [len(rows) for rows in self._tested.values()])
        rows = max(len(self._support(split)[0]) for split in published) + self.test_examples
        check_task(rows, self.source.shape, "the training set with the whole test set")

    def _set(self, ways: int | None, shots: Sequence[int], queries: Sequence[int]) -> None:
        for name, value in (("ways", ways), ("shots", _size(shots)), ("queries", _size(queries))):
            object.__setattr__(self, name, value)

    def _check_classes(self, published: tuple[str, ...]) -> None:
        first = {*self.source.classes(published[0])}
        for number, split in enumerate(published[1:], 2):
            if odd := sorted(first ^ {*self.source.classes(split)}):
                raise TaskError(
                    f"{self.source.name}: training sets 1 and {number} differ in their classes, {odd[0]!r} "
                    "is in "
                    "one only: give training sets of the same classes"
                )
        if len(first) < 2:
            raise TaskError(
                f"{self.source.name}: the training set has {len(first)} class, and tasks need two"
            )
        if not self._tested:
            raise TaskError(
                f"{self.source.name}: no class of the training set is in the test set: give a test set of "
                "the "
                "same classes"
            )

    @property
    def regression(self) -> bool:
        """Whether targets are numbers (True) or labels (False)."""
        return bool(getattr(self.source, "regression", False))

    @property
    def count(self) -> int:
        """How many tasks there are."""
        return len(self.source.published)

    @property
    def test_examples(self) -> int:
        """How many queries each of them has."""
        return len(self._query[0])

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the tasks, in the source's order."""
        return tuple(self.source.classes(self.source.published[0]))

    @property
    def described(self) -> dict[str, Any]:
        """See :class:`tasks.Tasks`."""
        found = _size([len(self._support(split)[0]) for split in self.source.published])
        shown = found if isinstance(found, int) else str(found)
        return {"training examples": shown, "test examples": self.test_examples}

    @property
    def said(self) -> str:
        """What the tasks are, in a line."""
        sets = "one fixed task" if self.count == 1 else f"{self.count} fixed tasks, one for each training set"
        classes = "" if self.regression else f"all {self.ways} classes, "
        examples = self.described["training examples"]
        return f"{sets}: {classes}{examples} training examples, the whole test set of {self.test_examples:,}"

    @property
    def _tested(self) -> dict[str, np.ndarray]:
        asked = self.source.classes(QUERY)
        return {name: asked[name] for name in self.class_names if name in asked}

    @property
    def _query(self) -> tuple[np.ndarray, torch.Tensor]:
        if self.regression:
            rows = self.source.rows(QUERY)
            return rows, self.source.targets(rows)
        return _labelled(self._tested, self.class_names)

    def _support(self, split: str) -> tuple[np.ndarray, torch.Tensor]:
        if self.regression:
            rows = self.source.rows(split)
            return rows, self.source.targets(rows)
        return _labelled(self.source.classes(split), self.class_names)

    def episode(self, index: int) -> Episode:
        """Task `index`, from 0; `TaskError` where there is none."""
        index = check_index(index)
        if index >= self.count:
            raise TaskError(f"there are {self.count} fixed tasks, and none with the number {index}")
        support, support_y = self._support(self.source.published[index])
        query, query_y = self._query
        names = () if self.regression else self.class_names
        meta = EpisodeMeta(index, self.seed, names, support, query, whole=True)
        return Episode(self.source.load(support), support_y, self.source.load(query), query_y, meta)

    def episodes(self, start: int, stop: int) -> Iterator[Episode]:
        """Tasks start, start + 1, ..., stop - 1."""
        return map(self.episode, range(start, stop))


def _labelled(members: Mapping[str, np.ndarray], names: Sequence[str]) -> tuple[np.ndarray, torch.Tensor]:
    """Rows of the classes, in the order of their names, with the numbers of these."""
    there = [(number, members[name]) for number, name in enumerate(names) if name in members]
    labels = np.repeat([number for number, _ in there], [len(rows) for _, rows in there])
    return np.concatenate([rows for _, rows in there]), torch.from_numpy(labels.astype(np.int64))


def _size(counts: Sequence[int]) -> Size:
    return counts[0] if len({*counts}) == 1 else Uniform(min(counts), max(counts))
