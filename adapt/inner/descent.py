"""First-order descent with any gradient estimator.

    SGD:   z ← z − η g
    Adam:  m ← β₁m + (1−β₁)g,  v ← β₂v + (1−β₂)g²,  z ← z − η m̂ / (√v̂ + ε)

Kingma and Ba (2015), *Adam*, algorithm 1. Written out because ``torch.optim`` mutates its parameters and this
must stay pure and vmappable. The loss is averaged over examples, so that a learning rate means the same for
any number of shots.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from adapt.errors import AdaptError
from adapt.forward.estimators import Estimator, Reverse
from adapt.inner.losses import Loss
from adapt.inner.solver import Prior, Trace

__all__ = ["Descent"]


@dataclass(frozen=True)
class Descent:
    """``steps`` steps of ``optimizer`` ("sgd" or "adam") with rate ``lr`` along gradients of ``gradient``.

    An estimator that draws random directions draws them from ``seed``, the same in every call.

    Example:
        >>> import torch
        >>> from adapt.inner import Prior, SquaredError
        >>> solver = Descent(optimizer="sgd", lr=0.5, steps=20)
        >>> targets, prior = torch.tensor([[2.0, 3.0]]), Prior(torch.zeros(2))
        >>> z, trace = solver(lambda z: z[None], targets, SquaredError(), prior)
        >>> z.round(decimals=3)
        tensor([2., 3.])
    """

    optimizer: str = "adam"
    lr: float = 0.02
    steps: int = 10
    gradient: Estimator = field(default_factory=Reverse)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.optimizer not in ("sgd", "adam"):
            raise AdaptError(f"inner.optimizer={self.optimizer}: choose sgd or adam")
        if self.steps < 0:
            raise AdaptError(
                f"inner.steps={self.steps}: the number of steps cannot be negative (0 stays at z = 0)"
            )
        if not self.lr > 0:
            raise AdaptError(f"inner.lr={self.lr}: a learning rate must be positive")

    def __call__(
        self, model: Callable[[Tensor], Tensor], targets: Tensor, loss: Loss, prior: Prior
    ) -> tuple[Tensor, Trace]:
        """See :class:`adapt.inner.Solver`; cost per step 3 passes by reverse mode, 1 + k by k forward
        tangents, 1 + 2m by m samples of SPSA."""
        n = targets.shape[0]

        def objective(z: Tensor) -> Tensor:
            return (loss.value(model(z), targets) + 0.5 * (prior.precision * z * z).sum()) / n

        z = torch.zeros_like(prior.precision)
        first, second = torch.zeros_like(z), torch.zeros_like(z)
        losses: list[Tensor] = []
        generator = torch.Generator(z.device).manual_seed(self.seed)
        cost = 0.0
        for step in range(1, self.steps + 1):
            value, gradient, info = self.gradient(objective, z, generator=generator)
            losses.append(value * n - 0.5 * (prior.precision * z * z).sum())
            if self.optimizer == "sgd":
                z = z - self.lr * gradient
            else:
                first = 0.9 * first + 0.1 * gradient
                second = 0.999 * second + 0.001 * gradient.square()
                # Where nothing has a slope, √0 would have an infinite one: the clamp keeps the derivative of
                # the whole at zero there.
                scale = (second / (1 - 0.999**step)).clamp(min=torch.finfo(z.dtype).tiny).sqrt()
                z = z - self.lr * (first / (1 - 0.9**step)) / (scale + 1e-8)
            cost += 1.0 + info.tangents + info.passes
        return z, Trace(torch.stack(losses) if losses else z.new_zeros(0), cost)
