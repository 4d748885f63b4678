"""Functions that are linear in their tensor: views, rearrangements, sums. Each is its own derivative."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from adapt.forward.fast.dual import Dual, dual, primal, rule
from adapt.forward.fast.fallback import fallback

__all__: list[str] = []

BOTH = (
    "chunk clone cumsum diagonal flatten flip gather index_select mean movedim moveaxis narrow neg permute "
    "ravel repeat_interleave reshape roll rot90 select split squeeze sum swapaxes swapdims t take_along_dim "
    "tensor_split tile transpose tril triu unbind unflatten unsqueeze trace diag_embed"
)
METHODS = (
    "view view_as reshape_as expand expand_as repeat contiguous to type_as float double half bfloat16 cpu "
    "cuda unfold __getitem__ __neg__ as_strided sum_to_size"
)
FUNCTIONAL = (
    "avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d fold "
    "interpolate nll_loss pad pixel_shuffle pixel_unshuffle unfold"
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
