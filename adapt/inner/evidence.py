"""Choice of how far to adapt by the evidence of the support set: no folds, one pass with all tangents.

    log p(y | k, s) ≈ −(nC/2) log(2πe σ̂²) − ½ log det(s⁻¹ Λ A) ,   σ̂² = (2 ℓ(z*) + s z*ᵀ Λ⁻¹ z*) / (nC)
    A = Σ J_iᵀ J_i + s Λ⁻¹   over the first k directions

MacKay (1992), *Bayesian Interpolation*, equations 4.8 and 5.1 with the noise at its most probable value;
exact for squared error where outputs are linear in z. z* is where the step goes, without damping.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from adapt.inner.linearised import solve_linear
from adapt.inner.losses import Loss
from adapt.inner.posterior import log_evidence, posterior_of
from adapt.inner.solver import Learned, Model

__all__ = ["Weighed", "best_of", "weigh"]

#: By so many nats anything else must be better than what was meta-learned, all directions under its own
#: prior: strong evidence (Kass and Raftery 1995, *Bayes Factors*, section 3.2).
STRONG = 3.0


class Weighed(NamedTuple):
    """``k`` directions under ``strength`` times the learned prior: log evidence, z ``[k]``, JᵀHJ ``[k,
    k]``."""

    k: int
    strength: float
    evidence: Tensor
    z: Tensor
    curvature: Tensor


def weigh(
    model: Model,
    features: Tensor,
    columns: Tensor,
    targets: Tensor,
    loss: Loss,
    learned: Learned,
    directions: Sequence[int],
    strengths: Sequence[float],
    steps: int,
) -> list[Weighed]:
    """Every candidate on features ``F₀ + J z``, the head alone first.

    Args:
        features: ``F₀ [n, D]``.
        columns: J ``[k, n, D]``.
        targets: values ``[n, C]``.
        directions: numbers of leading ones, each at most k.
        steps: on linearised features; one is enough where the readout is linear.
    """
    found = []
    for k, strength in [(0, 1.0), *((k, s) for k in directions for s in strengths)]:
        prior = strength * learned.precision[:k]
        part = Learned(prior, strength * learned.damping, learned.rates[:k])
        z, _, curvature = solve_linear(features, columns[:k], model.readout, targets, loss, part, steps)
        assert curvature is not None
        there = features + torch.tensordot(z, columns[:k], 1)
        value = loss.value(model.readout(there, None), targets)
        pulled = (torch.where(prior.isfinite(), prior, 0) * z.square()).sum()
        noise = ((2 * value + pulled) / targets.numel()).clamp(min=torch.finfo(value.dtype).tiny)
        # A direction without a prior gets one that says as much as one example does (Kass and Wasserman 1995,
        # A Reference Bayesian Test for Nested Hypotheses).
        unit = curvature.diagonal().clamp(min=torch.finfo(z.dtype).tiny) / len(targets)
        known = posterior_of(z, curvature, torch.where(prior > 0, prior, unit.to(prior)), noise, noise)
        found.append(Weighed(k, strength, log_evidence(known, value, targets, loss), z, curvature))
    return found


def best_of(found: Sequence[Weighed]) -> Tensor:
    """Which one: that of all directions under the learned prior, unless another has strong evidence on its
    side. What is not finite is never chosen; without any other it is the head alone."""
    scores = torch.stack([candidate.evidence for candidate in found])
    scores = torch.where(torch.isfinite(scores), scores, -torch.inf)
    most = max(candidate.k for candidate in found)
    usual = [candidate.k == most and candidate.strength == 1 for candidate in found]
    return (scores + STRONG * torch.tensor(usual, dtype=scores.dtype, device=scores.device)).argmax()
