"""Multinomial logistic regression whose regularisation the support set chooses.

    λ* = argmin_λ Σ_i CE(y_i, logits_i^(−i)(λ)) ,   logits = those of :class:`adapt.heads.Logistic` with λ*

Stone (1974), *Cross-Validatory Choice and Assessment of Statistical Predictions*; for penalised logistic
regression le Cessie and van Houwelingen (1992), *Ridge Estimators in Logistic Regression*, section 4. λ comes
from a grid. The choice has no derivative: the derivatives are those of the chosen fit.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from adapt.checks import check_setting, list_of, positive
from adapt.errors import AdaptError
from adapt.heads.base import is_concrete
from adapt.heads.leave_one_out import REFIT, refitted
from adapt.heads.logistic import Logistic
from adapt.precision import full_precision

__all__ = ["LogisticCV"]


@dataclass(frozen=True)
class LogisticCV:
    """``l2``: the grid of λ > 0; ``steps`` and ``dense`` as in :class:`adapt.heads.Logistic`.

    Example:
        >>> import torch
        >>> head = LogisticCV()
        >>> x, y = torch.eye(2).repeat(2, 1), torch.eye(2).repeat(2, 1)
        >>> head.chosen(x, y)  # nothing here speaks against the weakest
        0.003
    """

    l2: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3)
    steps: int = 8
    dense: int = 512
    supports_regression: bool = False

    def __post_init__(self) -> None:
        several = list_of(positive("the regularisation must be positive"))
        object.__setattr__(self, "l2", check_setting("head.l2", self.l2, several))  # a tuple, for hashing
        if not self.l2:
            raise AdaptError("head.l2 is empty: give at least one regularisation to choose from")
        self._heads()

    def chosen(self, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> float:
        """λ* for ``features [n, D]`` and ``targets [n, C]``; not inside ``vmap``."""
        return self.l2[int(self._choice(features, targets, weights))]

    @full_precision
    def fit(self, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Weights ``[D + 1, C]``, the intercept last."""
        choice = self._choice(features, targets, weights)
        if is_concrete(choice):
            return self._heads()[int(choice)].fit(features, targets, weights)
        states = torch.stack([head.fit(features, targets, weights) for head in self._heads()])
        return torch.einsum("l,ldc->dc", self._mask(choice, states), states)

    def state_shape(self, features: int | None, outputs: int) -> tuple[int | None, ...]:
        """``[D + 1, C]``."""
        return None if features is None else features + 1, outputs

    @full_precision
    def logits(self, state: Tensor, features: Tensor) -> Tensor:
        """``[m, C]``."""
        return self._heads()[0].logits(state, features)

    @full_precision
    def loo_logits(self, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """``[n, C]``: λ is chosen anew without each example. In large problems (see
        :mod:`adapt.heads.leave_one_out`) all examples choose one λ."""
        n, d = features.shape
        if min(n, d + 1) * targets.shape[1] <= REFIT:
            return refitted(self, features, targets, weights)
        outputs = torch.stack([head.loo_logits(features, targets, weights) for head in self._heads()])
        choice = _best(outputs, targets, weights)
        return torch.einsum("l,lnc->nc", self._mask(choice, outputs), outputs)

    @full_precision
    def fit_and_leave_out(self, features: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """As that of :class:`adapt.heads.Logistic` with λ*, which is not chosen anew for each example."""
        choice = self._choice(features, targets)
        if is_concrete(choice):
            return self._heads()[int(choice)].fit_and_leave_out(features, targets)
        states, outputs = zip(
            *(head.fit_and_leave_out(features, targets) for head in self._heads()), strict=True
        )
        each = (torch.stack(states), torch.stack(outputs))
        state, left = (torch.einsum("l,l...->...", self._mask(choice, it), it) for it in each)
        return state, left

    def _heads(self) -> list[Logistic]:
        return [Logistic(l2, self.steps, self.dense) for l2 in self.l2]

    def _choice(self, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        outputs = [head.loo_logits(features, targets, weights) for head in self._heads()]
        return _best(torch.stack(outputs), targets, weights)

    def _mask(self, choice: Tensor, like: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(choice, len(self.l2)).to(like.dtype)


def _best(outputs: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """Index of the least cross-entropy of ``outputs [grid, n, C]``."""
    losses = -(targets * outputs.log_softmax(-1)).sum(-1)  # [grid, n]
    total = (losses if weights is None else losses * weights).sum(-1)
    return torch.where(torch.isfinite(total), total, torch.inf).argmin()
