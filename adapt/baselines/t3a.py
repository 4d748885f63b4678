"""The classes' weights moved to the examples that look most like them; the network stays.

    S_c = {ω_c} ∪ {f_i : ŷ_i = c, of the M least H(p_i)} ,   ŷ(f) = argmax_c ⟨f, mean of S_c⟩

with ω_c the weights of class c in the classifier, f_i the features of the examples, both of length 1. Iwasawa
and Matsuo (2021), *Test-Time Classifier Adjustment Module for Model-Agnostic Domain Generalization* (T3A),
equations 4 to 7. Difference: the support set is there at once, not a stream.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import normalize

from adapt.adapter.fitted import FittedTask
from adapt.adapter.method import Adapt, Context, Predictor, Role
from adapt.backbones import call
from adapt.baselines.followed import Followed
from adapt.checks import check_settings, least

__all__ = ["T3A"]


@dataclass(frozen=True)
class T3A:
    """``classifier`` is what is adjusted, ``most`` is M."""

    classifier: Followed = field(default_factory=lambda: Followed(adapts=False))
    most: int = 20
    max_tasks: int | None = None
    role: Role = "rival"
    keeps_backbone: bool = True

    def __post_init__(self) -> None:
        check_settings(self, "t3a", most=least(1, "at least one example of a class"))

    def prepare(self, context: Context) -> Adapt:
        """See :class:`adapt.adapter.Method`."""
        return self.classifier.adjusted(context, self._adjusted)

    def _adjusted(self, task: FittedTask, x: Tensor) -> Predictor:
        network = task.adapter.backbone
        features = call(network, task.parameters, x)
        log_p = task.adapter.head.logits(task.head_state, features).log_softmax(-1)
        entropy, members = -(log_p.exp() * log_p).sum(-1), log_p.argmax(-1)
        weights = normalize(_weights(task, features.shape[-1]))  # [C, D]
        rows = []
        for c, own in enumerate(weights):
            those = torch.nonzero(members == c)[:, 0]
            surest = those[entropy[those].argsort(stable=True)[: self.most]]
            rows.append(torch.cat([own[None], normalize(features[surest])]).mean(0))
        centres = normalize(torch.stack(rows))
        return lambda x: call(network, task.parameters, x) @ centres.mT


def _weights(task: FittedTask, features: int) -> Tensor:
    """What each feature adds to each class, ``[C, D]``, of a head that is linear in features of one
    length."""
    head, like = task.adapter.head, task.head_state
    alone = torch.eye(features, dtype=like.dtype, device=like.device)
    return (head.logits(task.head_state, alone) - head.logits(task.head_state, torch.zeros_like(alone))).mT
