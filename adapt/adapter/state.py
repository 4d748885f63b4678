"""What meta-training learns, as one pytree of tensors."""

from typing import NamedTuple

import torch
from torch import Tensor

from adapt.errors import AdaptError
from adapt.inner import Learned
from adapt.spaces import Space

__all__ = ["AdapterState", "identity_state", "initial_state"]


class AdapterState(NamedTuple):
    """φ₀, U, and what is learned about the inner problem.

    Attributes:
        origin: φ₀ ``[P]``.
        basis: U ``[P, k]``, the most important direction first; or ``[P]``, a diagonal U, with k = P.
        log_precision: logarithm of the prior precision Λ⁻¹ of each direction ``[k]``.
        log_damping: log μ of the solver's damping, scalar.
        log_rates: logarithm of the factor on the learning rate of each direction ``[k]``.
        log_sharpness: log of the factor on the leave-one-out logits in the support loss, scalar.
    """

    origin: Tensor
    basis: Tensor
    log_precision: Tensor
    log_damping: Tensor
    log_rates: Tensor
    log_sharpness: Tensor

    @property
    def k(self) -> int:
        """Number of directions."""
        return self.basis.shape[-1]

    @property
    def learned(self) -> Learned:
        """What a solver is given."""
        return Learned(self.log_precision.exp(), self.log_damping.exp(), self.log_rates.exp())

    def leading(self, k: int) -> "AdapterState":
        """The same state with the first k directions.

        Raises:
            AdaptError: k is negative or more than there are, or the directions have no order (diagonal U).
        """
        if self.basis.ndim == 1:
            raise AdaptError(
                f"k={k}: this adapter moves every parameter by itself, it has no leading directions"
            )
        if not 0 <= k <= self.k:
            raise AdaptError(f"k={k}: this adapter has {self.k} directions, choose 0 … {self.k}")
        return self._replace(
            basis=self.basis[:, :k], log_precision=self.log_precision[:k], log_rates=self.log_rates[:k]
        )


def initial_state(origin: Tensor, basis: Tensor) -> AdapterState:
    """Around ``origin`` along ``basis``: precision 1, no damping, rates and sharpness 1."""
    zero = origin.new_zeros(())
    each = origin.new_zeros(basis.shape[-1])
    return AdapterState(origin, basis, each, zero - torch.inf, each.clone(), zero)


def identity_state(space: Space, origin: Tensor | None = None) -> AdapterState:
    """The state in which z is all of φ: U = I, no prior; what a backprop inner loop moves."""
    start = space.initial if origin is None else origin
    state = initial_state(start, torch.ones_like(start))
    return state._replace(log_precision=state.log_precision - torch.inf)
