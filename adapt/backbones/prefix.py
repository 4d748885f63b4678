"""What no adapted parameter reaches, computed once per task.

    features(φ, x) = suffix(φ, prefix(x))

A solver evaluates the network many times on the same support set; whatever comes before the first adapted
layer is the same each time. A :class:`FrozenPrefix` notes the result of every torch function that has met no
adapted parameter while the network runs for the first time, and hands it out instead of computing it from
then on. That holds for any network and any solver: forward tangents, backprop and plain evaluation alike.
(Inside ``vmap`` over tasks x is one of many, and everything is computed each time.)
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from adapt.backbones.call import call
from adapt.forward.fast import Dual

__all__ = ["FrozenPrefix"]

#: Attribute of tensors that depend on adapted parameters.
_MARK = "_moves_with_adaptation"


class FrozenPrefix:
    """Calls ``backbone`` on ``x`` with different adapted parameters, always the same ones by name.

    It keeps what adapted layers read of the frozen part, and nothing else.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> net, x = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)), torch.ones(1, 2)
        >>> prefix = FrozenPrefix(net, x)
        >>> before = prefix({"1.bias": torch.zeros(1)})
        >>> after = prefix({"1.bias": torch.ones(1)})  # the first layer is not computed again
        >>> round((after - before).item(), 4)
        1.0
    """

    def __init__(self, backbone: nn.Module, x: Tensor) -> None:
        self.backbone, self.x = backbone, x
        self._record = _Record()

    def __call__(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """``backbone(x)`` with ``parameters`` in place of its own of the same names."""
        if torch.compiler.is_compiling():  # which traces no recording, and sees what is constant by itself
            return call(self.backbone, parameters, self.x)
        try:
            with self._record.run(parameters):
                return self._record.needed(call(self.backbone, parameters, self.x))
        except _AnotherPath:
            self._record = _Record()
            return call(self.backbone, parameters, self.x)


class _AnotherPath(Exception):
    """The network does not do what it did when its results were noted."""


class _Record(TorchFunctionMode):
    """Results of the torch functions that depend on nothing adapted, in the order of the calls."""

    def __init__(self) -> None:
        super().__init__()
        self._results: list[tuple[Any, Any]] = []  # (function, result)
        self._places: dict[int, int] = {}  # id of a noted tensor → where it is
        self._needed: set[int] = set()
        self._complete = self._spoilt = False
        self._next = 0
        self._adapted: frozenset[int] = frozenset()

    @contextmanager
    def run(self, parameters: Mapping[str, Tensor]) -> Iterator[None]:
        """Note (the first time) or replay (later) one evaluation."""
        self._next, self._adapted = 0, frozenset(map(id, parameters.values()))
        try:
            with self:
                yield
        except BaseException:
            self._spoilt = True
            raise
        finally:
            self._finish()

    def needed(self, value: Any) -> Any:
        """``value``, which somebody reads who is computed each time."""
        for tensor in _tensors(value):
            if tensor.is_meta:
                raise _AnotherPath
            if id(tensor) in self._places:
                self._needed.add(self._places[id(tensor)])
        return value

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if any(self._moves(tensor) for tensor in _tensors((args, kwargs))):
            if (target := _written(func, args, kwargs)) is not None and not self._moves(target):
                self._spoilt = True  # what has been noted is being changed
            self.needed((args, kwargs))
            return _mark(func(*args, **kwargs))
        if self._complete:
            place, self._next = self._next, self._next + 1
            if place == len(self._results) or self._results[place][0] != func:
                raise _AnotherPath
            return self._results[place][1]
        # Outside of the transforms that the solver may be in (torch.func.grad, vmap): those would take the
        # result for one of theirs, which ends with them.
        with temporarily_clear_interpreter_stack():
            result = func(*args, **kwargs)
        self._places.update((id(tensor), len(self._results)) for tensor in _tensors(result))
        self._results.append((func, result))
        return result

    def _moves(self, tensor: Any) -> bool:
        return (
            type(tensor) is Dual
            or id(tensor) in self._adapted
            or hasattr(tensor, _MARK)
            or torch._C._functorch.is_functorch_wrapped_tensor(tensor)
        )

    def _finish(self) -> None:
        if self._spoilt:
            self._results, self._needed, self._complete, self._spoilt = [], set(), False, False
        elif not self._complete:
            with temporarily_clear_interpreter_stack():
                for place, (func, result) in enumerate(self._results):
                    if place not in self._needed:
                        self._results[place] = func, tree_map(_outline, result)
            self._complete = True
        self._places, self._adapted = {}, frozenset()


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in nested arguments. (torch's own pytrees take ten times as long.)"""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))


def _mark(value: Any) -> Any:
    for tensor in _tensors(value):
        if type(tensor) is not Dual:
            setattr(tensor, _MARK, True)
    return value


def _outline(value: Any) -> Any:
    """In place of a tensor that only the frozen part reads: shape and dtype, without memory."""
    if not isinstance(value, Tensor):
        return value
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")


def _written(func: Any, args: Any, kwargs: Any) -> Any:
    """The operand that ``func`` changes, as an in-place method or operator (``x += …``) or by ``out=``."""
    name = getattr(func, "__name__", "")
    plain = name.endswith("_") and not name.endswith("__")
    if plain or name == "__setitem__" or (name.startswith("__i") and hasattr(Tensor, f"__{name[3:]}")):
        return args[0]
    return kwargs.get("out")
