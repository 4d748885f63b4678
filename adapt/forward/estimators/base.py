"""The contract of a gradient estimator."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from adapt.checks import WIDTH, check_setting, least

__all__ = ["Estimator", "GradientInfo", "check_tangents"]


class GradientInfo(NamedTuple):
    """What an estimate is worth and what it cost: ``exact`` is True only if it equals the gradient;
    ``tangents`` counts forward directions (0 = none); ``passes`` is the nominal cost, in forward passes, of
    whatever else came on top of the value (2 for a backward pass)."""

    exact: bool
    tangents: int
    passes: float = 0.0


class Estimator(Protocol):
    """A pure function from a scalar loss and a point to its value and (an estimate of) its gradient.

    ``exact`` is a capability of the object: callers ask the flag, never the class name.
    """

    @property
    def exact(self) -> bool: ...

    def __call__(
        self, f: Callable[[Tensor], Tensor], x: Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, GradientInfo]:
        """Return ``f(x)`` (scalar), the gradient ``[P]`` at ``x [P]``, and what it is worth."""
        ...


def check_tangents(tangents: int) -> None:
    """Refuse a number of tangents that estimates nothing."""
    check_setting(
        "tangents", tangents, least(1, "a forward gradient needs at least one tangent", ceiling=WIDTH)
    )
