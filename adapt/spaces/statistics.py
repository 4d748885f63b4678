"""Where the norms of a network would stand if their statistics were those of some examples.

    γ' = γ √((σ² + ε) / (σ_x² + ε)) ,   β' = β + γ (μ − μ_x) / √(σ_x² + ε) ,   Δ(x) = φ' − φ

With μ_x and σ_x², mean and variance of every channel over the examples x, the frozen norm at γ', β' computes
what batch norm in training mode computes at γ, β. Schneider et al. (2020), *Improving Robustness against
Common Corruptions by Covariate Shift Adaptation*, equations 1 and 2; Nado et al. (2020), *Evaluating
Prediction-Time Batch Normalization for Robustness under Covariate Shift*. It needs no labels and one pass.
"""

from typing import Any

import torch
from torch import Tensor, nn

from adapt.backbones import call, inputs_for
from adapt.backbones.frozen_norm import FrozenBatchNorm
from adapt.errors import AdaptError
from adapt.forward.kernels import ONE_AT_A_TIME
from adapt.precision import wide
from adapt.spaces.base import Space

__all__ = ["statistics_move"]


def statistics_move(backbone: nn.Module, space: Space, phi: Tensor, x: Tensor) -> Tensor:
    """Δ ``[P]``, by which φ moves so that the frozen batch norms of ``space`` have the statistics of
    ``x [n, …]``; 0 for all other numbers. Differentiable in φ, vmappable.

    A norm sees what the ones before it make with their new statistics, as in a network in training mode.

    Raises:
        AdaptError: the space moves neither scale nor shift of a frozen batch norm.

    Example:
        >>> from adapt.backbones import Conv4
        >>> from adapt.spaces import film
        >>> network = Conv4().eval()
        >>> space, x = film(network), 3 + torch.rand(20, 1, 32, 32)
        >>> moved = space.initial + statistics_move(network, space, space.initial, x)
        >>> bool(call(network, space.parameters(moved), x).isfinite().all())
        True
    """
    norms = {
        name: module
        for name, module in backbone.named_modules()
        if isinstance(module, FrozenBatchNorm) and {f"{name}.weight", f"{name}.bias"} & set(space.shapes)
    }
    if not norms:
        raise AdaptError(
            f"space '{space.name}' moves no frozen batch norm, whose statistics could be matched: use "
            "space=film, and adapt.backbones.freeze_batch_norm"
        )
    found: dict[str, Tensor] = {}
    with ONE_AT_A_TIME:
        hooks = [norm.register_forward_hook(_matching(name, found)) for name, norm in norms.items()]
        try:
            call(backbone, space.parameters(phi), inputs_for(backbone, x))
        finally:
            for hook in hooks:
                hook.remove()
    there = {name: found.get(name, own) for name, own in space.tensors(phi).items()}
    return torch.cat([value.reshape(-1).to(phi.dtype) for value in there.values()]) - phi


def _matching(name: str, found: dict[str, Tensor]) -> Any:
    """A hook that normalises by the statistics of what comes in, and writes down with which scale and shift
    the frozen norm would do the same."""

    def normalise(norm: FrozenBatchNorm, inputs: tuple[Tensor, ...], _: Tensor) -> Tensor:
        x = inputs[0]
        over = (0, *range(2, x.ndim))
        mean, variance = wide(x).mean(over), wide(x).var(over, unbiased=False)
        weight, bias = wide(norm.weight), wide(norm.bias)
        scale = weight * (variance + norm.eps).rsqrt()
        found[f"{name}.weight"] = scale * (wide(norm.running_var) + norm.eps).sqrt()
        found[f"{name}.bias"] = bias + (wide(norm.running_mean) - mean) * scale
        per_channel = (-1,) + (1,) * (x.ndim - 2)
        y = torch.addcmul(
            (bias - mean * scale).to(x.dtype).view(per_channel), x, scale.to(x.dtype).view(per_channel)
        )
        for then in norm.children():
            y = then(y)
        return y

    return normalise
