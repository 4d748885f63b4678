"""The small dense problem that all second-order solvers share: damped steps on quadratic models, and the
rules for when a step does not help.

    (H + Λ⁻¹ + μI) δ = g + Λ⁻¹ z ,    candidate z − δ

Marquardt (1963), *An Algorithm for Least-Squares Estimation of Nonlinear Parameters*: if the objective at the
candidate is lower, go there with μ/4; otherwise go back and try again with 8 μ (and at least a tenth of the
mean curvature, so that μ = 0 can grow). Choices are made by ``torch.where``: the same program for any data.
Sums over examples and the system are float64, whose exponents hold the squares of anything that float32 does.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adapt.inner.losses import Loss
from adapt.precision import double

__all__ = ["Minimum", "Quadratic", "go_on", "minimise", "quadratic"]


class Quadratic(NamedTuple):
    """Support loss, its gradient and its Gauss–Newton matrix in z: ``[]``, ``[k]``, ``[k, k]``."""

    value: Tensor
    gradient: Tensor
    curvature: Tensor


class Minimum(NamedTuple):
    """Where :func:`minimise` arrived: z ``[k]``, the loss before every step ``[steps]``, and the
    Gauss–Newton matrix ``[k, k]`` of the quadratic model whose minimum z is, float64; None of no steps."""

    z: Tensor
    losses: Tensor
    curvature: Tensor | None


def quadratic(
    outputs: Tensor, columns: Tensor, targets: Tensor, loss: Loss, weights: Tensor | None = None
) -> Quadratic:
    """The model of Σ_i w_i ℓ_i from outputs ``[n, C]`` and their derivatives ``columns [k, n, C]``."""
    outputs, columns, targets = double(outputs), double(columns), double(targets)
    values, slope = loss.values(outputs, targets), loss.gradient(outputs, targets)
    bent = loss.curvature(outputs, columns)
    if weights is not None:
        values, slope, bent = values * weights, slope * weights[:, None], bent * weights[:, None]
    flat = columns.flatten(1)  # [k, n·C]
    return Quadratic(values.sum(), flat @ slope.flatten(), flat @ bent.flatten(1).T)


def minimise(
    evaluate: Callable[[Tensor], Quadratic],
    steps: int,
    precision: Tensor,
    damping: Tensor,
    start: Tensor | None = None,
) -> Minimum:
    """``steps`` damped steps from z = ``start`` (None = 0) on evaluate(z) + ½ zᵀ diag(precision) z.

    The last candidate is not evaluated again: that would cost a pass, and the caller sees it anyway.
    Directions of infinite precision stay at 0.
    """
    return go_on(evaluate, steps, precision, damping, start, None)[0]


def go_on(
    evaluate: Callable[[Tensor], Any],
    steps: int,
    precision: Tensor,
    damping: Tensor,
    start: Tensor | None,
    back: tuple[Tensor, Any, Tensor] | None,
) -> tuple[Minimum, tuple[Tensor, Any, Tensor] | None]:
    """:func:`minimise` from a start that may be worse than ``back``: a point that has been evaluated, what
    was found there, and the damping by then. It returns the same of the best point that was evaluated.

    Args:
        evaluate: gives a :class:`Quadratic`, or another named tuple of tensors that begins with its fields.
    """
    given, free = precision.dtype, torch.isfinite(precision)
    precision, damping = double(torch.where(free, precision, 0)), double(damping)  # ∞ · 0 would be no number
    z = torch.zeros_like(precision) if start is None else double(start)
    candidate, losses = z, []
    best, lowest = None, None

    def objective_at(z: Tensor, there: Any) -> Tensor:
        return there.value + 0.5 * (precision * z.square()).sum()

    if back is not None:
        z, best, damping = back
        lowest = objective_at(z, best)
    for _ in range(steps):
        there = evaluate(candidate.to(given))
        losses.append(there.value)
        objective = objective_at(candidate, there)
        if best is None or lowest is None:
            best, lowest = there, objective
        else:
            helps = objective < lowest  # False for NaN
            z = torch.where(helps, candidate, z)
            lowest = torch.where(helps, objective, lowest)
            best = best._make(torch.where(helps, new, old) for new, old in zip(there, best, strict=True))
            mean = best.curvature.diagonal().mean() + precision.mean()
            damping = torch.where(helps, damping / 4, torch.maximum(8 * damping, mean / 10))
        candidate = _step(z, best, precision, damping, free, torch.finfo(given).eps)
    trace = torch.stack(losses) if losses else precision.new_zeros(0)
    found = Minimum(candidate.to(given), trace.to(given), None if best is None else best.curvature)
    return found, None if best is None else (z, best, damping)


def _step(
    z: Tensor, at: Quadratic, precision: Tensor, damping: Tensor, free: Tensor, rounding: float
) -> Tensor:
    """The next candidate; ``rounding`` is the relative error of what the quadratic model was made of."""
    if not z.numel():
        return z
    identity = torch.eye(len(z), dtype=z.dtype, device=z.device)
    system = at.curvature + torch.diag(precision) + damping * identity
    # In units in which the diagonal is 1, so that a stiff direction does not drown the others in rounding.
    # Directions that are frozen, or in which nothing changes, have the unit 0 and stay where they are.
    diagonal = system.diagonal()
    moves = free & (diagonal > 0)
    unit = torch.where(moves, torch.where(moves, diagonal, 1).rsqrt(), 0)
    # A repeated direction, undamped, must not make the system singular: the floor is a few rounding errors of
    # the derivatives.
    floor = 10 * len(z) * rounding * identity
    scaled, _ = torch.linalg.solve_ex(
        unit[:, None] * system * unit + floor, unit * (at.gradient + precision * z)
    )
    step = unit * scaled
    # Outputs that overflow, or are no numbers, give no direction to go.
    return torch.where(torch.isfinite(step).all(), z - step, z)
