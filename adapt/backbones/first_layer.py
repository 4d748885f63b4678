"""Which numbers a network computes with where its input arrives: the dtype of its first layer.

Neither its first parameter in the order of registration nor the parameters that are adapted say so: a head
may come first and be wider, norms may be narrower, and an embedding takes whole numbers. So the network is
called with its operators watched. The first that combines the input with a weight, and takes both in one
dtype only, decides; the call ends there, before that operator runs, so that no input is of the wrong dtype
for it.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

from adapt.backbones.structure import tensors_of
from adapt.backbones.untouched import untouched

__all__ = ["first_dtype"]

#: Operators of several tensors that take different dtypes, and give the wider one.
_NAMES = (
    "add radd iadd sub rsub isub mul rmul imul div truediv rtruediv itruediv true_divide subtract multiply "
    "divide pow rpow maximum minimum where eq ne lt le gt ge cat concat stack addcmul addcdiv clamp getitem "
    "setitem copy"
)
PROMOTING = frozenset(_NAMES.split())
#: Methods by which a network sees to the dtype itself.
CASTS = {"to", "type", "float", "double", "half", "bfloat16", "long", "int", "type_as", "short"}
#: Operators that look numbers up: in these positions they take whole ones.
LOOKUPS = {"embedding", "embedding_bag", "one_hot", "getitem", "index_select", "gather", "take"}


class _Found(BaseException):
    """Ends the call: no ``except Exception`` of the network is to catch it."""


def first_dtype(backbone: nn.Module, x: Tensor) -> torch.dtype | None:
    """The dtype in which ``backbone`` takes examples like ``x [n, …]``; int64 if its first layer embeds them.
    None if it does not say: it converts its input itself, or has no weights.

    Errors of the network are none of this function: they will show where it is called in earnest.
    """
    watch = _Watch(backbone, x.clone())  # which it may write to
    with (
        torch.no_grad(),
        _disable_current_modes(),
        untouched(backbone),
    ):  # who counts FLOPs counts no such call
        if _runs(watch, backbone) or watch.dtype is not None:
            return watch.dtype
        if not x.is_floating_point():  # perhaps it takes real numbers only
            return first_dtype(backbone, x.to(torch.get_default_dtype()))
        # It cannot be watched (activation checkpointing hides it, say): what does it run in?
        held = dict.fromkeys(p.dtype for p in backbone.parameters() if p.is_floating_point())
        return next((d for d in held if _runs(_Watch(backbone, x.to(d, copy=True)), backbone)), None)


def _runs(watch: "_Watch", backbone: nn.Module) -> bool:
    """Whether the network has nothing against the input that is watched, up to where it is called."""
    try:
        with watch:
            backbone(watch.x)
    except _Found:
        return True
    except Exception:
        return False
    return True


class _Watch(TorchFunctionMode):
    """Follows the input, and what is made of weights, through the operators of one call."""

    def __init__(self, backbone: nn.Module, x: Tensor) -> None:
        super().__init__()
        self.dtype: torch.dtype | None = None
        self.x = x
        self._inputs = {id(x): x}  # the tensors are kept: an id must not be given to another
        held = [tensor for module in backbone.modules() for _, tensor in tensors_of(module)]
        self._weights = {id(tensor): tensor for tensor in held}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        operands = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        inputs = [tensor for tensor in operands if id(tensor) in self._inputs]
        weights = [
            tensor for tensor in operands if id(tensor) in self._weights and id(tensor) not in self._inputs
        ]
        name = getattr(func, "__name__", "").strip("_")
        if inputs and name in LOOKUPS and (name in ("embedding", "one_hot", "embedding_bag") or weights):
            self.dtype = torch.int64  # unless another layer wants the same input as real numbers
            return func(*tree_map(self._whole, args), **tree_map(self._whole, kwargs))
        wanted = [weight.dtype for weight in weights if weight.is_floating_point()]
        if inputs and wanted and name not in PROMOTING:
            self.dtype = wanted[0]
            raise _Found
        result = func(*args, **kwargs)
        if inputs and name in CASTS:
            return result
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if inputs:
            self._inputs |= {id(tensor): tensor for tensor in made}
        elif weights:
            self._weights |= {id(tensor): tensor for tensor in made}
        return result

    def _whole(self, value: Any) -> Any:
        """Whole numbers in place of real ones of the input."""
        return value.long() if isinstance(value, Tensor) and id(value) in self._inputs else value
