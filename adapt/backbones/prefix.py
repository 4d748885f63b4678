"""What no adapted parameter reaches, computed once per task.

    features(φ, x) = suffix(φ, prefix(x))

A solver evaluates the network many times on the same support set; whatever comes before the first adapted
layer is the same each time. A :class:`FrozenPrefix` notes the result of every torch function that has met no
adapted parameter while the network runs for the first time, and hands it out instead of computing it from
then on. That holds for any network and any solver: forward tangents, backprop and plain evaluation alike.
(Inside ``vmap`` over tasks x is one of many, and everything is computed each time.)

Of the results only those are kept alive, from the moment they are read, that an adapted layer or the caller
reads. The others go when the network drops them, as in plain inference, so that the first evaluation needs
no more memory for a deep frozen part than for a shallow one.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from adapt.backbones.call import as_input, call_as_is
from adapt.forward.fast import Dual

__all__ = ["FrozenPrefix", "unreached"]

#: Attribute of tensors that depend on adapted parameters.
_MARK = "_moves_with_adaptation"
#: Numbers the records.
_RECORDS = count()


class FrozenPrefix:
    """Calls ``backbone`` on ``x`` with different adapted parameters, always the same ones by name.

    It keeps what adapted layers read of the frozen part, and nothing else.

    Args:
        known: of the names of the adapted parameters: further tensors to put in place of the backbone's own,
            which stay the same (:func:`adapt.backbones.settled.unmoved`).

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

    def __init__(
        self,
        backbone: nn.Module,
        x: Tensor,
        known: Callable[[Collection[str]], Mapping[str, Tensor]] | None = None,
    ) -> None:
        self.backbone, self.x = backbone, as_input(backbone, x)  # which is no part of what is noted
        self._record, self._known = _Record(), known
        self._constants: Mapping[str, Tensor] | None = None

    def __call__(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """``backbone(x)`` with ``parameters`` in place of its own of the same names."""
        if torch.compiler.is_compiling():  # which traces no recording, and sees what is constant by itself
            return call_as_is(self.backbone, parameters, self.x)
        if self._constants is None:
            self._constants = {} if self._known is None else self._known(parameters)
        every = {**self._constants, **parameters}
        try:
            return self._record.run(lambda: call_as_is(self.backbone, every, self.x), parameters)
        except _AnotherPath:
            self._record = _Record()
        # Here, and not above: the exception, which holds all that was computed on the way, is gone by now.
        return call_as_is(self.backbone, every, self.x)


def unreached(network: Callable[[], Tensor], parameters: Mapping[str, Tensor]) -> Tensor | None:
    """What ``network()`` returns, which computes with the tensors in ``parameters``; None if any of them, or
    anything that was computed from one, has met it on the way."""
    value = _Record().run(network, parameters)
    return None if hasattr(value, _MARK) else value


class _AnotherPath(Exception):
    """The network does not do what it did when its results were noted."""


class _Leaf:
    """A tensor among the results of a noted function; the tensor bears it as an attribute.

    (A tensor's id would not do: another one gets it when the tensor is freed. A copy made by ``deepcopy``
    bears a leaf of its own.)
    """

    __slots__ = ("outline",)

    def __init__(self, outline: Tensor) -> None:
        self.outline = outline


class _Record(TorchFunctionMode):
    """Results of the torch functions that depend on nothing adapted, in the order of the calls."""

    def __init__(self) -> None:
        super().__init__()
        self._results: list[tuple[Any, Any]] = []  # (function, result); until complete, leaves for tensors
        self._kept: dict[_Leaf, tuple[Tensor, int]] = {}  # what has been read, and its version then
        self._leaf = f"_noted_in_record_{next(_RECORDS)}"  # attribute of noted tensors
        self._complete = self._spoilt = False
        self._next = 0
        self._adapted: frozenset[int] = frozenset()

    def run(self, network: Callable[[], Tensor], parameters: Mapping[str, Tensor]) -> Tensor:
        """Note (the first time) or replay (later) one evaluation."""
        if any(_version(tensor) != version for tensor, version in self._kept.values()):
            self._forget()  # changed after it had been read: its value now is not the one that was read
        self._next, self._adapted = 0, frozenset(map(id, parameters.values()))
        try:
            with self:
                value = network()
            self._keep(_tensors(value))
        except BaseException:
            self._spoilt = True
            raise
        finally:
            self._finish()
        return value

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        operands = list(_tensors((args, kwargs)))
        if any(map(self._moves, operands)):
            if (target := _written(func, args, kwargs)) is not None and not self._moves(target):
                self._spoilt = True  # what has been noted is being changed
            self._keep(operands)
            return _mark(func(*args, **kwargs))
        if self._complete:
            place, self._next = self._next, self._next + 1
            if place == len(self._results) or self._results[place][0] != func:
                raise _AnotherPath
            return self._results[place][1]
        if self._kept and torch.is_inference_mode_enabled() and _written(func, args, kwargs) is not None:
            self._spoilt = True  # perhaps what has been read: there are no versions to tell
        # Outside of the transforms that the solver may be in (torch.func.grad, vmap): those would take the
        # result for one of theirs, which ends with them.
        with temporarily_clear_interpreter_stack():
            result = func(*args, **kwargs)
            self._results.append((func, self._leaves(result, operands)))
        return result

    def _keep(self, tensors: Iterable[Tensor]) -> None:
        """They are read by somebody who is computed each time."""
        for tensor in tensors:
            if tensor.is_meta:
                raise _AnotherPath
            leaf = None if self._complete else getattr(tensor, self._leaf, None)
            if leaf is not None and leaf not in self._kept:
                self._kept[leaf] = tensor, _version(tensor)

    def _leaves(self, result: Any, operands: list[Tensor]) -> Any:
        """``result`` without its tensors: noting it keeps none of them alive."""
        if isinstance(result, Tensor):
            leaf = getattr(result, self._leaf, None)
            if leaf is not None:  # an operand that has been noted (``contiguous()``, ``relu_()``)
                return leaf
            if any(result is operand for operand in operands):
                return result  # an operand that lives by itself, such as x or a parameter
            if result.layout is not torch.strided or result.is_nested:
                return result  # has no outline
            leaf = _Leaf(_outline(result))
            setattr(result, self._leaf, leaf)
            return leaf
        if next(_tensors(result), None) is None:
            return result
        return tree_map(lambda x: self._leaves(x, operands) if isinstance(x, Tensor) else x, result)

    def _filled(self, leaves: Any) -> Any:
        """What :meth:`_leaves` was made of: the tensors that are kept, and outlines of the others."""
        if type(leaves) is _Leaf:
            return self._kept[leaves][0] if leaves in self._kept else leaves.outline
        if type(leaves) is torch.Size or not isinstance(leaves, tuple | list | dict):
            return leaves
        return tree_map(lambda x: self._filled(x) if type(x) is _Leaf else x, leaves)

    def _moves(self, tensor: Any) -> bool:
        return (
            type(tensor) is Dual
            or id(tensor) in self._adapted
            or hasattr(tensor, _MARK)
            or torch._C._functorch.is_functorch_wrapped_tensor(tensor)
        )

    def _finish(self) -> None:
        if not self._complete:
            for tensor, _ in self._kept.values():
                vars(tensor).pop(self._leaf, None)  # the caller, who may save it, gets a plain tensor
        if self._spoilt:
            self._forget()
        elif not self._complete:
            self._results = [(func, self._filled(leaves)) for func, leaves in self._results]
            self._complete = True
        self._adapted = frozenset()

    def _forget(self) -> None:
        self._results, self._kept, self._complete, self._spoilt = [], {}, False, False


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


def _outline(value: Tensor) -> Tensor:
    """In place of a tensor that only the frozen part reads: shape and dtype, without memory."""
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")


def _version(value: Tensor) -> int:
    """Counts the changes in place to the memory of ``value``; tensors of inference mode do not count."""
    return 0 if value.is_inference() else value._version


def _written(func: Any, args: Any, kwargs: Any) -> Any:
    """The operand that ``func`` changes, as an in-place method or operator (``x += …``) or by ``out=``."""
    name = getattr(func, "__name__", "")
    plain = name.endswith("_") and not name.endswith("__")
    if plain or name == "__setitem__" or (name.startswith("__i") and hasattr(Tensor, f"__{name[3:]}")):
        return args[0]
    return kwargs.get("out")
