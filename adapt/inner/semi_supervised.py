"""A loss of examples with and without labels, for a classifier that stays as it is.

    ℓ = Σ_l −log p_i[y_i] + Σ_u w_i H(p_i) − d n_u H(p̄) + s n ‖m‖² / 2D ,   p_i = softmax(o_i)

over labelled examples l and unlabelled ones u; p̄ is the mean of the latter's p_i, m that of all f_i.
Entropy of every prediction: Wang et al. (2021), *Tent: Fully Test-Time Adaptation by Entropy Minimization*,
section 3.2. It alone is least where all examples are of one class; −H(p̄) speaks against that: Krause, Perona,
Gomes (2010), *Discriminative Clustering by Regularized Information Maximization*, and Liang, Hu, Feng (2020),
*Do We Really Need to Access the Source Data?*, equations 3 and 4. With a margin E, which is a share of log C,
w_i = exp(E log C − H_i) where H_i is below it, else 0, and no slope goes through w: Niu et al. (2022),
*Efficient Test-Time Model Adaptation without Forgetting* (EATA), equation 3. The last part draws the mean of
the features, in units of their deviation on the source, to where it was there: Niu et al. (2024), *Test-Time
Model Adaptation with Only Forward Passes*, equation 5. Without labels ℓ is no convex function of the outputs;
its curvature is taken to be that of the model, diag p − p pᵀ (the Fisher information of a prediction), so
that a step is a natural gradient (Amari 1998). Of a labelled example it is that of the cross-entropy as well.
"""

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from adapt.checks import WIDTH, between, check_settings, least, optional
from adapt.inner.losses import Loss

__all__ = ["SemiSupervised"]


@dataclass(frozen=True)
class SemiSupervised(Loss):
    """Outputs ``[n, C + D]`` are the logits of C classes, then D features in units of the source's. Targets
    are rows of C that sum to one, or to zero where there is no label; ``[n, 0]`` if there is none at all.

    Args:
        diversity: d.
        statistics: s.
        margin: E, 0 … 1; None: every w is 1.
        classes: C; None: all outputs are logits.

    Example:
        >>> import torch
        >>> sure, unsure = torch.tensor([[9.0, 0.0], [0.0, 9.0]]), torch.zeros(2, 2)
        >>> loss, no_labels = SemiSupervised(), torch.zeros(2, 0)
        >>> bool(loss.value(sure, no_labels) < loss.value(unsure, no_labels))
        True
    """

    diversity: float = 1.0
    statistics: float = 1.0
    margin: float | None = None
    classes: int | None = None
    regression: bool = False

    def __post_init__(self) -> None:
        check_settings(
            self,
            "loss",
            diversity=between(0, None),
            statistics=between(0, None),
            margin=optional(between(0, 1)),
            classes=optional(least(2, "at least two classes", ceiling=WIDTH)),
        )

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """ℓ in as many parts as there are examples ``[n]``; what depends on several is divided evenly."""
        logits, features = self._divided(outputs)
        log_p, free = logits.log_softmax(-1), _free(targets, logits)
        mean = _log_mean(log_p, free)
        each = self._weight(log_p) * _entropy(log_p) + self.diversity * (mean.exp() * mean).sum(-1)
        each = free[:, 0] * each
        if targets.shape[-1]:
            each = each - (targets * log_p).sum(-1)
        if not features.shape[-1]:
            return each
        return each + 0.5 * self.statistics * features.mean(0).square().mean()

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        logits, features = self._divided(outputs)
        log_p, free = logits.log_softmax(-1), _free(targets, logits)
        p, weight = log_p.exp(), self._weight(log_p)[:, None]
        away = self.diversity * _log_mean(log_p, free) - weight * log_p
        slope = free * p * (away - (p * away).sum(-1, keepdim=True))
        if targets.shape[-1]:
            slope = slope + (1 - free) * (p - targets)
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
        classes = outputs.shape[-1] if self.classes is None else self.classes
        return outputs[..., :classes], outputs[..., classes:]

    def _weight(self, log_p: Tensor) -> Tensor:
        """w ``[n]``, constants."""
        entropy = _entropy(log_p).detach()
        if self.margin is None:
            return torch.ones_like(entropy)
        most = self.margin * log(log_p.shape[-1])
        return torch.where(entropy < most, (most - entropy).exp(), 0)


def _entropy(log_p: Tensor) -> Tensor:
    return -(log_p.exp() * log_p).sum(-1)


def _free(targets: Tensor, logits: Tensor) -> Tensor:
    """1 for examples without a label, else 0 ``[n, 1]``."""
    if not targets.shape[-1]:
        return torch.ones_like(logits[:, :1])
    return 1 - targets.sum(-1, keepdim=True)


def _log_mean(log_p: Tensor, free: Tensor) -> Tensor:
    """log p̄ ``[C]``, far below all where no example is free."""
    kept = torch.where(free > 0.5, log_p, -1e30)
    return kept.logsumexp(0) - free.sum().clamp(min=1.0).log()
