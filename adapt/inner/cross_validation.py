"""Scores of linearised fits on held-out support examples, without refitting: candidates, their scores, and
the rule of choice.

    score_i = ℓ_i( o_i^(−i) + W ∂F_i (z^(−fold of i) − z) )

o^(−i) are the head's leave-one-out outputs at z (Beirami et al. 2017, *On Optimal Generalizability in
Parametric Learning*), z is solved for on all examples, and z^(−fold) by one Gauss–Newton step without the
fold: from 0 where one step is all that z gets, and this is refitting; else from z (Giordano et al. 2019, *A
Swiss Army Infinitesimal Jackknife*). The head W is held fixed on the way from z to z^(−fold). Differences to
refitting: one fit of the head in place of one a fold, which is most of the cost with many classes.

Folds are weights 0 and 1, not copies: every fit is the same program on the same tensors.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import vmap

from adapt.heads.base import is_concrete
from adapt.inner.levenberg_marquardt import Minimum
from adapt.inner.linearised import solve_linear
from adapt.inner.losses import Loss
from adapt.inner.solver import Learned, Model

__all__ = ["Candidate", "Linear", "choose", "enough_examples", "folds_of"]

#: Numbers of an example's outputs, n · C, up to which the heads of all candidates are fitted as one batch:
#: there the number of calls is what they cost. Larger ones end one by one, each when it has converged.
SMALL = 2048


class Candidate(NamedTuple):
    """``k`` directions under ``strength`` times the learned prior by ``solver``: the loss of each example as
    if it had not been seen ``[n]``, and from all examples z ``[k]`` and JᵀHJ ``[k, k]``."""

    k: int
    solver: str
    strength: float
    scores: Tensor
    z: Tensor
    curvature: Tensor


@dataclass(frozen=True)
class Linear:
    """The support set with features ``F₀ [n, D]`` and their derivatives ``columns [j, n, D]`` so far."""

    model: Model
    features: Tensor
    columns: Tensor
    targets: Tensor
    loss: Loss
    learned: Learned

    def fit(
        self, steps: int, strength: Tensor, weights: Tensor | None, start: Tensor | None = None
    ) -> Minimum:
        """z ``[j]`` from examples of weight 1 (None: all), beginning at ``start`` (None: 0)."""
        k, learned = len(self.columns), self.learned
        prior = Learned(strength * learned.precision[:k], strength * learned.damping, learned.rates[:k])
        return solve_linear(
            self.features,
            self.columns,
            self.model.readout,
            self.targets,
            self.loss,
            prior,
            steps,
            weights,
            start,
        )

    def without(self, steps: int, keep: Tensor, strength: Tensor, z: Tensor) -> Tensor:
        """z^(−fold) ``[folds, j]``, of the solution ``z [j]``."""
        start = torch.zeros_like(z) if steps == 1 else z
        return vmap(lambda weights: self.fit(1, strength, weights, start).z)(keep)

    def alone(self) -> Candidate:
        """Of the head at z = 0."""
        none = self.features.new_zeros(0)
        outputs, _ = self.model.held_out(self.features, self.columns[:0])
        return Candidate(0, "", 1.0, self.loss.values(outputs, self.targets), none, none.new_zeros(0, 0))

    def scores(self, keep: Tensor, z: Tensor, without: Tensor) -> Tensor:
        """Loss of each example ``[n]`` as if it had not been seen."""
        there = self.features + torch.tensordot(z, self.columns, 1)
        outputs, slopes = self.model.held_out(there, self.columns)
        moves = (1 - keep).T @ (without - z)  # [n, j]
        return self.loss.values(outputs + torch.einsum("nj,jnc->nc", moves, slopes), self.targets)

    def candidates(
        self, solver: str, steps: int, strengths: tuple[float, ...], keep: Tensor
    ) -> list[Candidate]:
        """One for every strength, along all columns so far; ``keep [folds, n]``."""
        grid = self.features.new_tensor(strengths)
        z, _, curvature = vmap(lambda strength: self.fit(steps, strength, None))(grid)  # [s, j], –, [s, j, j]
        assert curvature is not None
        # Where the derivatives of scores would only cost: a choice has none.
        with torch.no_grad():
            without = vmap(partial(self.without, steps, keep))(grid, z)  # [s, folds, j]
            judge = partial(self.scores, keep)
            if is_concrete(z) and self.targets.numel() > SMALL:
                scores = torch.stack([judge(*each) for each in zip(z, without, strict=True)])
            else:
                scores = vmap(judge)(z, without)  # [s, n]
        k = len(self.columns)
        return [Candidate(k, solver, s, scores[i], z[i], curvature[i]) for i, s in enumerate(strengths)]


def folds_of(targets: Tensor, folds: int, loss: Loss) -> Tensor:
    """Weights ``[folds, n]``: 0 where an example is held out; every class is spread evenly over the folds."""
    if loss.regression:
        rank = torch.arange(len(targets), device=targets.device).to(targets.dtype)
    else:
        rank = (targets.cumsum(0) * targets).sum(-1) - 1  # [n], within the example's own class
    number = torch.arange(folds, device=targets.device)[:, None]
    return (rank.round().long() % folds != number).to(targets.dtype)


def enough_examples(targets: Tensor, loss: Loss) -> bool:
    if loss.regression:
        return len(targets) >= 3
    # Inside vmap counts cannot be looked at: the caller batches tasks of one size.
    return not is_concrete(targets) or int(targets.sum(0).min()) >= 3


def choose(candidates: list[Candidate]) -> Tensor:
    """Index of the least score, unless a cheaper candidate is within one standard error of the difference, or
    within a thousandth of the score, which is rounding.

    A candidate with a score that is not finite is never chosen; without any other it is the first, the head
    alone.
    """
    scores = torch.stack([candidate.scores for candidate in candidates])  # [m, n], cheapest first
    usable = torch.isfinite(scores).all(1)  # [m]
    scores = torch.where(usable[:, None], scores, 0)
    best = torch.where(usable, scores.mean(1), torch.inf).argmin()
    difference = scores - torch.nn.functional.one_hot(best, len(scores)).to(scores.dtype) @ scores
    error = difference.std(1) / scores.shape[1] ** 0.5
    least = torch.nn.functional.one_hot(best, len(scores)).to(scores.dtype) @ scores.mean(1)
    return (usable & (difference.mean(1) <= error + 1e-3 * least.abs())).byte().argmax()
