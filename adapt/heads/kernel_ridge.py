"""Kernel ridge regression, the mean of a Gaussian process.

    f(x) = Σ_i k(x, x_i) α_i ,   α = (K + λ I)⁻¹ Y ,   k(a, b) = exp(−‖a − b‖² / (2 ℓ² D)) + 1

Rasmussen and Williams (2006), *Gaussian Processes for Machine Learning*, equation 2.25, with noise variance
λ; the constant 1 is a prior for the level of the outputs. Leave-one-out in closed form, equation 5.12:
ŷ_i^(−i) = y_i − α_i / [(K + λ I)⁻¹]_ii. Classes are regressed on as one-hot rows (section 6.5), and ``scale``
turns the outputs into logits. Features are normalised, so ‖a − b‖² / D is 2 − 2 cos(a, b), and ℓ needs no
knowledge of a backbone. All is computed, and α kept, in float64: examples that are alike make α large, of
both signs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from adapt.checks import check_settings, positive
from adapt.heads.base import check_features, normalise
from adapt.heads.systems import inverse, regularised, solve
from adapt.precision import double, full_precision, outside_autocast, wide

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

    @full_precision
    def fit(self, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """``[n, D + C]``, float64: the normalised examples and, beside them, α, 0 where the weight is 0."""
        check_features(features, weights)
        x, y, system = self._system(features, targets, weights)
        return torch.cat([x, solve(system, y)], dim=1)

    def state_shape(self, features: int | None, outputs: int) -> tuple[int | None, ...]:
        """``[n, D + C]`` of any n."""
        return None, None if features is None else features + outputs

    def logits(self, state: Tensor, features: Tensor) -> Tensor:
        """``[m, C]`` = scale · k(features, examples) α."""
        size, x = features.shape[-1], normalise(double(features))
        with outside_autocast(features.device):
            outputs = self._kernel(x, double(state[:, :size])) @ double(state[:, size:])
        return (self.scale * outputs).to(wide(features).dtype)

    @full_precision
    def loo_logits(self, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """``[n, C]`` exact leave-one-out outputs from one factorisation."""
        _, y, system = self._system(features, targets, weights)
        k = inverse(system)
        return self.scale * (y - k @ y / k.diagonal()[:, None]).to(features.dtype)

    def _system(
        self, features: Tensor, targets: Tensor, weights: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised rows, targets, and K + λ I in which an example of weight 0 knows only itself."""
        x, y = normalise(double(features)), double(targets)
        kernel = self._kernel(x, x)
        if weights is not None:
            weights = double(weights)
            kernel, y = weights[:, None] * kernel * weights, weights[:, None] * targets
        return x, y, regularised(kernel, self.l2)

    def _kernel(self, a: Tensor, b: Tensor) -> Tensor:
        """``[m, n]`` (distances by matmul: ``torch.cdist`` has no forward mode)."""
        squared = a.square().sum(-1, keepdim=True) - 2 * a @ b.T + b.square().sum(-1)
        return (-squared / (2 * self.length**2 * a.shape[-1])).exp() + 1
