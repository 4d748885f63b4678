"""The backprop inner loop as higher runs it: the same problem from the same start, by its optimizers.

    θ ← θ − step(∇ℓ(θ)/n) ,   θ⁰ ∋ φ₀ ,   ∇ with respect to the tensors of the space

Grefenstette et al. (2019), *Generalized Inner Loop Meta-Learning*, section 4; ``higher.innerloop_ctx``
without ``track_higher_grads``, as its documentation has it where nothing is differentiated through the loop.
With "sgd" it equals ``Backprop(Descent("sgd", lr, steps))`` up to rounding. With "adam" ε is added before the
bias of the second moment is corrected, so that steps differ where gradients are not far above ε = 1e-8.
"""

from dataclasses import dataclass, field

import torch
from torch import nn

from adapt.adapter.method import Adapt, Context, Role
from adapt.backbones import require
from adapt.baselines._module import SupportLoss, adapt_by
from adapt.errors import AdaptError
from adapt.heads import Head, Logistic
from adapt.inner.descent import check_descent

__all__ = ["Higher"]


@dataclass(frozen=True)
class Higher:
    """``steps`` steps of ``optimizer`` ("sgd" or "adam") at rate ``lr`` on the mean support loss, then
    ``head`` on the adapted features."""

    optimizer: str
    lr: float
    steps: int
    head: Head = field(default_factory=Logistic)
    max_tasks: int | None = None
    role: Role = "backprop"
    keeps_backbone: bool = True

    def __post_init__(self) -> None:
        if self.optimizer not in ("sgd", "adam"):
            raise AdaptError(f"higher.optimizer={self.optimizer}: choose sgd or adam")
        check_descent("higher", self.lr, self.steps)

    def prepare(self, context: Context) -> Adapt:
        """See :class:`adapt.adapter.Method`.

        Raises:
            AdaptError: higher is not installed.
        """
        higher = require("higher")
        make = torch.optim.SGD if self.optimizer == "sgd" else torch.optim.Adam

        def inner(start: nn.Module, loss: SupportLoss) -> nn.Module:
            moving = [parameter for parameter in start.parameters() if parameter.requires_grad]
            with higher.innerloop_ctx(
                start, make(moving, lr=self.lr), copy_initial_weights=True, track_higher_grads=False
            ) as (network, optimizer):
                for _ in range(self.steps):
                    optimizer.step(loss(network))
            return network

        return adapt_by(inner, context.adapter.replace(head=self.head))
