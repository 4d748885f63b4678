"""Matching the statistics of norms to the support set, the mixing weights among the directions of z.

    φ(z, m) = φ₀ + Σ_g (mix + deviation · m_g) Δ_g(x) + U z ,   m ~ N(0, I)

Δ(x) is the move that gives the norms the statistics of the examples (:mod:`adapt.spaces.statistics`), Δ_g its
part in the g-th group of tensors. A mix of 1 is prediction-time batch norm, one of 0 the network as it is
(Schneider et al. 2020, equation 2, where it follows from the number of examples). Here it is where m begins,
and the solver, which sees one more direction for each group, decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from adapt.adapter.state import AdapterState
from adapt.checks import between, check_settings, least
from adapt.spaces import Space
from adapt.spaces.statistics import Means, statistics_move

__all__ = ["Matching", "matched_state"]


@dataclass(frozen=True)
class Matching:
    """How far the norms follow the statistics of a task's examples.

    Args:
        mix: of theirs and those of pretraining, where the solver begins: 0 … 1.
        deviation: by which the mix of a task is expected to differ; 0: it stays.
        parts: consecutive groups of tensors that have a mix of their own.
    """

    mix: float = 0.5
    deviation: float = 0.25
    parts: int = 1

    def __post_init__(self) -> None:
        check_settings(
            self,
            "match",
            mix=between(0, 1),
            deviation=between(0, None),
            parts=least(1, "at least one group"),
        )


def matched_state(
    matching: Matching,
    backbone: nn.Module,
    space: Space,
    state: AdapterState,
    x: Tensor,
    means: Means | None = None,
) -> AdapterState:
    """``state`` with its start matched to ``x [n, …]``, and a direction behind its own for every group in
    which that is a move. ``means``: of the channels of norms that are no batch norms, on examples of before.
    Differentiable in ``state``, vmappable.

    Raises:
        AdaptError: the space moves no frozen batch norm, nor a norm that there is a mean of.
    """
    move = statistics_move(backbone, space, state.origin, x, means)  # [P]
    origin = state.origin + matching.mix * move
    if state.basis.ndim == 1 or not matching.deviation:  # every number moves by itself already, or none does
        return state._replace(origin=origin)
    columns = matching.deviation * move[:, None] * _groups(space, matching.parts).to(move)
    none = move.new_zeros(columns.shape[1])
    return state._replace(
        origin=origin,
        basis=torch.cat([state.basis, columns], 1),
        log_precision=torch.cat([state.log_precision, none]),
        log_rates=torch.cat([state.log_rates, none]),
    )


def _groups(space: Space, parts: int) -> Tensor:
    """Which of ``parts`` consecutive groups of tensors, of about as many each, a number belongs to:
    0 or 1, ``[P, parts]``."""
    sizes = [prod(shape) for shape in space.shapes.values()]
    groups = min(parts, len(sizes))
    group = torch.arange(len(sizes)) * groups // len(sizes)
    return torch.nn.functional.one_hot(group.repeat_interleave(torch.tensor(sizes)), groups)
