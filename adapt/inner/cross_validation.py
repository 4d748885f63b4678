"""Cross-validation of linearised fits on a support set: candidates, their scores, and the rule of choice.

    score = Σ_folds Σ_{i in fold} ℓ_i(head fitted without the fold on F₀ + J z^(−fold))

Folds are weights 0 and 1, not copies: every fit is the same program on the same tensors, and all of them are
one batch.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import vmap

from adapt.heads.base import is_concrete
from adapt.inner.linearised import solve_linear
from adapt.inner.losses import Loss
from adapt.inner.solver import Learned, Model

__all__ = ["Candidate", "Linear", "choose", "enough_examples", "folds_of"]


class Candidate(NamedTuple):
    """``k`` directions under ``strength`` times the learned prior by ``solver``: the loss of each example,
    predicted without its fold ``[n]``, and from all examples z ``[k]`` and JᵀHJ ``[k, k]``."""

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

    def fit(self, steps: int, strength: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """z ``[j]`` and JᵀHJ ``[j, j]`` from examples of weight 1."""
        k, learned = len(self.columns), self.learned
        prior = Learned(strength * learned.precision[:k], strength * learned.damping, learned.rates[:k])
        z, _, curvature = solve_linear(
            self.features,
            self.columns,
            self.model.readout,
            self.targets,
            self.loss,
            prior,
            steps,
            weights,
        )
        assert curvature is not None
        return z, curvature

    def held_out(self, z: Tensor, weights: Tensor) -> Tensor:
        """Loss ``[n]`` of the examples of weight 0, predicted by the head fitted on the others at z."""
        there = self.features + torch.tensordot(z, self.columns, 1)
        return self.loss.values(self.model.predict(there, weights), self.targets) * (1 - weights)

    def candidates(
        self, solver: str, steps: int, strengths: tuple[float, ...], keep: Tensor
    ) -> list[Candidate]:
        """One for every strength, along all columns so far; ``keep [folds, n]``. All fits are one batch: they
        are so small that the number of calls is what they cost."""
        grid = self.features.new_tensor(strengths)
        weights = torch.cat([keep, torch.ones_like(keep[:1])])  # the last one: all examples
        fit = vmap(vmap(partial(self.fit, steps), (None, 0)), (0, None))
        z, curvature = fit(grid, weights)  # [s, folds + 1, k], [s, folds + 1, k, k]
        scores = vmap(vmap(self.held_out), (0, None))(z[:, :-1], keep).sum(1)  # [s, n]
        k = len(self.columns)
        return [
            Candidate(k, solver, s, scores[i], z[i, -1], curvature[i, -1]) for i, s in enumerate(strengths)
        ]


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
