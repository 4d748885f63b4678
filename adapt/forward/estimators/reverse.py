"""The gradient by reverse mode (backpropagation), the baseline that every estimator is measured against.

    g = ∇f(x)

Linnainmaa (1970); Rumelhart, Hinton, Williams (1986), *Learning representations by back-propagating errors*.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import grad_and_value

from adapt.forward.estimators.base import GradientInfo

__all__ = ["Reverse"]


@dataclass(frozen=True)
class Reverse:
    """Exact for any number of parameters; stores activations and runs a backward pass.

    Example:
        >>> import torch
        >>> Reverse()(lambda z: (z**2).sum(), torch.tensor([1.0, 2.0]))[1]
        tensor([2., 4.])
    """

    exact: bool = True

    def __call__(
        self, f: Callable[[Tensor], Tensor], x: Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, GradientInfo]:
        """Return ``f(x)``, the gradient ``[P]`` at ``x [P]``, and its info; ``generator`` is not used."""
        gradient, value = grad_and_value(f)(x)
        return value, gradient, GradientInfo(exact=True, tangents=0, passes=2.0)
