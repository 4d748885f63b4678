"""The inner problem of a task: the support set as a function of z.

    ℓ(z) = Σ_i ℓ_i(s · outputs_i^(−i)(features(z)))

with leave-one-out outputs of the support head (an example is no part of what it is judged by, see
``adapt.heads.prototype``) and a learned sharpness s; heads that fit nothing leave nothing out. It is shared
by adapting (``FewShotAdapter.fit``) and meta-training, so that both solve the same problem.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from adapt.adapter.state import AdapterState
from adapt.backbones import by_rows
from adapt.forward import pushforward
from adapt.heads import Direct, Head, Logistic, Prototype
from adapt.heads.base import is_concrete
from adapt.heads.leave_one_out import fit_and_leave_out
from adapt.inner import CrossEntropy, Loss, Model, Solver, Trace
from adapt.precision import autocast_of
from adapt.spaces import Space, Subspace

__all__ = ["Memory", "Problem", "features_of", "model_of", "solve"]


class Problem(NamedTuple):
    """How a task is judged.

    Attributes:
        loss: of outputs: :class:`adapt.inner.CrossEntropy` for classes, :class:`adapt.inner.SquaredError` for
            values.
        support_head: gives the leave-one-out outputs that z is solved for.
        head: is fitted on the features at the solution, and predicts.
    """

    loss: Loss = CrossEntropy()
    support_head: Head = Prototype()
    head: Head = Logistic()


class Memory(NamedTuple):
    """Examples that a task has seen, linearised: features F ``[n, D]`` at z = 0, their derivatives J ``[k, n,
    D]``, and targets ``[n, C]``, in the order in which they came. Of a task without a posterior: features
    where it is, and no derivatives ``[0, n, D]``."""

    base: Tensor
    columns: Tensor
    targets: Tensor

    def at(self, z: Tensor) -> Tensor:
        """Features ``[n, D]`` at z ``[k]``."""
        if not len(self.columns):
            return self.base
        return self.base + torch.tensordot(z.to(self.base), self.columns, 1)


def features_of(
    backbone: nn.Module, space: Space, state: AdapterState, x: Tensor, rows: int | None = None
) -> Callable[[Tensor], Tensor]:
    """The function ``z [k] → features [n, D]`` of the backbone on ``x [n, …]``, its parameters at φ₀ + U z.

    What does not depend on z is computed once, however often the function is called, and tensors that no
    direction moves carry no tangents. At most ``rows`` examples go through the network at a time (None =
    all), see :mod:`adapt.backbones.rows`. The network runs under the ``torch.autocast`` that this is called
    in, whatever autocast the function is called in.
    """
    subspace, network = Subspace(space, state.origin, state.basis), by_rows(backbone, x, rows)
    network, still = autocast_of(x.device).around(network), _still(space, state)
    return lambda z: network(subspace.parameters(z) | still)


def _still(space: Space, state: AdapterState) -> dict[str, Tensor]:
    """The tensors, by name, of which U has no row that is not zero, at φ₀. While U is being learned, and
    where the tensors are merged with others, there are none."""
    basis = state.basis
    if space.merge is not None or not is_concrete(basis) or basis.requires_grad or _recorded():
        return {}
    sizes = [math.prod(shape) for shape in space.shapes.values()]
    moved = basis.detach().reshape(len(basis), -1).any(1).split(sizes)
    names = [name for name, rows in zip(space.shapes, moved, strict=True) if not rows.any()]
    origin = space.tensors(state.origin) if names else {}
    return {name: origin[name] for name in names}


def _recorded() -> bool:
    """Whether a compiler follows what is computed, which looks at no values."""
    proxy = torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.PROXY)
    return proxy is not None or torch.compiler.is_compiling()


def model_of(
    features: Callable[[Tensor], Tensor], state: AdapterState, targets: Tensor, problem: Problem
) -> Model:
    """The support set as solvers see it; ``features`` is :func:`features_of` its examples."""
    sharpness, (loss, support_head, head) = state.log_sharpness.exp(), problem

    def readout(there: Tensor, weights: Tensor | None) -> Tensor:
        outputs = support_head.loo_logits(there, targets, weights)
        return outputs if loss.regression else sharpness * outputs

    def held_out(there: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        state, outputs = fit_and_leave_out(head, there, targets)
        logits: Callable[[Tensor], Tensor] = lambda rows: head.logits(state, rows)  # noqa: E731
        return outputs, pushforward(logits, there, columns, chunk=max(len(columns), 1))[1]

    return Model(features, readout, held_out, isinstance(head, Direct) and isinstance(support_head, Direct))


def solve(
    features: Callable[[Tensor], Tensor],
    state: AdapterState,
    solver: Solver,
    targets: Tensor,
    problem: Problem,
) -> tuple[Tensor, Trace]:
    """Solve for z on a support set of ``targets [n, C]``: one-hot, at least two examples a class, or values.

    Returns z ``[k]`` and the solver's trace. Pure and differentiable in ``state``.
    """
    return solver(model_of(features, state, targets, problem), targets, problem.loss, state.learned)
