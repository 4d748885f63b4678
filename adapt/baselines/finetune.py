"""Full fine-tuning on the few shots: a linear head first, then every weight.

    (W, θ) ← (W, θ) − Adam(∇ Σ_i CE(y_i, Wᵀ features(x_i; θ)))

Kumar et al. (2022), *Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution*
(LP-FT), section 3: starting from a fitted head is what makes fine-tuning from few examples work.
Normalisation statistics stay frozen.

    θ ← θ − Adam(∇ ½ Σ_i ‖y_i − f(x_i; θ)‖² / n)

In a regression the network's outputs are the predictions and there is no head. Fine-tuning then starts from
the meta-learned φ₀: a network that was never trained on anything else has no better start.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from adapt.adapter.method import Adapt, Context, Predictor, Role, Support, Watch
from adapt.backbones import plain_call
from adapt.baselines._module import at_origin, trainable_copy, trained
from adapt.baselines._targets import support_for, targets_of
from adapt.checks import TRAINING, check_settings, least, optional, positive
from adapt.heads import Logistic
from adapt.heads.base import check_outputs

__all__ = ["Finetune"]


@dataclass(frozen=True)
class Finetune:
    """``steps`` full-batch Adam steps at rate ``lr`` for the backbone and ten times that for the head, which
    only classification has."""

    lr: float = 1e-3
    steps: int = 20
    head: Logistic = field(default_factory=Logistic)
    max_tasks: int | None = None
    role: Role = "finetune"
    keeps_backbone: bool = True

    def __post_init__(self) -> None:
        check_settings(
            self, "finetune", lr=positive(), steps=least(1, ceiling=TRAINING), max_tasks=optional(least(1))
        )

    def prepare(self, context: Context) -> Adapt:
        """See :class:`adapt.adapter.Method`."""

        def adapt(support: Support, watch: Watch) -> Predictor:
            backbone = context.adapter.backbone if support.regression else context.backbone
            support = support_for(backbone, support)
            if support.regression:
                return self._regress(at_origin(context.adapter), support, watch)
            return self._classify(trainable_copy(context.backbone), support, watch)

        return adapt

    def _classify(self, network: nn.Module, support: Support, watch: Watch) -> Predictor:
        with torch.no_grad():
            weights = self.head.fit(plain_call(network, support.x), targets_of(support))
        weights.requires_grad_(True)
        groups: list[dict[str, Any]] = [
            {"params": list(trained(network).parameters())},
            {"params": [weights], "lr": 10 * self.lr},
        ]
        optimizer = torch.optim.Adam(groups, lr=self.lr)

        def predictor(x: Tensor) -> Tensor:
            return self.head.logits(weights, plain_call(network, x))

        for _ in range(self.steps):
            watch(predictor)  # after every step but the last, which the caller sees, and before the first
            loss = nn.functional.cross_entropy(predictor(support.x), support.y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return predictor

    def _regress(self, network: nn.Module, support: Support, watch: Watch) -> Predictor:
        targets = targets_of(support)

        def predictor(x: Tensor) -> Tensor:
            return plain_call(network, x)

        optimizer = torch.optim.Adam(trained(network).parameters(), lr=self.lr)
        for _ in range(self.steps):
            outputs = predictor(support.x)
            check_outputs(outputs, targets)
            watch(predictor)
            loss = 0.5 * (outputs - targets).square().sum(-1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return predictor
