"""The contract of an inner solver."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor

from adapt.inner.losses import Loss

__all__ = ["Prior", "Solver", "Trace"]


class Prior(NamedTuple):
    """z ~ N(0, Λ): ``precision`` [k] is the diagonal of λΛ⁻¹, in units of the support loss summed over
    examples."""

    precision: Tensor


class Trace(NamedTuple):
    """What a solver did: support loss (sum over examples, without prior) before every step, and its nominal
    cost.

    ``forward_equivalents`` counts passes over the support set: 1 for a value, 1 per tangent, 2 for a full
    backward pass.
    """

    losses: Tensor
    forward_equivalents: float


class Solver(Protocol):
    """Pure, differentiable, vmappable: minimises loss(model(z), targets) + ½ zᵀ diag(precision) z from z =
    0."""

    def __call__(
        self, model: Callable[[Tensor], Tensor], targets: Tensor, loss: Loss, prior: Prior
    ) -> tuple[Tensor, Trace]:
        """``model`` maps z ``[k]`` to outputs ``[n, C]``; ``targets [n, C]``; returns z ``[k]`` and the
        trace."""
        ...
