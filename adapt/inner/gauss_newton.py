"""Damped Gauss–Newton with a Gaussian prior, from exact forward tangents.

    F, J  = pushforward(model, z, I)                         one pass with k tangents
    (Σ_i J_iᵀ H_i J_i + λΛ⁻¹) δ = Σ_i J_iᵀ ∇ℓ_i + λΛ⁻¹ z       H_i = I (squared error) or diag p_i − p_i p_iᵀ
    (cross-entropy) z ← z − δ

Schraudolph (2002), *Fast Curvature Matrix-Vector Products for Second-Order Gradient Descent*; damping as in
Levenberg (1944), here the precision of a learned prior. Difference to the textbook: the Jacobian comes from
forward mode, so nothing is stored for a backward pass.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from adapt.errors import AdaptError
from adapt.forward import ENGINES, Engine, pushforward
from adapt.inner.losses import Loss
from adapt.inner.solver import Prior, Trace

__all__ = ["GaussNewton"]


@dataclass(frozen=True)
class GaussNewton:
    """``steps`` Gauss–Newton steps from z = 0.

    Args:
        steps: 0 stays at z = 0.
        damping: multiplies the prior precision (1 = as learned); larger moves less.
        engine: of the pushforward: ``fast``, ``reference`` or ``compiled``.

    Example:
        >>> import torch
        >>> from adapt.inner import Prior, SquaredError
        >>> a = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> targets, prior = torch.tensor([[2.0], [3.0]]), Prior(torch.zeros(2))
        >>> z, trace = GaussNewton(steps=1)(lambda z: (a @ z)[:, None], targets, SquaredError(), prior)
        >>> z.round(decimals=3)
        tensor([1., 3.])
    """

    steps: int = 1
    damping: float = 1.0
    engine: Engine = "fast"

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise AdaptError(
                f"inner.steps={self.steps}: the number of steps cannot be negative (0 stays at z = 0)"
            )
        if not self.damping >= 0:
            raise AdaptError(
                f"inner.damping={self.damping}: damping must be zero or positive (1 = as learned)"
            )
        if self.engine not in ENGINES:
            raise AdaptError(f"inner.engine={self.engine}: choose {', '.join(ENGINES)}")

    def __call__(
        self, model: Callable[[Tensor], Tensor], targets: Tensor, loss: Loss, prior: Prior
    ) -> tuple[Tensor, Trace]:
        """See :class:`adapt.inner.Solver`; cost (1 + k) forward passes a step."""
        precision = self.damping * prior.precision  # [k]
        k = precision.numel()
        identity = torch.eye(k, dtype=precision.dtype, device=precision.device)
        z, losses = torch.zeros_like(precision), []
        for _ in range(self.steps):
            outputs, columns = pushforward(model, z, identity, engine=self.engine)  # [n, C], [k, n, C]
            gradient = torch.einsum("knc,nc->k", columns, loss.gradient(outputs, targets)) + precision * z
            hessian = torch.einsum("knc,lnc->kl", columns, loss.curvature(outputs, columns)) + torch.diag(
                precision
            )
            # A direction in which nothing changes, or a repeated one, undamped, must not make the system
            # singular: the floor is a few rounding errors of the factorisation, below which directions stay
            # where they are.
            floor = 10 * torch.finfo(z.dtype).eps * hessian.diagonal().sum() + torch.finfo(z.dtype).tiny
            z = z - torch.linalg.solve(hessian + floor * identity, gradient)
            losses.append(loss.value(outputs, targets))
        return z, Trace(torch.stack(losses) if losses else precision.new_zeros(0), self.steps * (1.0 + k))
