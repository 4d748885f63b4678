"""A head that has been fitted and stays, whatever the support set is: a classifier of classes that stay.

    outputs(x) = head(f(x; φ); W) ,   W fitted once, to other examples

So a task's labels can move the network only, as when the last layer of a network is frozen: Sun, Wang, Liu,
Miller, Efros, Hardt (2020), *Test-Time Training with Self-Supervision for Generalization under Distribution
Shifts*. Nothing is fitted, so there is nothing to leave out.
"""

from dataclasses import dataclass

from torch import Tensor

from adapt.heads.base import Head

__all__ = ["Staying"]


@dataclass(frozen=True, eq=False)
class Staying:
    """``head`` with the ``state`` that it has.

    Example:
        >>> import torch
        >>> from adapt.heads import Logistic
        >>> known = Logistic().fit(torch.eye(2), torch.eye(2))
        >>> head, x = Staying(Logistic(), known), torch.tensor([[0.9, 0.2]])
        >>> state = head.fit(x, torch.tensor([[0.0, 1.0]]))  # not looked at
        >>> head.logits(state, x).argmax().item()
        0
    """

    head: Head
    state: Tensor

    @property
    def supports_regression(self) -> bool:
        return self.head.supports_regression

    def fit(self, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """``state``."""
        return self.state

    def state_shape(self, features: int | None, outputs: int) -> tuple[int | None, ...]:
        """That of ``state``."""
        return tuple(self.state.shape)

    def logits(self, state: Tensor, features: Tensor) -> Tensor:
        """Of the head, ``[m, C]``."""
        return self.head.logits(state, features)

    def loo_logits(self, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """As :meth:`logits`, ``[n, C]``."""
        return self.head.logits(self.state, features)
