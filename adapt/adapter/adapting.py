"""Adapting, as one pure function: z by a solver, the guard, the head.

    z = solver(support)                                  0 where the support loss is undefined
    z ← 0   where  ℓ(z) > ℓ(0)  or  features(z) are not finite          (the guard)
    h = head fitted to the features at φ₀ + U z

``FewShotAdapter.fit``, meta-training and the inner loops of other libraries all adapt by it, so that what is
trained and what is compared follow the rule that is used.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adapt.adapter.problem import Problem, model_of
from adapt.adapter.state import AdapterState
from adapt.heads.base import is_concrete
from adapt.inner import Loss, Model, Solver, Trace
from adapt.inner.solver import OnStep, is_stepwise
from adapt.precision import double

__all__ = ["WORSE", "Adapted", "Settled", "adapt", "can_adapt", "settle"]

ONE_SHOT = "not adapted: a class has a single example, and nothing is left of it when it is left out"
WORSE = "not adapted: the support loss was greater after adapting than before"


class Adapted(NamedTuple):
    """Where adapting ended: z ``[k]``, the ``features [n, D]`` of the support there, the state of the head
    that is fitted to them, what the solver did, the support loss there (a sum over examples), and whether the
    guard kept where the solver led."""

    z: Tensor
    features: Tensor
    head_state: Tensor
    trace: Trace
    value: Tensor
    kept: Tensor


class Settled(NamedTuple):
    """What :func:`settle` left of a move: the ``point`` (the start, unless the move is ``kept``), the support
    features there, the state of the head, and the support loss there."""

    point: Any
    features: Tensor
    head_state: Tensor
    kept: Tensor
    value: Tensor


def adapt(
    features: Callable[[Tensor], Tensor],
    state: AdapterState,
    solver: Solver,
    targets: Tensor,
    problem: Problem,
    *,
    on_step: Callable[[Callable[[], Adapted]], None] | None = None,
    first_order: bool = False,
) -> Adapted:
    """Adapt to a support set; pure, differentiable in ``state``, vmappable over tasks.

    Args:
        features: ``z [k] → [n, D]`` of the support examples, see :func:`adapt.adapter.problem.features_of`.
        targets: ``[n, C]``, one-hot rows or values.
        on_step: called after every step of a solver that is stepwise, but the last, with a function that
            makes what :func:`adapt` would return if the solver had stopped there (its guard knows only of
            what is not finite: the loss at the start would cost another pass).
        first_order: z is a constant for whoever differentiates the result.
    """
    model, start = model_of(features, state, targets, problem), state.origin.new_zeros(state.k)
    if is_concrete(targets) and not can_adapt(targets, problem.loss):
        z, trace = start, Trace(start.new_zeros(0), 0.0, ONE_SHOT)
    else:
        looking: dict[str, OnStep] = {}
        if on_step is not None and is_stepwise(solver):

            def stopped_at(z: Tensor) -> Adapted:
                there = settle(model, start, z, None, targets, problem)
                return Adapted(*there[:3], Trace(start.new_zeros(0), 0.0), there.value, there.kept)

            looking["on_step"] = lambda z: on_step(lambda: stopped_at(z))
        with torch.set_grad_enabled(torch.is_grad_enabled() and not first_order):
            z, trace = solver(model, targets, problem.loss, state.learned, **looking)
    before = trace.losses[0] if len(trace.losses) else None
    end = settle(model, start, z, before, targets, problem)
    if is_concrete(end.kept) and not end.kept:
        trace = trace._replace(choice=WORSE)
    return Adapted(end.point, end.features, end.head_state, trace, end.value, end.kept)


def settle(
    model: Model, start: Any, moved: Any, before: Tensor | None, targets: Tensor, problem: Problem
) -> Settled:
    """The guard, and the head: ``moved`` is kept unless the support loss there is greater than ``before``,
    that at ``start`` (None = not known), or its features are not finite.

    Args:
        model: its ``features`` take whatever ``start`` and ``moved`` are: z ``[k]``, or a network.
    """
    features = model.features(moved)
    improved, value = _improved(model, features, targets, problem.loss, before)
    if is_concrete(improved):
        moved = moved if improved else start
        features = features if improved else model.features(start)
    else:  # inside vmap, where points are z: some tasks keep it, others do not
        moved = torch.where(improved, moved, start)
        features = model.features(moved)
    head_state = problem.head.fit(features, targets)
    return Settled(moved, features, head_state, improved, value)


def can_adapt(targets: Tensor, loss: Loss) -> bool:
    """Whether the support loss is defined: of a class with a single example nothing is left when it is left
    out."""
    return loss.regression or bool(targets.sum(0).min() >= 2)


def _improved(
    model: Model, features: Tensor, targets: Tensor, loss: Loss, before: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Whether the support loss at ``features`` is finite and no greater than ``before``, and they too are
    finite; and what it is, there or where it is not so, before. Costs no pass."""
    with torch.no_grad():
        after = loss.value(double(model.readout(features, None)), double(targets))  # of squares
        start = after if before is None else before
        improved = (after <= start * (1 + 1e-6)) & torch.isfinite(features).all()
        return improved, torch.where(improved, after, start)
