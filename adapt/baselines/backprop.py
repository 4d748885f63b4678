"""The backprop inner loop in the same space, from the same meta-learned start as ours.

    φ ← φ − Adam(∇ℓ(φ)) ,   φ⁰ = φ₀ ,   all P parameters of the space, ℓ the same leave-one-out support loss

MAML's inner loop (Finn, Abbeel, Levine 2017, *Model-Agnostic Meta-Learning*, algorithm 1) restricted to
adapter parameters, with Adam and the same convex head on the adapted features. No subspace: reverse mode can
afford all of φ.
"""

from dataclasses import dataclass, field

from adapt.adapter.method import Adapt, Context, Role
from adapt.adapter.state import identity_state
from adapt.heads import Head, Logistic
from adapt.inner import Descent

__all__ = ["Backprop"]


@dataclass(frozen=True)
class Backprop:
    """``solver`` descends along reverse-mode gradients; its steps and rate are chosen on validation tasks."""

    solver: Descent = field(default_factory=Descent)
    head: Head = field(default_factory=Logistic)
    max_tasks: int | None = None
    role: Role = "backprop"
    keeps_backbone: bool = True

    def prepare(self, context: Context) -> Adapt:
        """See :class:`adapt.adapter.Method`."""
        learned = context.adapter.state
        # The support loss is the same, learned sharpness included; only what moves and how differ.
        state = identity_state(context.adapter.space, learned.origin)._replace(
            log_sharpness=learned.log_sharpness
        )
        adapter = context.adapter.with_(state=state, solver=self.solver, head=self.head)
        return lambda support, watch: adapter.fit(support.x, support.y).logits
