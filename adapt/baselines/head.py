"""A convex head on the frozen pretrained features: the strongest cheap baseline there is.

    logits(x) = head(features(x; φ_pretrained))

Chen et al. (2019), *A Closer Look at Few-shot Classification*; Tian et al. (2020), *Rethinking Few-Shot Image
Classification*.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import one_hot

from adapt.adapter.method import Adapt, Context, Predictor, Role, Support, Watch
from adapt.heads import Head

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
            with torch.no_grad():
                state = head.fit(backbone(support.x), one_hot(support.y, support.ways).to(support.x.dtype))
            return lambda x: head.logits(state, backbone(x))

        return adapt
