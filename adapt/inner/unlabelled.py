"""A loss of examples without labels, for a classifier that stays as it is.

    ℓ = Σ_i H(p_i) − d n H(p̄) + s n ‖m‖² / 2D ,   p_i = softmax(o_i) ,   p̄ = mean p_i ,   m = mean f_i

Entropy of every prediction: Wang et al. (2021), *Tent: Fully Test-Time Adaptation by Entropy Minimization*,
section 3.2. It alone is least where all examples are of one class; −H(p̄) speaks against that: Krause, Perona,
Gomes (2010), *Discriminative Clustering by Regularized Information Maximization*, and Liang, Hu, Feng (2020),
*Do We Really Need to Access the Source Data?*, equations 3 and 4. The last part draws the mean of the
features, in units of their deviation on the source, to where it was there: Niu et al. (2024), *Test-Time
Model Adaptation with Only Forward Passes*, equation 5. It is no convex function of the outputs; its curvature
is taken to be that of the model, diag p − p pᵀ (the Fisher information of a prediction), so that a step is a
natural gradient (Amari 1998).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from adapt.checks import WIDTH, between, check_settings, least
from adapt.inner.losses import Loss

__all__ = ["Unlabelled"]


@dataclass(frozen=True)
class Unlabelled(Loss):
    """Outputs ``[n, C + D]`` are the logits of C classes, then D features in units of the source's; targets
    are not looked at.

    Args:
        classes: C.
        diversity: d.
        statistics: s.

    Example:
        >>> import torch
        >>> sure, unsure = torch.tensor([[9.0, 0.0], [0.0, 9.0]]), torch.zeros(2, 2)
        >>> loss = Unlabelled(2)
        >>> bool(loss.value(sure, sure) < loss.value(unsure, unsure))
        True
    """

    classes: int
    diversity: float = 1.0
    statistics: float = 1.0
    regression: bool = False

    def __post_init__(self) -> None:
        check_settings(
            self,
            "loss",
            classes=least(2, "at least two classes", ceiling=WIDTH),
            diversity=between(0, None),
            statistics=between(0, None),
        )

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """ℓ in as many parts as there are examples ``[n]``; what depends on all is divided evenly."""
        logits, features = self._divided(outputs)
        log_p = logits.log_softmax(-1)
        mean = self._log_mean(log_p)
        each = -(log_p.exp() * log_p).sum(-1) + self.diversity * (mean.exp() * mean).sum(-1)
        if not features.shape[-1]:
            return each
        return each + 0.5 * self.statistics * features.mean(0).square().mean()

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        logits, features = self._divided(outputs)
        log_p = logits.log_softmax(-1)
        p, away = log_p.exp(), self.diversity * self._log_mean(log_p) - log_p
        slope = p * (away - (p * away).sum(-1, keepdim=True))
        rest = self.statistics * features.mean(0) / max(features.shape[-1], 1)
        return torch.cat([slope, rest.expand_as(features)], -1)

    def curvature(self, outputs: Tensor, columns: Tensor) -> Tensor:
        logits, _ = self._divided(outputs)
        p = logits.softmax(-1)
        along, features = self._divided(columns)
        bent = p * along - p * (p * along).sum(-1, keepdim=True)
        rest = self.statistics * features.mean(-2, keepdim=True) / max(features.shape[-1], 1)
        return torch.cat([bent, rest.expand_as(features)], -1)

    def _divided(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        return outputs[..., : self.classes], outputs[..., self.classes :]

    def _log_mean(self, log_p: Tensor) -> Tensor:
        return log_p.logsumexp(0) - log_p.new_tensor(float(len(log_p))).log()
