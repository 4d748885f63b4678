"""Leave-one-out outputs of multinomial logistic regression: exactly, or by one Newton step.

    exact:           z_i^(−i) = x_iᵀ W^(−i) ,   W^(−i) fitted without example i
    one step:        z_i^(−i) ≈ z_i + S_i (I − H_i S_i)⁻¹ (p_i − y_i)
                     S_i = x_iᵀ (Σ_j H_j ⊗ x_j x_jᵀ + r I)⁻¹ x_i
    class by class:  z_ic^(−i) ≈ z_ic + h_ic (p_ic − y_ic) / (1 − w_ic h_ic)

with H_i = diag p_i − p_i p_iᵀ, h_ic = x_iᵀ (Xᵀ diag(w_c) X + r I)⁻¹ x_i and w = p (1 − p): one Newton step
from the optimum of all examples. Beirami et al. (2017), *On Optimal Generalizability in Parametric Learning*;
Rad and Maleki (2020), *A scalable estimate of the out-of-sample prediction error via approximate
leave-one-out cross-validation*. Difference: in large problems the coupling of classes in the curvature is
left out, so that a system has min(n, D) unknowns and not C times as many.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import vmap

from adapt.heads.base import Head
from adapt.heads.systems import cholesky, floored, regularised
from adapt.precision import double

__all__ = ["REFIT", "fit_and_leave_out", "leave_one_out", "one_step", "refitted"]

#: Unknowns, min(n, D) · C, up to which leaving one out is fitting without it.
REFIT = 512
#: Numbers that the states of fits may be at once.
AT_ONCE = 2**24


def fit_and_leave_out(head: Head, features: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The state of ``head`` on ``features [n, D]`` and ``targets [n, C]``, and outputs ``[n, C]`` for each
    example without it: approximately, from that one fit, of a head that can say so (its own
    ``fit_and_leave_out``); else ``loo_logits``."""
    own = getattr(head, "fit_and_leave_out", None)
    if own is None:
        return head.fit(features, targets), head.loo_logits(features, targets)
    state, outputs = own(features, targets)
    return state, outputs


def refitted(head: Head, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Outputs ``[n, C]`` for each example of ``features [n, D]`` and ``targets [n, C]`` from ``head`` fitted
    to all others, n fits; a few at a time where they are large."""
    ones = targets.new_ones(len(features)) if weights is None else weights
    keep = ones * (1 - torch.eye(len(features), dtype=features.dtype, device=features.device))

    def one(mask: Tensor, row: Tensor) -> Tensor:
        return head.logits(head.fit(features, targets, mask), row[None])[0]

    size = targets.shape[1] * len(features) * max(features.shape)
    found: Tensor = vmap(one, chunk_size=max(1, AT_ONCE // max(size, 1)))(keep, features)
    return found


def leave_one_out(
    fit: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, weights: Tensor | None, ridge: float
) -> Tensor:
    """Outputs ``[n, C]`` for each example without it; approximate where there are more than ``REFIT``
    unknowns.

    Args:
        fit: from the weights of examples ``[n]`` to the model's weights ``[D, C]``.
        x: inputs ``[n, D]``.
        y: targets ``[n, C]``.
        weights: 1 or 0 for every example ``[n]``.
        ridge: r > 0 of the penalty ½ r ‖W − W₀‖².
    """
    ones = y.new_ones(len(x)) if weights is None else weights
    if min(x.shape) * y.shape[1] > REFIT:
        return one_step(x, y, ones, fit(ones), ridge)
    keep = ones * (1 - torch.eye(len(x), dtype=x.dtype, device=x.device))  # row i leaves example i out
    return torch.einsum("nd,ndc->nc", x, vmap(fit)(keep))


def one_step(x: Tensor, y: Tensor, weights: Tensor, fitted: Tensor, ridge: float) -> Tensor:
    """Approximate outputs ``[n, C]`` from the weights ``fitted [D, C]`` of the model of all examples: of up
    to ``REFIT`` unknowns with the coupling of classes, of more class by class."""
    given, (x, y, weights, fitted) = x.dtype, map(double, (x, y, weights, fitted))  # h is a small difference
    step = _coupled if min(x.shape) * y.shape[1] <= REFIT else _by_class
    return step(x, y, weights, fitted, ridge).to(given)


def _coupled(x: Tensor, y: Tensor, weights: Tensor, fitted: Tensor, ridge: float) -> Tensor:
    (n, d), ways = x.shape, y.shape[1]
    z = x @ fitted
    p = z.softmax(-1)
    bent = weights[:, None, None] * (torch.diag_embed(p) - p[:, :, None] * p[:, None, :])  # H_i [n, C, C]
    identity = torch.eye(ways, dtype=x.dtype, device=x.device)
    if n < d:
        gram = x @ x.T
        system = torch.einsum("nce,nm->ncme", bent, gram).reshape(n * ways, n * ways)
        inverse = torch.linalg.inv_ex(regularised(system, floored(gram, ridge))).inverse
        shared = torch.einsum("im,mcie->ice", gram, inverse.view(n, ways, n, ways))  # S_i [n, C, C]
    else:
        system = torch.einsum("nd,nce,nf->dcfe", x, bent, x).reshape(d * ways, d * ways)
        inverse = torch.linalg.inv_ex(regularised(system, ridge)).inverse
        shared = torch.einsum("nd,dcfe,nf->nce", x, inverse.view(d, ways, d, ways), x)
    pulled = torch.linalg.solve_ex(identity - bent @ shared, (p - y)[:, :, None]).result
    return z + (shared @ pulled)[:, :, 0]


def _by_class(x: Tensor, y: Tensor, weights: Tensor, fitted: Tensor, ridge: float) -> Tensor:
    z = x @ fitted
    p = z.softmax(-1)
    root = (
        weights[:, None] * (p * (1 - p)).clamp(min=1e-12).sqrt()
    )  # [n, C]; finite gradient where p is 0 or 1
    leverage = []
    for column in root.T:
        rows = column[:, None] * x
        if len(x) < x.shape[1]:  # the same by a system of n unknowns
            gram = rows @ rows.T
            least = floored(gram, ridge)
            factor = cholesky(regularised(gram, least))
            inside = torch.linalg.solve_triangular(factor, rows @ x.T, upper=False)
            leverage.append((x.square().sum(-1) - inside.square().sum(0)) / least)
        else:
            factor = cholesky(regularised(rows.T @ rows, ridge))
            leverage.append(torch.linalg.solve_triangular(factor, x.T, upper=False).square().sum(0))
    h = torch.stack(leverage, dim=1)  # [n, C]
    # The denominator is the share of the curvature along x_i that is not example i's own: positive.
    left = (1 - root.square() * h).clamp(min=torch.finfo(x.dtype).eps)
    return z + h * (p - y) / left
