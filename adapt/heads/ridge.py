"""Ridge regression on one-hot (or real) targets, closed form.

    W = argmin ‖X W − Y‖² + λ D ‖W‖² = Xᵀ (X Xᵀ + λ D I)⁻¹ Y      (dual form, n × n)

Bertinetto et al. (2019), *Meta-learning with differentiable closed-form solvers* (R2-D2), equations 3 and 4.
Leave-one-out in closed form: y_i − ŷ_i^(−i) = α_i / (K⁻¹)_ii with K = X Xᵀ + λ D I, α = K⁻¹ Y (Rifkin and
Lippert 2007, *Notes on Regularized Least Squares*, equation 9). Difference to the paper: features are
normalised (row length √D, hence λ D), targets are centred by a penalised intercept, and ``scale`` turns
regression outputs into logits for classification.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from adapt.checks import check_settings, positive
from adapt.heads.base import normalise, with_constant

__all__ = ["Ridge"]


@dataclass(frozen=True)
class Ridge:
    """``l2`` λ > 0 per feature dimension; ``scale`` multiplies the outputs (1 for regression).

    Example:
        >>> import torch
        >>> head = Ridge()
        >>> state = head.fit(torch.eye(2), torch.eye(2))
        >>> head.logits(state, torch.tensor([[2.0, 0.1]])).argmax().item()
        0
    """

    l2: float = 0.1
    scale: float = 10.0
    supports_regression: bool = True

    def __post_init__(self) -> None:
        unique = "with fewer examples than features it is what makes W unique"
        check_settings(
            self,
            "head",
            l2=positive(f"the regularisation must be positive ({unique})"),
            scale=positive(),
        )

    def fit(self, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Weights ``[D + 1, C]``, the intercept last."""
        x = _rows(features, weights)
        return x.T @ torch.linalg.solve(self._kernel(x), targets)

    def logits(self, state: Tensor, features: Tensor) -> Tensor:
        """``[m, C]`` = scale · X W."""
        return self.scale * with_constant(normalise(features)) @ state

    def loo_logits(self, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """``[n, C]`` exact leave-one-out outputs from one factorisation."""
        inverse = torch.linalg.inv(self._kernel(_rows(features, weights)))
        return self.scale * (targets - inverse @ targets / inverse.diagonal()[:, None])

    def _kernel(self, x: Tensor) -> Tensor:
        ridge = self.l2 * (x.shape[-1] - 1)
        return x @ x.T + ridge * torch.eye(x.shape[0], dtype=x.dtype, device=x.device)  # [n, n]


def _rows(features: Tensor, weights: Tensor | None) -> Tensor:
    """``[n, D + 1]``; a row of zeros, the constant included, adds nothing to the sums that W is made of."""
    x = with_constant(normalise(features))
    return x if weights is None else x * weights[:, None]
