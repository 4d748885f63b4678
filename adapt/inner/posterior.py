"""The Gaussian around a solution: what the Jacobian that adapting has made anyway says about z.

    A = Σ_i J_iᵀ H_i J_i + Λ⁻¹ ,   z | data ≈ N(z*, s A⁻¹)
    predictive     covariance s J_x A⁻¹ J_xᵀ (+ σ² I in regression)
    evidence       log p(y) ≈ −ℓ/s − ½ zᵀΛ⁻¹z/s − ½ log det(ΛA) − (nC/2) log 2πs   (classes: no last term)
    condition      A ← γA + (1−γ)Λ⁻¹ + JᵀHJ ,   z ← z − A⁻¹ Jᵀ∇ℓ
    leave one out  z₋ᵢ = z* + A⁻¹ J_iᵀ (I − H_i S_i)⁻¹ ∇ℓ_i ,   S_i = J_i A⁻¹ J_iᵀ        (Woodbury: C × C)
    innovation     rᵀ (s J A⁻¹ Jᵀ + σ² I)⁻¹ r  ~  χ²  of as many degrees as there are values
    information    ½ log det(I + S_x H_x)
    choice         tr G (A⁻¹ − (A + J_iᵀ H_i J_i)⁻¹) ,   G = Σ_p J_pᵀ H_p J_p over a pool
    together       A = Σ_c (A_c − Λ⁻¹) + Λ⁻¹ ,   A z = Σ_c A_c z_c

MacKay (1992), *A Practical Bayesian Framework for Backpropagation Networks*, and Immer, Korzepa, Bauer
(2021), *Improving predictions of Bayesian neural nets via local linearization*, for the linearised Laplace
approximation; Bell and Cathey (1993), *The iterated Kalman filter update as a Gauss–Newton method*, for
conditioning; Rad and Maleki (2020), *A scalable estimate of the out-of-sample prediction error via
approximate leave-one-out cross-validation*; MacKay (1992), *Information-Based Objective Functions for Active
Data Selection*. Differences: s is learned apart from the noise σ², since most of what is left after adapting
is what k directions cannot do, and A is that of the linearisation that z was solved for.

A and all variances are float64, which holds the square of anything that float32 does, and a small example
added to very many.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from adapt.inner.levenberg_marquardt import quadratic
from adapt.inner.losses import Loss
from adapt.precision import double

__all__ = [
    "Moments",
    "Posterior",
    "choose",
    "condition",
    "covariance",
    "forgotten",
    "held_out_moves",
    "information",
    "innovation",
    "is_positive",
    "leave_one_out",
    "log_evidence",
    "merge",
    "posterior_of",
    "predictive",
    "variances",
]

#: What rounding may do to a matrix whose diagonal is 1.
ROUNDING = 1e-4


class Posterior(NamedTuple):
    """What is known of z.

    Attributes:
        z: its mean ``[k]``.
        precision: A ``[k, k]``, float64, in units of the loss; infinity on the diagonal of a direction that
            is held.
        prior: the diagonal of Λ⁻¹ ``[k]``, in the same units.
        spread: s > 0, scalar, float64 as the next two: the loss divided by it is a negative log-likelihood, s
            A⁻¹ the covariance of z.
        noise: regression: σ², the variance of an observation, in squared units of the values. Classes: the
            temperature that logits are divided by.
        examples: n, of how many it is made, scalar; what was forgotten counts less.
    """

    z: Tensor
    precision: Tensor
    prior: Tensor
    spread: Tensor
    noise: Tensor
    examples: Tensor


class Moments(NamedTuple):
    """Of outputs, over z: ``mean [m, C]`` and ``covariance [m, C, C]``, without the noise of an
    observation."""

    mean: Tensor
    covariance: Tensor


def posterior_of(
    z: Tensor,
    curvature: Tensor,
    prior: Tensor,
    spread: Tensor | float = 1.0,
    noise: Tensor | float = 1.0,
    examples: Tensor | float = 0.0,
) -> Posterior:
    """Around ``z [k]`` with JᵀHJ = ``curvature [k, k]`` of n ``examples`` and Λ⁻¹ = diag ``prior [k]``
    (infinity: held).

    Example:
        >>> import torch
        >>> found = posterior_of(torch.zeros(1), torch.tensor([[3.0]]), torch.ones(1))
        >>> covariance(found)
        tensor([[0.2500]])
    """
    scalars = (double(z.new_zeros(())) + it for it in (spread, noise, examples))
    return Posterior(z, double(curvature) + torch.diag(double(prior)), prior, *scalars)


def covariance(posterior: Posterior) -> Tensor:
    """s A⁻¹ ``[k, k]``; 0 along directions that are held."""
    return _covariance(posterior).to(posterior.z)


def predictive(posterior: Posterior, outputs: Tensor, columns: Tensor) -> Moments:
    """Moments of outputs whose values at z are ``outputs [m, C]`` and derivatives ``columns [k, m, C]``."""
    wide = double(columns)
    spread = torch.einsum("kmc,kj,jmd->mcd", wide, _covariance(posterior), wide)
    return Moments(outputs, spread.to(columns))


def variances(posterior: Posterior, columns: Tensor) -> Tensor:
    """The diagonals of :func:`predictive`'s covariances ``[m, C]``, float64, from ``columns [k, m, C]``."""
    wide = double(columns)
    return torch.einsum("kmc,kj,jmc->mc", wide, _covariance(posterior), wide)


def log_evidence(posterior: Posterior, value: Tensor, targets: Tensor, loss: Loss) -> Tensor:
    """log p(targets), scalar, up to the error of the Gaussian approximation; exact for squared error and
    outputs that are linear in z. −∞ where a direction has no prior.

    Args:
        value: the loss of the support set at z, a sum over examples.
        targets: ``[n, C]``, for their number.
    """
    z, a, prior = double(posterior.z), double(posterior.precision), double(posterior.prior)
    free = torch.isfinite(a.diagonal())
    finite = torch.where(free, prior, 1)
    spread = double(posterior.spread)
    fit = double(value) + 0.5 * (finite * torch.where(free, z, 0).square()).sum()
    volume = torch.linalg.slogdet(_free(a, free)).logabsdet - finite.log().sum()
    evidence = -fit / spread - 0.5 * volume
    if loss.regression:
        evidence = evidence - 0.5 * targets.numel() * (2 * torch.pi * spread).log()
    return evidence.to(posterior.z)


def forgotten(posterior: Posterior, forget: Tensor | float) -> Posterior:
    """With a share 1 − γ of what is known given back to the prior, for ``forget`` γ, 0 … 1."""
    a, prior = double(posterior.precision), double(posterior.prior)
    free = torch.isfinite(a.diagonal())
    kept = forget * _free(a, free) + (1 - forget) * torch.diag(torch.where(free, prior, 0))
    kept = kept + torch.diag(torch.where(free, 0, torch.inf))
    return posterior._replace(precision=kept, examples=forget * posterior.examples)


def condition(
    posterior: Posterior,
    outputs: Tensor,
    columns: Tensor,
    targets: Tensor,
    loss: Loss,
    forget: Tensor | float = 1.0,
) -> Posterior:
    """What is known after further examples: one step of the iterated extended Kalman filter. What is not
    finite teaches nothing.

    Args:
        outputs, columns: of the new examples at ``posterior.z``: ``[n, C]``, ``[k, n, C]``.
        targets: theirs ``[n, C]``.
        forget: γ, 0 … 1: the weight of what was known before; the rest is given back to the prior. 1 forgets
            nothing: the same as learning from all examples at once if outputs are linear in z.
    """
    before = forgotten(posterior, forget)
    new = quadratic(outputs, columns, targets, loss)
    free = torch.isfinite(before.precision.diagonal())
    after = before._replace(precision=before.precision + _free(new.curvature, free, 0.0))
    step = _inverse(after) @ new.gradient
    usable = torch.isfinite(step).all() & torch.isfinite(new.curvature).all()
    z = torch.where(usable, double(posterior.z) - step, double(posterior.z))
    precision = torch.where(usable, after.precision, before.precision)
    examples = before.examples + usable * len(targets)
    return posterior._replace(z=z.to(posterior.z), precision=precision, examples=examples)


def leave_one_out(
    posterior: Posterior, outputs: Tensor, columns: Tensor, targets: Tensor, loss: Loss
) -> Tensor:
    """Outputs ``[n, C]`` for each of the examples that z was solved for, from what the others say of z: no
    refitting. Exact for squared error and outputs that are linear in z.

    Args:
        outputs, columns: of the examples at z: ``[n, C]``, ``[k, n, C]``.
        targets: theirs ``[n, C]``.
    """
    moves = held_out_moves(posterior, outputs, columns, targets, loss)
    return outputs + torch.einsum("nk,knc->nc", moves.to(outputs), columns)


def held_out_moves(
    posterior: Posterior, outputs: Tensor, columns: Tensor, targets: Tensor, loss: Loss
) -> Tensor:
    """z₋ᵢ − z ``[n, k]``: where z goes when an example is left out. Arguments as of :func:`leave_one_out`."""
    given, (outputs, columns, targets) = outputs.dtype, map(double, (outputs, columns, targets))
    inverse = _inverse(posterior)
    slope = loss.gradient(outputs, targets)
    if len(columns) < outputs.shape[1]:  # the same by systems of k unknowns: (A − J_iᵀ H_i J_i)⁻¹ J_iᵀ ∇ℓ_i
        pulled = torch.einsum("kj,jnc,nc->nk", inverse, columns, slope)
        system = torch.eye(len(columns), dtype=inverse.dtype, device=inverse.device) - inverse @ _bent(
            loss, outputs, columns
        )
        return torch.linalg.solve_ex(system, pulled[:, :, None]).result[:, :, 0].to(given)
    h, s = _curvatures(loss, outputs), _shared(inverse, columns)
    system = torch.eye(s.shape[-1], dtype=s.dtype, device=s.device) - h @ s
    pulled = torch.linalg.solve_ex(system, slope[:, :, None]).result[:, :, 0]
    return torch.einsum("kj,jnc,nc->nk", inverse, columns, pulled).to(given)


def information(posterior: Posterior, outputs: Tensor, columns: Tensor, loss: Loss) -> Tensor:
    """By how much learning the label of each candidate lowers the entropy of z, in nats ``[m]``; the labels
    are not needed.

    Args:
        outputs, columns: of the candidates at z: ``[m, C]``, ``[k, m, C]``.
    """
    given, outputs, columns = outputs.dtype, double(outputs), double(columns)
    inverse = _inverse(posterior)
    if len(columns) < outputs.shape[1]:  # det(I + S H) = det(I + A⁻¹ Jᵀ H J), of k × k numbers
        gain = inverse @ _bent(loss, outputs, columns)
    else:
        gain = _shared(inverse, columns) @ _curvatures(loss, outputs)
    identity = torch.eye(gain.shape[-1], dtype=gain.dtype, device=gain.device)
    return (0.5 * torch.linalg.slogdet(identity + gain).logabsdet).to(given)


def choose(
    posterior: Posterior,
    outputs: Tensor,
    columns: Tensor,
    loss: Loss,
    number: int,
    start: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Which ``number`` of m candidates to label so that outputs of all of them become most certain, each in
    view of those before it ``[number]``; greedy, with m C k² operations each.

        max_i  tr G (A⁻¹ − (A + h_i J̃_iᵀ H_i J̃_i)⁻¹) ,   tr G A⁻¹ = Σ_p tr H_p cov(o_p) / s
        h_i = 1 / (1 + ρ_i / mean ρ) ,   ρ_i = e_iᵀ H_i e_i ,   e_i = o_i(z) − õ_i − J̃_i (z − z̃)

    Cohn (1996), *Neural Network Exploration Using Optimal Experiment Design*, and Yu, Bi, Tresp (2006),
    *Active Learning via Transductive Experimental Design*; MacKay (1992, data selection) names it the mean
    marginal information. Differences: a label teaches z by the linearisation at the ``start`` z̃, J̃, that z
    is solved for, and not by that at z; what is not linear in between counts as noise of that label. By
    :func:`information`, which goes for what is most informative of z, the edges of a pool are labelled.

    Args:
        outputs, columns: of the candidates at z: ``[m, C]``, ``[k, m, C]``.
        start: the same where z is solved from, õ − J̃ z̃ (z̃ = 0) and J̃; None: those at z.
    """
    outputs, columns = double(outputs), double(columns)
    begun, taught = (outputs, columns) if start is None else map(double, start)
    goal = torch.einsum("knc,jnc->kj", columns, loss.curvature(outputs, columns))
    bent = loss.curvature(outputs, taught)
    if start is not None:
        z = double(posterior.z)
        rest = outputs - begun - torch.einsum("k,knc->nc", z, taught)
        rounding = torch.finfo(posterior.z.dtype).eps * (outputs.abs() + begun.abs())
        rest = torch.where(rest.abs() > 100 * rounding, rest, 0)
        odd = (rest * loss.curvature(outputs, rest[None])[0]).sum(1)
        bent = bent / (1 + odd / odd.mean().clamp(min=torch.finfo(odd.dtype).tiny))[:, None]
    each = torch.einsum("knc,jnc->nkj", taught, bent)
    open_, chosen = torch.ones(len(outputs), dtype=torch.bool, device=outputs.device), []
    for _ in range(number):
        best = int(torch.where(open_, _lowered(posterior, each, goal), -torch.inf).argmax())
        open_[best] = False
        chosen.append(best)
        posterior = posterior._replace(precision=posterior.precision + each[best])
    return torch.tensor(chosen, dtype=torch.int64, device=outputs.device)


def _lowered(posterior: Posterior, each: Tensor, goal: Tensor) -> Tensor:
    """tr G (A⁻¹ − (A + M_i)⁻¹) ``[m]`` for M_i ``each [m, k, k]``: tr (I + A⁻¹ M_i)⁻¹ A⁻¹ G A⁻¹ M_i."""
    inverse = _inverse(posterior)
    system = torch.eye(len(goal), dtype=goal.dtype, device=goal.device) + inverse @ each
    gain = torch.linalg.solve_ex(system, inverse @ goal @ inverse).result
    return torch.einsum("nij,nji->n", gain, each)


def innovation(posterior: Posterior, outputs: Tensor, columns: Tensor, targets: Tensor) -> Tensor:
    """Regression: the squared distance of n further examples from what was expected of them together, in
    units of its standard deviation, scalar; if they are of the same task, χ² of n·C degrees of freedom.

    Args:
        outputs, columns: of the new examples at z: ``[n, C]``, ``[k, n, C]``.
        targets: theirs ``[n, C]``.
    """
    flat, noise, spread = double(columns).flatten(1), double(posterior.noise), double(posterior.spread)
    left, a = (double(targets) - double(outputs)).flatten(), double(posterior.precision)
    c = _covariance(posterior)
    # By the move δ that explains most of it, min_δ ‖r − Jᵀδ‖² / σ² + δᵀAδ / s: of k unknowns, and a sum of
    # what is positive, in which nothing cancels. C may be singular.
    system = noise * torch.eye(len(c), dtype=c.dtype, device=c.device) + c @ (flat @ flat.T)
    move = torch.linalg.solve_ex(system, c @ (flat @ left)).result
    pulled = move @ _free(a, torch.isfinite(a.diagonal())) @ move
    return (left - move @ flat).square().sum() / noise + pulled / spread


def merge(posteriors: Sequence[Posterior]) -> Posterior:
    """What several say of the same z, who started from one prior and saw different examples; exact where
    outputs are linear in z and the loss is squared error."""
    first = posteriors[0]
    prior = double(first.prior)
    free = torch.isfinite(double(first.precision).diagonal())
    own = torch.diag(torch.where(free, prior, 0))
    known = [_free(double(each.precision), free, 0.0) for each in posteriors]
    a = torch.stack(known).sum(0) - (len(known) - 1) * own
    weighted = torch.stack([p @ double(each.z) for p, each in zip(known, posteriors, strict=True)]).sum(0)
    a = a + torch.diag(torch.where(free, 0, torch.inf))
    whole = first._replace(precision=a)
    z = torch.where(free, _inverse(whole) @ weighted, double(first.z))
    examples = torch.stack([each.examples for each in posteriors]).sum()
    return whole._replace(z=z.to(first.z), examples=examples)


def is_positive(precision: Tensor) -> bool:
    """Whether ``precision [k, k]`` is finite, symmetric and positive semi-definite, up to what rounding to
    float32 does, besides directions that are held (infinity on the diagonal)."""
    free = torch.isfinite(precision.diagonal())
    inner = precision[free][:, free]
    diagonal = inner.diagonal()
    if not bool(torch.isfinite(inner).all()) or bool((diagonal < 0).any()):
        return False
    unit = torch.where(diagonal > 0, diagonal, 1).rsqrt()
    scaled = unit[:, None] * inner * unit
    if bool(((scaled - scaled.T).abs() > ROUNDING).any()):
        return False
    lifted = scaled + ROUNDING * torch.eye(len(scaled), dtype=scaled.dtype, device=scaled.device)
    return not int(torch.linalg.cholesky_ex(lifted).info)


def _free(matrix: Tensor, free: Tensor, held: float = 1.0) -> Tensor:
    """``matrix [k, k]`` with the rows and columns of directions that are not ``free [k]`` replaced by those
    of the identity, times ``held``."""
    both = free[:, None] & free[None, :]
    return torch.where(both, matrix, torch.diag(torch.where(free, 0.0, held).to(matrix)))


def _inverse(posterior: Posterior) -> Tensor:
    """A⁻¹ in float64, 0 along directions that are held; large along those of which nothing is known, not even
    by a prior."""
    a, prior = double(posterior.precision), double(posterior.prior)
    free = torch.isfinite(a.diagonal())
    # In units in which the diagonal is 1: directions may differ by many orders of magnitude.
    unit = torch.where(free & (a.diagonal() > 0), a.diagonal(), 1).rsqrt()
    scaled = unit[:, None] * _free(a, free) * unit
    # A few rounding errors of A. Where it is singular for want of a prior, of the derivatives that it is made
    # of, and enough for an inverse with some digits: examples that say nothing of a direction seem to say so
    # much.
    own = torch.finfo(a.dtype).eps
    most = 10 * len(a) * max(torch.finfo(posterior.z.dtype).eps, own**0.5)
    weak = torch.where(prior > 0, torch.zeros_like(prior), most)
    singular = torch.linalg.cholesky_ex(scaled - torch.diag(weak)).info > 0
    scaled = scaled + torch.diag(10 * len(a) * own + singular * weak)
    inverse = unit[:, None] * torch.linalg.inv_ex(scaled).inverse * unit
    return torch.where(free[:, None] & free[None, :], inverse, torch.zeros_like(inverse))


def _covariance(posterior: Posterior) -> Tensor:
    """s A⁻¹ in float64: its numbers are squares, which float32 need not hold."""
    return double(posterior.spread) * _inverse(posterior)


def _shared(inverse: Tensor, columns: Tensor) -> Tensor:
    """S = J A⁻¹ Jᵀ of each example ``[n, C, C]``."""
    return torch.einsum("knc,kj,jnd->ncd", columns, inverse, columns)


def _bent(loss: Loss, outputs: Tensor, columns: Tensor) -> Tensor:
    """Jᵀ H J of each example ``[n, k, k]``."""
    return torch.einsum("knc,jnc->nkj", columns, loss.curvature(outputs, columns))


def _curvatures(loss: Loss, outputs: Tensor) -> Tensor:
    """H of each example ``[n, C, C]``."""
    n, ways = outputs.shape
    units = torch.eye(ways, dtype=outputs.dtype, device=outputs.device)[:, None].expand(ways, n, ways)
    return loss.curvature(outputs, units).movedim(0, 1)
