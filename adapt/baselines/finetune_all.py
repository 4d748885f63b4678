"""Full fine-tuning from the pretrained weights, as people do it: a new linear layer, all weights, epochs of
small batches.

    (W, θ) ← (W, θ) − AdamW(∇ mean CE(y, W features(x; θ))) ,   θ⁰ pretrained, rate rising, then falling to 0

Devlin et al. (2019), *BERT*, section 4.1 and appendix A.3, and Kornblith, Shlens, Le (2019), *Do Better
ImageNet Models Transfer Better?*, section 4. As :class:`adapt.baselines.Retrain` it learns from all training
examples of the task's classes, and is watched on the way; it differs in where it starts. Normalisation
statistics stay frozen.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adapt.adapter.method import Adapt, Context, Predictor, Role, Support, Watch
from adapt.backbones import examples_for, plain_call
from adapt.baselines._module import trainable_copy, trained
from adapt.baselines.retrain import RULES, Training, pool_of, train
from adapt.checks import WIDTH, check_settings, least, positive
from adapt.errors import AdaptError

__all__ = ["FinetuneAll"]


@dataclass(frozen=True)
class FinetuneAll:
    """Batches of ``batch`` examples for ``epochs``, peak rate ``lr`` (for the new layer ``head_lr`` times
    that); accuracy is watched every ``watch_every`` steps."""

    epochs: int = 10
    batch: int = 16
    lr: float = 5e-5
    head_lr: float = 20.0
    weight_decay: float = 0.01
    watch_every: int = 25
    max_tasks: int | None = 10
    role: Role = "retrain"
    keeps_backbone: bool = True

    def __post_init__(self) -> None:
        check_settings(
            self,
            "finetune_all",
            batch=least(1, ceiling=WIDTH),
            head_lr=positive(),
            **RULES,
        )

    def prepare(self, context: Context) -> Adapt:
        """See :class:`adapt.adapter.Method`."""

        def adapt(support: Support, watch: Watch) -> Predictor:
            _check_classes(support)
            x, y = pool_of(context, support)
            x = examples_for(context.backbone, x)
            generator = torch.Generator().manual_seed(context.seed)
            network = _with_layer(context.backbone, support.ways, x)
            body, layer = network[0], network[1]
            groups = [
                {"params": [*body.parameters()], "lr": self.lr},
                {"params": [*layer.parameters()], "lr": self.head_lr * self.lr},
            ]
            training = Training(self.epochs, self.batch, self.weight_decay, self.watch_every, pct_start=0.1)
            return train(network, groups, x, y, training, generator, watch)

        return adapt


def _with_layer(backbone: nn.Module, ways: int, x: Tensor) -> nn.Sequential:
    """The pretrained network and a linear layer of zeros on top."""
    network = trained(trainable_copy(backbone)).eval()
    with torch.no_grad():
        features = plain_call(network, x[:1])
    linear = nn.utils.skip_init(nn.Linear, features.shape[1], ways, device=x.device, dtype=features.dtype)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(network, linear)


def _check_classes(support: Support) -> None:
    if support.regression:
        raise AdaptError(
            "finetune_all: a regression task has no classes, and so no pool of their training examples "
            "to retrain on: leave finetune_all out of method="
        )
