"""Full fine-tuning on the few shots: a linear head first, then every weight.

    (W, θ) ← (W, θ) − Adam(∇ Σ_i CE(y_i, Wᵀ features(x_i; θ)))

Kumar et al. (2022), *Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution*
(LP-FT), section 3: starting from a fitted head is what makes fine-tuning from few examples work.
Normalisation statistics stay frozen.
"""

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.functional import one_hot

from adapt.adapter.method import Adapt, Context, Predictor, Role, Support, Watch
from adapt.errors import AdaptError
from adapt.heads import Logistic

__all__ = ["Finetune"]


@dataclass(frozen=True)
class Finetune:
    """``steps`` full-batch Adam steps at rate ``lr`` for the backbone and ten times that for the head."""

    lr: float = 1e-3
    steps: int = 20
    head: Logistic = field(default_factory=Logistic)
    max_tasks: int | None = None
    role: Role = "finetune"
    keeps_backbone: bool = True

    def __post_init__(self) -> None:
        if not self.lr > 0 or self.steps < 1:
            raise AdaptError(f"finetune: lr={self.lr}, steps={self.steps}: both must be positive")

    def prepare(self, context: Context) -> Adapt:
        """See :class:`adapt.adapter.Method`."""

        def adapt(support: Support, watch: Watch) -> Predictor:
            network = copy.deepcopy(context.backbone).requires_grad_(True)
            with torch.no_grad():
                weights = self.head.fit(
                    network(support.x), one_hot(support.y, support.ways).to(support.x.dtype)
                )
            weights.requires_grad_(True)
            groups: list[dict[str, Any]] = [
                {"params": list(network.parameters())},
                {"params": [weights], "lr": 10 * self.lr},
            ]
            optimizer = torch.optim.Adam(groups, lr=self.lr)
            for _ in range(self.steps):
                loss = nn.functional.cross_entropy(self.head.logits(weights, network(support.x)), support.y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            return lambda x: self.head.logits(weights, network(x))

        return adapt
