"""Nearest class mean where neighbours among the examples that are predicted together agree. Transductive.

    y = argmin_y Σ_q y_qᵀ a_q − λ/2 Σ_qp w_qp y_qᵀ y_p + y_qᵀ log y_q ,   a_qc = ‖q − μ_c‖² / (2 τ)
    by   y_q ← softmax(−a_q + λ Σ_p w_qp y_p)

with w_qp = 1 where p is one of the k nearest of q, or q of p. Ziko, Dolz, Granger, Ben Ayed (2020),
*Laplacian Regularized Few-Shot Learning* (LaplacianShot), equations 1, 6 and 7. The means μ_c are those of
the support set and of the examples themselves, softly assigned (Liu, Song, Qin 2020, *Prototype Rectification
for Few-Shot Learning*, BD-CSPN, equation 6), which is all there is with λ = 0. Differences: features as in
:mod:`adapt.heads.together`; τ is explicit.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from adapt.checks import STEPS, WIDTH, Number, between, check_settings, least, positive
from adapt.heads.together import Together, means_of, scores, seen
from adapt.precision import full_precision

__all__ = ["LaplacianShot"]

#: Difference of cosines up to which two are as near.
ROUNDING = 1e-4


@dataclass(frozen=True)
class LaplacianShot(Together):
    """``pull`` λ ≥ 0: how much neighbours count; ``neighbours`` k; ``power`` of the features' sizes;
    ``temperature`` τ > 0, which here decides as well; ``steps`` of the iteration.

    Example:
        >>> import torch
        >>> head = LaplacianShot()
        >>> state = head.fit(torch.eye(2), torch.eye(2))
        >>> head.logits(state, torch.tensor([[2.0, 0.1], [1.0, 0.2], [0.1, 1.0]])).argmax(1).tolist()
        [0, 0, 1]
    """

    pull: float = 0.7
    neighbours: int = 3
    power: float = 0.5
    temperature: float = 0.1
    steps: int = 20
    supports_regression: bool = False
    transductive: bool = True

    def __post_init__(self) -> None:
        check_settings(
            self,
            "head",
            pull=between(0, None, "neighbours pull, or do nothing (0)"),
            neighbours=least(1, "at least one neighbour", most=WIDTH),
            power=Number(above=0, most=1),
            temperature=positive("a temperature must be positive"),
            steps=least(1, ceiling=STEPS),
        )

    @full_precision
    def logits(self, state: Tensor, features: Tensor) -> Tensor:
        """``[m, C]``: the logarithms of y, which depends on all of them."""
        both = seen(state, features, self.power)
        first = scores(both.q, means_of(both), self.temperature).softmax(-1)
        alone = scores(both.q, means_of(both, first), self.temperature)
        logits, near = alone, self._near(both.q)
        if near is None:
            return logits.log_softmax(-1)
        for _ in range(self.steps):
            logits = alone + self.pull * near @ logits.softmax(-1)
        return logits.log_softmax(-1)

    def _near(self, q: Tensor) -> Tensor | None:
        """w ``[m, m]``; None where there are no neighbours, or they do not count."""
        k = min(self.neighbours, len(q) - 1)
        if k < 1 or not self.pull:
            return None
        itself = torch.eye(len(q), dtype=q.dtype, device=q.device)
        alike = q @ q.T - 4 * itself  # of length 1: at most 1, at least −1
        # With all that are as near as the kth, up to rounding: which of them came first does not matter.
        near = (alike >= alike.topk(k, -1).values[:, -1:] - ROUNDING).to(q.dtype)
        return torch.maximum(near, near.T)
