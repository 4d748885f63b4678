"""Gauss–Newton to convergence on features that are linearised once.

    F₀, J = pushforward(features, 0, I)                      one pass with k tangents, the only one
    z*    = argmin_z Σ_i ℓ_i(readout(F₀ + J z)) + ½ zᵀ Λ⁻¹ z    by Gauss–Newton, without the network

Variable projection (Golub and Pereyra 1973, *The Differentiation of Pseudo-Inverses and Nonlinear Least
Squares Problems Whose Variables Separate*) where the readout is a head in closed form: at every z the head is
the best one for F₀ + J z, so head and z are solved for jointly. For squared error and features that are the
outputs themselves the problem is quadratic, and this is one Gauss–Newton step.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from adapt.forward import Engine, directions, pushforward
from adapt.inner.gauss_newton import check
from adapt.inner.levenberg_marquardt import Minimum, Quadratic, minimise, quadratic
from adapt.inner.losses import Loss
from adapt.inner.solver import Learned, Model, Readout, Trace, as_model, outside

__all__ = ["Linearised", "solve_linear"]


@dataclass(frozen=True)
class Linearised:
    """``steps`` Gauss–Newton steps on linearised features; they cost no pass of the network.

    Args:
        steps: 0 stays at z = 0; a handful converges.
        damping: multiplies the learned precision and damping (1 = as learned); larger moves less.
        engine: of the pushforward: ``fast``, ``reference`` or ``compiled``.

    Example:
        >>> import torch
        >>> from adapt.inner import CrossEntropy, plain
        >>> targets = torch.eye(2)
        >>> solver = Linearised(steps=20)
        >>> z, trace = solver(lambda z: torch.outer(z, z.new_tensor([1.0, -1.0])), targets, CrossEntropy(),
        ...                   plain(torch.ones(2)))
        >>> bool(z[0] > 0 > z[1]), trace.forward_equivalents
        (True, 3.0)
    """

    steps: int = 5
    damping: float = 1.0
    engine: Engine = "fast"

    def __post_init__(self) -> None:
        check(self.steps, self.damping, self.engine)

    @outside
    def __call__(
        self, model: Model | Callable[[Tensor], Tensor], targets: Tensor, loss: Loss, learned: Learned
    ) -> tuple[Tensor, Trace]:
        """See :class:`adapt.inner.Solver`; cost 1 + k forward passes in all."""
        function = as_model(model)
        zero = torch.zeros_like(learned.precision)
        if not self.steps:
            return zero, Trace(zero.new_zeros(0), 0.0)
        identity = directions(zero)
        features, columns = pushforward(function.features, zero, identity, engine=self.engine)
        scaled = Learned(self.damping * learned.precision, self.damping * learned.damping, learned.rates)
        found = solve_linear(features, columns, function.readout, targets, loss, scaled, self.steps)
        return found.z, Trace(found.losses, 1.0 + zero.numel(), "", found.curvature, scaled.precision)


def solve_linear(
    features: Tensor,
    columns: Tensor,
    readout: Readout,
    targets: Tensor,
    loss: Loss,
    learned: Learned,
    steps: int,
    weights: Tensor | None = None,
    start: Tensor | None = None,
) -> Minimum:
    """The minimum on features ``F₀ + J z``: ``features [n, D]``, ``columns [k, n, D]``, from z = ``start``
    (None = 0).

    Examples of weight 0 in ``weights [n]`` take no part.
    """

    def evaluate(z: Tensor) -> Quadratic:
        there = features + torch.tensordot(z, columns, 1)
        # All tangents at once: the readout is so small that the number of calls is what it costs.
        outputs, tangents = pushforward(
            lambda f: readout(f, weights), there, columns, chunk=max(len(columns), 1)
        )
        return quadratic(outputs, tangents, targets, loss, weights)

    return minimise(evaluate, steps, learned.precision, learned.damping, start)
