"""Regression: a task is a function, to be learnt from a few of its points."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch

from ._settings import SEED, SIZE, check_index, check_settings
from .distribution import Episode, EpisodeMeta
from .elsewhere import FromSource
from .sizes import Size, check_task
from .source import AnySource, TaskError

__all__ = ["SPLITS", "FunctionSource", "FunctionTasks", "Tasks"]

#: What every function source offers: the functions of a split are drawn from a random stream of its own.
SPLITS = ("train", "validation", "test")

Drawn = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, float]]


@runtime_checkable
class FunctionSource(AnySource, Protocol):
    """A family of functions. `regression` tells it from a `Source` of labelled examples."""

    @property
    def regression(self) -> bool:
        """True: targets are numbers."""
        ...

    @property
    def outputs(self) -> int:
        """Numbers per target."""
        ...

    def draw(self, rng: np.random.Generator, support: int, queries: int) -> Drawn:
        """One function and points of it, from `rng` alone.

        Returns:
            support_x [support, *shape], support_y [support, outputs], query_x [queries, *shape] and
            query_y [queries, outputs], float32 and the caller's to keep, then what was drawn, by name.
        """
        ...


class Tasks(Protocol):
    """What is common to all kinds of tasks, those that are made of other tasks included."""

    @property
    def source(self) -> AnySource: ...

    @property
    def shots(self) -> Size:
        """Support examples per class (in regression, in all): a number, or what it is drawn from."""
        ...

    @property
    def queries(self) -> Size:
        """Queries per class (in regression, in all): a number, or what it is drawn from."""
        ...

    @property
    def support_split(self) -> str:
        """Split that supports are drawn from."""
        ...

    @property
    def query_split(self) -> str | None:
        """Split that queries are drawn from; None: the same."""
        ...

    @property
    def regression(self) -> bool:
        """Whether targets are rows of numbers (True) or labels (False)."""
        ...

    @property
    def described(self) -> dict[str, Any]:
        """What a reader of a report should know of the tasks beside source and sizes, by name."""
        ...

    def map(self, change: Callable[[Any], Any]) -> Any:
        """These tasks after `change` was done to all tasks that they hold, and then to themselves."""
        ...

    def episode(self, index: int) -> Episode: ...

    def episodes(self, start: int, stop: int) -> Iterator[Episode]: ...


@dataclass(frozen=True)
class FunctionTasks(FromSource):
    """A distribution over functions, with as many points of each as a task has.

    Episode i is drawn from `np.random.default_rng([seed, number of the split, i])` alone, so ranks and
    workers may share the work by index, in any order, and no two splits have a task in common.

    Args:
        source: the family of functions.
        shots: support points per task.
        queries: query points per task.
        support_split: split that tasks are drawn from.
        query_split: None or the same, for support and queries are points of one function.
        seed: non-negative.
        validation: settings that differ where choices are made, see `Distribution`.

    Raises:
        TaskError: if no such task can be drawn; the message names the setting and the fix.

    Example:
        >>> from tasks import Sinusoid
        >>> tasks = FunctionTasks(Sinusoid(), shots=5, queries=20)
        >>> tasks.episode(7).support_y.shape, tasks.batch(0, 25).query_x.shape
        (torch.Size([5, 1]), torch.Size([25, 20, 1]))
    """

    source: FunctionSource
    shots: int = 10
    queries: int = 100
    support_split: str = "train"
    query_split: str | None = None
    seed: int = 0
    validation: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)
    regression: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.check_validation()
        check_settings(self, "task", shots=SIZE, queries=SIZE, seed=SEED)
        asked = f"task.shots={self.shots} and task.queries={self.queries}"
        check_task(self.shots + self.queries, self.source.shape, asked)
        if self.support_split not in self.source.splits:
            known = ", ".join(self.source.splits)
            raise TaskError(f"{self.source.name} has no split {self.support_split!r}: use one of {known}")
        if self.query_split not in (None, self.support_split):
            raise TaskError(
                f"task.query_split={self.query_split} is not task.support_split={self.support_split}, but "
                "support and queries are points of one function: use task.query_split=null"
            )

    def episode(self, index: int) -> Episode:
        """Episode `index` >= 0: the same one on every call and worker."""
        *arrays, parameters = self._draw(index)
        return self._as_episode(arrays, index, parameters)

    def episodes(self, start: int, stop: int) -> Iterator[Episode]:
        """Episodes start, start + 1, ..., stop - 1, drawn as they are asked for."""
        return (self.episode(index) for index in range(start, stop))

    def batch(self, start: int, stop: int) -> Episode:
        """The same episodes at once, stacked on a leading axis: [T, n, ...]. `meta` is that of the first."""
        if stop <= start:
            raise TaskError(f"a batch of episodes {start} to {stop} is empty: use stop > start")
        *columns, parameters = zip(*map(self._draw, range(start, stop)), strict=True)
        return self._as_episode([np.stack(column) for column in columns], start, parameters[0])

    def _draw(self, index: int) -> Drawn:
        index = check_index(index)
        rng = np.random.default_rng([self.seed, self.source.splits.index(self.support_split), index])
        return self.source.draw(rng, self.shots, self.queries)

    def _as_episode(self, arrays: list[np.ndarray], index: int, parameters: dict[str, float]) -> Episode:
        support_x, support_y, query_x, query_y = map(torch.from_numpy, arrays)
        nowhere = np.empty(0, np.int64)  # points are computed: no example has an index
        meta = EpisodeMeta(index, self.seed, (), nowhere, nowhere, parameters)
        return Episode(support_x, support_y, query_x, query_y, meta)
