"""No head: the network's outputs are the predictions.

    outputs(x) = f(x; φ)

As in MAML (Finn, Abbeel, Levine 2017), where the last layer is one of those that adapt. Nothing is fitted, so
there is nothing to leave out: the support loss is the plain training loss.
"""

from dataclasses import dataclass

from torch import Tensor

from adapt.precision import full_precision

__all__ = ["Direct"]


@dataclass(frozen=True)
class Direct:
    """Features ``[n, C]`` are outputs; the network has as many of them as there are targets.

    Example:
        >>> import torch
        >>> head, outputs = Direct(), torch.tensor([[0.3]])
        >>> head.logits(head.fit(outputs, outputs), outputs)
        tensor([[0.3000]])
    """

    supports_regression: bool = True

    @full_precision
    def fit(self, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Nothing: ``[0]``."""
        return features.new_zeros(0)

    def state_shape(self, features: int | None, outputs: int) -> tuple[int | None, ...]:
        """``[0]``."""
        return (0,)

    @full_precision
    def logits(self, state: Tensor, features: Tensor) -> Tensor:
        """``features`` themselves, ``[m, C]``."""
        return features

    @full_precision
    def loo_logits(self, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """``features`` themselves, ``[n, C]``."""
        return features
