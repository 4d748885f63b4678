"""The contract of a head, and what all heads share."""

from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["Head", "is_concrete", "normalise", "one_hot", "with_constant"]


class Head(Protocol):
    """A convex model on features: pure, differentiable and vmappable.

    ``targets [n, C]`` are one-hot rows for classification and values for regression (only where
    ``supports_regression``). ``weights [n]`` are 1 or 0 (None = all 1): a head learns nothing from examples
    of weight 0.
    """

    @property
    def supports_regression(self) -> bool: ...

    def fit(self, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> Any:
        """State of the head fitted on ``features [n, D]`` and ``targets [n, C]``: a pytree of tensors."""
        ...

    def logits(self, state: Any, features: Tensor) -> Tensor:
        """Outputs ``[m, C]`` for ``features [m, D]``."""
        ...

    def loo_logits(self, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Outputs ``[n, C]`` for each example of weight 1 from the head fitted on all *other* such examples
        (leave-one-out); rows of examples of weight 0 are meaningless."""
        ...


def one_hot(labels: Tensor, ways: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """One-hot rows ``[n, C]`` of integer ``labels [n]``, in a floating dtype."""
    return torch.nn.functional.one_hot(labels, ways).to(dtype)


def normalise(features: Tensor) -> Tensor:
    """Rows of ``features [n, D]`` scaled to length √D: heads then need no knowledge of a backbone's feature
    scale."""
    length = features.square().sum(-1, keepdim=True).add(1e-12).rsqrt()  # finite gradient at a zero row
    return features * length * features.shape[-1] ** 0.5


def with_constant(features: Tensor) -> Tensor:
    """``features [n, D]`` with a constant column appended, ``[n, D + 1]``: the intercept as one more
    (penalised) weight."""
    return torch.cat([features, features.new_ones(features.shape[0], 1) * features.shape[-1] ** 0.5], dim=-1)


def is_concrete(tensor: Tensor) -> bool:
    """Whether values can be looked at: not inside ``vmap`` or other transforms of ``torch.func``."""
    return not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
