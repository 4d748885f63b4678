"""Functions that are linear in their tensor: views, rearrangements, sums. Each is its own derivative."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from adapt.forward.errors import NotDifferentiable, Unsupported
from adapt.forward.fast.dual import Dual, dual, primal, rule
from adapt.forward.fast.fallback import fallback

__all__: list[str] = []

BOTH = (
    "chunk cumsum diagonal flatten flip gather index_select mean movedim moveaxis narrow neg permute "
    "ravel repeat_interleave reshape roll rot90 select split squeeze sum swapaxes swapdims t take_along_dim "
    "tensor_split tile transpose tril triu unbind unflatten unsqueeze trace diag_embed"
)
METHODS = (
    "reshape_as expand expand_as repeat contiguous to type_as float double half bfloat16 cpu "
    "cuda unfold __getitem__ __neg__ sum_to_size"
)
FUNCTIONAL = (
    "avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d fold "
    "interpolate pixel_shuffle pixel_unshuffle unfold"
)
PROPERTIES = "T mT H mH real"


def _functions() -> list[Any]:
    owners = [(torch, BOTH), (Tensor, BOTH), (Tensor, METHODS), (F, FUNCTIONAL)]
    found = [
        getattr(owner, name) for owner, names in owners for name in names.split() if hasattr(owner, name)
    ]
    return [*found, *(getattr(Tensor, name).__get__ for name in PROPERTIES.split())]


@rule(*_functions())
def linear(func: Any, input: Any, *args: Any, **kwargs: Any) -> Any:
    """g(u̇)."""
    rest = [primal(value) for value in args]
    named = {name: primal(value) for name, value in kwargs.items()}
    if type(input) is not Dual:  # only its shape or dtype is taken from a moving tensor
        return func(input, *rest, **named)
    return dual(func(primal(input), *rest, **named), lambda t: func(t, *rest, **named), input)


@rule(torch.clone, Tensor.clone)
def clone(func: Any, input: Any, **kwargs: Any) -> Any:
    """u̇ itself: tangents are never written to, so that they need no copy."""
    return dual(func(primal(input), **kwargs), lambda t: t, input)


@rule(Tensor.view, Tensor.view_as)
def view(func: Any, input: Any, *shape: Any, **kwargs: Any) -> Any:
    """u̇ in the same shape. It may lie in memory otherwise than u (spread out without copies, say), so that it
    has to be copied where u is only looked at."""
    value = func(primal(input), *map(primal, shape), **kwargs)
    if type(input) is not Dual:  # only the shape is taken from a moving tensor
        return value
    if value.dtype == input.primal.dtype:
        return dual(value, lambda t: t.reshape(value.shape), input)
    if value.is_floating_point() or value.is_complex():  # torch drops the tangents
        raise NotDifferentiable("Tensor.view", "numbers are read as those of another dtype")
    return value  # whole numbers, made of bits


@rule(torch.as_strided, Tensor.as_strided, torch.as_strided_copy)
def as_strided(func: Any, input: Any, size: Any, stride: Any, storage_offset: int | None = None) -> Any:
    """The same elements of u̇, which may lie in memory otherwise than u: where u has them is looked up."""
    x = primal(input)
    if torch._C._functorch.is_functorch_wrapped_tensor(x):
        raise Unsupported("Tensor.as_strided", "memory cannot be read under a transform")
    value = func(x, size, stride, storage_offset)
    memory = torch.arange(x.untyped_storage().nbytes() // x.element_size(), device=x.device)
    element = torch.full_like(memory, -1)  # of x, in each place of its memory
    element[memory.as_strided(x.shape, x.stride(), x.storage_offset())] = memory[: x.numel()].view(x.shape)
    chosen = element.as_strided(
        size, stride, x.storage_offset() if storage_offset is None else storage_offset
    )
    if (chosen < 0).any():
        raise Unsupported("Tensor.as_strided", "it reads memory outside its tensor")
    return dual(value, lambda t: t.reshape(-1)[chosen], input)


@rule(F.pad, torch.constant_pad_nd)
def pad(func: Any, input: Any, pad: Any, *args: Any, **kwargs: Any) -> Any:
    """u̇ padded alike, with zeros where u is padded with a number."""
    value = func(primal(input), pad, *args, **kwargs)
    mode = kwargs.get("mode", args[0] if args else "constant") if func is F.pad else "constant"
    return dual(value, lambda t: F.pad(t, pad, mode), input)


@rule(torch.cat, torch.concat, torch.concatenate, torch.stack)
def joined(func: Any, tensors: Any, *args: Any, **kwargs: Any) -> Any:
    """The tangents joined alike, zeros for those of plain tensors."""
    values = [primal(tensor) for tensor in tensors]

    def push(*tangents: Tensor | None) -> Tensor:
        filled = [torch.zeros_like(v) if t is None else t for t, v in zip(tangents, values, strict=True)]
        return func(filled, *args, **kwargs)

    return dual(func(values, *args, **kwargs), push, *tensors)


@rule(
    F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout, torch.dropout
)
def dropout(func: Any, input: Any, *args: Any, **kwargs: Any) -> Any:
    """Nothing in evaluation mode; in training mode f would be random, which no derivative is defined for."""
    p = kwargs.get("p", args[0] if args else 0.5)
    training = kwargs.get("training", kwargs.get("train", args[1] if len(args) > 1 else True))
    return input if not training or p == 0 else fallback(func, (input, *args), kwargs)
