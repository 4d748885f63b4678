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

from collections.abc import Mapping, Set
from typing import Any

import torch
from torch import Tensor, nn

from adapt.backbones import inputs_for
from adapt.backbones.call import call_as_is
from adapt.backbones.frozen_norm import FrozenBatchNorm
from adapt.errors import AdaptError
from adapt.forward.kernels import ONE_AT_A_TIME
from adapt.precision import wide
from adapt.spaces.base import Space
from adapt.spaces.shifting import Shifting, shifting_norms

__all__ = ["Means", "channel_means", "statistics_move"]

#: m of every norm that is no batch norm, ``[C]``, by the name of its shift.
Means = Mapping[str, Tensor]


def channel_means(backbone: nn.Module, space: Space, phi: Tensor, x: Tensor) -> dict[str, Tensor]:
    """m of every norm of :func:`adapt.spaces.shifting.shifting_norms`, over ``x [n, …]``: what
    :func:`statistics_move` has to know of examples of before. One that runs more than once has none."""
    found: dict[str, Tensor] = {}
    norms, again = shifting_norms(backbone, space), set[str]()
    if not norms:
        return found
    _run(backbone, space, phi, x, {it.norm: _noting(name, it, found, again) for name, it in norms.items()})
    return {name: mean for name, mean in found.items() if name not in again}


def statistics_move(
    backbone: nn.Module, space: Space, phi: Tensor, x: Tensor, means: Means | None = None
) -> Tensor:
    """Δ ``[P]``, by which φ moves so that the frozen batch norms of ``space`` have the statistics of
    ``x [n, …]``, and of other norms the channels the ``means`` of before, if they are given; 0 for all other
    numbers. Differentiable in φ, vmappable.

    A norm sees what the ones before it make with their new statistics, as in a network in training mode.

    Where a space moves only one of the two, scale or shift, the other stays.

    Raises:
        AdaptError: the space moves neither scale nor shift of a frozen batch norm, nor a norm that there is
            a mean of; or such a norm runs more than once in a pass, or none of them runs.

    Example:
        >>> from adapt.backbones import Conv4, call
        >>> from adapt.spaces import film
        >>> network = Conv4().eval()
        >>> space, x = film(network), 3 + torch.rand(20, 1, 32, 32)
        >>> moved = space.initial + statistics_move(network, space, space.initial, x)
        >>> bool(call(network, space.parameters(moved), x).isfinite().all())
        True
    """
    found: dict[str, Tensor] = {}
    moved, ran = set(space.shapes), list[str]()
    hooks: dict[nn.Module, Any] = {
        module: _matching(name, moved, found, ran)
        for name, module in backbone.named_modules()
        if isinstance(module, FrozenBatchNorm) and {f"{name}.weight", f"{name}.bias"} & moved
    }
    others, tensors = shifting_norms(backbone, space) if means else {}, space.tensors(phi)
    for name, mean in (means or {}).items():
        if name in others:
            hooks[others[name].norm] = _shifting(name, others[name], mean, tensors[name], found, ran)
    if not hooks:
        raise AdaptError(_why_not(backbone, space, means))
    _run(backbone, space, phi, x, hooks)
    if not ran:
        raise AdaptError("match: no norm that the space moves ran as a module, so none could be matched")
    there = [found.get(name, own) for name, own in tensors.items()]
    return torch.cat([value.reshape(-1).to(phi.dtype) for value in there]) - phi


def _run(backbone: nn.Module, space: Space, phi: Tensor, x: Tensor, hooks: Mapping[nn.Module, Any]) -> None:
    """One pass at φ, seen by forward hooks of modules."""
    ready = inputs_for(backbone, x)  # which may call the network itself, to know what it takes
    with ONE_AT_A_TIME:
        handles = [module.register_forward_hook(hook, with_kwargs=True) for module, hook in hooks.items()]
        try:
            call_as_is(backbone, space.parameters(phi), ready)
        finally:
            for handle in handles:
                handle.remove()


def _why_not(backbone: nn.Module, space: Space, means: Means | None) -> str:
    """Says why nothing can follow."""
    said = f"space '{space.name}' moves no frozen batch norm, whose statistics could be matched"
    others = shifting_norms(backbone, space)
    if others and means is None:
        return f"{said}: other norms follow in task.fit with a source"
    if others:
        return f"{said}, and source has no means of other norms: make it with task.source(x)"
    return (
        f"{said}, nor another norm that adds a shift of its channels: freeze batch norms "
        "(adapt.backbones.freeze_batch_norm), use a space that moves shifts (film, bias), or leave match out"
    )


def _once(name: str, ran: list[str]) -> None:
    if name in ran:
        raise AdaptError(
            f"match: the norm '{name}' runs more than once in a pass, and has the statistics of none: use a "
            "space without it, or leave match out"
        )
    ran.append(name)


def _noting(name: str, of: Shifting, found: dict[str, Tensor], again: set[str]) -> Any:
    """A hook that writes down the mean of every channel."""

    def note(_: nn.Module, inputs: Any, named: Any, y: Any) -> None:
        if name in found:
            again.add(name)
        mean = of.mean(y) if isinstance(y, Tensor) else None
        if mean is not None:
            found[name] = mean

    return note


def _shifting(
    name: str, of: Shifting, mean: Tensor, shift: Tensor, found: dict[str, Tensor], ran: list[str]
) -> Any:
    """A hook that moves every channel to ``mean [C]``, and writes down with which ``shift`` the norm would
    do the same."""

    def move(_: nn.Module, inputs: Any, named: Any, y: Tensor) -> Tensor:
        _once(name, ran)
        there = of.mean(y)
        if there is None:
            return y
        by = mean.to(there) - there
        found[name] = wide(shift) + by.view(shift.shape)
        return y + of.along(by, y)

    return move


def _matching(name: str, moved: Set[str], found: dict[str, Tensor], ran: list[str]) -> Any:
    """A hook that writes down the scale and shift, as far as they are ``moved``, with which the frozen norm
    would normalise by the statistics of what comes in, and gives what it makes with these."""

    def normalise(norm: FrozenBatchNorm, inputs: tuple[Tensor, ...], named: Any, _: Tensor) -> Tensor:
        _once(name, ran)
        x = inputs[0] if inputs else named["input"]
        over = (0, *range(2, x.ndim))
        mean, variance = wide(x).mean(over), wide(x).var(over, unbiased=False)
        weight, bias, r = wide(norm.weight), wide(norm.bias), (wide(norm.running_var) + norm.eps).rsqrt()
        scale = weight * r
        if f"{name}.weight" in moved:
            scale = weight * (variance + norm.eps).rsqrt()
            found[f"{name}.weight"] = scale / r
        centre = wide(norm.running_mean)
        if f"{name}.bias" in moved:
            found[f"{name}.bias"] = bias + (centre - mean) * scale
            centre = mean
        per_channel = (-1,) + (1,) * (x.ndim - 2)
        y = torch.addcmul(
            (bias - centre * scale).to(x.dtype).view(per_channel), x, scale.to(x.dtype).view(per_channel)
        )
        for then in norm.children():
            y = then(y)
        return y

    return normalise
