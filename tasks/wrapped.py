"""What episodes of other tasks are changed by: the base of label noise and corruptions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
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

    Episode i is a pure function of episode i of ``base``, and of random numbers from (seed, i) that neither
    it nor another wrapper around it uses, so that turning one on changes nothing else.

    Args:
        base: what is wrapped.
    """

    base: Tasks

    def change(self, episode: Episode, rng: np.random.Generator) -> Episode:
        """The changed episode; it gets tensors of its own where it differs."""
        raise NotImplementedError

    def episode(self, index: int) -> Episode:
        """Episode `index` >= 0: the same one on every call, machine and worker."""
        return self._changed(self.base.episode(index))

    def episodes(self, start: int, stop: int) -> Iterator[Episode]:
        """Episodes start, start + 1, ..., stop - 1, drawn as they are asked for."""
        return map(self._changed, self.base.episodes(start, stop))

    def map(self, change: Callable[[Any], Any]) -> Any:
        """These tasks after `change` was done to what is wrapped, and then to themselves."""
        return change(replace(self, base=self.base.map(change)))

    def _changed(self, episode: Episode) -> Episode:
        meta = episode.meta
        # A spawn key makes a stream apart; the depth tells wrappers within wrappers apart.
        entropy = np.random.SeedSequence([meta.seed, meta.index], spawn_key=(self._depth,))
        return self.change(episode, np.random.default_rng(entropy))

    @property
    def _depth(self) -> int:
        return 1 + self.base._depth if isinstance(self.base, Wrapped) else 0

    @property
    def _within(self) -> str:
        """How settings of the tasks that are wrapped are called, as seen from here: ``base.base.`` …"""
        return "base." + (self.base._within if isinstance(self.base, Wrapped) else "")

    @property
    def copies(self) -> int:
        """Support examples for each that was drawn: itself, and views of it."""
        base: Any = self.base
        return int(getattr(base, "copies", 1))

    @property
    def source(self) -> AnySource:
        return self.base.source

    @property
    def regression(self) -> bool:
        """Whether targets are rows of numbers (True) or labels (False)."""
        return self.base.regression

    @property
    def shots(self) -> Size:
        return self.base.shots

    @property
    def ways(self) -> Size:
        """Classes per task, which a regression has none of."""
        base: Any = self.base
        return base.ways

    @property
    def support_split(self) -> str:
        """Split that supports are drawn from."""
        return self.base.support_split

    @property
    def query_split(self) -> str | None:
        """Split that queries are drawn from; None: the same."""
        return self.base.query_split

    @property
    def queries(self) -> Size:
        """Queries per class (in regression, in all)."""
        return self.base.queries

    @property
    def described(self) -> dict[str, Any]:
        """What a reader of a report should know of the tasks beside source and sizes."""
        return self.base.described
