"""Ridge regression on one-hot (or real) targets, closed form.

    W = argmin ‖X W − Y‖² + λ D ‖W‖² = Xᵀ (X Xᵀ + λ D I)⁻¹ Y      (dual form, n × n)
                                     = (Xᵀ X + λ D I)⁻¹ Xᵀ Y      (primal form, D × D, for n ≫ D)

Bertinetto et al. (2019), *Meta-learning with differentiable closed-form solvers* (R2-D2), equations 3 and 4.
Leave-one-out in closed form: y_i − ŷ_i^(−i) = α_i / (K⁻¹)_ii with K = X Xᵀ + λ D I, α = K⁻¹ Y (Rifkin and
Lippert 2007, *Notes on Regularized Least Squares*, equation 9); in the primal form this is (y_i − ŷ_i) / (1 −
h_i) with h_i = x_iᵀ (Xᵀ X + λ D I)⁻¹ x_i. Difference to the paper: features are normalised (row length √D,
hence λ D), targets are centred by a penalised intercept, and ``scale`` turns regression outputs into logits
for classification. Systems are solved in float64: the condition of K is the square of that of X.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from adapt.checks import check_settings, positive
from adapt.heads.base import check_features, normalise, with_constant
from adapt.heads.systems import inverse, regularised, solve
from adapt.precision import double, full_precision

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

    @full_precision
    def fit(self, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Weights ``[D + 1, C]``, the intercept last."""
        check_features(features, weights)
        x, y = _rows(features, targets, weights)
        if _is_tall(x):
            return solve(self._system(x.T @ x, x), x.T @ y).to(features.dtype)
        return (x.T @ solve(self._system(x @ x.T, x), y)).to(features.dtype)

    def state_shape(self, features: int | None, outputs: int) -> tuple[int | None, ...]:
        """``[D + 1, C]``."""
        return None if features is None else features + 1, outputs

    @full_precision
    def logits(self, state: Tensor, features: Tensor) -> Tensor:
        """``[m, C]`` = scale · X W."""
        return self.scale * with_constant(normalise(features)) @ state

    @full_precision
    def loo_logits(self, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """``[n, C]`` exact leave-one-out outputs from one factorisation."""
        x, y = _rows(features, targets, weights)
        if _is_tall(x):
            known = solve(self._system(x.T @ x, x), x.T)  # [D + 1, n]
            left = 1 - (x * known.T).sum(-1, keepdim=True)  # of the residual, were the example not there
            left_out = y - (y - x @ (known @ y)) / left.clamp(min=torch.finfo(x.dtype).eps)
        else:
            k = inverse(self._system(x @ x.T, x))
            left_out = y - k @ y / k.diagonal()[:, None]
        if weights is not None:  # rows are longer by the root of their weight
            root = double(weights).sqrt()
            left_out = left_out / torch.where(root > 0, root, 1)[:, None]
        return self.scale * left_out.to(features.dtype)

    def _system(self, gram: Tensor, x: Tensor) -> Tensor:
        return regularised(gram, self.l2 * (x.shape[-1] - 1))


def _rows(features: Tensor, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """X ``[n, D + 1]`` and Y ``[n, C]`` in float64, rows multiplied by the root of their weight: in the sums
    that W is made of an example then counts so many times, and one of weight 0 not at all."""
    x, y = with_constant(normalise(double(features))), double(targets)
    if weights is None:
        return x, y
    root = double(weights).sqrt()[:, None]
    return root * x, root * y


def _is_tall(x: Tensor) -> bool:
    return x.shape[0] > 4 * x.shape[1]
