"""How far an adapter's predictions may be believed, as numbers that are learned on validation tasks."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import prod

import torch
from torch import Tensor

from adapt.checks import between, check_settings, positive
from adapt.inner import Loss
from adapt.inner.tails import HEAVIEST
from adapt.precision import double

__all__ = ["Calibration", "described", "representable", "scales"]


@dataclass(frozen=True)
class Calibration:
    """What turns the curvature of a support loss into a distribution of outputs.

        regression   N(f(x, z*), s J A⁻¹ Jᵀ + noise · I) ,   s = spread · n^−decline
        classes      softmax of logits / noise, whose covariance is s J A⁻¹ Jᵀ / noise²

    Attributes:
        spread: factor on the covariance A⁻¹ of z that a single example would leave.
        noise: regression: variance of an observation; classes: temperature of the logits.
        decline: how the factor falls with the number n of examples. A Gaussian around a point is wider than
            what it stands for where few examples leave z far from known, and outputs are not linear in it.
        tail: regression: 1/ν, 0 … 1/2, of Student's t with this covariance that the values of several
            examples follow together (:mod:`adapt.inner.tails`); 0: Gaussian. How far off a network is differs
            from task to task; single predictions are given as if they were Gaussian.
    """

    spread: float
    noise: float
    decline: float = 0.0
    tail: float = 0.0

    def __post_init__(self) -> None:
        rules = {"spread": positive(), "noise": positive(), "decline": between(-10, 10)}
        rules["tail"] = between(0, HEAVIEST, "Student's t with so heavy tails has no variance")
        check_settings(self, "calibration", **rules)

    def spread_of(self, examples: Tensor) -> Tensor:
        """s after so many ``examples``, of their shape."""
        return self.spread * examples.clamp(min=1) ** -self.decline


def described(calibration: Calibration | None) -> dict[str, float] | None:
    """As JSON."""
    return None if calibration is None else asdict(calibration)


def scales(
    calibration: Calibration | None, loss: Loss, value: Tensor, z: Tensor, prior: Tensor, shape: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """``spread`` and ``noise``, scalars, float64: those that were learned; where nothing was, 1 for
    classes, and for values what makes the support set most probable.

        s = (2 ℓ(z) + zᵀ Λ⁻¹ z) / (n C)

    MacKay (1992), *Bayesian Interpolation*, equation 4.8, with all numbers counted as determined by the
    noise.

    Args:
        value: the support loss ℓ at z.
        prior: the diagonal of Λ⁻¹ ``[k]``.
        shape: of the targets, n and C.
    """
    one = double(z.new_ones(()))
    if calibration is not None:
        return calibration.spread_of(one * shape[0]), one * calibration.noise
    if not loss.regression:
        return one, one
    moved = (double(prior.where(prior.isfinite(), prior.new_zeros(()))) * double(z).square()).sum()
    found = representable((2 * double(value) + moved) / prod(shape))
    return found, found


def representable(variance: Tensor) -> Tensor:
    """``variance`` as a positive number, also that of a perfect fit."""
    limits = torch.finfo(variance.dtype)
    return variance.clamp(min=limits.tiny, max=limits.max)
