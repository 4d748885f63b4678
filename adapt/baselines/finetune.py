"""Full fine-tuning on the few shots: a linear head first, then every weight.

    (W, θ) ← (W, θ) − Adam(∇ Σ_i CE(y_i, Wᵀ features(x_i; θ)))

Kumar et al. (2022), *Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution*
(LP-FT), section 3: starting from a fitted head is what makes fine-tuning from few examples work.
Normalisation statistics stay frozen.

    θ ← θ − Adam(∇ ½ Σ_i ‖y_i − f(x_i; θ)‖² / n)

In a regression the network's outputs are the predictions and there is no head. Fine-tuning then starts from
the meta-learned φ₀: a network that was never trained on anything else has no better start.
"""

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from adapt.adapter.method import Adapt, Context, Predictor, Role, Support, Watch
from adapt.baselines._module import at_origin
from adapt.baselines._targets import check_outputs, is_regression, targets_of
from adapt.checks import check_settings, least, optional, positive
from adapt.heads import Direct, Logistic

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
        check_settings(self, "finetune", lr=positive(), steps=least(1), max_tasks=optional(least(1)))

    def prepare(self, context: Context) -> Adapt:
        """See :class:`adapt.adapter.Method`."""

        def adapt(support: Support, watch: Watch) -> Predictor:
            if is_regression(support):
                return self._regress(at_origin(context.adapter), support, watch)
            return self._classify(copy.deepcopy(context.backbone), support, watch)

        return adapt

    def _classify(self, network: nn.Module, support: Support, watch: Watch) -> Predictor:
        with torch.no_grad():
            weights = self.head.fit(network(support.x), targets_of(support))
        weights.requires_grad_(True)
        groups: list[dict[str, Any]] = [
            {"params": list(network.requires_grad_(True).parameters())},
            {"params": [weights], "lr": 10 * self.lr},
        ]
        optimizer = torch.optim.Adam(groups, lr=self.lr)

        def predictor(x: Tensor) -> Tensor:
            return self.head.logits(weights, network(x))

        for _ in range(self.steps):
            watch(predictor)  # after every step but the last, which the caller sees, and before the first
            loss = nn.functional.cross_entropy(self.head.logits(weights, network(support.x)), support.y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return predictor

    def _regress(self, network: nn.Module, support: Support, watch: Watch) -> Predictor:
        targets = targets_of(support)
        optimizer = torch.optim.Adam(network.requires_grad_(True).parameters(), lr=self.lr)
        for _ in range(self.steps):
            outputs = network(support.x)
            check_outputs(Direct(), outputs, targets)
            watch(network)
            loss = 0.5 * (outputs - targets).square().sum(-1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return network
