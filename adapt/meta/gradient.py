"""One direction of descent for the state, from a batch of tasks.

    exact:        ∇_s (1/T) Σ_t L_t(φ₀ + U z_t*(s))       Finn, Abbeel, Levine (2017), MAML, equation 1
    first_order:  the same with z_t* a constant           their section 5.2, first-order approximation
    reptile:      −(1/T) Σ_t (φ_t* − φ₀) = −(1/T) Σ_t U z_t*    Nichol, Achiam, Schulman (2018), algorithm 2

L_t is the loss of the queries; for a mixture of M subspaces, plus β M Σ_m w̄_m², w̄ the mean of the shares of
the tasks of a step, which is least where all are used as much (Shazeer et al. 2017, *Outrageously Large
Neural Networks: The Sparsely-Gated Mixture-of-Experts Layer*, equation 6, up to a constant).

"Exact" is reverse over forward: z* comes from forward tangents, and one backward pass runs through all of it.
Gradients of chunks of tasks are added up.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from adapt.adapter.state import AdapterState
from adapt.meta.batches import map_tasks
from adapt.meta.query import Learner
from adapt.spaces import Subspace
from tasks import Episode

__all__ = ["mean_shares", "outer_gradient", "reptile_direction"]

Gradients = dict[str, Tensor]


def outer_gradient(
    learner: Learner,
    state: AdapterState,
    batch: Episode,
    learn: tuple[str, ...],
    *,
    chunk: int,
    size: int | None = None,
    first_order: bool = False,
    pressure: Tensor | None = None,
) -> tuple[Gradients, Tensor]:
    """Gradients of the mean query loss by name of field, and the loss.

    Args:
        batch: stacked episodes.
        learn: fields of ``state`` that the gradient is of.
        chunk: tasks at once.
        size: only the first so many directions take part; None = all.
        pressure: slope of the balance in the shares of a task, 2 β M w̄ ``[M]``; None: no mixture.
    """
    leaves = {name: getattr(state, name).detach().requires_grad_(True) for name in learn}
    moving = state._replace(**leaves)
    moving = moving if size is None else moving.leading(size)
    total = state.origin.new_zeros(())
    gradients = {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}

    def one(episode: Episode) -> tuple[Tensor, Tensor]:
        _, outputs = learner.adapt(moving, episode, first_order=first_order)
        loss = learner.score(outputs, episode).loss
        if pressure is None:
            return loss, torch.zeros_like(loss)
        return loss, pressure @ learner.shares(moving, episode)

    for losses, balance in map_tasks(one, batch, chunk):
        loss = losses.sum() / len(batch.support_y)
        total = total + loss.detach()
        loss = loss + balance.sum() / len(batch.support_y)
        if loss.requires_grad:
            found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
            for name, gradient in zip(leaves, found, strict=True):
                gradients[name] = gradients[name] if gradient is None else gradients[name] + gradient
    return gradients, total


def mean_shares(learner: Learner, state: AdapterState, batch: Episode, *, chunk: int) -> Tensor:
    """w̄ ``[M]`` over the tasks of ``batch``, for a mixture of M subspaces."""
    one: Callable[[Episode], tuple[Tensor]] = lambda episode: (learner.shares(state, episode),)  # noqa: E731
    with torch.no_grad():
        return torch.cat([shares for (shares,) in map_tasks(one, batch, chunk)]).mean(0)


def reptile_direction(
    learner: Learner, state: AdapterState, batch: Episode, *, chunk: int
) -> tuple[Gradients, Tensor]:
    """−(1/T) Σ U z*, and the mean query loss at z*, which Reptile does not need but people want to see."""

    def one(episode: Episode) -> tuple[Tensor, Tensor]:
        z, outputs = learner.adapt(state, episode)
        return z, learner.score(outputs, episode).loss

    with torch.no_grad():
        solutions, losses = (
            torch.cat(parts).mean(0) for parts in zip(*map_tasks(one, batch, chunk), strict=True)
        )
    return {"origin": -Subspace(learner.space, state.origin, state.basis).move(solutions)}, losses
