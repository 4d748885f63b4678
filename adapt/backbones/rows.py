"""A backbone on a few examples at a time, for less memory: the values are the same.

    features(φ) = concat_p f_p(φ) ,   f_p the network on the p-th part of the examples
    ∂ℓ/∂φ = Σ_p (∂ℓ/∂f_p) · (∂f_p/∂φ) ,   one part after the other, each computed again

An example's features depend on no other, so parts change the memory that activations and their tangents
take, and nothing else. A loss of all features (leave-one-out prototypes, say) still needs every part before
any of its gradient is known: on autograd's tape a part keeps nothing but its features, and is computed again
with its activations when its share of the gradient is due (Gao, Zhang, Han, Callan 2021, *Scaling Deep
Contrastive Learning Batch Size under Memory Limited Setup*, section 3.2).
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from adapt.backbones.prefix import FrozenPrefix
from adapt.backbones.settled import unmoved
from adapt.precision import autocast_of

__all__ = ["by_rows"]


def by_rows(
    backbone: nn.Module, x: Tensor, rows: int | None = None
) -> Callable[[Mapping[str, Tensor]], Tensor]:
    """The function ``parameters → features [n, D]`` of ``backbone`` on ``x [n, …]``, at most ``rows``
    examples at a time (None = all); what no parameter reaches is computed once (:class:`FrozenPrefix`), and
    of that what no example reaches either once for all (:func:`adapt.backbones.settled.unmoved`)."""
    parts = [FrozenPrefix(backbone, part, partial(unmoved, backbone)) for part in x.split(rows or len(x))]
    if len(parts) == 1:
        return parts[0]

    def features(parameters: Mapping[str, Tensor]) -> Tensor:
        names, tensors = tuple(parameters), tuple(parameters.values())
        if _on_tape(tensors):
            return torch.cat([_Part.apply(part, names, *tensors) for part in parts])
        return torch.cat([part(parameters) for part in parts])

    return features


class _Part(torch.autograd.Function):
    """One part, whose activations are computed in the backward pass only."""

    @staticmethod
    def forward(ctx: Any, part: FrozenPrefix, names: tuple[str, ...], *tensors: Tensor) -> Tensor:
        ctx.part, ctx.names, ctx.autocast = part, names, autocast_of(part.x.device)
        ctx.save_for_backward(*tensors)
        return part(dict(zip(names, tensors, strict=True)))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Any, ...]:
        wanted = ctx.needs_input_grad[2:]
        leaves = [
            tensor.detach().requires_grad_(need)
            for tensor, need in zip(ctx.saved_tensors, wanted, strict=True)
        ]
        with torch.enable_grad(), ctx.autocast.again():
            value = ctx.part(dict(zip(ctx.names, leaves, strict=True)))
        moving = [leaf for leaf in leaves if leaf.requires_grad]
        gradients = iter(torch.autograd.grad(value, moving, slope, allow_unused=True))
        return None, None, *(next(gradients) if need else None for need in wanted)


def _on_tape(tensors: tuple[Tensor, ...]) -> bool:
    """Whether autograd records what is computed from ``tensors``, and not a transform of ``torch.func``."""
    recording = torch.is_grad_enabled() and torch._C._functorch.peek_interpreter_stack() is None
    return recording and any(tensor.requires_grad for tensor in tensors)
