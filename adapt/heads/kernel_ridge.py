"""Kernel ridge regression, the mean of a Gaussian process.

    f(x) = Σ_i k(x, x_i) α_i ,   α = (K + λ I)⁻¹ Y ,   k(a, b) = exp(−‖a − b‖² / (2 ℓ² D)) + 1

Rasmussen and Williams (2006), *Gaussian Processes for Machine Learning*, equation 2.25, with noise variance
λ; the constant 1 is a prior for the level of the outputs. Leave-one-out in closed form, equation 5.12:
ŷ_i^(−i) = y_i − α_i / [(K + λ I)⁻¹]_ii. Classes are regressed on as one-hot rows (section 6.5), and ``scale``
turns the outputs into logits. Features are normalised, so ‖a − b‖² / D is 2 − 2 cos(a, b), and ℓ needs no
knowledge of a backbone.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from adapt.checks import check_settings, positive
from adapt.heads.base import normalise

__all__ = ["KernelRidge"]


@dataclass(frozen=True)
class KernelRidge:
    """``length`` ℓ > 0 of the kernel; ``l2`` λ > 0; ``scale`` multiplies the outputs (1 for regression).

    Example:
        >>> import torch
        >>> head = KernelRidge()
        >>> state = head.fit(torch.eye(2), torch.eye(2))
        >>> head.logits(state, torch.tensor([[2.0, 0.1]])).argmax().item()
        0
    """

    length: float = 1.0
    l2: float = 0.1
    scale: float = 10.0
    supports_regression: bool = True

    def __post_init__(self) -> None:
        check_settings(
            self,
            "head",
            length=positive("the length of the kernel must be positive"),
            l2=positive(
                "the noise variance must be positive (repeated examples make the kernel matrix singular)"
            ),
            scale=positive(),
        )

    def fit(self, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """``[n, D + C]``: the normalised examples and, beside them, α; α is 0 where the weight is."""
        x, y, system = self._system(features, targets, weights)
        return torch.cat([x, torch.linalg.solve(system, y)], dim=1)

    def logits(self, state: Tensor, features: Tensor) -> Tensor:
        """``[m, C]`` = scale · k(features, examples) α."""
        size = features.shape[-1]
        return self.scale * self._kernel(normalise(features), state[:, :size]) @ state[:, size:]

    def loo_logits(self, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """``[n, C]`` exact leave-one-out outputs from one factorisation."""
        _, y, system = self._system(features, targets, weights)
        inverse = torch.linalg.inv(system)
        return self.scale * (y - inverse @ y / inverse.diagonal()[:, None])

    def _system(
        self, features: Tensor, targets: Tensor, weights: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised rows, targets, and K + λ I in which an example of weight 0 knows only itself."""
        x = normalise(features)
        kernel, y = self._kernel(x, x), targets
        if weights is not None:
            kernel, y = weights[:, None] * kernel * weights, weights[:, None] * targets
        return x, y, kernel + self.l2 * torch.eye(len(x), dtype=x.dtype, device=x.device)

    def _kernel(self, a: Tensor, b: Tensor) -> Tensor:
        """``[m, n]`` (distances by matmul: ``torch.cdist`` has no forward mode)."""
        squared = a.square().sum(-1, keepdim=True) - 2 * a @ b.T + b.square().sum(-1)
        return (-squared / (2 * self.length**2 * a.shape[-1])).exp() + 1
