"""Cross-validated choice, on the support set alone, of how far to adapt: not at all, or along how many
directions, with how strong a prior, and by which solver.

    score(k, s) = Σ_folds Σ_{i in fold} ℓ_i(head fitted without the fold on F₀ + J z_k,s^(−fold))
    z_k,s       = argmin over the first k directions with precision s·Λ⁻¹ on linearised features

Stone (1974), *Cross-validatory Choice and Assessment of Statistical Predictions*; the rule of one standard
error of Breiman et al. (1984), *Classification and Regression Trees*, section 3.4.3: what costs more must win
by more than the standard error of the paired difference. Features and tangents are computed once; everything
after that is small dense algebra. Tangents come in stages (the first few directions, then more), and the next
stage is paid for only if there is something left to gain and the last one helped. If the first few do not
help, all of them are tried at once before giving up: not every basis has its best directions first.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import vmap

from adapt.errors import AdaptError
from adapt.forward import ENGINES, Engine, pushforward
from adapt.inner.linearised import solve_linear
from adapt.inner.losses import Loss
from adapt.inner.solver import Learned, Model, Trace, as_model, is_concrete

__all__ = ["Auto"]

SOLVERS = ("gauss_newton", "linearised")  # the cheaper first


class _Candidate(NamedTuple):
    """``k`` directions under ``strength`` times the learned prior by ``solver``: the loss of each example,
    predicted without its fold ``[n]``, and z ``[k]`` from all examples."""

    k: int
    solver: str
    strength: float
    scores: Tensor
    z: Tensor


@dataclass(frozen=True)
class _Linear:
    """The support set with features ``F₀ [n, D]`` and their derivatives ``columns [j, n, D]`` so far."""

    model: Model
    features: Tensor
    columns: Tensor
    targets: Tensor
    loss: Loss
    learned: Learned

    def fit(self, steps: int, strength: Tensor, weights: Tensor) -> Tensor:
        """z ``[j]`` from examples of weight 1."""
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
        )[0]

    def held_out(self, z: Tensor, weights: Tensor) -> Tensor:
        """Loss ``[n]`` of the examples of weight 0, predicted by the head fitted on the others at z."""
        there = self.features + torch.tensordot(z, self.columns, 1)
        return self.loss.values(self.model.predict(there, weights), self.targets) * (1 - weights)

    def candidates(
        self, solver: str, steps: int, strengths: tuple[float, ...], keep: Tensor
    ) -> list[_Candidate]:
        """One for every strength, along all columns so far; ``keep [folds, n]``. All fits are one batch: they
        are so small that the number of calls is what they cost."""
        grid = self.features.new_tensor(strengths)
        weights = torch.cat([keep, torch.ones_like(keep[:1])])  # the last one: all examples
        z = vmap(vmap(partial(self.fit, steps), (None, 0)), (0, None))(grid, weights)  # [s, folds + 1, k]
        scores = vmap(vmap(self.held_out), (0, None))(z[:, :-1], keep).sum(1)  # [s, n]
        k = len(self.columns)
        return [_Candidate(k, solver, s, scores[i], z[i, -1]) for i, s in enumerate(strengths)]


@dataclass(frozen=True)
class Auto:
    """Head only, or along the first k directions one Gauss–Newton step or linearised to convergence: whatever
    predicts held-out support examples best.

    With fewer than three examples of some class nothing can be held out and still be fitted: z stays at 0.

    Args:
        directions: how many leading directions to try, increasing; those beyond the adapter's are left out.
        strengths: multiples of the learned precision and damping to try for each.
        solvers: to try for each: ``gauss_newton`` (one step) and ``linearised`` (``steps`` steps on
            linearised features). Both start from the same tangents, so the second costs no pass.
        folds: of the cross-validation.
        steps: of ``linearised``.
        enough: a mean held-out loss (per example) of the head alone below which no tangent is computed.
        engine: of the pushforward: ``fast``, ``reference`` or ``compiled``.

    Example:
        >>> import torch
        >>> from adapt.inner import SquaredError, plain
        >>> x = torch.linspace(-1, 1, 12)[:, None]
        >>> model, learned = lambda z: x * z[:1] + x**2 * z[1:], plain(torch.ones(2) / 9)
        >>> z, trace = Auto()(model, 2 * x, SquaredError(), learned)
        >>> trace.choice.split(":")[0], round(z[0].item())
        ('adapted along 2 directions, one Gauss-Newton step', 2)
    """

    directions: tuple[int, ...] = (2, 4, 8, 16)
    strengths: tuple[float, ...] = (1.0, 4.0)
    solvers: tuple[str, ...] = SOLVERS
    folds: int = 5
    steps: int = 4
    enough: float = 0.01
    engine: Engine = "fast"

    def __post_init__(self) -> None:
        object.__setattr__(self, "directions", tuple(self.directions))  # configs and JSON bring lists
        object.__setattr__(self, "strengths", tuple(self.strengths))
        object.__setattr__(self, "solvers", tuple(self.solvers))
        increasing = all(a < b for a, b in zip((0, *self.directions), self.directions, strict=False))
        if not self.directions or not increasing:
            raise AdaptError(
                f"inner.directions={self.directions}: positive, increasing numbers, one at least"
            )
        if not self.strengths or not all(strength > 0 for strength in self.strengths):
            raise AdaptError(f"inner.strengths={self.strengths}: positive numbers, one at least")
        if not self.solvers or set(self.solvers) - set(SOLVERS):
            raise AdaptError(f"inner.solvers={self.solvers}: of {', '.join(SOLVERS)}, one at least")
        if self.folds < 2 or self.steps < 1:
            raise AdaptError(
                f"inner.folds={self.folds}, inner.steps={self.steps}: at least 2 folds and 1 step"
            )
        if self.engine not in ENGINES:
            raise AdaptError(f"inner.engine={self.engine}: choose {', '.join(ENGINES)}")

    def __call__(
        self, model: Model | Callable[[Tensor], Tensor], targets: Tensor, loss: Loss, learned: Learned
    ) -> tuple[Tensor, Trace]:
        """See :class:`adapt.inner.Solver`; cost 1 pass for the head alone, and 1 + (new directions) for every
        stage."""
        function, total = as_model(model), learned.precision.numel()
        zero = torch.zeros_like(learned.precision)
        features = function.features(zero)  # [n, D]
        start = loss.values(function.readout(features, None), targets).sum()[None]
        if not total or not _enough_examples(targets, loss):
            return zero, Trace(start, 1.0, "not adapted: too few examples to hold any out")

        keep = _folds(targets, self.folds, loss)  # [folds, n]
        none = features.new_zeros(0, *features.shape)
        linear = _Linear(function, features, none, targets, loss, learned)
        candidates, cost = linear.candidates("", 1, (1.0,), keep), 1.0
        concrete = is_concrete(candidates[0].scores)
        # Whether to go on, and whether nothing has helped so far. Inside vmap every stage is computed; it
        # does not count for tasks that would not have come to it.
        going, *stages = ~(candidates[0].scores.mean() < self.enough), *self._stages(total)
        failed = torch.zeros_like(going)
        for k in stages:
            counts = going & (~failed if k < stages[-1] else torch.ones_like(going))
            if concrete and not counts:
                continue
            known = len(linear.columns)
            tangents = torch.eye(total, dtype=zero.dtype, device=zero.device)[known:k]
            _, more = pushforward(function.features, zero, tangents, engine=self.engine)
            linear = replace(linear, columns=torch.cat([linear.columns, more]))
            cost += 1.0 + len(tangents)
            before = len(candidates)
            for solver in self.solvers:
                steps = self.steps if solver == "linearised" else 1
                for new in linear.candidates(solver, steps, self.strengths, keep):
                    candidates.append(new._replace(scores=torch.where(counts, new.scores, torch.inf)))
            chosen = _choose(candidates)
            failed = failed | (counts & (chosen == 0))
            left = torch.stack([candidate.scores.mean() for candidate in candidates])[chosen]
            going = going & ((chosen >= before) | (chosen == 0)) & ~(left < self.enough)
        return _finish(candidates, zero, Trace(start, cost))

    def _stages(self, total: int) -> Iterator[int]:
        """Numbers of directions to try, the last one at most ``total``."""
        yield from (k for k in self.directions if k < total)
        if total <= self.directions[-1]:
            yield total


def _finish(candidates: list[_Candidate], zero: Tensor, trace: Trace) -> tuple[Tensor, Trace]:
    """z ``[k]`` of the chosen candidate."""
    chosen = _choose(candidates)
    if is_concrete(chosen):
        winner = candidates[int(chosen)]
        return torch.cat([winner.z, zero[winner.k :]]), trace._replace(choice=_explain(candidates, winner))
    solutions = torch.stack([torch.cat([candidate.z, zero[candidate.k :]]) for candidate in candidates])
    return torch.nn.functional.one_hot(chosen, len(candidates)).to(zero.dtype) @ solutions, trace


def _folds(targets: Tensor, folds: int, loss: Loss) -> Tensor:
    """Weights ``[folds, n]``: 0 where an example is held out; every class is spread evenly over the folds."""
    if loss.regression:
        rank = torch.arange(len(targets), device=targets.device).to(targets.dtype)
    else:
        rank = (targets.cumsum(0) * targets).sum(-1) - 1  # [n], within the example's own class
    number = torch.arange(folds, device=targets.device)[:, None]
    return (rank.round().long() % folds != number).to(targets.dtype)


def _enough_examples(targets: Tensor, loss: Loss) -> bool:
    if loss.regression:
        return len(targets) >= 3
    # Inside vmap counts cannot be looked at: the caller batches tasks of one size.
    return not is_concrete(targets) or int(targets.sum(0).min()) >= 3


def _choose(candidates: list[_Candidate]) -> Tensor:
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


def _mean(candidate: _Candidate) -> float:
    return candidate.scores.detach().mean().item()


def _explain(candidates: list[_Candidate], winner: _Candidate) -> str:
    head, own = _mean(candidates[0]), _mean(winner)
    if winner.k:
        prior = "" if winner.strength == 1 else f" under {winner.strength:g} times the learned prior"
        how = "one Gauss-Newton step" if winner.solver == "gauss_newton" else winner.solver
        return (
            f"adapted along {winner.k} directions{prior}, {how}: held-out loss {own:.3g} against {head:.3g} "
            "of the head alone"
        )
    tried = max(candidate.k for candidate in candidates)
    if not tried:
        return f"not adapted: the head alone has a held-out loss of {head:.3g}, there is nothing to gain"
    rival = min((candidate for candidate in candidates if candidate.k), key=_mean)
    return (
        f"not adapted: along {rival.k} directions the held-out loss is {_mean(rival):.3g} "
        f"against {head:.3g} of the head alone, not better by more than its standard error"
    )
