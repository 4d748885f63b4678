"""Work that several processes share: which of them this is, its part of the work, and sums over all parts.

    g = (1/T) Σ_t g_t = (1/T) Σ_r Σ_{t of r} g_t

Each process adds up its own part, one all-reduce the parts: the synchronous data parallelism of Goyal et al.
(2017), *Accurate, Large Minibatch SGD*, section 3. The processes are torchrun's, or anybody's who sets up
``torch.distributed``; without it there is one, and nothing here does anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

from adapt.errors import AdaptError

__all__ = ["ALONE", "Ranks", "ranks"]


@dataclass(frozen=True)
class Ranks:
    """``count`` processes that do the same at the same time; this one is number ``index`` of them.

    Example:
        >>> [Ranks(index, 3).part(8) for index in range(3)]
        [range(0, 2), range(2, 5), range(5, 8)]
    """

    index: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files and talks to people."""
        return self.index == 0

    def part(self, number: int) -> range:
        """Which of ``number`` things are this one's: consecutive, and as many as the others' but for one."""
        return range(number * self.index // self.count, number * (self.index + 1) // self.count)

    def total(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Sums over all processes, every one of which calls this with tensors of the same shapes.

        Raises:
            AdaptError: one of them has ended.
        """
        if self.count == 1:
            return list(tensors)
        whole = torch.cat([tensor.reshape(-1) for tensor in tensors])
        _reached(distributed.all_reduce, whole)
        parts = whole.split([tensor.numel() for tensor in tensors])
        return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]

    def said(self, message: Any = None, of: int = 0) -> Any:
        """What number ``of`` says to all (JSON); the others' own ``message`` is not looked at.

        Raises:
            AdaptError: it has ended.
        """
        if self.count == 1:
            return message
        own = json.dumps(message).encode() if self.index == of else b""
        text = torch.tensor(list(own), dtype=torch.uint8)
        length = torch.tensor([len(text)])
        _reached(distributed.broadcast, length, of)
        text = text if own else text.new_empty(int(length))
        _reached(distributed.broadcast, text, of)
        return json.loads(bytes(text.tolist()))

    def each(self, indices: Sequence[int], work: Callable[[int], Any]) -> Iterator[Any]:
        """What ``work`` makes (JSON) of each of ``indices``, in their order, whoever does it: every process
        one at a time, and all of them go through all results."""
        for start in range(0, len(indices), self.count):
            now = indices[start : start + self.count]
            own = work(now[self.index]) if self.index < len(now) else None
            yield from (self.said(own, of) for of in range(len(now)))

    def same(self, tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
        """The first one's ``tensors``, on the device of each; the others' are not looked at.

        Raises:
            AdaptError: it has ended.
        """
        if self.count == 1:
            return dict(tensors)
        forms = {name: [str(value.dtype).split(".")[1], list(value.shape)] for name, value in tensors.items()}
        found = {}
        for name, (dtype, shape) in self.said(forms).items():
            own = tensors[name].contiguous() if self.first else None
            value = torch.empty(shape, dtype=getattr(torch, dtype), device=device) if own is None else own
            _reached(distributed.broadcast, value, 0)
            found[name] = value
        return found


ALONE = Ranks()


def ranks() -> Ranks:
    """Of this process."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return ALONE
    return Ranks(distributed.get_rank(), distributed.get_world_size())


def _reached(collective: Any, tensor: Tensor, *arguments: Any) -> None:
    try:
        collective(tensor, *arguments)
    except RuntimeError as error:
        raise AdaptError(
            "another process of this job has ended: see what it said. `torchrun … -m adapt resume FOLDER` "
            "goes on from the last checkpoint"
        ) from error
