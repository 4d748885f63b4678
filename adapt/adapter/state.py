"""What meta-training learns, as one pytree of tensors."""

from collections.abc import Mapping
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from adapt.checks import check_setting, least, positive
from adapt.errors import AdaptError
from adapt.inner import Learned
from adapt.spaces import Space

__all__ = ["AdapterState", "identity_state", "initial_state", "layered_state", "whole_state"]


class AdapterState(NamedTuple):
    """φ₀, U, and what is learned about the inner problem.

    Attributes:
        origin: φ₀ ``[P]``.
        basis: U ``[P, k]``, the most important direction first; or ``[P]``, a diagonal U, with k = P.
        log_precision: logarithm of the prior precision Λ⁻¹ of each direction ``[k]``.
        log_damping: log μ of the solver's damping, scalar.
        log_rates: logarithm of the factor on the learning rate of each direction ``[k]``.
        log_sharpness: log of the factor on the leave-one-out logits in the support loss, scalar.
        router: R ``[M, F + 1]`` of a mixture of M subspaces, whose k is M + M·k
            (:mod:`adapt.adapter.mixture`); ``[0]``: there is one.
    """

    origin: Tensor
    basis: Tensor
    log_precision: Tensor
    log_damping: Tensor
    log_rates: Tensor
    log_sharpness: Tensor
    router: Tensor = torch.zeros(0)

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "AdapterState":
        """From :meth:`tensors`, among which there may be others."""
        found = {name: tensors[name] for name in cls._fields if name in tensors}
        return cls(**{"router": found["origin"].new_zeros(0), **found})

    def tensors(self) -> dict[str, Tensor]:
        """By name, as a file holds them."""
        return {name: value for name, value in self._asdict().items() if name != "router" or value.numel()}

    @property
    def is_mixture(self) -> bool:
        """Whether a task picks among several subspaces."""
        return self.router.numel() > 0

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
        if self.is_mixture:
            raise AdaptError(f"k={k}: directions of a mixture of subspaces have no order")
        if self.basis.ndim == 1:
            raise AdaptError(
                f"k={k}: this adapter moves every parameter by itself, it has no leading directions"
            )
        have = f"this adapter has {self.k} directions, choose 0 … {self.k}"
        check_setting("k", k, least(0, have, most=self.k))
        return self._replace(
            basis=self.basis[:, :k], log_precision=self.log_precision[:k], log_rates=self.log_rates[:k]
        )


def initial_state(origin: Tensor, basis: Tensor) -> AdapterState:
    """Around ``origin`` along ``basis``: precision 1, no damping, rates and sharpness 1."""
    zero = origin.new_zeros(())
    zeros = origin.new_zeros(basis.shape[-1])
    none = origin.new_zeros(0)
    return AdapterState(origin, basis, zeros, zero - torch.inf, zeros.clone(), zero, none)


def identity_state(space: Space, origin: Tensor | None = None) -> AdapterState:
    """The state in which z is all of φ: U = I, no prior; what a backprop inner loop moves."""
    start = space.initial if origin is None else origin
    state = initial_state(start, torch.ones_like(start))
    return state._replace(log_precision=state.log_precision - torch.inf)


def whole_state(space: Space, state: AdapterState) -> AdapterState:
    """All of φ moves by itself, from the start of ``state`` and on its support loss, learned sharpness
    included; only what moves differs."""
    return identity_state(space, state.origin)._replace(log_sharpness=state.log_sharpness)


def layered_state(space: Space, k: int, share: float = 0.1) -> AdapterState:
    """Where nothing was meta-trained: each direction scales the tensors of one of k consecutive parts.

        U_g = share · φ₀ on the g-th of k groups of tensors, 0 elsewhere ,   φ₀ = the backbone's own values

    With z ~ N(0, I) every part is scaled by 1 ± ``share``. It needs no data, works for every backbone, and
    promises little: tensors that are zero (biases, say) do not move at all.

    Args:
        k: number of parts; at most one per tensor.
        share: standard deviation of the relative change.

    Raises:
        AdaptError: k is less than 1.
    """
    k = check_setting("k", k, least(1, "at least one direction is needed"))
    share = check_setting("share", share, positive())
    sizes = [prod(shape) for shape in space.shapes.values()]
    part = [number * min(k, len(sizes)) // len(sizes) for number in range(len(sizes))]
    parts = torch.tensor(part, device=space.initial.device).repeat_interleave(
        torch.tensor(sizes, device=space.initial.device)
    )  # [P], the part that each number belongs to
    basis = torch.nn.functional.one_hot(parts, min(k, len(sizes))).to(space.initial)
    return initial_state(space.initial.clone(), share * space.initial[:, None] * basis)
