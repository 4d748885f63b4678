"""Predictions that neighbours agree on; network and classifier stay.

    z = argmin Σ_i KL(z_i ‖ p_i) − Σ_ij w_ij ⟨z_i, z_j⟩ ,   by   z_i ∝ p_i exp(Σ_j w_ij z_j)

with w_ij = 1 where f_j is among the k nearest of f_i, all of length 1. Boudiaf, Mueller, Ben Ayed, Bertinetto
(2022), *Parameter-free Online Test-time Adaptation* (LAME), equations 3 and 7. Difference: what is predicted
must not depend on the other queries. z is found for the support set, and each query looks at its neighbours
there.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import normalize

from adapt.adapter.fitted import FittedTask
from adapt.adapter.method import Adapt, Context, Predictor, Role
from adapt.backbones import call
from adapt.baselines.followed import Followed
from adapt.checks import STEPS, check_settings, least

__all__ = ["Lame"]


@dataclass(frozen=True)
class Lame:
    """``classifier`` is whose predictions are adjusted, ``neighbours`` is k, ``steps`` the most there are."""

    classifier: Followed = field(default_factory=lambda: Followed(adapts=False))
    neighbours: int = 5
    steps: int = 100
    max_tasks: int | None = None
    role: Role = "rival"
    keeps_backbone: bool = True

    def __post_init__(self) -> None:
        check_settings(
            self, "lame", neighbours=least(1, "at least one neighbour"), steps=least(1, ceiling=STEPS)
        )

    def prepare(self, context: Context) -> Adapt:
        """See :class:`adapt.adapter.Method`."""
        return self.classifier.adjusted(context, self._adjusted)

    def _adjusted(self, task: FittedTask, x: Tensor) -> Predictor:
        def seen(x: Tensor) -> tuple[Tensor, Tensor]:
            features = call(task.adapter.backbone, task.parameters, x)
            return normalize(features), task.adapter.head.logits(task.head_state, features).log_softmax(-1)

        known, log_p = seen(x)
        alike = known @ known.mT
        alike.fill_diagonal_(-torch.inf)
        near, z = _nearest(alike, self.neighbours), log_p.exp()
        near = torch.maximum(near, near.mT)  # so that what is minimised goes down
        for _ in range(self.steps):
            after = (log_p + near @ z).softmax(-1)
            settled = bool((after - z).abs().max() < 1e-6)
            z = after
            if settled:
                break

        def predict(x: Tensor) -> Tensor:
            features, log_p = seen(x)
            return log_p + _nearest(features @ known.mT, self.neighbours) @ z

        return predict


def _nearest(alike: Tensor, k: int) -> Tensor:
    """1 for the ``k`` most alike of each row, else 0 ``[n, m]``; fewer where there are not so many."""
    found = alike.topk(min(k, max(alike.shape[1] - 1, 1)), -1).indices
    return torch.zeros_like(alike).scatter(1, found, 1.0)
