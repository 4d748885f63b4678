"""Cross-validated choice, on the support set alone, of how far to adapt: not at all, or along how many
directions, with how strong a prior, and by which solver.

    score(k, s) = Σ_i ℓ_i(head and z_k,s without example i)      in closed form: :mod:`cross_validation`
    z_k,s       = argmin over the first k directions with precision s·Λ⁻¹ on linearised features

Stone (1974), *Cross-validatory Choice and Assessment of Statistical Predictions*; the rule of one standard
error of Breiman et al. (1984), *Classification and Regression Trees*, section 3.4.3: what costs more must win
by more than the standard error of the paired difference. Features and tangents are computed once; everything
after that is small dense algebra, and nothing is fitted anew without an example. Tangents come in stages (the
first few directions, then more), and the next stage is paid for only if there is something left to gain and
the last one helped. If the first few do not help, all of them are tried at once before giving up: not every
basis has its best directions first. All solvers are tried along the number of directions that the first one
chooses, and before giving up.

Values that the network itself predicts, without a head, need no folds: :mod:`adapt.inner.evidence` weighs the
same candidates by how probable they make the whole support set, in one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adapt.checks import STEPS, WIDTH, between, check_settings, least, list_of, positive
from adapt.errors import AdaptError
from adapt.forward import ENGINES, Engine, directions, pushforward
from adapt.heads.base import is_concrete
from adapt.inner.cross_validation import Candidate, Linear, choose, enough_examples, folds_of
from adapt.inner.descent import Descent
from adapt.inner.evidence import Weighed, best_of, weigh
from adapt.inner.losses import Loss
from adapt.inner.solver import Learned, Model, Trace, as_model, outside

__all__ = ["Auto"]

SOLVERS = ("gauss_newton", "linearised")  # the cheaper first


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
        folds: that z is solved for without.
        steps: of ``linearised``.
        enough: a mean held-out loss (per example) of the head alone below which no tangent is computed.
        engine: of the pushforward: ``fast``, ``reference`` or ``compiled``.
        backprop_steps: of Adam by backpropagation through all of φ, which ``FewShotAdapter.fit`` tries
            besides, for the price of one to three more fits of each (:mod:`adapt.adapter.rival`); 0: never.
        backprop_lr: its rate.

    Example:
        >>> import torch
        >>> from adapt.inner import SquaredError, plain
        >>> x = torch.linspace(-1, 1, 12)[:, None]
        >>> model, learned = lambda z: x * z[:1] + x**2 * z[1:], plain(torch.ones(2) / 9)
        >>> z, trace = Auto()(model, 2 * x, SquaredError(), learned)
        >>> trace.choice.split(":")[0], round(z[0].item())
        ('adapted along 2 directions', 2)
    """

    directions: tuple[int, ...] = (2, 4, 8, 16)
    strengths: tuple[float, ...] = (1.0, 4.0)
    solvers: tuple[str, ...] = SOLVERS
    folds: int = 5
    steps: int = 4
    enough: float = 0.01
    engine: Engine = "fast"
    backprop_steps: int = 0
    backprop_lr: float = 0.003

    def __post_init__(self) -> None:
        numbers = "positive numbers, one at least"
        check_settings(  # configs and JSON bring lists: they become tuples
            self,
            "inner",
            directions=list_of(least(1, "positive, increasing numbers, one at least", ceiling=WIDTH)),
            strengths=list_of(positive(numbers)),
            folds=least(2, "at least 2 folds and 1 step", ceiling=WIDTH),
            steps=least(1, "at least 2 folds and 1 step", ceiling=STEPS),
            enough=between(0, None),
            backprop_steps=least(0, "0 or more steps", ceiling=STEPS),
            backprop_lr=positive("a learning rate must be positive"),
        )
        object.__setattr__(self, "solvers", tuple(self.solvers))
        increasing = all(a < b for a, b in zip((0, *self.directions), self.directions, strict=False))
        if not self.directions or not increasing:
            raise AdaptError(
                f"inner.directions={self.directions}: positive, increasing numbers, one at least"
            )
        if not self.strengths:
            raise AdaptError(f"inner.strengths={self.strengths}: {numbers}")
        if not self.solvers or set(self.solvers) - set(SOLVERS):
            raise AdaptError(f"inner.solvers={self.solvers}: of {', '.join(SOLVERS)}, one at least")
        if self.engine not in ENGINES:
            raise AdaptError(f"inner.engine={self.engine}: choose {', '.join(ENGINES)}")

    @property
    def rival(self) -> Descent | None:
        """What moves all of φ where held-out examples speak for it; None: nothing is tried."""
        return Descent("adam", self.backprop_lr, self.backprop_steps) if self.backprop_steps else None

    @property
    def alone(self) -> Auto:
        """The same without a rival."""
        return replace(self, backprop_steps=0)

    @outside
    def __call__(
        self, model: Model | Callable[[Tensor], Tensor], targets: Tensor, loss: Loss, learned: Learned
    ) -> tuple[Tensor, Trace]:
        """See :class:`adapt.inner.Solver`; cost 1 pass for the head alone, and 1 + (new directions) for every
        stage."""
        function, total = as_model(model), learned.precision.numel()
        zero = torch.zeros_like(learned.precision)
        if total and loss.regression and function.direct:
            return self._by_evidence(function, targets, loss, learned)
        features = function.features(zero)  # [n, D]
        start = loss.values(function.readout(features, None), targets).sum()[None]
        if not total or not enough_examples(targets, loss):
            return zero, Trace(start, 1.0, "not adapted: too few examples to hold any out")
        usable = torch.isfinite(features).all() & features.any()  # else no head can be fitted
        if is_concrete(usable) and not usable and not function.direct:
            return zero, Trace(start, 1.0, "not adapted: features that are no numbers, or all zero")

        keep = folds_of(targets, self.folds, loss)  # [folds, n]
        none = features.new_zeros(0, *features.shape)
        linear = Linear(function, features, none, targets, loss, learned)
        candidates, cost = [linear.alone()], 1.0
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
            tangents = directions(zero, known, k)
            _, more = pushforward(function.features, zero, tangents, engine=self.engine)
            linear = replace(linear, columns=torch.cat([linear.columns, more]))
            cost += 1.0 + len(tangents)
            before = len(candidates)
            solvers = self.solvers if k == stages[-1] else self.solvers[:1]
            candidates += self._candidates(linear, solvers, keep, counts)
            chosen = choose(candidates)
            failed = failed | (counts & (chosen == 0))
            left = torch.stack([candidate.scores.mean() for candidate in candidates])[chosen]
            going = going & ((chosen >= before) | (chosen == 0)) & ~(left < self.enough)
        # The dearer solvers, along the directions that the first one chose.
        chosen_k = torch.tensor([it.k for it in candidates], device=zero.device)[choose(candidates)]
        for k in stages[:-1]:
            counts = chosen_k == k
            if not concrete or counts:
                part = replace(linear, columns=linear.columns[:k])
                candidates += self._candidates(part, self.solvers[1:], keep, counts)
        candidates.sort(key=lambda it: it.k)
        return _finish(candidates, zero, Trace(start, cost), learned)

    def _candidates(
        self, linear: Linear, solvers: tuple[str, ...], keep: Tensor, counts: Tensor
    ) -> list[Candidate]:
        """Along all columns so far; with scores of ∞ where they do not count."""
        found = []
        for solver in solvers:
            steps = self.steps if solver == "linearised" else 1
            for new in linear.candidates(solver, steps, self.strengths, keep):
                found.append(new._replace(scores=torch.where(counts, new.scores, torch.inf)))
        return found

    def _by_evidence(
        self, function: Model, targets: Tensor, loss: Loss, learned: Learned
    ) -> tuple[Tensor, Trace]:
        """Of values without a head: nothing is held out, and all tangents travel in one pass."""
        zero, stages = torch.zeros_like(learned.precision), [*self._stages(len(learned.precision))]
        tangents = directions(zero, 0, stages[-1])
        features, columns = pushforward(function.features, zero, tangents, engine=self.engine)
        steps = self.steps if "linearised" in self.solvers else 1
        found = weigh(function, features, columns, targets, loss, learned, stages, self.strengths, steps)
        best = best_of(found)
        start = loss.value(function.readout(features, None), targets)[None]
        trace = Trace(start, 1.0 + len(tangents))
        if not is_concrete(best):
            solutions = torch.stack([torch.cat([it.z, zero[it.k :]]) for it in found])
            return torch.nn.functional.one_hot(best, len(found)).to(zero.dtype) @ solutions, trace
        winner = found[int(best)]
        curvature, prior = held(winner.curvature, winner.strength * learned.precision[: winner.k], len(zero))
        said = trace._replace(choice=_weighed(found, winner), curvature=curvature, prior=prior)
        return torch.cat([winner.z, zero[winner.k :]]), said

    def _stages(self, total: int) -> Iterator[int]:
        """Numbers of directions to try, the last one at most ``total``."""
        yield from (k for k in self.directions if k < total)
        if total <= self.directions[-1]:
            yield total


def _finish(
    candidates: list[Candidate], zero: Tensor, trace: Trace, learned: Learned
) -> tuple[Tensor, Trace]:
    """z ``[k]`` of the chosen candidate."""
    chosen = choose(candidates)
    if is_concrete(chosen):
        winner = candidates[int(chosen)]
        curvature, prior = held(winner.curvature, winner.strength * learned.precision[: winner.k], len(zero))
        choice = _explain(candidates, winner)
        return torch.cat([winner.z, zero[winner.k :]]), trace._replace(
            choice=choice, curvature=curvature, prior=prior
        )
    solutions = torch.stack([torch.cat([candidate.z, zero[candidate.k :]]) for candidate in candidates])
    return torch.nn.functional.one_hot(chosen, len(candidates)).to(zero.dtype) @ solutions, trace


def held(curvature: Tensor, prior: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """JᵀHJ ``[k, k]`` and Λ⁻¹ ``[k]`` of leading directions as those of ``total``, the others held at 0."""
    rest = total - len(prior)
    padded = torch.nn.functional.pad(curvature, (0, rest, 0, rest))
    return padded, torch.cat([prior, prior.new_full((rest,), torch.inf)])


def _weighed(found: list[Weighed], winner: Weighed) -> str:
    """The choice by evidence, in words."""
    head = found[0]
    if not winner.k:
        rival = max(found[1:], key=_evidence)
        return (
            f"not adapted: the log evidence of {_directions(rival.k)} is {_evidence(rival):.3g}, and "
            f"{_evidence(head):.3g} of the head alone"
        )
    prior = "" if winner.strength == 1 else f" under {winner.strength:g} times the learned prior"
    others = [it for it in found if it is not winner]
    rival = max(others, key=_evidence)
    return (
        f"adapted along {_directions(winner.k)}{prior}: log evidence {_evidence(winner):.3g} against "
        f"{_evidence(head):.3g} of the head alone, {_evidence(rival):.3g} of the next best "
        f"({_directions(rival.k)})"
    )


def _directions(k: int) -> str:
    return f"{k} direction{'s' * (k != 1)}"


def _evidence(candidate: Weighed) -> float:
    return float(candidate.evidence.detach())


def _explain(candidates: list[Candidate], winner: Candidate) -> str:
    head, own = _mean(candidates[0]), _mean(winner)
    if winner.k:
        prior = "" if winner.strength == 1 else f" under {winner.strength:g} times the learned prior"
        how = "one Gauss-Newton step" if winner.solver == "gauss_newton" else winner.solver
        return (
            f"adapted along {_directions(winner.k)}{prior}, {how}: held-out loss {own:.3g} against "
            f"{head:.3g} of the head alone"
        )
    tried = max(candidate.k for candidate in candidates)
    if not tried:
        return f"not adapted: the head alone has a held-out loss of {head:.3g}, there is nothing to gain"
    rival = min((candidate for candidate in candidates if candidate.k), key=_mean)
    return (
        f"not adapted: along {_directions(rival.k)} the held-out loss is {_mean(rival):.3g} "
        f"against {head:.3g} of the head alone, not better by more than its standard error"
    )


def _mean(candidate: Candidate) -> float:
    return candidate.scores.detach().mean().item()
