"""The backprop inner loop as learn2learn runs it: the same problem from the same start, by its own MAML.

    θ ← θ − η ∇ℓ(θ)/n ,   θ⁰ ∋ φ₀ ,   ∇ with respect to the tensors of the space

Arnold, Mahajan, Datta, Bunner, Zarkias (2020), *learn2learn: A Library for Meta-Learning Research*;
``learn2learn.algorithms.MAML`` in its first-order form, that of Finn, Abbeel, Levine (2017), *Model-Agnostic
Meta-Learning*, section 5.2: there is nothing to differentiate when adapting, so that second derivatives would
only cost. It equals ``Backprop(Descent("sgd", lr, steps))`` up to rounding; what differs is time and memory.
"""

import io
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from types import ModuleType

from torch import nn

from adapt.adapter.method import Adapt, Context, Role
from adapt.backbones import require
from adapt.baselines._module import SupportLoss, adapt_by
from adapt.heads import Head, Logistic
from adapt.inner.descent import check_descent

__all__ = ["Learn2Learn", "library"]


@dataclass(frozen=True)
class Learn2Learn:
    """``steps`` steps of gradient descent at rate ``lr`` on the mean support loss, then ``head`` on the
    adapted features."""

    lr: float
    steps: int
    head: Head = field(default_factory=Logistic)
    max_tasks: int | None = None
    role: Role = "backprop"
    keeps_backbone: bool = True

    def __post_init__(self) -> None:
        check_descent("learn2learn", self.lr, self.steps)

    def prepare(self, context: Context) -> Adapt:
        """See :class:`adapt.adapter.Method`.

        Raises:
            AdaptError: learn2learn is not installed.
        """
        maml = library().algorithms.MAML

        def inner(start: nn.Module, loss: SupportLoss) -> nn.Module:
            # What is frozen has no gradient, and parts of the space may have none either.
            learner = maml(start, self.lr, first_order=True, allow_unused=True, allow_nograd=True).clone()
            for _ in range(self.steps):
                learner.adapt(loss(learner))
            return learner

        return adapt_by(inner, context.adapter.replace(head=self.head))


def library() -> ModuleType:
    """learn2learn, imported.

    Raises:
        AdaptError: it is not installed.
    """
    with redirect_stderr(io.StringIO()):  # gym, which learn2learn imports, prints that it is unmaintained
        return require("learn2learn")
