"""A mixture of subspaces: which one a task lies in is read off its support set.

    w = softmax(R [s; 1]) ,   φ₀' = φ₀ + Σ_m w_m c_m ,   U' = Σ_m w_m U_m ,   log Λ'⁻¹ = Σ_m w_m log Λ_m⁻¹
    s = symlog of the mean and the deviation over the support of the features at φ₀; of values: of the outputs
        there, of the targets, and of their difference

Jacobs, Jordan, Nowlan, Hinton (1991), *Adaptive Mixtures of Local Experts*, equation 1, the experts being
affine subspaces (Tipping and Bishop 1999, *Mixtures of Probabilistic Principal Component Analysers*); mixed
before they are used, as in Muqeeth, Liu, Raffel (2024), *Soft Merging of Experts with Adaptive Routing*,
equation 2: the solver sees one start and k directions, and pays for no more.
symlog(x) = sign(x) log(1 + |x|).

A state holds them side by side, as the M starts and M·k directions of one basis,
``[c_1 … c_M | U_1 | … | U_M]``: what does not route sees the whole of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from adapt.adapter.problem import features_of
from adapt.adapter.state import AdapterState
from adapt.errors import AdaptError
from adapt.inner import Loss
from adapt.spaces import Space

__all__ = ["mixed_state", "mixture_of", "shares_of", "summary"]


def mixture_of(states: Sequence[AdapterState], router: Tensor) -> AdapterState:
    """The mixture of ``states`` of k directions each, all of one space, with ``router [M, F + 1]``.

    Example:
        >>> from adapt.adapter.state import initial_state
        >>> parts = [initial_state(torch.zeros(5), torch.ones(5, 2)) for _ in range(3)]
        >>> mixture_of(parts, torch.zeros(3, 7)).basis.shape
        torch.Size([5, 9])
    """
    origins = torch.stack([state.origin for state in states])  # [M, P]
    origin, bases = origins.mean(0), [state.basis for state in states]

    def beside(name: str) -> Tensor:
        values = [getattr(state, name) for state in states]
        return torch.cat([values[0].new_zeros(len(states)), *values])

    return states[0]._replace(
        origin=origin,
        basis=torch.cat([(origins - origin).T, *bases], 1),
        log_precision=beside("log_precision"),
        log_rates=beside("log_rates"),
        router=router,
    )


def summary(
    backbone: nn.Module,
    space: Space,
    state: AdapterState,
    x: Tensor,
    targets: Tensor,
    loss: Loss,
    rows: int | None = None,
) -> Tensor:
    """s ``[F]`` of a support set ``x [n, …]`` with ``targets [n, C]``: F is 2D for D features, 6C for C
    values. One forward pass; differentiable, vmappable."""
    there = features_of(backbone, space, state, x, rows)(state.origin.new_zeros(state.k))
    if loss.regression:
        there = torch.cat([there, targets, targets - there], 1)
    moments = torch.cat([there.mean(0), (there.var(0, correction=0) + 1e-12).sqrt()])
    return moments.sign() * moments.abs().log1p()


def shares_of(state: AdapterState, summary: Tensor) -> Tensor:
    """w ``[M]``.

    Raises:
        AdaptError: a router of another network, or of tasks of another kind.
    """
    if state.router.shape[-1] != len(summary) + 1:
        raise AdaptError(
            f"router reads {state.router.shape[-1] - 1} numbers of a task, and this network makes "
            f"{len(summary)}: it was learned for another network, or for tasks of another kind"
        )
    return (state.router[:, :-1] @ summary + state.router[:, -1]).softmax(-1)


def mixed_state(state: AdapterState, shares: Tensor) -> AdapterState:
    """The one start and the k directions that the mixture ``state`` comes to with ``shares`` w ``[M]``."""
    many = len(state.router)

    def mixed(values: Tensor) -> Tensor:  # [..., M·k] → [..., k]
        return (values.unflatten(-1, (many, -1)) * shares[:, None]).sum(-2)

    return state._replace(
        origin=state.origin + state.basis[:, :many] @ shares,
        basis=mixed(state.basis[:, many:]),
        log_precision=mixed(state.log_precision[many:]),
        log_rates=mixed(state.log_rates[many:]),
        router=state.router.new_zeros(0),
    )
