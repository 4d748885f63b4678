"""The inner problem of a classification task: the support loss as a function of z.

    ℓ(z) = Σ_i CE(y_i, s · logits^(−i)(features(z)))

with leave-one-out prototype logits (an example is no part of its own prototype, see
``adapt.heads.prototype``) and a learned sharpness s. It is shared by adapting (``FewShotAdapter.fit``) and
meta-training, so that both solve the same problem.
"""

from collections.abc import Callable

from torch import Tensor, nn

from adapt.adapter.state import AdapterState
from adapt.backbones import FrozenPrefix
from adapt.heads import Prototype
from adapt.inner import CrossEntropy, Solver, Trace
from adapt.spaces import Space, Subspace

__all__ = ["features_of", "solve"]


def features_of(
    backbone: nn.Module, space: Space, state: AdapterState, x: Tensor
) -> Callable[[Tensor], Tensor]:
    """The function ``z [k] → features [n, D]`` of the backbone on ``x [n, …]``, its parameters at φ₀ + U z.

    What does not depend on z is computed once, however often the function is called.
    """
    subspace, prefix = Subspace(space, state.origin, state.basis), FrozenPrefix(backbone, x)
    return lambda z: prefix(subspace.parameters(z))


def solve(
    features: Callable[[Tensor], Tensor], state: AdapterState, solver: Solver, targets: Tensor
) -> tuple[Tensor, Trace]:
    """Solve for z on a support set of one-hot ``targets [n, C]``, at least two examples a class.

    ``features`` is :func:`features_of` the support examples. Returns z ``[k]`` and the solver's trace. Pure
    and differentiable in ``state``.
    """
    head = Prototype()

    def model(z: Tensor) -> Tensor:
        return state.log_sharpness.exp() * head.loo_logits(features(z), targets)

    return solver(model, targets, CrossEntropy(), state.prior)
