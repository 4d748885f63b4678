"""One table for every contract: a new implementation is proven by one row.

What a row can do is asked from the object (``exact``, ``supports_regression``, ``role``, ``keeps_backbone``),
never from its name. References are dense (``jacrev``), closed forms, refits, or other people's solvers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adapt import inner, spaces
from adapt.adapter import Forward, Matching, Method
from adapt.backbones import Conv4, Images, ResNet12, ViT
from adapt.baselines import (
    T3A,
    Backprop,
    Boosting,
    CmaEs,
    Finetune,
    FinetuneAll,
    Followed,
    HeadOnly,
    Higher,
    Lame,
    Learn2Learn,
    LinearModel,
    PeftLora,
    Retrain,
    SetFit,
    Tsa,
)
from adapt.forward.estimators import (
    SPSA,
    ActivityPerturbation,
    Block,
    Estimator,
    Exact,
    Gaussian,
    Guess,
    Layered,
    Orthogonal,
    Rademacher,
    Reverse,
)
from adapt.heads import Logistic, Prototype, Ridge
from adapt.inner import (
    Auto,
    Continuation,
    Descent,
    GaussNewton,
    Linearised,
    SemiSupervised,
    Solver,
)
from adapt.spaces import (
    Space,
    Subspace,
    bias,
    combine,
    combined,
    film,
    lora,
    residual,
)
from tests.helpers import SIDE

F64 = torch.float64
#: What "equal" means by dtype: a few hundred rounding errors.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: str(dtype).removeprefix("torch."))


def rows(table: Mapping[str, Any]) -> pytest.MarkDecorator:
    """Parametrise ``row`` over a table."""
    return pytest.mark.parametrize("row", table.values(), ids=table.keys())


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = F64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64).to(dtype)


# ------------------------------------------------------------------------------------------ the tables


def plain_loss(p: int, dtype: torch.dtype) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """A loss of ``p`` parameters, and a point."""
    return lambda z: (torch.tanh(z) * z.cumsum(0)).sum() + z.square().sum(), randn(p, dtype=dtype)


def layered_loss(p: int, dtype: torch.dtype) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """A layer of ``p`` units on one example, and a point: 3p parameters."""
    block = Block(nn.Linear(2, p), torch.tanh, lambda h: (h * h.cumsum(1)).sum(1))
    return Layered(randn(1, 2, seed=8, dtype=dtype), [block]), randn(3 * p, dtype=dtype)


@dataclass(frozen=True)
class EstimatorRow:
    """``variance`` is E‖g − ∇f‖²/‖∇f‖² and ``mean`` is E g/∇f, as its docstring states them, from the number
    of parameters (of units, for the layered loss); ``loss(p, dtype)`` is what it is tried on."""

    estimator: Estimator
    variance: Callable[[int], float]
    mean: Callable[[int], float] = lambda p: 1.0
    loss: Callable[[int, torch.dtype], tuple[Callable[[Tensor], Tensor], Tensor]] = plain_loss


def _random_guesses(z: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(2, z.numel(), generator=generator, dtype=z.dtype)


ESTIMATORS = {
    "exact": EstimatorRow(Exact(), lambda p: 0.0),
    "reverse": EstimatorRow(Reverse(), lambda p: 0.0),
    "gaussian, 1 tangent": EstimatorRow(Gaussian(tangents=1), lambda p: p + 1),
    "gaussian, 4 tangents": EstimatorRow(Gaussian(tangents=4), lambda p: (p + 1) / 4),
    "rademacher, 1 tangent": EstimatorRow(Rademacher(), lambda p: p - 1),
    "rademacher, 4 tangents": EstimatorRow(Rademacher(tangents=4), lambda p: (p - 1) / 4),
    "orthogonal, 1 tangent": EstimatorRow(Orthogonal(1), lambda p: 1 - 1 / p, lambda p: 1 / p),
    "orthogonal, 2 tangents": EstimatorRow(Orthogonal(2), lambda p: 1 - 2 / p, lambda p: 2 / p),
    "two random guesses": EstimatorRow(Guess(_random_guesses), lambda p: 1 - 2 / p, lambda p: 2 / p),
    "spsa, 1 sample": EstimatorRow(SPSA(), lambda p: p + 1),
    "spsa, 4 samples": EstimatorRow(SPSA(samples=4), lambda p: (p + 1) / 4),
    "activity, 1 tangent": EstimatorRow(ActivityPerturbation(), lambda p: p + 1, loss=layered_loss),
    "activity, 4 tangents": EstimatorRow(ActivityPerturbation(4), lambda p: (p + 1) / 4, loss=layered_loss),
}

BACKBONES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "conv4": (lambda: Conv4(width=4), (1, SIDE, SIDE)),
    "conv4, colour": (lambda: Conv4(channels=3, width=2), (3, SIDE, SIDE)),
    "resnet12": (lambda: ResNet12(width=2), (3, SIDE, SIDE)),
    "vit": (lambda: ViT(width=8, depth=2, heads=2), (3, SIDE, SIDE + 8)),
    "images of another size": (
        lambda: Images(Conv4(width=2), size=SIDE, mean=[0.5], std=[0.25], channels=1),
        (3, SIDE + 4, SIDE - 2),
    ),
}


class Adaptable:
    """A space or a subspace of one, as a map from a vector to parameters with a starting point."""

    def __init__(self, parameters: Callable[[Tensor], dict[str, Tensor]], start: Tensor) -> None:
        self.parameters, self.start = parameters, start


def _plain(build: Callable[[nn.Module], Space]) -> Callable[[nn.Module], Adaptable]:
    def adaptable(backbone: nn.Module) -> Adaptable:
        space = build(backbone)
        return Adaptable(space.parameters, space.initial)

    return adaptable


def _subspace(build: Callable[[nn.Module], Space]) -> Callable[[nn.Module], Adaptable]:
    def adaptable(backbone: nn.Module) -> Adaptable:
        space = build(backbone)
        basis = randn(space.size, 3, dtype=space.initial.dtype)
        return Adaptable(Subspace(space, space.initial, basis).parameters, space.initial.new_zeros(3))

    return adaptable


#: Every space there is, with more than its defaults where these would hide something.
SPACES: dict[str, Callable[[nn.Module], Adaptable]] = {
    name: _plain(space) for name, space in spaces.SPACES.items()
}
SPACES |= {
    "lora": _plain(lambda backbone: lora(backbone, rank=2, alpha=3.0)),
    "combine": _plain(lambda backbone: combine(bias(backbone), lora(backbone, rank=1))),
    "combined": _plain(lambda backbone: combined(backbone, [film, residual])),
    "subspace of film": _subspace(film),
    "subspace of lora": _subspace(lora),
}


@dataclass(frozen=True)
class SolverRow:
    """``make(steps)``; steps in which a quadratic or convex problem must be solved to ``accuracy``.

    ``pays_once``: more steps cost no more. ``chooses``: whether to move at all, so that it need not reach the
    optimum; it takes a step at least.
    """

    make: Callable[[int], Solver]
    quadratic: int = 200
    convex: int = 200
    accuracy: float = 1e-3
    pays_once: bool = False
    chooses: bool = False


#: Every solver there is, with its default settings unless there is more to say of it, and some of one class.
SOLVERS = {
    name: SolverRow(lambda steps, kind=kind: kind(steps=steps)) for name, kind in inner.SOLVERS.items()
}
SOLVERS |= {
    "gauss_newton": SolverRow(lambda steps: GaussNewton(steps), quadratic=1, convex=8, accuracy=1e-10),
    "continuation": SolverRow(
        lambda steps: Continuation((0.5, 1.0), (steps // 2, steps - steps // 2)), 1, 8, 1e-10
    ),
    "sgd": SolverRow(lambda steps: Descent("sgd", 0.8, steps), quadratic=40, convex=80, accuracy=1e-6),
    "sgd, forward": SolverRow(lambda steps: Descent("sgd", 0.8, steps, Exact()), 40, 80, 1e-6),
    "momentum": SolverRow(lambda steps: Descent("momentum", 0.4, steps, momentum=0.5), 60, 120, 1e-6),
    "descent": SolverRow(lambda steps: Descent("adam", 0.05, steps)),
    "linearised": SolverRow(Linearised, quadratic=1, convex=8, accuracy=1e-10, pays_once=True),
    "auto": SolverRow(lambda steps: Auto((2, 4, 8), steps=steps), 1, 8, 1e-10, pays_once=True, chooses=True),
}
STEPPING = {name: row for name, row in SOLVERS.items() if not row.chooses}


METHODS: dict[str, Method] = {
    "forward": Forward(),
    "forward, 2 directions, 2 steps": Forward(solver=GaussNewton(steps=2), head=Ridge(), k=2),
    "backprop": Backprop(solver=Descent(steps=2)),
    "backprop, subspace": Backprop(solver=Descent(steps=2), subspace=True),
    "backprop, checkpointed": Backprop(solver=Descent(steps=2), checkpoint=True),
    "backprop, 2 examples at a time": Backprop(solver=Descent(steps=2), rows=2),
    "learn2learn": Learn2Learn(lr=0.1, steps=2),
    "higher, sgd": Higher("sgd", lr=0.1, steps=2),
    "higher, adam": Higher("adam", lr=0.02, steps=2),
    "finetune": Finetune(steps=2),
    "tsa": Tsa(solver=Descent(steps=2)),
    "followed": Followed(match=Matching(), role="forward"),
    "followed, as it is": Followed(adapts=False),
    "followed, tent": Followed(
        solver=Descent(steps=2),
        match=Matching(1.0, 0.0),
        loss=SemiSupervised(diversity=0.0, statistics=0.0),
        checked=False,
        subspace=False,
    ),
    "followed, labels": Followed(match=Matching(), labels=True, role="forward"),
    "followed, eata": Followed(solver=Descent(steps=2), loss=SemiSupervised(0.0, 0.0, 0.4), subspace=False),
    "followed, foa": Followed(solver=CmaEs(generations=2), checked=False),
    "t3a": T3A(),
    "lame": Lame(),
    "peft_lora": PeftLora(rank=2, epochs=2),
    "peft_lora, small batches": PeftLora(rank=1, epochs=2, batch=2, targets="*.0"),
    "retrain": Retrain(epochs=1, batch=8, watch_every=1),
    "finetune_all": FinetuneAll(epochs=1, batch=3, watch_every=1),
    "boosting": Boosting(trees=3, leaf=1),
    "linear": LinearModel(),
    "head_prototype": HeadOnly(Prototype()),
    "head_ridge": HeadOnly(Ridge()),
    "head_logistic": HeadOnly(Logistic()),
}

#: Those that need a backbone that reads texts.
TEXT_METHODS: dict[str, Method] = {"setfit": SetFit(lr=1e-3, batch=4, max_steps=3, watches=2)}
