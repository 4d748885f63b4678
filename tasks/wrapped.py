"""What episodes of other tasks are changed by: the base of label noise and corruptions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .distribution import Episode
from .functions import Tasks
from .sizes import Size
from .source import AnySource

__all__ = ["Wrapped"]


@dataclass(frozen=True)
class Wrapped:
    """The same tasks, each episode changed by :meth:`change`.

    Episode i is a pure function of episode i of ``tasks``, and of random numbers from (seed, i) that neither
    it nor another wrapper around it uses, so that turning one on changes nothing else.

    Args:
        tasks: what is wrapped.
    """

    tasks: Tasks

    def change(self, episode: Episode, rng: np.random.Generator) -> Episode:
        """The changed episode; it gets tensors of its own where it differs."""
        raise NotImplementedError

    def episode(self, index: int) -> Episode:
        """Episode `index` >= 0: the same one on every call, machine and worker."""
        return self._changed(self.tasks.episode(index))

    def episodes(self, start: int, stop: int) -> Iterator[Episode]:
        """Episodes start, start + 1, ..., stop - 1, drawn as they are asked for."""
        return map(self._changed, self.tasks.episodes(start, stop))

    def _changed(self, episode: Episode) -> Episode:
        meta = episode.meta
        # A spawn key makes a stream apart; the depth tells wrappers within wrappers apart.
        entropy = np.random.SeedSequence([meta.seed, meta.index], spawn_key=(self._depth,))
        return self.change(episode, np.random.default_rng(entropy))

    @property
    def _depth(self) -> int:
        return 1 + self.tasks._depth if isinstance(self.tasks, Wrapped) else 0

    @property
    def source(self) -> AnySource:
        return self.tasks.source

    @property
    def regression(self) -> bool:
        """Whether targets are rows of numbers (True) or labels (False)."""
        return self.tasks.regression

    @property
    def shots(self) -> Size:
        return self.tasks.shots

    @property
    def ways(self) -> Size:
        """Classes per task, which a regression has none of."""
        tasks: Any = self.tasks
        return tasks.ways

    @property
    def support_split(self) -> str:
        """Split that supports are drawn from."""
        tasks: Any = self.tasks
        return tasks.support_split

    @property
    def queries(self) -> Size:
        """Queries per class (in regression, in all)."""
        tasks: Any = self.tasks
        return tasks.queries
