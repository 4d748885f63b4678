"""Many tasks at once: stacked episodes, and a function of one task mapped over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from tasks import Episode, Tasks

__all__ = ["Ragged", "map_tasks", "single", "stacked"]


class Ragged:
    """A column of episodes that differ in size, in the place of a stacked tensor: it has a length, and is
    indexed by a number (that tensor), a slice, or an int64 tensor ``[m]`` (another such column)."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = tuple(tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, int):
            return self.tensors[index]
        if isinstance(index, slice):
            return Ragged(self.tensors[index])
        return Ragged([self.tensors[i] for i in index.tolist()])


def stacked(tasks: Tasks, start: int, stop: int) -> Episode:
    """Episodes start … stop − 1 on a new leading axis of every tensor; ``meta`` is that of the first.

    If they differ in size, every column is a :class:`Ragged`.
    """
    if (batch := getattr(tasks, "batch", None)) is not None:
        return batch(start, stop)
    episodes = list(tasks.episodes(start, stop))
    columns: list[Any] = [*zip(*(episode[:4] for episode in episodes), strict=True)]
    # The number of classes too must be the same: it is read from the one meta.
    ways = {len(episode.meta.classes) for episode in episodes}
    equal = len(ways) == 1 and all(len({tensor.shape for tensor in column}) == 1 for column in columns)
    stack: Callable[[Any], Any] = torch.stack if equal else Ragged
    return Episode._make([*map(stack, columns), episodes[0].meta])


def single(batch: Episode, index: int = 0) -> Episode:
    """One of the stacked episodes of ``batch``. If they differ in size, ``meta.classes`` has the right number
    of names, which are those of the labels."""
    tensors, meta = [column[index] for column in batch[:4]], batch.meta
    if isinstance(batch.support_y, Ragged) and not tensors[1].is_floating_point():
        # Every class has a support.
        meta = replace(meta, classes=tuple(map(str, range(int(tensors[1].max()) + 1))))
    return Episode._make([*tensors, meta])


def map_tasks(
    function: Callable[[Episode], tuple[Tensor, ...]], batch: Episode, chunk: int
) -> Iterator[tuple[Tensor, ...]]:
    """Results of ``function`` of one episode, stacked, for ``chunk`` tasks of ``batch`` at a time.

    A single task is computed without ``vmap``, which keeps what is frozen from being computed again and again
    (:mod:`adapt.backbones.prefix`); so are tasks that differ in size, which cannot be mapped over.
    """
    chunk = 1 if isinstance(batch.support_y, Ragged) else chunk
    for start in range(0, len(batch.support_y), chunk):
        part = [tensor[start : start + chunk] for tensor in batch[:4]]
        if len(part[0]) == 1:
            yield tuple(result[None] for result in function(single(batch, start)))
        else:
            mapped = vmap(lambda *tensors: function(Episode._make([*tensors, batch.meta])), randomness="same")
            yield mapped(*part)
