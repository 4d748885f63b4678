"""Gauss–Newton by continuation over the horizon: first the beginning of a trajectory, then ever more of it.

    for m in shares of C:   z ← argmin_z Σ_i ½ ‖f(x_i; z)_{1…m} − y_{i,1…m}‖² + ½ zᵀ Λ⁻¹ z ,   by a few steps

Bock (1983), *Recent Advances in Parameter Identification Techniques for O.D.E.*, section 2, on why the whole
trajectory at once has local minima: states that run away from the data say nothing of the constants. The
beginning depends on them nearly linearly; solved for it, the next piece begins close to its minimum. Allgower
and Georg (1990), *Numerical Continuation Methods*, chapter 1, for the idea.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adapt.checks import STEPS, Number, check_setting, least, list_of
from adapt.errors import AdaptError
from adapt.forward import Engine, directions, pushforward
from adapt.inner.gauss_newton import check
from adapt.inner.levenberg_marquardt import go_on, quadratic
from adapt.inner.losses import Loss
from adapt.inner.solver import Learned, Model, OnStep, Trace, as_model, outside

__all__ = ["Continuation"]


@dataclass(frozen=True)
class Continuation:
    """Gauss–Newton steps on growing shares of the outputs, which come in the order of time.

    Args:
        shares: of the C outputs, ever more, 1 at the end. Classes have no order: all are looked at always.
        steps: on each of them; 0 stays where it is. A number stands for as many on each.
        damping: multiplies the learned precision and damping (1 = as learned); larger moves less.
        engine: of the pushforward: ``fast``, ``reference`` or ``compiled``.

    Example:
        >>> import torch
        >>> from adapt.inner import SquaredError, plain
        >>> time = torch.linspace(0.1, 10, 50)
        >>> def wave(z):
        ...     return (1 + z[0]).mul(time).sin()[None]
        >>> targets, learned = wave(torch.tensor([0.9])), plain(torch.full((1,), 1e-6))
        >>> z, _ = Continuation((0.1, 0.4, 1.0), (3, 3, 3))(wave, targets, SquaredError(), learned)
        >>> z.round(decimals=3)  # from the whole wave at once it is not found
        tensor([0.9000])
    """

    shares: tuple[float, ...] = (0.3, 0.6, 1.0)
    steps: tuple[int, ...] = (3, 3, 4)
    damping: float = 1.0
    engine: Engine = "fast"

    def __post_init__(self) -> None:
        for name, rule in (
            ("shares", Number(above=0, most=1, why="a share of the outputs")),
            ("steps", least(0, "0 passes a share over", ceiling=STEPS)),
        ):
            given: Any = getattr(self, name)
            if name == "steps" and isinstance(given, int | float):  # one number for all
                check_setting(f"inner.{name}", given, rule)
                given = [given] * len(self.shares)
            found = check_setting(f"inner.{name}", given, list_of(rule))
            object.__setattr__(self, name, tuple(found))  # configs bring lists
        check(sum(self.steps), self.damping, self.engine)
        if (
            not self.shares
            or len(self.shares) != len(self.steps)
            or [*self.shares] != sorted({*self.shares})
            or self.shares[-1] < 1
        ):
            raise AdaptError(
                f"inner.shares={[*self.shares]} with inner.steps={[*self.steps]}: give as many steps as "
                "shares, and shares that grow to 1"
            )

    @property
    def stepwise(self) -> bool:
        """See :func:`adapt.inner.solver.is_stepwise`."""
        return sum(self.steps) > 1

    @outside
    def __call__(
        self,
        model: Model | Callable[[Tensor], Tensor],
        targets: Tensor,
        loss: Loss,
        learned: Learned,
        on_step: OnStep | None = None,
    ) -> tuple[Tensor, Trace]:
        """See :class:`adapt.inner.Solver`; cost (1 + k) forward passes a step. The losses of the trace are of
        the whole."""
        function, whole, evaluated = as_model(model), [], 0
        k = learned.precision.numel()
        identity = directions(learned.precision)
        prior, z, curvature = self.damping * learned.precision, torch.zeros_like(learned.precision), None
        back: tuple[Tensor, _Seen, Tensor] | None = None
        for share, steps in zip(self.shares, self.steps, strict=True):
            m = _columns(share, targets, loss)

            def evaluate(z: Tensor, m: int = m) -> _Seen:
                nonlocal evaluated
                if evaluated and on_step is not None:
                    on_step(z)
                evaluated += 1
                # outputs [n, C], columns [k, n, C]
                outputs, columns = pushforward(function.__call__, z, identity, engine=self.engine)
                whole.append(loss.value(outputs, targets))
                return _seen(outputs, columns, targets, loss, m)

            if back is not None:  # the longer part from there costs no pass
                base, then, damping = back
                back = base, _seen(then.outputs, then.columns, targets, loss, m), damping
            found, back = go_on(evaluate, steps, prior, self.damping * learned.damping, z, back)
            z, _, curvature = found
        losses = torch.stack(whole).to(z) if whole else z.new_zeros(0)
        return z, Trace(losses, sum(self.steps) * (1.0 + k), "", curvature, prior)


class _Seen(NamedTuple):
    """The quadratic model of a part, and what it was made of, of the whole."""

    value: Tensor
    gradient: Tensor
    curvature: Tensor
    outputs: Tensor
    columns: Tensor


def _seen(outputs: Tensor, columns: Tensor, targets: Tensor, loss: Loss, m: int) -> _Seen:
    """Of the first ``m`` columns."""
    part = quadratic(outputs[:, :m], columns[..., :m], targets[:, :m], loss)
    return _Seen(*part, outputs, columns)


def _columns(share: float, targets: Tensor, loss: Loss) -> int:
    return math.ceil(share * targets.shape[1]) if loss.regression else targets.shape[1]
