"""What a backbone takes: rows of token ids or real numbers, and how texts become the former."""

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary, ref

import numpy as np
import torch
from torch import Tensor, nn

from adapt.backbones.first_layer import first_dtype
from adapt.backbones.info import info_of
from adapt.backbones.structure import device_of, tensors_of
from adapt.forward.kernels import ONE_AT_A_TIME

__all__ = ["Tokenise", "input_dtype", "inputs_for", "tokeniser"]

#: Texts → token ids, int64 ``[n, L]``, padded to the longest.
Tokenise = Callable[[Sequence[str]], np.ndarray]

#: What a backbone was, and what it then took, of real (True) and of whole numbers.
_found: "WeakKeyDictionary[nn.Module, tuple[tuple[Any, ...], dict[bool, torch.dtype]]]" = WeakKeyDictionary()


def tokeniser(backbone: nn.Module) -> Tokenise | None:
    """The method ``tokenise`` of a backbone that reads texts; None of one that does not."""
    return getattr(backbone, "tokenise", None)


def input_dtype(backbone: nn.Module, x: Tensor | None = None) -> torch.dtype:
    """The dtype in which ``backbone`` takes its input.

    int64 if it reads token ids; what its info states; else that of its first layer, which is found by calling
    it on two of the examples ``x [n, …]`` the first time, and known from then on. Without ``x``, or if the
    network converts its input itself: that of its first parameter, at least single precision.
    """
    if tokeniser(backbone) is not None:
        return torch.int64
    info = info_of(backbone)
    if info is not None and info.input_dtype is not None:
        dtype: torch.dtype = getattr(torch, info.input_dtype)
        return dtype
    if torch.compiler.is_compiling():  # which traces no locks, and sees what has been converted already
        return _first(backbone) if x is None else x.dtype
    with ONE_AT_A_TIME:
        now = _layers(backbone)
        then, known = _found.get(backbone, (now, {}))
        known = known if then == now else {}
        if x is None or torch._C._functorch.is_functorch_wrapped_tensor(x):
            return known.get(True, _first(backbone))
        real = x.is_floating_point()
        if real not in known:
            known[real] = first_dtype(backbone, x[:2].to(device_of(backbone))) or _first(backbone)
            _found[backbone] = now, known
        return known[real]


def inputs_for(backbone: nn.Module, x: Tensor) -> Tensor:
    """``x`` on the device of ``backbone``, and in the dtype that it takes; whole numbers stay whole."""
    if not x.is_floating_point():
        return x.to(device_of(backbone))
    return x.to(device=device_of(backbone), dtype=input_dtype(backbone, x))


def _layers(backbone: nn.Module) -> tuple[Any, ...]:
    """The modules, and the dtypes of what they hold."""
    return tuple(
        (ref(module), *(tensor.dtype for _, tensor in tensors_of(module))) for module in backbone.modules()
    )


def _first(backbone: nn.Module) -> torch.dtype:
    default = torch.get_default_dtype()
    first = next((p.dtype for p in backbone.parameters() if p.is_floating_point()), default)
    return torch.promote_types(first, default)
