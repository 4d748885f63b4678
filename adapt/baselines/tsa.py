"""Task-specific adapters: a matrix beside every convolution and linear layer, learned for each task.

    y = W₀ * x + A x ,   A ← A − Adam(∇ ℓ(A)) ,   A⁰ = 0 ,   W₀ of the network at φ₀, ℓ the support loss

Li, Liu, Bilen (2022), *Cross-domain Few-shot Learning with Task-specific Adapters*, section 3.2, equation 4,
the parallel matrix form, which is the best of theirs. Differences: ℓ is the leave-one-out loss of ``head``,
where they classify the support by means that it is part of; Adam in the place of Adadelta; and no linear map
follows the features (their pre-classifier alignment), which a convex head does not need.
"""

from dataclasses import dataclass, field

from adapt.adapter.method import Adapt, Context, Role, adapted_by
from adapt.adapter.state import identity_state
from adapt.baselines._module import at_origin
from adapt.heads import Head, Logistic
from adapt.inner import Descent
from adapt.spaces import residual

__all__ = ["Tsa"]


@dataclass(frozen=True)
class Tsa:
    """``solver`` descends on the matrices of the layers that match ``targets``; the rest of the network stays
    at the adapter's start."""

    solver: Descent = field(default_factory=Descent)
    head: Head = field(default_factory=Logistic)
    targets: str = "*"
    max_tasks: int | None = None
    role: Role = "backprop"
    keeps_backbone: bool = True

    def prepare(self, context: Context) -> Adapt:
        """See :class:`adapt.adapter.Method`."""
        adapter = context.adapter
        if adapter.match is not None:  # every task has a start of its own
            return lambda support, watch: self.prepare(context._replace(adapter=adapter.matched(support.x)))(
                support, watch
            )
        network = at_origin(adapter).requires_grad_(False)
        space = residual(network, self.targets)
        state = identity_state(space)._replace(log_sharpness=adapter.state.log_sharpness)
        moved = adapter.replace(
            backbone=network, space=space, state=state, solver=self.solver, head=self.head, calibration=None
        )
        return adapted_by(moved)
