"""Damped Gauss–Newton with a Gaussian prior, from exact forward tangents.

    F, J  = pushforward(model, z, I)                         one pass with k tangents
    (Σ_i J_iᵀ H_i J_i + Λ⁻¹ + μI) δ = Σ_i J_iᵀ ∇ℓ_i + Λ⁻¹ z ,     z ← z − δ
    H_i = I (squared error) or diag p_i − p_i p_iᵀ (cross-entropy)

Schraudolph (2002), *Fast Curvature Matrix-Vector Products for Second-Order Gradient Descent*; damping μ and
its rule of acceptance as in Levenberg (1944) and Marquardt (1963). Difference to the textbook: the Jacobian
comes from forward mode, so nothing is stored for a backward pass, and Λ and μ are meta-learned.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from adapt.checks import STEPS, between, check_setting, least
from adapt.errors import AdaptError
from adapt.forward import ENGINES, Engine, directions, pushforward
from adapt.inner.levenberg_marquardt import Quadratic, minimise, quadratic
from adapt.inner.losses import Loss
from adapt.inner.solver import Learned, Model, OnStep, Trace, as_model, outside

__all__ = ["GaussNewton", "check"]


@dataclass(frozen=True)
class GaussNewton:
    """``steps`` Gauss–Newton steps from z = 0.

    Args:
        steps: 0 stays at z = 0.
        damping: multiplies the learned precision and damping (1 = as learned); larger moves less.
        engine: of the pushforward: ``fast``, ``reference`` or ``compiled``.

    Example:
        >>> import torch
        >>> from adapt.inner import SquaredError, plain
        >>> a = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> targets, learned = torch.tensor([[2.0], [3.0]]), plain(torch.zeros(2))
        >>> z, trace = GaussNewton(steps=1)(lambda z: (a @ z)[:, None], targets, SquaredError(), learned)
        >>> z.round(decimals=3)
        tensor([1., 3.])
    """

    steps: int = 1
    damping: float = 1.0
    engine: Engine = "fast"

    def __post_init__(self) -> None:
        check(self.steps, self.damping, self.engine)

    @property
    def stepwise(self) -> bool:
        """See :func:`adapt.inner.solver.is_stepwise`; a single step leaves nothing to look at on its way."""
        return self.steps > 1

    @outside
    def __call__(
        self,
        model: Model | Callable[[Tensor], Tensor],
        targets: Tensor,
        loss: Loss,
        learned: Learned,
        on_step: OnStep | None = None,
    ) -> tuple[Tensor, Trace]:
        """See :class:`adapt.inner.Solver`; cost (1 + k) forward passes a step."""
        function = as_model(model)
        k = learned.precision.numel()
        identity = directions(learned.precision)
        evaluated = 0

        def evaluate(z: Tensor) -> Quadratic:
            nonlocal evaluated
            if evaluated and on_step is not None:
                on_step(z)
            evaluated += 1
            # outputs [n, C], columns [k, n, C]
            outputs, columns = pushforward(function.__call__, z, identity, engine=self.engine)
            return quadratic(outputs, columns, targets, loss)

        prior = self.damping * learned.precision
        z, losses, curvature = minimise(evaluate, self.steps, prior, self.damping * learned.damping)
        return z, Trace(losses, self.steps * (1.0 + k), "", curvature, prior)


def check(steps: int, damping: float, engine: Engine) -> None:
    """Raise what is wrong with the settings that Gauss–Newton solvers share."""
    none = "the number of steps cannot be negative (0 stays at z = 0)"
    check_setting("inner.steps", steps, least(0, none, ceiling=STEPS))
    check_setting(
        "inner.damping", damping, between(0, None, "damping must be zero or positive (1 = as learned)")
    )
    if engine not in ENGINES:
        raise AdaptError(f"inner.engine={engine}: choose {', '.join(ENGINES)}")
