"""Tasks of several domains in one stream."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch

from ._settings import SEED, check_index, check_settings
from .distribution import Episode
from .functions import Tasks
from .sizes import Size, copies_of, positive_weights, summary
from .source import Card, Source, TaskError, joined_card

__all__ = ["Combined", "Mixture"]

#: Tells the stream that picks components from those that draw episodes.
PICK = 2**32 - 1


@dataclass(frozen=True)
class Mixture:
    """Episode i is episode i of one of the components, picked by (seed, i) alone.

    A class is called ``component/class``, and indices are those of :attr:`source`, which holds the sources of
    all components one after the other.

    Args:
        components: name -> tasks of classes. One network reads them all, so examples should have one shape.
        weights: how often each is picked, by name, on any positive scale; None: each as often.
        seed: non-negative.

    Raises:
        TaskError: fewer than two components, weights of other components, or tasks without classes.

    Example:
        >>> from tasks import Digits, Distribution
        >>> old = Distribution(Digits(), 3, 1, 2, support_split="query")
        >>> new = Distribution(Digits(), 3, 1, 2, support_split="support")
        >>> both = Mixture({"old": old, "new": new}, weights={"old": 1, "new": 3})
        >>> [both.episode(i).meta.classes[0] for i in range(5)]
        ['new/5', 'new/9', 'new/2', 'new/4', 'new/4']
    """

    components: Mapping[str, Tasks]
    weights: Mapping[str, float] | None = None
    seed: int = 0
    regression: ClassVar[bool] = False
    source: Combined = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_names("task.components", self.components)
        if len(self.components) < 2:
            raise TaskError(f"task.components has {len(self.components)} entries: give at least two")
        check_settings(self, "task", seed=SEED)
        weights = dict.fromkeys(self.components, 1.0) if self.weights is None else dict(self.weights)
        if {*weights} != {*self.components} or positive_weights([*weights.values()]) is None:
            raise TaskError(
                f"task.weights={weights} do not fit task.components {', '.join(self.components)}: give "
                "a positive weight for each"
            )
        for name, tasks in self.components.items():
            if tasks.regression or not isinstance(tasks.source, Source):
                raise TaskError(
                    f"task.components.{name} has no classes of its own: mix tasks of classes only"
                )
        parts: dict[str, Any] = {**self.components}
        sources = {name: tasks.source for name, tasks in parts.items()}
        own = {name: getattr(tasks, "support_split", None) for name, tasks in parts.items()}
        object.__setattr__(self, "source", Combined(sources, own))
        object.__setattr__(self, "weights", weights)

    @property
    def support_split(self) -> str:
        """That of the first component: the others may call theirs otherwise."""
        return self._first.support_split

    @property
    def query_split(self) -> str | None:
        """That of the first component."""
        return self._first.query_split

    @property
    def described(self) -> dict[str, Any]:
        """What a reader of a report should know of any component beside source and sizes."""
        return {key: value for tasks in self.components.values() for key, value in tasks.described.items()}

    @property
    def shots(self) -> Size:
        return self._all("shots")

    @property
    def ways(self) -> Size:
        """Classes per task, of all components."""
        return self._all("ways")

    @property
    def queries(self) -> Size:
        """Queries per class, of all components."""
        return self._all("queries")

    @property
    def copies(self) -> int:
        """Support examples for each that was drawn: itself, and views of it."""
        return copies_of(self.components.values())

    def episode(self, index: int) -> Episode:
        """Episode `index` >= 0: the same one on every call, machine and worker."""
        index = check_index(index)
        assert self.weights is not None
        shares = np.array([self.weights[name] for name in self.components])
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, index], spawn_key=(PICK,)))
        name = [*self.components][rng.choice(len(shares), p=shares / shares.sum())]
        episode = self.components[name].episode(index)
        meta, offset = episode.meta, self.source.offsets[name]
        outside, unlabelled = (
            None if rows is None else rows + offset
            for rows in (meta.outside_indices, meta.unlabelled_indices)
        )
        moved = replace(
            meta,
            domain=name,
            classes=tuple(f"{name}/{label}" for label in meta.classes),
            support_indices=meta.support_indices + offset,
            query_indices=meta.query_indices + offset,
            outside_indices=outside,
            unlabelled_indices=unlabelled,
        )
        return episode._replace(meta=moved)

    def episodes(self, start: int, stop: int) -> Iterator[Episode]:
        """Episodes start, start + 1, ..., stop - 1, drawn as they are asked for."""
        return map(self.episode, range(start, stop))

    def map(self, change: Callable[[Any], Any]) -> Any:
        """The mixture after `change` was done to all components, and then to itself."""
        changed = {name: tasks.map(change) for name, tasks in self.components.items()}
        return change(replace(self, components=changed))

    @property
    def _first(self) -> Tasks:
        return next(iter(self.components.values()))

    def _all(self, name: str) -> Size:
        parts: list[Any] = [*self.components.values()]
        return summary([getattr(tasks, name) for tasks in parts])


def _check_names(setting: str, parts: object) -> None:
    if not isinstance(parts, Mapping):
        raise TaskError(
            f"{setting} is a {type(parts).__name__}: give each a name, as in {{'old': …, 'new': …}}"
        )


class Combined:
    """Several sources as one: class `c` of source `s` is called ``s/c``; the indices of each source follow
    those of the one before.

    Args:
        sources: name -> source.
        instead: name -> the split that is meant where a source does not have the one asked for: components of
            a mixture may call theirs by names of their own. Without it such a source has no classes to give.

    Example:
        >>> from tasks import Digits
        >>> both = Combined({"small": Digits(size=8), "again": Digits(size=8)})
        >>> both.name, len(both.classes("query")), both.card.counts["small examples"]
        ('small + again', 20, 1797)
    """

    def __init__(
        self, sources: Mapping[str, Source], instead: Mapping[str, str | None] | None = None
    ) -> None:
        _check_names("task.source.sources", sources)
        self._sources, self._instead = dict(sources), dict(instead or {})
        ends = np.cumsum([0, *map(_size, self._sources.values())]).tolist()
        self.offsets: dict[str, int] = dict(zip(self._sources, ends, strict=False))
        self._ends = np.array(ends)

    @property
    def name(self) -> str:
        return " + ".join(self._sources)

    @cached_property
    def card(self) -> Card:
        return joined_card({name: source.card for name, source in self._sources.items()}, self.name)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(split for source in self._sources.values() for split in source.splits))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example; () if the sources differ in it."""
        shapes = {source.shape for source in self._sources.values()}
        return shapes.pop() if len(shapes) == 1 else ()

    def classes(self, split: str) -> Mapping[str, np.ndarray]:
        """Class name -> int64 indices [m], of all sources that have the split, or one instead."""
        if split not in self.splits:
            raise TaskError(f"{self.name} has no split {split!r}: use one of {', '.join(self.splits)}")
        found: dict[str, np.ndarray] = {}
        for name, source in self._sources.items():
            own = split if split in source.splits else self._instead.get(name)
            members = {} if own is None else source.classes(own)
            more = {f"{name}/{label}": rows + self.offsets[name] for label, rows in members.items()}
            if twice := found.keys() & more.keys():
                raise TaskError(
                    f"{self.name}: two classes would be called {min(twice)!r}: give names without '/'"
                )
            found |= more
        return found

    def load(self, indices: np.ndarray) -> torch.Tensor:
        """Examples [n, *shape] for int64 indices [n]."""
        indices = np.asarray(indices, dtype=np.int64)
        owner = np.searchsorted(self._ends, indices, side="right") - 1
        if len({*owner.tolist()}) > 1 and not self.shape:
            raise TaskError(
                f"{self.name} differ in the shape of examples: load those of one source at a time"
            )
        parts: Sequence[Source] = [*self._sources.values()]
        loaded = [
            parts[number].load(indices[owner == number] - self._ends[number])
            for number in np.unique(owner).tolist() or [0]
        ]
        order = np.argsort(np.argsort(owner, kind="stable"), kind="stable")
        return torch.cat(loaded)[torch.from_numpy(order)]

    def digest(self) -> str:
        """sha256 (hex) of the names and digests of all sources."""
        text = repr([(name, source.digest()) for name, source in self._sources.items()])
        return hashlib.sha256(text.encode()).hexdigest()


def _size(source: Source) -> int:
    """One more than the largest index."""
    pools = [pool for split in source.splits for pool in source.classes(split).values()]
    return 1 + max((int(pool.max()) for pool in pools if len(pool)), default=-1)
