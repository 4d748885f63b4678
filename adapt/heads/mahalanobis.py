"""Nearest class mean by a distance that knows how each class spreads.

    logits_c(f) = −(f − μ_c)ᵀ Σ_c⁻¹ (f − μ_c) / (2 τ D)
    Σ_c = λ_c S_c + (1 − λ_c) S + β I ,   λ_c = n_c / (n_c + 1)

with S_c the covariance of the support features of class c, and S that of all. Bateni, Goyal, Masrani, Wood,
Sigal (2020), *Improved Few-Shot Visual Classification* (Simple CNAPS), equations 1, 2 and 3. Differences:
features are normalised, and the temperature τ is explicit; β is 1 there, of features as they are. A class of
which there are few examples mostly spreads as all do.

With n ≤ D examples nothing of size D × D is made: the rows Y_c = (a_c I + b_c C_c) X, C_c centring on class
c, are such that Σ_c = β I + Y_cᵀ Y_c, and Σ_c⁻¹ = (I − Y_cᵀ (β I + Y_c Y_cᵀ)⁻¹ Y_c) / β.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import vmap

from adapt.checks import check_settings, positive
from adapt.heads.base import check_features, normalise
from adapt.heads.leave_one_out import refitted
from adapt.heads.systems import cholesky, regularised
from adapt.precision import double, full_precision

__all__ = ["Mahalanobis"]


@dataclass(frozen=True)
class Mahalanobis:
    """``l2`` β > 0 is the variance that every direction has at least, in units of the mean square of a
    feature; ``temperature`` τ > 0 sets how sharp the probabilities are, not which class wins.

    Example:
        >>> import torch
        >>> head = Mahalanobis()
        >>> x = torch.tensor([[1.0, 0.9], [1.0, -0.9], [-1.0, 0.9], [-1.0, -0.9]])
        >>> state = head.fit(x, torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]]))
        >>> head.logits(state, torch.tensor([[0.4, 1.0]])).argmax().item()
        0
    """

    l2: float = 1.0
    temperature: float = 0.1
    supports_regression: bool = False

    def __post_init__(self) -> None:
        check_settings(
            self,
            "head",
            l2=positive("a variance must be positive: with fewer examples than features others have none"),
            temperature=positive("a temperature must be positive"),
        )

    @full_precision
    def fit(self, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """For every class its mean and the rows of V_c, ``[C, 1 + r, D]``: β Σ_c⁻¹ = I − V_cᵀ V_c with r = n;
        where there are more examples than features, Σ_c⁻¹ = V_cᵀ V_c / β with r = D."""
        check_features(features, weights)
        f, y = normalise(double(features)), double(targets)
        there = y.new_ones(len(y)) if weights is None else double(weights)
        y = y * there[:, None]
        count, total = y.sum(0), there.sum().clamp(min=1)
        means = y.T @ f / count.clamp(min=1)[:, None]
        rows = there[:, None] * (f - (there @ f) / total)
        # The share of the class λ_c / (n_c − 1), and of all, of the squares of centred rows.
        share = count / (count + 1)
        own = (share / (count - 1).clamp(min=1)).clamp(min=0)
        every = (1 - share) / (total - 1).clamp(min=1)
        spread = vmap(self._spread, in_dims=(None, 1, 0, 0))(rows, y, own, every)
        return torch.cat([means[:, None], spread], 1).to(features.dtype)

    def _spread(self, rows: Tensor, member: Tensor, own: Tensor, every: Tensor) -> Tensor:
        """V ``[r, D]`` of one class: of centred ``rows [n, D]``, ``member [n]`` of them its own."""
        centred = member[:, None] * (rows - member @ rows / member.sum().clamp(min=1))
        root = every.sqrt()  # centring is a projection: the root of a I + b C is √a I + (√(a + b) − √a) C
        y = root * rows + ((every + own).sqrt() - root) * centred
        n, d = y.shape
        if n < d:
            return torch.linalg.solve_triangular(cholesky(regularised(y @ y.T, self.l2)), y, upper=False)
        factor = cholesky(regularised(y.T @ y, self.l2))
        eye = torch.eye(d, dtype=y.dtype, device=y.device)
        return self.l2**0.5 * torch.linalg.solve_triangular(factor, eye, upper=False)

    def state_shape(self, features: int | None, outputs: int) -> tuple[int | None, ...]:
        """``[C, 1 + r, D]``."""
        return outputs, None, features

    @full_precision
    def logits(self, state: Tensor, features: Tensor) -> Tensor:
        """``[m, C]`` scaled negative squared distances."""
        f, known = normalise(double(features)), double(state)
        off = f[:, None] - known[:, 0]  # [m, C, D]
        inside = torch.einsum("crd,mcd->mcr", known[:, 1:], off).square().sum(-1)
        d = f.shape[-1]
        squared = inside if state.shape[1] > d else off.square().sum(-1) - inside
        return (-squared / (2 * self.l2 * self.temperature * d)).to(features.dtype)

    @full_precision
    def loo_logits(self, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """``[n, C]``, by n fits."""
        return refitted(self, features, targets, weights)
