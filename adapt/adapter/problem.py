"""The inner problem of a classification task: the support loss as a function of z.

    ℓ(z) = Σ_i CE(y_i, s · logits^(−i)(features(z)))

with leave-one-out prototype logits (an example is no part of its own prototype, see
``adapt.heads.prototype``) and a learned sharpness s. It is shared by adapting (``FewShotAdapter.fit``) and
meta-training, so that both solve the same problem.
"""

from collections.abc import Callable

from torch import Tensor, nn

from adapt.adapter.state import AdapterState
from adapt.backbones import call
from adapt.heads import Prototype
from adapt.inner import CrossEntropy, Solver, Trace
from adapt.spaces import Space, Subspace

__all__ = ["features_at", "solve"]


def features_at(backbone: nn.Module, space: Space, state: AdapterState) -> Callable[[Tensor, Tensor], Tensor]:
    """The function ``(z [k], x [n, …]) → features [n, D]`` of the backbone with its parameters at φ₀ + U
    z."""
    subspace = Subspace(space, state.origin, state.basis)
    return lambda z, x: call(backbone, subspace.parameters(z), x)


def solve(
    backbone: nn.Module, space: Space, state: AdapterState, solver: Solver, x: Tensor, targets: Tensor
) -> tuple[Tensor, Trace]:
    """Solve for z on support examples ``x [n, …]`` with one-hot ``targets [n, C]``, at least two examples a
    class.

    Returns z ``[k]`` and the solver's trace. Pure and differentiable in ``state``.
    """
    features = features_at(backbone, space, state)
    head = Prototype()

    def model(z: Tensor) -> Tensor:
        return state.log_sharpness.exp() * head.loo_logits(features(z, x), targets)

    return solver(model, targets, CrossEntropy(), state.prior)
