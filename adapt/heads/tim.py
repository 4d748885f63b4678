"""Nearest class mean, the means moved so that what is predicted says much of the examples. Transductive.

    max_W  H(mean of p_q) − α mean of H(p_q) − λ CE(support) ,   p_qc ∝ exp(−‖q − w_c‖² / (2 τ))
    by  r_qc ∝ p_qc^(1+α) / (Σ_q p_qc^(1+α))^½
        w_c ← w_c + [ρ Σ_s (y_sc − p_sc) (s − w_c) + n/m Σ_q (r_qc − p_qc) (q − w_c)]
                    / [ρ Σ_s y_sc + n/m Σ_q r_qc]

with ρ = λ / (1 + α). Boudiaf, Masud, Rony, Dolz, Piantanida, Ben Ayed (2020), *Transductive Information
Maximization for Few-Shot Learning* (TIM-ADM), equations 2 and 5 and proposition 1: predictions that are sure
each, and of all classes about as often. Without the first term it is what transductive fine-tuning asks for
(Dhillon, Chaudhari, Ravichandran, Soatto 2020). Differences: features as in :mod:`adapt.heads.together`, and
n/m is at most m, so that a batch of one counts as one example.
"""

from dataclasses import dataclass

from torch import Tensor

from adapt.checks import STEPS, Number, between, check_settings, least, positive
from adapt.heads.together import Together, means_of, scores, seen
from adapt.precision import full_precision

__all__ = ["TIM"]


@dataclass(frozen=True)
class TIM(Together):
    """``support`` λ > 0: how much the support set counts; ``sure`` α ≥ 0: how much each prediction is to be
    sure; ``temperature`` τ > 0, which here decides as well; ``power`` of the features' sizes; ``steps``.

    Example:
        >>> import torch
        >>> head = TIM()
        >>> state = head.fit(torch.eye(2), torch.eye(2))
        >>> head.logits(state, torch.tensor([[2.0, 0.1], [0.1, 1.0]])).argmax(1).tolist()
        [0, 1]
    """

    support: float = 0.1
    sure: float = 0.1
    temperature: float = 0.1
    power: float = 0.5
    steps: int = 150
    supports_regression: bool = False
    transductive: bool = True

    def __post_init__(self) -> None:
        check_settings(
            self,
            "head",
            support=positive("without the support set there are no classes"),
            sure=between(0, None),
            temperature=positive("a temperature must be positive"),
            power=Number(above=0, most=1),
            steps=least(0, ceiling=STEPS),
        )

    @full_precision
    def logits(self, state: Tensor, features: Tensor) -> Tensor:
        """``[m, C]``: the logarithms of p, which depends on all of them."""
        both = seen(state, features, self.power)
        w, there = means_of(both), both.y.sum(1, keepdim=True)
        m = max(len(both.q), 1)
        own, ratio = self.support / (1 + self.sure), (there.sum() / m).clamp(max=1.0 * m)
        for _ in range(self.steps):
            p = scores(both.q, w, self.temperature).log_softmax(-1)
            r = (1 + self.sure) * p
            r = (r - 0.5 * r.logsumexp(0)).softmax(-1)
            p = p.exp()
            p_s = there * scores(both.s, w, self.temperature).softmax(-1)
            top = own * ((both.y - p_s).T @ both.s + p_s.sum(0)[:, None] * w)
            top = top + ratio * ((r - p).T @ both.q + p.sum(0)[:, None] * w)
            w = top / (own * both.y.sum(0) + ratio * r.sum(0)).clamp(min=1e-6)[:, None]
        return scores(both.q, w, self.temperature).log_softmax(-1)
