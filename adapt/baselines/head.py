"""A convex head on the frozen pretrained features: the strongest cheap baseline there is.

    outputs(x) = head(features(x; φ_pretrained))

Chen et al. (2019), *A Closer Look at Few-shot Classification*; Tian et al. (2020), *Rethinking Few-Shot Image
Classification*. For a regression the same with a head that predicts values.
"""

from dataclasses import dataclass

import torch

from adapt.adapter.method import Adapt, Context, Predictor, Role, Support, Watch
from adapt.backbones import inputs_for, plain_call
from adapt.baselines._targets import support_for, targets_of
from adapt.heads import Head
from adapt.heads.base import check_outputs, check_regression

__all__ = ["HeadOnly"]


@dataclass(frozen=True)
class HeadOnly:
    """Nothing of the backbone moves, and nothing meta-learned is used."""

    head: Head
    max_tasks: int | None = None
    role: Role = "head"
    keeps_backbone: bool = True

    def prepare(self, context: Context) -> Adapt:
        """See :class:`adapt.adapter.Method`."""
        backbone, head = context.backbone, self.head

        def adapt(support: Support, watch: Watch) -> Predictor:
            if support.regression:
                check_regression(head)
            support = support_for(backbone, support)
            targets = targets_of(support)
            with torch.no_grad():
                features = plain_call(backbone, support.x)
                state = head.fit(features, targets)
                check_outputs(head.logits(state, features), targets)
            return lambda x: head.logits(state, plain_call(backbone, inputs_for(backbone, x)))

        return adapt
