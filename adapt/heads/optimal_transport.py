"""Nearest class mean, by a transport of all that is predicted together to the classes. Transductive.

    P = argmin_P Σ_qc P_qc ‖q − μ_c‖² − τ H(P) ,   Σ_c P_qc = 1 ,   Σ_q P_qc = m / C
    μ_c ← μ_c + α (mean of the support features of c and of the examples, weighed by P_qc, − μ_c)

Hu, Gripon, Pateux (2021), *Leveraging the Feature Distribution in Transfer-based Few-Shot Learning* (PT-MAP),
equations 3 to 6 and algorithm 1, P by the iteration of Sinkhorn (Cuturi 2013, *Sinkhorn Distances*). It
assumes that the classes are about equally frequent among the examples, and a few examples cannot be. So,
unlike there, a class's sum is held as if ``unknown`` more examples of every class had come as expected: 0 is
the rule of the paper, and with a large number no frequency is assumed.
"""

from dataclasses import dataclass

from torch import Tensor

from adapt.checks import STEPS, Number, between, check_settings, least, positive
from adapt.heads.together import Together, means_of, scores, seen
from adapt.precision import full_precision

__all__ = ["OptimalTransport"]

#: Iterations of Sinkhorn, after which sums are right to a few digits.
SINKHORN = 30


@dataclass(frozen=True)
class OptimalTransport(Together):
    """``temperature`` τ > 0, which here decides as well; ``steps`` of the means, of size ``rate`` α;
    ``unknown`` ≥ 0: how little the frequencies of classes are known; ``power`` of the features' sizes.

    Example:
        >>> import torch
        >>> head = OptimalTransport()
        >>> state = head.fit(torch.eye(2), torch.eye(2))
        >>> head.logits(state, torch.tensor([[2.0, 0.1], [0.1, 1.0]])).argmax(1).tolist()
        [0, 1]
    """

    temperature: float = 0.1
    steps: int = 10
    rate: float = 0.2
    unknown: float = 1.0
    power: float = 0.5
    supports_regression: bool = False
    transductive: bool = True

    def __post_init__(self) -> None:
        check_settings(
            self,
            "head",
            temperature=positive("a temperature must be positive"),
            steps=least(0, ceiling=STEPS),
            rate=Number(above=0, most=1),
            unknown=between(0, None),
            power=Number(above=0, most=1),
        )

    @full_precision
    def logits(self, state: Tensor, features: Tensor) -> Tensor:
        """``[m, C]``: the logarithms of P, which depends on all of them."""
        both = seen(state, features, self.power)
        means = means_of(both)
        for _ in range(self.steps):
            assigned = self._transported(scores(both.q, means, self.temperature)).exp()
            means = means + self.rate * (means_of(both, assigned) - means)
        return self._transported(scores(both.q, means, self.temperature))

    def _transported(self, logits: Tensor) -> Tensor:
        """log P ``[m, C]``, rows of which add up to 1."""
        m, ways = logits.shape
        expected = m / ways + self.unknown
        logits = logits.log_softmax(-1)
        for _ in range(SINKHORN):
            sums = logits.exp().sum(0) + self.unknown
            logits = (logits + (expected / sums.clamp(min=1e-12)).log()).log_softmax(-1)
        return logits
