"""First-order descent with any gradient estimator.

    SGD:       z ← z − η a ∘ g
    momentum:  m ← βm + g,                               z ← z − η a ∘ m
    Adam:      m ← β₁m + (1−β₁)g,  v ← β₂v + (1−β₂)g²,   z ← z − η a ∘ m̂ / (√v̂ + ε)

Kingma and Ba (2015), *Adam*, algorithm 1; momentum as in Polyak (1964). a are the learned rates of Li, Zhou,
Chen, Li (2017), *Meta-SGD*, equation 2: 1 until meta-training changes them. Written out because
``torch.optim`` mutates its parameters and this must stay pure and vmappable. The loss is averaged over
examples, so that a learning rate means the same for any number of shots.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from adapt.checks import SEED, STEPS, Number, check_setting, check_settings, least, positive
from adapt.errors import AdaptError
from adapt.forward.estimators import Estimator, Reverse
from adapt.inner.losses import Loss
from adapt.inner.solver import Learned, Model, OnStep, Trace, as_model, outside

__all__ = ["Descent", "check_descent"]


@dataclass(frozen=True)
class Descent:
    """``steps`` steps of ``optimizer`` ("sgd", "momentum" or "adam") with rate ``lr`` times the learned rates
    along gradients of ``gradient``.

    An estimator that draws random directions draws them from ``seed``, the same in every call. ``momentum``
    is β of the optimiser of that name.

    Example:
        >>> import torch
        >>> from adapt.inner import SquaredError, plain
        >>> solver = Descent(optimizer="sgd", lr=0.5, steps=20)
        >>> targets, learned = torch.tensor([[2.0, 3.0]]), plain(torch.zeros(2))
        >>> z, trace = solver(lambda z: z[None], targets, SquaredError(), learned)
        >>> z.round(decimals=3)
        tensor([2., 3.])
    """

    optimizer: str = "adam"
    lr: float = 0.02
    steps: int = 10
    gradient: Estimator = field(default_factory=Reverse)
    seed: int = 0
    momentum: float = 0.9

    def __post_init__(self) -> None:
        if self.optimizer not in ("sgd", "momentum", "adam"):
            raise AdaptError(f"inner.optimizer={self.optimizer}: choose sgd, momentum or adam")
        check_descent("inner", self.lr, self.steps)
        check_settings(
            self,
            "inner",
            momentum=Number(least=0, below=1, why="momentum lies between 0 and 1"),
            seed=SEED,
        )

    @property
    def stepwise(self) -> bool:
        """See :func:`adapt.inner.solver.is_stepwise`."""
        return True

    @outside
    def __call__(
        self,
        model: Model | Callable[[Tensor], Tensor],
        targets: Tensor,
        loss: Loss,
        learned: Learned,
        on_step: OnStep | None = None,
    ) -> tuple[Tensor, Trace]:
        """See :class:`adapt.inner.Solver`; cost per step 3 passes by reverse mode, 1 + k by k forward
        tangents, 1 + 2m by m samples of SPSA."""
        function = as_model(model)
        n, free = targets.shape[0], torch.isfinite(learned.precision)
        precision = torch.where(free, learned.precision, 0)  # a direction of infinite precision stays at 0

        def objective(z: Tensor) -> Tensor:
            return (loss.value(function(z), targets) + 0.5 * (precision * z * z).sum()) / n

        z = torch.zeros_like(precision)
        first, second = torch.zeros_like(z), torch.zeros_like(z)
        losses: list[Tensor] = []
        generator = torch.Generator(z.device).manual_seed(self.seed)
        cost = 0.0
        for step in range(1, self.steps + 1):
            if step > 1 and on_step is not None:
                on_step(z)
            value, gradient, info = self.gradient(objective, z, generator=generator)
            losses.append(value * n - 0.5 * (precision * z * z).sum())
            if self.optimizer == "adam":
                first = 0.9 * first + 0.1 * gradient
                second = 0.999 * second + 0.001 * gradient.square()
                # Where nothing has a slope, √0 would have an infinite one: the clamp keeps the derivative of
                # the whole at zero there.
                scale = (second / (1 - 0.999**step)).clamp(min=torch.finfo(z.dtype).tiny).sqrt()
                move = (first / (1 - 0.9**step)) / (scale + 1e-8)
            else:
                first = gradient + self.momentum * first if self.optimizer == "momentum" else gradient
                move = first
            # Outputs that overflow, or are no numbers, give no direction to go: stay.
            move = torch.where(free, self.lr * learned.rates * move, 0)
            z = torch.where(torch.isfinite(move).all(), z - move, z)
            cost += 1.0 + info.tangents + info.passes
        return z, Trace(torch.stack(losses) if losses else z.new_zeros(0), cost)


def check_descent(name: str, lr: float, steps: int) -> None:
    """Refuse settings of ``name`` that are no descent.

    Raises:
        AdaptError: a rate that is not positive and finite, or a negative number of steps.
    """
    check_setting(f"{name}.lr", lr, positive("a learning rate must be positive"))
    none = "the number of steps cannot be negative (0 stays at the start)"
    check_setting(f"{name}.steps", steps, least(0, none, ceiling=STEPS))
