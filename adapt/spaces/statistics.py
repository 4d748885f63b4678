"""Where the norms of a network would stand if their statistics were those of some examples.

    batch norm:     γ' = γ √((σ² + ε) / (σ_x² + ε)) ,   β' = β + γ (μ − μ_x) / √(σ_x² + ε)
    other norms:    β' = β + m − m_x
    Δ(x) = φ' − φ

With μ_x and σ_x², mean and variance of every channel over the examples x, the frozen norm at γ', β' computes
what batch norm in training mode computes at γ, β. Schneider et al. (2020), *Improving Robustness against
Common Corruptions by Covariate Shift Adaptation*, equations 1 and 2; Nado et al. (2020), *Evaluating
Prediction-Time Batch Normalization for Robustness under Covariate Shift*. It needs no labels and one pass.

Layer and group norms take their statistics from each example, and know none of others. What a change of
conditions leaves in them is a shift of the means of channels, m_x: they are moved to m, the means over
examples of before, as features are by Niu et al. (2024), *Test-Time Model Adaptation with Only Forward
Passes*, equation 7.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from adapt.backbones import call, inputs_for
from adapt.backbones.frozen_norm import FrozenBatchNorm
from adapt.errors import AdaptError
from adapt.forward.kernels import ONE_AT_A_TIME
from adapt.precision import wide
from adapt.spaces.base import Space
from adapt.spaces.roles import is_bias, is_norm, is_vector

__all__ = ["Means", "channel_means", "shifting_norms", "statistics_move"]

#: m of every norm that is no batch norm, ``[C]``, by the name of its shift.
Means = Mapping[str, Tensor]


def channel_means(backbone: nn.Module, space: Space, phi: Tensor, x: Tensor) -> dict[str, Tensor]:
    """m of every norm but batch norms whose shift ``space`` moves, over ``x [n, …]``: what
    :func:`statistics_move` has to know of examples of before. Norms that have a number for more than each
    channel have none."""
    found: dict[str, Tensor] = {}
    norms = shifting_norms(backbone, space)
    if not norms:
        return found
    shifts = space.tensors(phi)
    hooks = [
        norm.register_forward_hook(_noting(name, shifts[name].numel(), found)) for name, norm in norms.items()
    ]
    try:
        call(backbone, space.parameters(phi), inputs_for(backbone, x))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def statistics_move(
    backbone: nn.Module, space: Space, phi: Tensor, x: Tensor, means: Means | None = None
) -> Tensor:
    """Δ ``[P]``, by which φ moves so that the frozen batch norms of ``space`` have the statistics of
    ``x [n, …]``, and of other norms the channels the ``means`` of before, if they are given; 0 for all other
    numbers. Differentiable in φ, vmappable.

    A norm sees what the ones before it make with their new statistics, as in a network in training mode.

    Raises:
        AdaptError: the space moves neither scale nor shift of a frozen batch norm, nor a norm that there is
            a mean of.

    Example:
        >>> from adapt.backbones import Conv4
        >>> from adapt.spaces import film
        >>> network = Conv4().eval()
        >>> space, x = film(network), 3 + torch.rand(20, 1, 32, 32)
        >>> moved = space.initial + statistics_move(network, space, space.initial, x)
        >>> bool(call(network, space.parameters(moved), x).isfinite().all())
        True
    """
    found: dict[str, Tensor] = {}
    hooks: dict[nn.Module, Any] = {
        module: _matching(name, found)
        for name, module in backbone.named_modules()
        if isinstance(module, FrozenBatchNorm) and {f"{name}.weight", f"{name}.bias"} & set(space.shapes)
    }
    others, shifts = shifting_norms(backbone, space), space.tensors(phi)
    for name, norm in others.items():
        if means is not None and name in means:
            hooks[norm] = _shifting(name, means[name], shifts[name], found)
    if not hooks:
        raise AdaptError(
            f"space '{space.name}' moves no frozen batch norm, whose statistics could be matched"
            + (
                ": other norms follow in task.fit with a source"
                if others and means is None
                else ", nor the shift of another norm, a number for each channel: use space=film, and "
                "adapt.backbones.freeze_batch_norm for batch norms; norms without a shift cannot follow"
            )
        )
    with ONE_AT_A_TIME:
        handles = [norm.register_forward_hook(hook) for norm, hook in hooks.items()]
        try:
            call(backbone, space.parameters(phi), inputs_for(backbone, x))
        finally:
            for handle in handles:
                handle.remove()
    there = {name: found.get(name, own) for name, own in space.tensors(phi).items()}
    return torch.cat([value.reshape(-1).to(phi.dtype) for value in there.values()]) - phi


def shifting_norms(backbone: nn.Module, space: Space) -> dict[str, nn.Module]:
    """Layer and group norms of the network, and others like them, by the names of their shifts, of those
    that the space moves and that are a number for each channel."""
    found, parameters = {}, dict(backbone.named_parameters())
    for name in filter(parameters.__contains__, space.shapes):
        owner, _, own = name.rpartition(".")
        norm = backbone.get_submodule(owner)
        follows = is_norm(norm) and not isinstance(norm, FrozenBatchNorm)
        if follows and is_bias(norm, own) and is_vector(parameters[name]):
            found[name] = norm
    return found


def _axis(norm: nn.Module, y: Tensor, channels: int) -> int | None:
    """Of the channels of ``y``; None: it has none. Where the first and the last axis are as long, what the
    norm takes tells."""
    first, last = y.ndim > 1 and y.shape[1] == channels, y.shape[-1] == channels
    if not (first and last) or y.ndim == 2:
        return y.ndim - 1 if last else 1 if first else None
    try:
        norm.forward(y.new_zeros(1, channels, *(channels + 1 for _ in y.shape[2:])))
    except Exception:  # a norm may refuse a shape in its own words
        return y.ndim - 1
    return 1


def _noting(name: str, channels: int, found: dict[str, Tensor]) -> Any:
    """A hook that writes down the mean of every channel."""

    def note(norm: nn.Module, _: tuple[Tensor, ...], y: Tensor) -> None:
        axis = _axis(norm, y, channels)
        if axis is not None:
            found[name] = _mean(y, axis)

    return note


def _shifting(name: str, mean: Tensor, shift: Tensor, found: dict[str, Tensor]) -> Any:
    """A hook that moves every channel to ``mean [C]``, and writes down with which ``shift`` the norm would
    do the same."""

    def move(norm: nn.Module, _: tuple[Tensor, ...], y: Tensor) -> Tensor:
        axis = _axis(norm, y, len(mean))
        if axis is None:
            return y
        by = mean - _mean(y, axis)
        found[name] = wide(shift) + by.view(shift.shape)
        return y + by.to(y.dtype).view([len(by) if i == axis else 1 for i in range(y.ndim)])

    return move


def _mean(y: Tensor, axis: int) -> Tensor:
    """Over all axes but one ``[C]``."""
    return wide(y).mean([i for i in range(y.ndim) if i != axis])


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
