"""What meta-training learns, as one pytree of tensors."""

from typing import NamedTuple

import torch
from torch import Tensor

from adapt.errors import AdaptError
from adapt.inner import Prior
from adapt.spaces import Space

__all__ = ["AdapterState", "identity_state"]


class AdapterState(NamedTuple):
    """φ₀, U and the scalars of the inner problem.

    The prior z ~ N(0, λ⁻¹ I) has one precision λ, because the scale of direction j is the length of column j
    of U.

    Attributes:
        origin: φ₀ ``[P]``.
        basis: U ``[P, k]``; a smaller k takes the leading columns, which start as the leading task-gradient
            directions.
        log_damping: log λ, scalar.
        log_sharpness: log of the factor on the leave-one-out logits in the support loss, scalar.
    """

    origin: Tensor
    basis: Tensor
    log_damping: Tensor
    log_sharpness: Tensor

    @property
    def prior(self) -> Prior:
        """λ for every direction, ``[k]``."""
        return Prior(self.log_damping.exp().expand(self.basis.shape[1]))

    def leading(self, k: int) -> "AdapterState":
        """The same state with the first k directions.

        Raises:
            AdaptError: k is negative or more than there are.
        """
        if not 0 <= k <= self.basis.shape[1]:
            raise AdaptError(
                f"k={k}: this adapter has {self.basis.shape[1]} directions, choose 0 … {self.basis.shape[1]}"
            )
        return self._replace(basis=self.basis[:, :k])


def identity_state(space: Space, origin: Tensor | None = None) -> AdapterState:
    """The state in which z is all of φ: U = I, no prior; what a backprop inner loop moves. Never materialises
    more than P² numbers, so it is meant for the few hundred or thousand parameters of FiLM, biases and the
    like."""
    start = space.initial if origin is None else origin
    scalar = start.new_zeros(())
    return AdapterState(
        start, torch.eye(space.size, dtype=start.dtype, device=start.device), scalar - torch.inf, scalar
    )
