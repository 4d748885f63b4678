"""Exact forward gradient in a low-dimensional space.

    g = Σ_j (∇f · e_j) e_j ,   e_1 … e_k the unit vectors of R^k

Griewank and Walther (2008), *Evaluating Derivatives*, section 3.1: the gradient of a function of k variables
costs one pass with k tangents. Where k is the few dimensions of an adapter subspace, nothing is estimated.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from adapt.forward.estimators.base import GradientInfo
from adapt.forward.pushforward import directions, pushforward

__all__ = ["Exact"]


@dataclass(frozen=True)
class Exact:
    """All k unit tangents at once; cost about 1 + k forward passes.

    Example:
        >>> import torch
        >>> Exact()(lambda z: (z**2).sum(), torch.tensor([1.0, 2.0]))[1]
        tensor([2., 4.])
    """

    exact: bool = True

    def __call__(
        self, f: Callable[[Tensor], Tensor], x: Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, GradientInfo]:
        """Return ``f(x)``, the gradient ``[k]`` at ``x [k]``, and its info; ``generator`` is not used."""
        value, gradient = pushforward(f, x, directions(x))
        return value, gradient, GradientInfo(exact=True, tangents=x.numel())
