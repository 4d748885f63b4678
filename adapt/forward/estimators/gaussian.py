"""Forward gradient along random Gaussian tangents.

    g = (1/k) Σ_j (∇f · v_j) v_j ,   v_j ~ N(0, I)

Baydin, Pearlmutter, Syme, Wood, Torr (2022), *Gradients without Backpropagation*, arXiv 2202.08587,
definition 1. Unbiased; E‖g − ∇f‖² = ((P + 1)/k) ‖∇f‖² for P parameters, so its direction is noise unless k is
of the order of P.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from adapt.forward.estimators.base import GradientInfo, check_tangents
from adapt.forward.pushforward import pushforward

__all__ = ["Gaussian"]


@dataclass(frozen=True)
class Gaussian:
    """Average of k single-tangent forward gradients; ``tangents`` is k.

    Example:
        >>> import torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> estimator = Gaussian(tangents=4)
        >>> value, gradient, info = estimator(lambda z: z.square().sum(), torch.ones(3), generator=generator)
        >>> info.exact
        False
    """

    tangents: int = 1
    exact: bool = False

    def __post_init__(self) -> None:
        check_tangents(self.tangents)

    def __call__(
        self, f: Callable[[Tensor], Tensor], x: Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, GradientInfo]:
        """Return ``f(x)``, the estimate ``[P]`` at ``x [P]``, and its info; tangents are drawn from
        ``generator``."""
        v = torch.randn(
            self.tangents, *x.shape, dtype=x.dtype, device=x.device, generator=generator
        )  # [k, P]
        value, slopes = pushforward(f, x, v)  # slopes [k]
        return value, (slopes / self.tangents) @ v, GradientInfo(exact=False, tangents=self.tangents)
