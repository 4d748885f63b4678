"""Multinomial logistic regression by Newton's method.

    W = argmin Σ_i CE(y_i, W ᵀx_i) + (λ/2)·D·‖W‖²
    Newton:  (Σ_i (diag p_i − p_i p_iᵀ) ⊗ x_i x_iᵀ + λ D I) δ = vec(Xᵀ(P − Y) + λ D W) ,   W ← W − t δ

Böhning (1992), *Multinomial logistic regression algorithm*; as the head of few-shot classification Tian et
al. (2020), *Rethinking Few-Shot Image Classification*. With n < D the weights lie in the span of the
examples, W = XᵀA, and the same steps are taken in A, with n·C unknowns instead of D·C:

    (blocks(diag p_i − p_i p_iᵀ) (K ⊗ I) + λ D I) δ = vec(P − Y + λ D A) ,   K = X Xᵀ ,   A ← A − t δ

which needs no factor of K, so repeated examples do no harm. t is the best of 1, ½, ¼, ⅛.

Systems of more than ``dense`` unknowns are never formed: :mod:`adapt.heads.newton_cg` finds the same optimum.
Of such sizes the leave-one-out outputs are approximate, too (:mod:`adapt.heads.leave_one_out`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import vmap

from adapt.checks import STEPS, check_settings, least, positive
from adapt.heads.base import check_features, normalise, with_constant
from adapt.heads.leave_one_out import leave_one_out, one_step
from adapt.heads.newton_cg import minimiser
from adapt.heads.systems import regularised, solve
from adapt.precision import double, full_precision

__all__ = ["DENSE", "Logistic"]

#: Unknowns of the largest system that is formed, whatever ``dense`` says: its square is a gigabyte.
DENSE = 16_384


@dataclass(frozen=True)
class Logistic:
    """``l2`` λ > 0 per feature dimension; ``steps`` Newton steps (the objective is strongly convex: 8 reach
    single precision). ``dense``: from more unknowns than this on, conjugate gradients solve for a step.

    Example:
        >>> import torch
        >>> head = Logistic()
        >>> state = head.fit(torch.eye(2), torch.eye(2))
        >>> head.logits(state, torch.tensor([[2.0, 0.1]])).argmax().item()
        0
    """

    l2: float = 0.01
    steps: int = 8
    dense: int = 512
    supports_regression: bool = False

    def __post_init__(self) -> None:
        check_settings(
            self,
            "head",
            l2=positive("the regularisation must be positive, or separable classes have no finite solution"),
            steps=least(1, "at least one Newton step is needed", ceiling=STEPS),
            dense=least(0),
        )

    @full_precision
    def fit(self, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Weights ``[D + 1, C]``, the intercept last."""
        check_features(features, weights)
        x = with_constant(normalise(features))
        return self._weights(x, targets, targets.new_ones(x.shape[0]) if weights is None else weights)

    def state_shape(self, features: int | None, outputs: int) -> tuple[int | None, ...]:
        """``[D + 1, C]``."""
        return None if features is None else features + 1, outputs

    @full_precision
    def logits(self, state: Tensor, features: Tensor) -> Tensor:
        """``[m, C]`` = X W."""
        return with_constant(normalise(features)) @ state

    @full_precision
    def loo_logits(self, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """``[n, C]``: exactly, by n weighted fits with one example's weight at zero, batched; of large
        problems approximately."""
        x = with_constant(normalise(features))
        ridge = self.l2 * features.shape[-1]
        return leave_one_out(lambda mask: self._weights(x, targets, mask), x, targets, weights, ridge)

    @full_precision
    def fit_and_leave_out(self, features: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """State ``[D + 1, C]`` and, by one Newton step from it, leave-one-out outputs ``[n, C]``; see
        :func:`adapt.heads.leave_one_out.fit_and_leave_out`."""
        state = self.fit(features, targets)
        x, ones = with_constant(normalise(features)), targets.new_ones(len(targets))
        return state, one_step(x, targets, ones, state, self.l2 * features.shape[-1])

    def _weights(self, x: Tensor, y: Tensor, mask: Tensor, offset: Tensor | None = None) -> Tensor:
        """Minimiser ``[D, C]`` of the objective in which example i counts ``mask[i]`` times, and ``offset [n,
        C]`` is added to its outputs."""
        ridge, given = self.l2 * (x.shape[-1] - 1), x.dtype
        # The condition of a system is about n/λ: in float64 where rounding would leave fewer than two digits.
        if x.shape[0] * torch.finfo(given).eps > 0.01 * self.l2:
            x, y, mask = double(x), double(y), double(mask)
            offset = None if offset is None else double(offset)
        if min(x.shape) * y.shape[1] > min(self.dense, DENSE):
            return minimiser(x, y, mask, ridge, self.steps, offset).to(given)
        dual = x.shape[0] < x.shape[1]
        u = self._newton(x @ x.T if dual else x, None if dual else x, y, mask, ridge, offset)
        return (x.T @ u if dual else u).to(given)

    def _newton(
        self,
        right: Tensor,
        left: Tensor | None,
        y: Tensor,
        mask: Tensor,
        ridge: float,
        offset: Tensor | None,
    ) -> Tensor:
        """Unknowns u ``[m, C]`` with outputs right @ u: W for left = right = X; A for right = K, no left."""
        m, c = right.shape[1], y.shape[1]
        u = right.new_zeros(m, c)
        rates = right.new_tensor([1.0, 0.5, 0.25, 0.125])

        def outputs(u: Tensor) -> Tensor:
            return right @ u if offset is None else offset + right @ u  # [n, C]

        def objective(u: Tensor) -> Tensor:
            z = outputs(u)
            norm = (u * (right @ u if left is None else u)).sum()  # ‖W‖² = ⟨A, K A⟩
            return (mask * (z.logsumexp(-1) - (y * z).sum(-1))).sum() + 0.5 * ridge * norm

        for _ in range(self.steps):
            p = outputs(u).softmax(-1)  # [n, C]
            gradient = mask[:, None] * (p - y)
            curvature = mask[:, None, None] * (
                torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
            )  # [n, C, C]
            system = torch.einsum("nce,nm->ncme", curvature, right)
            if left is not None:
                gradient, system = left.T @ gradient, torch.einsum("nd,ncme->dcme", left, system)
            system = regularised(system.reshape(m * c, m * c), ridge)
            step = solve(system, (gradient + ridge * u).reshape(-1)).view(m, c)
            losses = vmap(lambda t: objective(u - t * step))(rates)  # noqa: B023 (used at once, in this iteration)
            # The longest step that is best up to rounding: at the optimum all are; a full one is what makes
            # the derivatives of u right. (A mask instead of an index: vmap can batch it.)
            best = losses <= losses.min() * (1 + 8 * torch.finfo(losses.dtype).eps)
            chosen = torch.nn.functional.one_hot(best.byte().argmax(), len(rates)).to(right.dtype)
            u = u - (chosen * rates).sum() * step
        return u
