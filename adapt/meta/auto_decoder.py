"""φ₀, U and a z of every training task, together: an auto-decoder, by Gauss–Newton.

    min_{φ₀, U, z}  Σ_t ‖f(x_t; φ₀ + U z_t) − y_t‖² ,   φ₀ ~ N(φ, s²I) ,   U ~ N(0, r²s²) ,   z_t ~ N(0, I)
    δ = −P Jᵀ (J P Jᵀ + μI)⁻¹ r ,   P the variances of the prior ,   μ by Marquardt's rule
    J P Jᵀ = (s² + r²s² z_t·z_u) J_t J_uᵀ + [t = u] (J_t U)(J_t U)ᵀ        J_t = ∂f/∂φ at φ₀ + U z_t

Bojanowski, Joulin, Lopez-Paz, Szlam (2018), *Optimizing the Latent Space of Generative Networks*, the latent
numbers of each example being trained with the network; here they are those of a task, as in Kirchmeyer et al.
(2022), *Generalizing to New Physical Systems via Context-Informed Dynamics Model*, equation 8. Few tasks of
few numbers have far fewer residuals than there are parameters, so the Gauss–Newton step is solved among the
residuals (the kernel of Jacot, Gabriel, Hongler 2018): some dozens of steps go where Adam takes many
thousands. It runs offline, and J comes from reverse mode. Cost: (Σ_t n_t C)² numbers of memory, and that
times P of work.
"""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import jacrev

from adapt.adapter.state import AdapterState, initial_state
from adapt.backbones import call, examples_for
from adapt.errors import AdaptError
from adapt.spaces import Space
from tasks import Episode

__all__ = ["auto_decoder_basis"]

#: Residuals that a step is solved among, at most: their kernel is a dense matrix of float64.
MOST_RESIDUALS = 8_000
#: Share of the steps over which the horizon grows.
GROWING = 0.4
TRIES = 8
START_DAMPING, LEAST_DAMPING = 1.0, 1e-9


class _Point(NamedTuple):
    """φ₀ ``[P]``, U ``[P, k]`` and the z of every task ``[T, k]``."""

    origin: Tensor
    basis: Tensor
    z: Tensor

    def parameters(self, task: int) -> Tensor:
        return self.origin + self.basis @ self.z[task]


def auto_decoder_basis(
    backbone: nn.Module,
    space: Space,
    episodes: Iterable[Episode],
    k: int,
    steps: int,
    *,
    radius: float = 1.0,
    scale: float = 1.0,
    horizon: float = 1.0,
    mask: Tensor | None = None,
    seed: int = 0,
    progress: Callable[[Iterable[int]], Iterable[int]] = lambda steps: steps,
) -> AdapterState:
    """The state in which the tasks of ``episodes`` are explained best, with z ~ N(0, I) over them.

    Args:
        episodes: regression tasks, supports and queries; those of one group share their z, and the first of
            them counts. At least two groups or tasks.
        k: directions.
        steps: of Gauss–Newton, those that were of no use included.
        radius: r, how far U is from nothing to begin with.
        scale: s, of a sizeable move of φ.
        horizon: share of the outputs, which come in the order of time, that the first step looks at; it grows
            to all over the first two fifths of the steps. A whole trajectory has local minima.
        mask: 1 where a task may move φ ``[P]``, else 0; None: everywhere.
        seed: of the first U and z.

    Raises:
        AdaptError: classes instead of values, a single task, fewer tasks than directions, values that are not
            finite, or too many outputs.
    """
    examples = _examples(backbone, episodes)
    outputs = sum(y.numel() for _, y in examples)
    if len(examples) < 2 or outputs > MOST_RESIDUALS:
        raise AdaptError(
            f"meta.basis=auto_decoder: {len(examples)} tasks of {outputs:,} values in all: two tasks or more "
            f"and {MOST_RESIDUALS:,} values or fewer are needed; set meta.basis_tasks, or fewer examples"
        )
    if len(examples) < k:
        raise AdaptError(
            f"meta.basis=auto_decoder: {len(examples)} tasks differ along {len(examples)} directions at "
            f"most, and k={k} are asked for: set meta.basis_tasks, or fewer directions"
        )
    if not all(bool(torch.isfinite(part).all()) for pair in examples for part in pair):
        raise AdaptError("meta.basis=auto_decoder: some examples are not finite: look for NaN in the tasks")
    mask = torch.ones_like(space.initial) if mask is None else mask
    generator = torch.Generator().manual_seed(seed)
    first = radius * scale * torch.randn(space.size, k, generator=generator).to(mask) * mask[:, None]
    z = torch.randn(len(examples), k, generator=generator).to(mask)
    now, damping = _Point(space.initial.clone(), first, z), START_DAMPING
    variance = scale**2, (radius * scale) ** 2
    fits = [_residuals(backbone, space, x, y) for x, y in examples]
    for step in progress(range(steps)):
        share = min(1.0, horizon + (1 - horizon) * step / max(GROWING * steps, 1))
        now, damping = _stepped(fits, now, damping, variance, mask, share)
    with torch.no_grad():
        left = torch.cat([fit(now.parameters(t), 1.0) for t, fit in enumerate(fits)]).double()
    return _whitened(now, float(left.square().mean()))


def _examples(backbone: nn.Module, episodes: Iterable[Episode]) -> list[tuple[Tensor, Tensor]]:
    """x and y of every task, supports and queries; of tasks of one group the first."""
    found: dict[object, tuple[Tensor, Tensor]] = {}
    for number, episode in enumerate(episodes):
        if not episode.support_y.is_floating_point():
            raise AdaptError("meta.basis=auto_decoder explains values, and these tasks have classes")
        x, y = (
            torch.cat([episode.support_x, episode.query_x]),
            torch.cat([episode.support_y, episode.query_y]),
        )
        found.setdefault(episode.meta.group or number, (examples_for(backbone, x), y))
    return [*found.values()]


def _residuals(backbone: nn.Module, space: Space, x: Tensor, y: Tensor) -> Callable[[Tensor, float], Tensor]:
    """φ and a share of the outputs → residuals of one task ``[n · m]``."""
    targets = y.to(space.initial)

    def residuals(phi: Tensor, share: float) -> Tensor:
        m = math.ceil(share * targets.shape[1])
        return (call(backbone, space.parameters(phi), x)[:, :m] - targets[:, :m]).reshape(-1)

    return residuals


def _stepped(
    fits: list[Callable[[Tensor, float], Tensor]],
    now: _Point,
    damping: float,
    variance: tuple[float, float],
    mask: Tensor,
    share: float,
) -> tuple[_Point, float]:
    """One step, shortened until the sum of squares falls, and the damping for the next."""
    (start, turn), tasks = variance, range(len(fits))
    rows, left = [], []
    for t in tasks:
        row, values = jacrev(lambda phi, t=t: (fits[t](phi, share),) * 2, has_aux=True)(now.parameters(t))
        rows.append(row.detach())  # [R_t, P]
        left.append(values.detach())
    along = [(row @ now.basis).double() for row in rows]  # [R_t, k]
    sizes = [len(row) for row in rows]
    whole, owner = torch.cat(rows), torch.arange(len(rows)).repeat_interleave(torch.tensor(sizes))
    alike = (now.z @ now.z.T).double()[owner][:, owner]
    kernel = start * (whole @ whole.T).double() + turn * alike * ((whole * mask) @ whole.T).double()
    kernel = kernel + torch.block_diag(*(part @ part.T for part in along))
    residual = torch.cat(left).double()
    before = float(residual.square().sum())
    identity = torch.eye(len(residual), dtype=residual.dtype, device=residual.device)
    for _ in range(TRIES):
        duals = torch.linalg.solve(kernel + damping * identity, residual).split(sizes)
        pull = torch.stack([row.T @ dual.to(row) for row, dual in zip(rows, duals, strict=True)])  # [T, P]
        moves = [part.T @ dual for part, dual in zip(along, duals, strict=True)]
        there = _Point(
            now.origin - start * pull.sum(0),
            now.basis - turn * mask[:, None] * (pull.T @ now.z),
            now.z - torch.stack(moves).to(now.z),
        )
        with torch.no_grad():
            after = sum(float(fits[t](there.parameters(t), share).double().square().sum()) for t in tasks)
        if after < before:
            return there, max(damping / 3, LEAST_DAMPING)
        damping *= 4
    return now, damping


def _whitened(found: _Point, error: float) -> AdapterState:
    """In coordinates in which z has mean 0 and variance 1 over the tasks, the direction in which they differ
    most first; the prior weighs as much as noise of the mean squared ``error`` that is left makes it."""
    mean, z = found.z.mean(0), found.z - found.z.mean(0)
    moved = found.basis @ z.T / (len(z) - 1) ** 0.5  # [P, T]: U C Uᵀ is its square
    directions, values, _ = torch.linalg.svd(moved.double(), full_matrices=False)
    k = found.basis.shape[1]
    basis = (directions[:, :k] * values[:k]).to(found.basis)
    state = initial_state(found.origin + found.basis @ mean, basis)
    noise = max(error, torch.finfo(found.origin.dtype).eps ** 1.5)
    return state._replace(log_precision=state.log_precision + math.log(noise))
