"""Many tasks at once: stacked episodes, and a function of one task mapped over them."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.func import vmap

from tasks import Episode, Tasks

__all__ = ["each", "single", "stacked"]


def stacked(tasks: Tasks, start: int, stop: int) -> Episode:
    """Episodes start … stop − 1 on a new leading axis of every tensor; ``meta`` is that of the first."""
    if (batch := getattr(tasks, "batch", None)) is not None:
        return batch(start, stop)
    episodes = list(tasks.episodes(start, stop))
    columns = zip(*(episode[:4] for episode in episodes), strict=True)
    return Episode._make([*map(torch.stack, columns), episodes[0].meta])


def single(batch: Episode, index: int = 0) -> Episode:
    """One of the stacked episodes of ``batch``."""
    return Episode._make([*(tensor[index] for tensor in batch[:4]), batch.meta])


def each(
    function: Callable[[Episode], tuple[Tensor, ...]], batch: Episode, chunk: int
) -> Iterator[tuple[Tensor, ...]]:
    """Results of ``function`` of one episode, stacked, for ``chunk`` tasks of ``batch`` at a time.

    A single task is computed without ``vmap``, which keeps what is frozen from being computed again and again
    (:mod:`adapt.backbones.prefix`).
    """
    for start in range(0, len(batch.support_y), chunk):
        part = [tensor[start : start + chunk] for tensor in batch[:4]]
        if len(part[0]) == 1:
            yield tuple(result[None] for result in function(single(batch, start)))
        else:
            mapped = vmap(lambda *tensors: function(Episode._make([*tensors, batch.meta])), randomness="same")
            yield mapped(*part)
