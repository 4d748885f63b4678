"""The optimum of multinomial logistic regression without ever forming its Hessian.

    H V = Xᵀ (m ∘ (P ∘ X V − P ∘ rowsum(P ∘ X V))) + r V      one product: two small matrix products
    Newton:  H δ = ∇ ,  by conjugate gradients preconditioned with   M = w XᵀX + r I

Truncated Newton with exact Hessian products (Nocedal and Wright 2006, *Numerical Optimization*, section 7.1);
M has the form of Böhning's (1992) bound ½ (I − 11ᵀ/C) ⊗ XᵀX + r I, with the mean curvature w = Σ_ic p (1 − p)
/ (n (C − 1)) in place of the bound ½, and needs one Cholesky factor, of min(n, D) rows. In M alone r is a
hundred rounding errors of w XᵀX at least, below which M⁻¹ would be rounding. The iterations carry no
derivatives. They are attached at the optimum W* by chord steps, with H at W* and held constant:

    W ← W − H⁻¹ ∇(W; X, Y)

Each of them makes one more order of the Taylor series of W in X and Y right (Christianson 1994, *Reverse
accumulation and attractive fixed points*), and the derivative of V → H⁻¹ V is itself.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from adapt.heads.base import is_concrete
from adapt.heads.systems import cholesky, floored, regularised

__all__ = ["minimiser"]

#: Conjugate-gradient iterations, at most, for a Newton step and for a derivative; outside vmap they end when
#: they have converged: to a thousandth (each step starts from the remaining error of the last), and to
#: rounding.
LOOSE, EXACT = 40, 150
ORDERS = 2  # derivatives that are right: the second, as meta-training takes a gradient through tangents


class Curvature(NamedTuple):
    """H at some W, and M: inputs ``x [n, D]``, probabilities ``p [n, C]``, ``mask [n]``, scalars ``ridge`` r
    and ``weight`` w; ``factor`` is the Cholesky factor of M ``[D, D]`` or, with n < D, of w X Xᵀ + r I ``[n,
    n]``, in which r is ``least``."""

    x: Tensor
    p: Tensor
    mask: Tensor
    ridge: Tensor
    weight: Tensor
    least: Tensor
    factor: Tensor

    def times(self, v: Tensor) -> Tensor:
        """H V ``[D, C]``."""
        bent = self.p * (self.x @ v)
        bent = self.mask[:, None] * (bent - self.p * bent.sum(-1, keepdim=True))
        return self.x.T @ bent + self.ridge * v

    def precondition(self, v: Tensor) -> Tensor:
        """M⁻¹ V ``[D, C]``."""
        if self.x.shape[0] >= self.x.shape[1]:
            return torch.cholesky_solve(v, self.factor)
        rows = self.mask.sqrt()[:, None] * self.x
        return (v - self.weight * rows.T @ torch.cholesky_solve(rows @ v, self.factor)) / self.least


def minimiser(
    x: Tensor, y: Tensor, mask: Tensor, ridge: float, steps: int, offset: Tensor | None = None
) -> Tensor:
    """Weights ``[D, C]`` that minimise Σ_i mask_i CE(y_i, o_i + Wᵀx_i) + ½ ridge ‖W‖².

    Args:
        x: inputs ``[n, D]``.
        y: targets ``[n, C]``, rows that sum to one.
        mask: how many times each example counts ``[n]``; 0: not at all.
        ridge: positive.
        steps: Newton steps.
        offset: o, what is added to the outputs ``[n, C]``; None = 0.

    Example:
        >>> minimiser(torch.eye(2), torch.eye(2), torch.ones(2), 1.0, 8)  # w = 1/(1 + exp 2w) for ±w
        tensor([[ 0.3374, -0.3374],
                [-0.3374,  0.3374]])
    """
    offset = torch.zeros_like(y) if offset is None else offset
    alive = _Problem(x, y, mask, torch.as_tensor(ridge, dtype=x.dtype, device=x.device), offset)
    constant = _Problem(*(it.detach() for it in alive))
    w = x.new_zeros(x.shape[1], y.shape[1]).detach()
    rates = w.new_tensor([1.0, 0.5, 0.25, 0.125])
    floor: Tensor | float = 0.0
    for i in range(steps):
        step, length = _solve(constant.curvature(w), constant.gradient(w), False, floor)
        if i == 0:
            floor = length * torch.finfo(w.dtype).eps ** 2
        losses = torch.stack([constant.objective(w - t * step) for t in rates])
        best = losses <= losses.min() * (1 + 8 * torch.finfo(losses.dtype).eps)  # the longest of the best
        chosen = torch.nn.functional.one_hot(best.byte().argmax(), len(rates)).to(w.dtype)
        w = w - (chosen * rates).sum() * step
    at_optimum = constant.curvature(w)
    for _ in range(ORDERS):
        w = w - _Inverse.apply(alive.gradient(w), False, *at_optimum)
    return w


class _Problem(NamedTuple):
    """The objective of :func:`minimiser` as a function of W, with its derivatives."""

    x: Tensor
    y: Tensor
    mask: Tensor
    ridge: Tensor
    offset: Tensor

    def objective(self, w: Tensor) -> Tensor:
        z = self.offset + self.x @ w
        penalty = 0.5 * self.ridge * w.square().sum()
        return (self.mask * (z.logsumexp(-1) - (self.y * z).sum(-1))).sum() + penalty

    def gradient(self, w: Tensor) -> Tensor:
        slope = self.mask[:, None] * ((self.offset + self.x @ w).softmax(-1) - self.y)
        return self.x.T @ slope + self.ridge * w

    def curvature(self, w: Tensor) -> Curvature:
        p, rows = (self.offset + self.x @ w).softmax(-1), self.mask.sqrt()[:, None] * self.x
        n, d, c = *self.x.shape, p.shape[1]
        weight = (self.mask[:, None] * p * (1 - p)).sum() / (self.mask.sum().clamp(min=1) * max(c - 1, 1))
        gram = weight * (rows.T @ rows if n >= d else rows @ rows.T)
        least = torch.maximum(self.ridge, 100 * floored(gram, 0.0))
        factor = cholesky(regularised(gram, least))
        return Curvature(self.x, p, self.mask, self.ridge, weight, least, factor)


def _solve(
    curvature: Curvature, b: Tensor, exact: bool, floor: Tensor | float = 0.0
) -> tuple[Tensor, Tensor]:
    """H⁻¹ b by preconditioned conjugate gradients (Nocedal and Wright 2006, algorithm 5.3), and the squared
    length of b under M⁻¹; errors below the length ``floor`` do not count."""
    tiny, tolerance = torch.finfo(b.dtype).tiny, torch.finfo(b.dtype).eps if exact else 1e-3
    concrete = is_concrete(b)
    solution, residual = torch.zeros_like(b), b
    z = curvature.precondition(residual)
    direction, start = z, (residual * z).sum()
    inner, enough = start, (start * tolerance**2).clamp(min=floor)
    for _ in range(EXACT if exact else LOOSE):
        if concrete and bool(inner <= enough):
            break
        image = curvature.times(direction)
        length = inner / (direction * image).sum().clamp(min=tiny)
        solution, residual = solution + length * direction, residual - length * image
        z = curvature.precondition(residual)
        before, inner = inner, (residual * z).sum()
        direction = z + inner / before.clamp(min=tiny) * direction
    return solution, start


class _Inverse(torch.autograd.Function):
    """V → H⁻¹ V, linear and symmetric: its derivative is itself, forward and backward."""

    generate_vmap_rule = True

    @staticmethod
    def forward(v: Tensor, exact: bool, *curvature: Tensor) -> Tensor:
        return _solve(Curvature(*curvature), v, exact)[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[2:])
        ctx.save_for_forward(*inputs[2:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _Inverse.apply(gradient, True, *ctx.saved_tensors), *([None] * (1 + len(Curvature._fields)))

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        return _Inverse.apply(tangent, True, *ctx.saved_tensors)
