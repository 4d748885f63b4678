"""What training the whole network instead would take: one step of it is measured, none is kept."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from adapt.forward.functional import functional
from adapt.heads import Ridge
from adapt.own_data.networks import Network
from adapt.own_data.passes import as_inputs
from adapt.own_data.trial import adapter_for

__all__ = ["Retraining", "retraining"]

#: As people do it: so often over all examples, so many at a time.
EPOCHS, BATCH = 10, 16


@dataclass(frozen=True)
class Retraining:
    """Seconds of one step, of ``batch`` examples, and of all steps."""

    step_seconds: float
    batch: int
    epochs: int
    seconds: float


def retraining(network: Network, x: Sequence[str] | np.ndarray, regression: bool) -> Retraining | None:
    """Estimated from one step forward and back through all weights; None of a table, which has no network."""
    if network.name.startswith("columns:"):
        return None
    rows = np.arange(min(BATCH, len(x)))
    inputs = adapter_for(network, "head", Ridge(), regression).examples(as_inputs(x, rows))
    weights = {
        name: tensor.detach().clone().requires_grad_() for name, tensor in network.module.named_parameters()
    }
    begun = time.perf_counter()
    features = functional(network.module, weights, (inputs,))
    torch.autograd.grad(features.square().mean(), [*weights.values()], allow_unused=True)
    step = time.perf_counter() - begun
    steps = EPOCHS * -(-len(x) // BATCH)
    return Retraining(step, len(rows), EPOCHS, step * steps)
