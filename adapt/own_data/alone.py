"""A fitted task from features that are there already: the head alone, the network as it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from adapt.adapter import FewShotAdapter, FittedTask
from adapt.heads import Ridge
from adapt.inner import Trace
from adapt.own_data.head import fitted
from adapt.precision import outside_autocast

__all__ = ["fit_alone", "fit_head", "in_units"]


def fit_head(
    adapter: FewShotAdapter, features: Tensor, targets: Tensor, weights: Tensor | None = None
) -> Tensor:
    """The state of the head of ``adapter`` on ``features [n, D]`` and ``targets [n, C]``."""
    with torch.no_grad(), outside_autocast(features.device):
        return fitted(adapter.head, features, targets, weights, kept=True)


def fit_alone(
    adapter: FewShotAdapter,
    features: Tensor,
    targets: Tensor,
    classes: np.ndarray,
    weights: Tensor | None = None,
) -> FittedTask:
    """The task at z = 0.

    Args:
        features: of the examples by the network as it is ``[n, D]``.
        targets: one-hot rows, or values ``[n, C]``.
        classes: labels in the order of the columns; empty in regression.
        weights: of examples ``[n]``; None: all 1.
    """
    state = fit_head(adapter, features, targets, weights)
    z = adapter.state.origin.new_zeros(adapter.state.k)
    trace = Trace(z.new_zeros(0), 1.0, "not adapted: the head alone")
    return FittedTask(adapter, adapter.subspace.parameters(z), state, classes, z, trace, targets.shape[1])


def in_units(task: FittedTask, center: np.ndarray | float, spread: np.ndarray | float) -> FittedTask:
    """A ridge regression of values that were standardised by ``center [C]`` and ``spread [C]`` as one of the
    values themselves."""
    head = task.adapter.head
    assert isinstance(head, Ridge)
    state = task.head_state.double()
    state = state * torch.as_tensor(spread).to(state)
    constant = head.scale * (len(state) - 1) ** 0.5  # the constant column is √D
    state[-1] += torch.as_tensor(center).to(state) / constant
    known = task.posterior
    if known is not None:
        known = known._replace(noise=known.noise * float(np.mean(np.square(spread))))
    return replace(task, head_state=state, posterior=known)
