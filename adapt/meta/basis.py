"""A first basis for adaptation: the directions that gradients of training tasks share.

    G = [g_1 … g_T]ᵀ ,  g_t = ∇_φ ℓ_t(φ₀)      (T × P)
    G = A Σ Vᵀ ,        U = V_k Σ_k · s         (P × k)

the leading right singular vectors, scaled by their singular values: a prior, since tasks differ more along
    the first ones. Gur-Ari, Roberts, Dyer (2018),
*Gradient Descent Happens in a Tiny Subspace*; the loss of a task is here the support loss at φ₀. The overall
scale s makes the first column as long as ``radius`` times φ₀'s root mean square, so that |z| ~ 1 is a
sizeable but not destructive move.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from adapt.adapter.problem import features_of, solve
from adapt.adapter.state import AdapterState, identity_state
from adapt.heads import one_hot
from adapt.inner import CrossEntropy, Loss, Prior, Trace
from adapt.spaces import Space
from tasks import Episode

__all__ = ["task_gradient_basis"]


def task_gradient_basis(
    backbone: nn.Module, space: Space, episodes: Iterable[Episode], k: int, *, radius: float = 1.0
) -> AdapterState:
    """φ₀ = the backbone's own values, U from the gradients of ``episodes``, λ = sharpness = 1."""
    identity = identity_state(space)
    rows = []
    for episode in episodes:
        ways = len(episode.meta.classes)
        x, y = episode.support_x.to(space.initial), one_hot(episode.support_y, ways).to(space.initial)
        rows.append(solve(features_of(backbone, space, identity, x), identity, _gradient, y)[0])
    gradients = torch.stack(rows)  # [T, P]
    _, values, directions = torch.linalg.svd(gradients, full_matrices=False)
    k = min(k, len(values))
    columns = directions[:k].T * (values[:k] / values[0])  # [P, k]
    length = radius * space.initial.square().mean().sqrt()
    zero = space.initial.new_zeros(())
    return AdapterState(space.initial.clone(), columns * length, zero.clone(), zero.clone())


def _gradient(model, targets: Tensor, loss: Loss, prior: Prior) -> tuple[Tensor, Trace]:  # type: ignore[no-untyped-def]
    """A "solver" that returns the gradient at z = 0."""
    assert isinstance(loss, CrossEntropy)
    gradient, value = torch.func.grad_and_value(lambda z: loss.value(model(z), targets))(
        torch.zeros_like(prior.precision)
    )
    return gradient, Trace(value[None], 3.0)
