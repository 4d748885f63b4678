"""Labels of the support set, weighed by how alike it is.

    p_c(f) = Σ_{i ∈ c} a(f, f_i) ,   a(f, f_i) = exp(cos(f, f_i) / τ) / Σ_j exp(cos(f, f_j) / τ)

Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra (2016), *Matching Networks for One Shot Learning*,
equations 1 and 2, without the embeddings that read the whole support set. The temperature τ, 1 there, is
explicit. Logits are log Σ_{i ∈ c} exp(cos(f, f_i) / τ): their softmax is p.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from adapt.checks import check_settings, positive
from adapt.heads.base import KeepsSupport, normalise
from adapt.precision import full_precision

__all__ = ["Matching"]


@dataclass(frozen=True)
class Matching(KeepsSupport):
    """``temperature`` τ > 0: near 0 the most alike example decides, and with a large one all of them do.

    Example:
        >>> import torch
        >>> head = Matching()
        >>> state = head.fit(torch.eye(2), torch.eye(2))
        >>> head.logits(state, torch.tensor([[2.0, 0.1]])).argmax().item()
        0
    """

    temperature: float = 0.1
    supports_regression: bool = False

    def __post_init__(self) -> None:
        check_settings(self, "head", temperature=positive("a temperature must be positive"))

    @full_precision
    def logits(self, state: Tensor, features: Tensor) -> Tensor:
        """``[m, C]``; a class without examples is taken for the opposite of everything."""
        d = features.shape[-1]
        return self._of(normalise(features) @ state[:, :d].T, state[:, d:], d)

    @full_precision
    def loo_logits(self, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """``[n, C]``."""
        d = features.shape[-1]
        state = self.fit(features, targets, weights)
        others = 1 - torch.eye(len(state), dtype=state.dtype, device=state.device)
        return self._of(state[:, :d] @ state[:, :d].T, state[:, d:], d, others)

    def _of(self, inner: Tensor, y: Tensor, d: int, others: Tensor | None = None) -> Tensor:
        """Logits ``[m, C]`` of inner products ``[m, n]`` of rows of length √D; ``others [m, n]``: 1 where an
        example counts."""
        alike = (inner / d - 1) / self.temperature  # at most 0: nothing overflows
        weighed = alike.exp() if others is None else alike.exp() * others
        sums = weighed @ y  # [m, C]
        some = ~(sums <= 0)  # NaN stays
        least = -2 / self.temperature
        return torch.where(some, torch.where(some, sums, 1).log(), least).clamp(min=least)
