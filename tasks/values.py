"""Rows with numbers to be predicted, without groups: regression on a table of one's own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch

from ._settings import SEED, SIZE, check_index, check_settings
from .distribution import Episode, EpisodeMeta
from .elsewhere import FromSource
from .sizes import check_task
from .source import AnySource, Card, TaskError

__all__ = ["RowTasks", "ValueArrays", "ValueSource"]


@runtime_checkable
class ValueSource(AnySource, Protocol):
    """Examples with numbers in place of labels, addressed by index, with named splits."""

    @property
    def regression(self) -> bool:
        """True: targets are numbers."""
        ...

    def rows(self, split: str) -> np.ndarray:
        """int64 indices [m] of the examples in `split`; `TaskError` if there is none."""
        ...

    def load(self, indices: np.ndarray) -> torch.Tensor:
        """Examples [n, *shape], float32, for int64 indices [n]."""
        ...

    def targets(self, indices: np.ndarray) -> torch.Tensor:
        """Their targets [n, outputs], float32."""
        ...


class ValueArrays:
    """A source of values that is held in two arrays.

    Args:
        card: its data sheet; `card.name` becomes `name`.
        examples: float32 [n, *shape].
        values: float32 [n, outputs].
        members: split -> rows [m].
        published: names of the splits that are training sets as somebody published them; "query" is then
            their test set.
    """

    regression: ClassVar[bool] = True

    def __init__(
        self,
        card: Card,
        examples: np.ndarray,
        values: np.ndarray,
        members: Mapping[str, np.ndarray],
        published: tuple[str, ...] = (),
    ) -> None:
        self.card, self.name, self.published = card, card.name, published
        self.splits, self.shape = tuple(members), tuple(examples.shape[1:])
        self._examples, self._values = examples, values
        self._members = {split: np.asarray(rows, np.int64) for split, rows in members.items()}

    def rows(self, split: str) -> np.ndarray:
        """See :class:`ValueSource`."""
        if split not in self._members:
            raise TaskError(f"{self.name} has no split {split!r}: use one of {', '.join(self._members)}")
        return self._members[split]

    def load(self, indices: np.ndarray) -> torch.Tensor:
        """See :class:`ValueSource`."""
        return torch.from_numpy(self._examples.take(indices, axis=0)).float()

    def targets(self, indices: np.ndarray) -> torch.Tensor:
        """See :class:`ValueSource`."""
        return torch.from_numpy(self._values.take(indices, axis=0)).float()

    def digest(self) -> str:
        """sha256 (hex) of examples, targets and split assignment."""
        sha = hashlib.sha256(repr((self._examples.shape, self._values.shape)).encode())
        for array in (self._examples, self._values):
            sha.update(np.ascontiguousarray(array, "<f4").tobytes())
        for split, rows in self._members.items():
            sha.update(repr((split, len(rows))).encode())
            sha.update(rows.astype("<i8").tobytes())
        return sha.hexdigest()


@dataclass(frozen=True)
class RowTasks(FromSource):
    """Tasks of some rows to learn from and others to predict, divided anew in every task.

    Episode i is drawn from `np.random.default_rng([seed, i])` alone; no row is both support and query of one.

    Args:
        source: the rows.
        shots: supports per task, in all.
        queries: queries per task, in all.
        support_split: split that supports are drawn from.
        query_split: split that queries are drawn from; None: the same one.
        seed: non-negative.
        validation: settings that differ where choices are made, see `Distribution`.

    Raises:
        TaskError: if no such task can be drawn; the message names the setting and the fix.

    Example:
        >>> card = Card("line", "", "us", "CC0", "", {}, (), "None.")
        >>> x = np.arange(10, dtype=np.float32)[:, None]
        >>> tasks = RowTasks(ValueArrays(card, x, 2 * x, {"all": np.arange(10)}), 6, 4)
        >>> tasks.episode(0).support_y.shape, tasks.episode(1).query_y.shape
        (torch.Size([6, 1]), torch.Size([4, 1]))
    """

    source: ValueSource
    shots: int = 10
    queries: int = 10
    support_split: str = "all"
    query_split: str | None = None
    seed: int = 0
    validation: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)
    regression: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.check_validation()
        check_settings(self, "task", shots=SIZE, queries=SIZE, seed=SEED)
        check_task(
            self.shots + self.queries,
            self.source.shape,
            f"task.shots={self.shots} and task.queries={self.queries}",
        )
        support, query = len(self.source.rows(self.support_split)), len(self._pools[1])
        asked = f"task.shots={self.shots} and task.queries={self.queries}"
        if self._shared and self.shots + self.queries > support:
            raise TaskError(
                f"{asked} need {self.shots + self.queries} rows, and {self.source.name} has {support}: use "
                "at "
                f"most {support} together"
            )
        if not self._shared and (self.shots > support or self.queries > query):
            raise TaskError(
                f"{asked}, but {self.source.name} has {support} rows to learn from and {query} to predict: "
                "use "
                f"task.shots<={support} and task.queries<={query}"
            )

    @property
    def _shared(self) -> bool:
        return self.query_split in (None, self.support_split)

    @property
    def _pools(self) -> tuple[np.ndarray, np.ndarray]:
        return self.source.rows(self.support_split), self.source.rows(self.query_split or self.support_split)

    def episode(self, index: int) -> Episode:
        """Episode `index` >= 0: the same one on every call and worker."""
        index = check_index(index)
        rng = np.random.default_rng([self.seed, index])
        for_support, for_query = self._pools
        if self._shared:
            drawn = rng.choice(for_support, self.shots + self.queries, replace=False)
            support, query = drawn[: self.shots], drawn[self.shots :]
        else:
            support = rng.choice(for_support, self.shots, replace=False)
            query = rng.choice(for_query, self.queries, replace=False)
        meta = EpisodeMeta(index, self.seed, (), support, query)
        load, targets = self.source.load, self.source.targets
        return Episode(load(support), targets(support), load(query), targets(query), meta)

    def episodes(self, start: int, stop: int) -> Iterator[Episode]:
        """Episodes start, start + 1, ..., stop - 1, drawn as they are asked for."""
        return map(self.episode, range(start, stop))
