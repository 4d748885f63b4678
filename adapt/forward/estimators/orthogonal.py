"""Orthogonal projection of the gradient on the span of k random tangents.

    g = V (VᵀV)⁻¹ Vᵀ ∇f ,   V = (v_1 … v_k) ∈ R^(P×k) ,   v_j ~ N(0, I)

Flügel, Coquelin, Weiel, Debus, Streit, Götz (2024), *Beyond Backpropagation: Optimization with Multi-Tangent
Forward Gradients*, arXiv 2410.17764 (the combination by orthogonal projection). The projection is over the
whole parameter vector, not per layer. Biased towards zero, but the nearest to ∇f that these k slopes allow:

    E g = (k/P) ∇f ,   E‖g − ∇f‖² = (1 − k/P) ‖∇f‖² ,   E cos²(g, ∇f) = k/P

The average of k Gaussian forward gradients is (P + 1)/k instead of 1 − k/P times ‖∇f‖² away. Multiplied by
P/k, g would be unbiased, with the variance (P/k − 1) ‖∇f‖²: a learning rate does the same.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from adapt.errors import AdaptError
from adapt.forward.estimators.base import GradientInfo, check_tangents
from adapt.forward.estimators.projection import project

__all__ = ["Orthogonal"]


@dataclass(frozen=True)
class Orthogonal:
    """``tangents`` is k, at most P; cost about 1 + k forward passes and 6 P k² operations for the basis.

    ``exact`` is False even for k = P, where only rounding is left: ``Exact`` gives the same for less.

    Example:
        >>> import torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> value, g, info = Orthogonal(2)(lambda z: z.square().sum(), torch.ones(3), generator=generator)
        >>> bool(g.norm() < 2 * 3**0.5)  # shorter than the gradient (2, 2, 2)
        True
    """

    tangents: int
    exact: bool = False

    def __post_init__(self) -> None:
        check_tangents(self.tangents)

    def __call__(
        self, f: Callable[[Tensor], Tensor], x: Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, GradientInfo]:
        """Return ``f(x)``, the projection ``[P]`` at ``x [P]``, and its info; tangents are drawn from
        ``generator``."""
        if self.tangents > x.numel():
            raise AdaptError(
                f"tangents={self.tangents}: {x.numel()} parameters have no more than {x.numel()} directions; "
                "use fewer tangents, or Exact"
            )
        v = torch.randn(
            self.tangents, *x.shape, dtype=x.dtype, device=x.device, generator=generator
        )  # [k, P]
        value, gradient, tangents = project(f, x, v)
        return value, gradient, GradientInfo(exact=False, tangents=tangents)
