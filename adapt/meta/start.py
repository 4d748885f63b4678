"""Where meta-training starts: φ₀ and a first basis.

    gradients      G = [∇ℓ_1(φ₀) … ∇ℓ_T(φ₀)]ᵀ = A Σ Vᵀ ,       U = r · rms(φ₀) · V_k Σ_k / σ_1
    displacements  D = [φ_1* − φ₀ … φ_T* − φ₀]ᵀ , d̄ their mean,
                   D − 1 d̄ᵀ = A Σ Vᵀ ,   φ₀ ← φ₀ + d̄ ,        U = r · V_k Σ_k / √T
    auto_decoder   φ₀, U and z_1 … z_T that explain the tasks together, see adapt/meta/auto_decoder.py
    subspaces      M of them: that of each of M groups of tasks, which k-means finds in their summaries
    starts         the same as displacements, of starts that were learned before, see adapt/meta/soup.py
    random         UᵀU = r² I
    identity       U = r · I , as a vector; no prior

Gradients: Gur-Ari, Roberts, Dyer (2018), *Gradient Descent Happens in a Tiny Subspace*; tasks differ more
along the first directions, and |z| ~ 1 is a sizeable but not destructive move. Displacements are those of
tasks that descend in all of φ: as principal components with their standard deviations (Tipping and Bishop
1999, *Probabilistic Principal Component Analysis*, equation 7 without noise) they make z ~ N(0, I) the prior.
Random: Li et al. (2018), *Measuring the Intrinsic Dimension of Objective Landscapes*. Identity: MAML (Finn,
Abbeel, Levine 2017). ℓ is the support loss, r the radius.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from math import log, prod

import torch
from torch import Tensor, nn

from adapt.adapter.mixture import mixture_of, summary
from adapt.adapter.problem import Problem, features_of, solve
from adapt.adapter.state import AdapterState, identity_state, initial_state
from adapt.backbones import examples_for
from adapt.errors import AdaptError
from adapt.inner import Descent, Learned, Loss, Model, Solver, Trace
from adapt.meta.auto_decoder import auto_decoder_basis
from adapt.meta.groups import discriminant, groups_of
from adapt.meta.query import targets_of
from adapt.meta.settings import MetaTraining
from adapt.meta.soup import around_their_mean, leading, origins_of, soup
from adapt.spaces import Space
from tasks import Episode

__all__ = [
    "displacement_basis",
    "initial_basis",
    "masked",
    "mixture_basis",
    "movable",
    "task_gradient_basis",
    "trainable",
]

#: What a learned logarithm of −∞ (no damping, no prior) starts from instead: from there it has a slope.
SMALL = log(1e-2)
CLASSIFICATION = Problem()


def initial_basis(
    backbone: nn.Module,
    space: Space,
    problem: Problem,
    episodes: Iterable[Episode],
    settings: MetaTraining,
    *,
    seed: int = 0,
) -> AdapterState:
    """The state that ``settings`` ask for; ``episodes`` are not looked at for ``random``, ``identity`` and
    ``starts``."""
    if settings.subspaces > 1:
        return mixture_basis(backbone, space, problem, [*episodes], settings, seed=seed)
    mask = movable(space, settings.moves)
    if settings.basis == "identity":
        return identity_state(space)._replace(basis=settings.radius * mask)
    if settings.basis == "random":
        k = min(settings.k, int(mask.sum()))
        drawn = torch.randn(space.size, k, generator=torch.Generator().manual_seed(seed))
        orthonormal = torch.linalg.qr(masked(drawn.to(mask), mask))[0]
        return initial_state(space.initial.clone(), masked(settings.radius * orthonormal, mask))
    k, radius = settings.k, settings.radius
    if settings.basis == "starts":
        state = soup(space, origins_of(settings.starts, backbone, space), k, radius=radius)
        return state._replace(basis=masked(state.basis, mask))
    if settings.basis == "auto_decoder":
        return auto_decoder_basis(
            backbone,
            space,
            episodes,
            k,
            settings.basis_steps,
            radius=radius,
            scale=float(_scale(space)),
            horizon=settings.horizon,
            mask=mask,
            seed=seed,
        )
    if settings.basis == "gradients":
        return task_gradient_basis(backbone, space, episodes, k, problem=problem, radius=radius, mask=mask)
    solver = Descent(steps=settings.basis_steps, lr=settings.basis_lr)
    return displacement_basis(backbone, space, episodes, k, solver, problem=problem, radius=radius, mask=mask)


def mixture_basis(
    backbone: nn.Module,
    space: Space,
    problem: Problem,
    episodes: Sequence[Episode],
    settings: MetaTraining,
    *,
    seed: int = 0,
) -> AdapterState:
    """A first basis of each group of ``episodes``, and what tells the groups apart.

    Raises:
        AdaptError: fewer tasks than subspaces, all alike, or a group of fewer than there are directions.
    """
    plain, summaries = initial_state(space.initial, space.initial.new_zeros(space.size, 1)), []
    with torch.no_grad():
        for episode in episodes:
            x, y = examples_for(backbone, episode.support_x), targets_of(episode, space.initial, problem.loss)
            summaries.append(summary(backbone, space, plain, x, y, problem.loss))
    found = torch.stack(summaries)  # [T, F]
    groups = groups_of(found, settings.subspaces, seed)
    alone = replace(settings, subspaces=1, learn=tuple(name for name in settings.learn if name != "router"))
    states = [
        initial_basis(
            backbone,
            space,
            problem,
            [episode for episode, group in zip(episodes, groups.tolist(), strict=True) if group == number],
            alone,
            seed=seed + number,
        )
        for number in range(settings.subspaces)
    ]
    if len({state.k for state in states}) > 1:
        few = min(state.k for state in states)
        raise AdaptError(
            f"meta.subspaces={settings.subspaces}: a group of tasks gives {few} directions, not "
            f"{settings.k}: set more meta.basis_tasks, a smaller meta.k, or fewer subspaces"
        )
    return mixture_of(states, discriminant(found, groups))


def task_gradient_basis(
    backbone: nn.Module,
    space: Space,
    episodes: Iterable[Episode],
    k: int,
    *,
    problem: Problem = CLASSIFICATION,
    radius: float = 1.0,
    mask: Tensor | None = None,
) -> AdapterState:
    """φ₀ = the backbone's own values, U from the gradients of ``episodes``."""
    gradients = _rows(backbone, space, episodes, _gradient, problem, mask)
    values, directions = leading(gradients, k)  # [k], [P, k]
    length = radius * _scale(space)
    return initial_state(
        space.initial.clone(),
        directions * (values / values[0].clamp(min=torch.finfo(values.dtype).tiny)) * length,
    )


def _scale(space: Space) -> Tensor:
    """rms(φ₀), the size of a sizeable move; where φ₀ is zero (residual adapters), that of the weights that φ
    changes."""
    values = space.initial
    if not bool(values.any()):
        values = torch.cat([value.reshape(-1) for value in space.parameters(values).values()])
    return values.square().mean().sqrt()


def displacement_basis(
    backbone: nn.Module,
    space: Space,
    episodes: Iterable[Episode],
    k: int,
    solver: Solver,
    *,
    problem: Problem = CLASSIFICATION,
    radius: float = 1.0,
    mask: Tensor | None = None,
) -> AdapterState:
    """φ₀ in the middle of where ``solver`` takes the tasks, U the directions in which they then differ."""
    moves = _rows(backbone, space, episodes, solver, problem, mask)
    return around_their_mean(space.initial, moves, k, radius)


def movable(space: Space, pattern: str) -> Tensor:
    """1 for numbers of parameters whose name matches ``pattern``, else 0: ``[P]``.

    Raises:
        AdaptError: no name matches.
    """
    names = [name for name in space.shapes if fnmatchcase(name, pattern)]
    if not names:
        raise AdaptError(f"meta.moves={pattern} matches none of {', '.join(space.shapes)}")
    parts = [
        space.initial.new_full((prod(shape),), float(name in names)) for name, shape in space.shapes.items()
    ]
    return torch.cat(parts)


def masked(basis: Tensor, mask: Tensor) -> Tensor:
    """``basis [P, k]`` or ``[P]`` with the rows zero where ``mask [P]`` is."""
    return basis * (mask if basis.ndim == 1 else mask[:, None])


def trainable(state: AdapterState, learn: tuple[str, ...]) -> AdapterState:
    """``state`` with a finite start for every learned logarithm; at −∞ it has no slope."""
    logarithms = {name: getattr(state, name) for name in learn if name.startswith("log_")}
    return state._replace(
        **{name: torch.where(torch.isneginf(value), SMALL, value) for name, value in logarithms.items()}
    )


def _rows(
    backbone: nn.Module,
    space: Space,
    episodes: Iterable[Episode],
    solver: Solver,
    problem: Problem,
    mask: Tensor | None,
) -> Tensor:
    """What ``solver`` finds in all of φ (where ``mask`` is 1) for each task: ``[T, P]``."""
    everything = identity_state(space)
    everything = everything if mask is None else everything._replace(basis=mask)
    rows = []
    with torch.no_grad():
        for episode in episodes:
            x = examples_for(backbone, episode.support_x)
            features = features_of(backbone, space, everything, x)
            targets = targets_of(episode, space.initial, problem.loss)
            rows.append(everything.basis * solve(features, everything, solver, targets, problem)[0])
    return torch.stack(rows)


def _gradient(
    model: Model | Callable[[Tensor], Tensor], targets: Tensor, loss: Loss, learned: Learned
) -> tuple[Tensor, Trace]:
    """A "solver" that returns the gradient at z = 0."""
    zero = torch.zeros_like(learned.precision)
    gradient, value = torch.func.grad_and_value(lambda z: loss.value(model(z), targets))(zero)
    return gradient, Trace(value[None], 3.0)
