"""The contract of an inner solver: what it is given, and what it returns."""

from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from adapt.inner.losses import Loss
from adapt.precision import autocast_of, is_low, outside_autocast, wide

__all__ = ["Learned", "Model", "OnStep", "Solver", "Trace", "as_model", "is_stepwise", "outside", "plain"]

Readout = Callable[[Tensor, Tensor | None], Tensor]
HeldOut = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
OnStep = Callable[[Tensor], None]


class Learned(NamedTuple):
    """What meta-training has learned about z.

    Attributes:
        precision: of the prior z ~ N(0, Λ): the diagonal of Λ⁻¹ ``[k]``, in units of the support loss summed
            over examples. Directions in which tasks differ more have a smaller one.
        damping: μ ≥ 0 of Levenberg and Marquardt, scalar: shortens a step, whatever z it starts from.
        rates: factors on the learning rate of each direction ``[k]`` (Meta-SGD).
    """

    precision: Tensor
    damping: Tensor
    rates: Tensor


class Model(NamedTuple):
    """The support examples as a function of z, in two parts: the network, and what is cheap on top of it.

    Attributes:
        features: ``z [k] → [n, D]``, the costly part.
        readout: ``(features, weights) → outputs [n, C]`` of the support loss. ``weights [n]`` (1 or 0; None =
            all 1): examples of weight 0 teach nothing; their own rows are meaningless.
        held_out: ``(features [n, D], columns [k, n, D]) → outputs [n, C], slopes [k, n, C]``: what the head
            that will be used in the end says of each example without having seen it, and the derivatives of
            that along the columns, the head held fixed.
        direct: nothing is on top: outputs are the features themselves, and no example is left out.
    """

    features: Callable[[Tensor], Tensor]
    readout: Readout
    held_out: HeldOut
    direct: bool = False

    def __call__(self, z: Tensor) -> Tensor:
        """Outputs of the support loss ``[n, C]``."""
        return self.readout(self.features(z), None)


class Trace(NamedTuple):
    """What a solver did.

    Attributes:
        losses: support loss (sum over examples, without prior) before every step.
        forward_equivalents: nominal cost in passes over the support set: 1 for a value, 1 per tangent, 2 for
            a full backward pass.
        choice: in words, of a solver that chooses; else empty.
        curvature: Σ_i J_iᵀ H_i J_i ``[k, k]`` of the linearisation that z was solved for; None of a solver
            that has none.
        prior: the diagonal of Λ⁻¹ ``[k]`` that z was solved with, infinite where it was held at 0; likewise.
    """

    losses: Tensor
    forward_equivalents: float
    choice: str = ""
    curvature: Tensor | None = None
    prior: Tensor | None = None


class Solver(Protocol):
    """Minimises loss(model(z), targets) + ½ zᵀ diag(precision) z from z = 0; pure, differentiable,
    vmappable.

    Non-finite values never reach z: a step that is not finite is not taken.

    A solver that goes step by step through the network may say so with a property ``stepwise``, and is then
    called with ``on_step`` where somebody wants to look (:func:`is_stepwise`).
    """

    def __call__(
        self, model: Model | Callable[[Tensor], Tensor], targets: Tensor, loss: Loss, learned: Learned
    ) -> tuple[Tensor, Trace]:
        """``model`` maps z ``[k]`` to outputs ``[n, C]``, as a :class:`Model` or any function;
        ``targets [n, C]``; returns z ``[k]`` and the trace."""
        ...


def is_stepwise(solver: Solver) -> bool:
    """Whether ``solver`` takes steps that can be looked at: it then takes an argument ``on_step``, called
    with z ``[k]`` (only to be read) after every step that another one follows."""
    return bool(getattr(solver, "stepwise", False))


def plain(precision: Tensor) -> Learned:
    """A prior of the given ``precision [k]``, without damping, with all rates 1."""
    return Learned(precision, precision.new_zeros(()), torch.ones_like(precision))


def as_model(model: Model | Callable[[Tensor], Tensor]) -> Model:
    """A function of z alone is its own features; there is nothing on top of it. They are float32 at least."""
    if not isinstance(model, Model):
        model = Model(model, lambda features, weights: features, lambda *seen: seen, True)
    compute = model.features
    return model._replace(features=lambda z: wide(compute(z)))


Solve = TypeVar("Solve", bound=Callable[..., Any])


def outside(solve: Solve) -> Solve:
    """``solve``, the ``__call__`` of a solver, in float32 or wider and outside ``torch.autocast``: z, the
    prior and the steps. Only the network (``model.features``) keeps the autocast, and gets z in the dtype
    that the prior came in."""

    @wraps(solve)
    def solved(
        self: Any,
        model: Model | Callable[[Tensor], Tensor],
        targets: Tensor,
        loss: Loss,
        learned: Learned,
        **on_step: OnStep,
    ) -> tuple[Tensor, Trace]:
        function, ambient, given = as_model(model), autocast_of(targets.device), learned.precision.dtype
        compute = function.features
        if is_low(given):
            function = function._replace(features=lambda z: compute(z.to(given)))
        function = function._replace(features=ambient.around(function.features))
        with outside_autocast(targets.device):
            result: tuple[Tensor, Trace] = solve(
                self, function, wide(targets), loss, Learned(*map(wide, learned)), **on_step
            )
        return result

    return solved  # type: ignore[return-value]
