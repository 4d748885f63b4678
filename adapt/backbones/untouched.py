"""Calling somebody's module without leaving a trace: buffers, attributes and random generators are put
back."""

import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from adapt.backbones.structure import tensors_of

__all__ = ["State", "untouched"]

#: Of parameters of more numbers than this no copy is kept: whether they were changed is all that is known.
SMALL = 2**16
CONTAINERS = (dict, list, set, deque)
#: Part of the state dict; a buffer that is not, such as a cache; a tensor that is a plain attribute.
Kind = Literal["saved", "cache", "attribute"]


class State:
    """The tensors of ``module`` as they were when this was made."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._was = {name: _Kept(tensor, kind) for name, tensor, kind in _tensors(module)}

    def written(self, kind: Kind) -> str | None:
        """The name of the first tensor of this kind that is new, or holds other values than it did."""
        return next(
            (
                name
                for name, tensor, found in _tensors(self.module)
                if found == kind and not (name in self._was and self._was[name].equals(tensor))
            ),
            None,
        )

    def restore(self) -> None:
        """Write the old values back, where a copy was kept."""
        for kept in self._was.values():
            kept.restore()


@contextmanager
def untouched(module: nn.Module) -> Iterator[Callable[[], bool]]:
    """While active ``module`` may be called; afterwards it is as before, and so are torch's, NumPy's and
    Python's global generators. Yields a function that says whether one of these has been drawn from."""
    state = State(module)
    attributes = [(vars(part), dict(vars(part)), _contents(vars(part))) for part in module.modules()]
    owned = [value for _, values, _ in attributes for value in values.values()]
    generators = [(value, value.get_state()) for value in owned if isinstance(value, torch.Generator)]
    cuda = sorted({t.device.index for _, t, _ in _tensors(module) if t.device.type == "cuda"})
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=cuda):
        before = _positions(cuda, generators)
        try:
            yield lambda: before != _positions(cuda, generators)
        finally:
            for now, values, contents in attributes:
                _put_back(now, values, contents)
            state.restore()
            for generator, position in generators:
                generator.set_state(position)
            random.setstate(python)
            np.random.set_state(numpy)


class _Kept:
    """One tensor as it was: a copy, or, of a large parameter, what tells whether it was changed."""

    def __init__(self, tensor: Tensor, kind: Kind) -> None:
        self.tensor = tensor
        small = kind == "cache" or tensor.numel() <= SMALL
        self.copy = tensor.detach().clone() if small and _is_plain(tensor) else None
        self.mark = _mark(tensor) if self.copy is None else None

    def equals(self, tensor: Tensor) -> bool:
        if self.copy is None:
            return _mark(tensor) == self.mark
        if tensor.shape != self.copy.shape or tensor.dtype != self.copy.dtype:
            return False
        return bool(((tensor == self.copy) | ((tensor != tensor) & (self.copy != self.copy))).all())

    def restore(self) -> None:
        if self.copy is not None and not self.equals(self.tensor):
            with torch.no_grad():
                self.tensor.copy_(self.copy)


def _is_plain(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and not tensor.is_quantized and not tensor.is_nested


def _mark(tensor: Tensor) -> tuple[Any, ...]:
    """What tells, at the cost of reading it once, whether a tensor was changed, even as ``tensor.data``."""
    version = 0 if tensor.is_inference() else tensor._version
    summed = _is_plain(tensor) and tensor.dtype in (
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
    )
    total = float(tensor.detach().sum(dtype=torch.float64)) if summed else 0.0
    return id(tensor), version, repr(total)


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor, Kind]]:
    """All tensors of the module, by name; buffers of the state dict are those whose copies are small."""
    for path, part in module.named_modules():
        dot = f"{path}." if path else ""
        for name, tensor in tensors_of(part):
            yield dot + name, tensor, "cache" if name in part._non_persistent_buffers_set else "saved"
        for name, value in vars(part).items():
            if isinstance(value, Tensor):
                yield dot + name, value, "attribute"


def _contents(values: dict[str, Any]) -> list[tuple[Any, Any]]:
    """The containers among the attributes, and copies of them, one level deep."""
    return [(value, value.copy()) for value in values.values() if type(value) in CONTAINERS]


def _put_back(now: dict[str, Any], values: dict[str, Any], contents: list[tuple[Any, Any]]) -> None:
    for container, content in contents:
        if not _holds(container, content):
            container.clear()
            (container.extend if isinstance(container, list | deque) else container.update)(content)
    if not _holds(now, values):
        now.clear()
        now.update(values)


def _holds(container: Any, content: Any) -> bool:
    """Whether the same objects are in both (not equal ones: tensors are compared number by number)."""
    listed = [
        list(map(id, each.values() if isinstance(each, dict) else each)) for each in (container, content)
    ]
    return listed[0] == listed[1] and (not isinstance(container, dict) or [*container] == [*content])


def _positions(cuda: list[int], generators: list[tuple[torch.Generator, Tensor]]) -> list[Any]:
    """Of all generators, comparable."""
    states = [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in cuda)]
    states += [generator.get_state() for generator, _ in generators]
    numpy: Any = np.random.get_state()
    return [*(state.tolist() for state in states), numpy[1].tobytes(), *numpy[2:], random.getstate()]
