"""The backprop inner loop in the same space, from the same meta-learned start as ours.

    φ ← φ − Adam(∇ℓ(φ)) ,   φ⁰ = φ₀ ,   all P parameters of the space, ℓ the same leave-one-out support loss

MAML's inner loop (Finn, Abbeel, Levine 2017, *Model-Agnostic Meta-Learning*, algorithm 1) restricted to
adapter parameters, with Adam and the same convex head on the adapted features. Reverse mode can afford all of
φ; ``subspace`` gives it the same k directions as ours, z with its prior, so that only the way to the gradient
differs.
"""

from dataclasses import dataclass, field, replace

from adapt.adapter.method import Adapt, Context, Role, adapted_by
from adapt.adapter.state import whole_state
from adapt.baselines.checkpointing import CheckpointedReverse, checkpointed
from adapt.errors import AdaptError
from adapt.forward.estimators import Reverse
from adapt.heads import Head, Logistic
from adapt.inner import Descent

__all__ = ["Backprop"]


@dataclass(frozen=True)
class Backprop:
    """``solver`` descends along reverse-mode gradients; its steps and rate are chosen on validation tasks.

    Attributes:
        subspace: move z along the adapter's own directions, with its prior and rates, instead of all of φ.
        checkpoint: the same values in less memory and more time (:mod:`adapt.baselines.checkpointing`).
        rows: examples that go through the network at a time (null = all), gradients accumulated: the same
            values in less memory and more time (:mod:`adapt.backbones.rows`); goes with ``checkpoint``.
    """

    solver: Descent = field(default_factory=Descent)
    head: Head = field(default_factory=Logistic)
    subspace: bool = False
    checkpoint: bool = False
    rows: int | None = None
    max_tasks: int | None = None
    role: Role = "backprop"
    keeps_backbone: bool = True

    def __post_init__(self) -> None:
        saving = {"checkpoint=True": self.checkpoint, f"rows={self.rows}": self.rows is not None}
        for setting, wanted in saving.items():
            if wanted and not isinstance(self.solver.gradient, Reverse):
                raise AdaptError(
                    f"{setting} saves memory of backpropagation, but solver.gradient is "
                    f"{type(self.solver.gradient).__name__}: use estimators.Reverse, or leave it out"
                )

    def prepare(self, context: Context) -> Adapt:
        """See :class:`adapt.adapter.Method`."""
        adapter = context.adapter.replace(solver=self.solver, head=self.head, rows=self.rows)
        if not self.subspace:
            adapter = adapter.replace(state=whole_state(adapter.space, adapter.state))
        recomputed = int(self.checkpoint) + int(self.rows is not None)
        if recomputed:
            solver = replace(self.solver, gradient=CheckpointedReverse(recomputed=recomputed))
            adapter = adapter.replace(solver=solver)
        if self.checkpoint:
            adapter = adapter.replace(backbone=checkpointed(adapter.backbone))
        return adapted_by(adapter)
