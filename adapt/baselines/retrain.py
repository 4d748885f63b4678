"""Full retraining: the same architecture from random initialisation on all training data of the task's
classes.

    (W, θ) ← AdamW on mini-batches of the pool, one-cycle schedule, for ``epochs`` passes

What one does without a pretrained backbone. The support set is ignored: the pool, from which supports were
drawn, holds far more. Accuracy is watched on the way, so that a comparison can say when it first reached that
of an adapted model (time to accuracy), at no cost to its clock.

    θ ← AdamW(∇ ½ Σ_i ‖y_i − f(x_i; θ)‖² / n)

In a regression a task has no pool: what is given of it is all that there is, and the network's outputs are
the predictions.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from adapt.adapter.method import Adapt, Context, Predictor, Role, Support, Watch
from adapt.backbones import FrozenBatchNorm, examples_for, plain_call
from adapt.baselines._module import trainable_copy, trained
from adapt.checks import STEPS, WIDTH, Number, between, check_settings, least, optional, positive
from adapt.meta.schedule import one_cycle

__all__ = ["RULES", "Retrain", "Training", "pool_of", "train"]


@dataclass(frozen=True)
class Retrain:
    """Batches of ``batch`` images for ``epochs``, peak rate ``lr``; accuracy is watched every ``watch_every``
    steps."""

    epochs: int = 8
    batch: int = 32
    lr: float = 3e-3
    weight_decay: float = 0.05
    watch_every: int = 4
    max_tasks: int | None = 10
    role: Role = "retrain"
    keeps_backbone: bool = True

    def __post_init__(self) -> None:
        check_settings(
            self,
            "retrain",
            batch=least(2, "batch statistics need at least 2", ceiling=WIDTH),
            **RULES,
        )

    def prepare(self, context: Context) -> Adapt:
        """See :class:`adapt.adapter.Method`."""

        def adapt(support: Support, watch: Watch) -> Predictor:
            x, y = pool_of(context, support)
            x = examples_for(context.backbone, x)
            generator = torch.Generator().manual_seed(context.seed)
            network = _fresh(context.backbone, support.ways, x, generator)
            groups = [{"params": [*network.parameters()], "lr": self.lr}]
            training = Training(self.epochs, self.batch, self.weight_decay, self.watch_every)
            return train(network, groups, x, y, training, generator, watch)

        return adapt


#: Of the settings that all have who train by :func:`train`.
RULES: Mapping[str, Number] = {
    "epochs": least(1, ceiling=STEPS),
    "watch_every": least(1),
    "lr": positive(),
    "weight_decay": between(0, None),
    "max_tasks": optional(least(1)),
}


class Training(NamedTuple):
    """How a network is trained: passes over the data, examples of a step, steps between looks, and the share
    of steps in which the rate rises."""

    epochs: int
    batch: int
    weight_decay: float
    watch_every: int
    pct_start: float = 0.3


def train(
    network: nn.Module,
    groups: list[dict[str, Any]],
    x: Tensor,
    y: Tensor,
    training: Training,
    generator: torch.Generator,
    watch: Watch,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Predictor:
    """Minimise the cross-entropy of ``network``, or of values half the squared error, by AdamW with a
    one-cycle schedule.

    Args:
        groups: parameters with their peak rates ``lr``.
        x, y: all training examples.
        generator: of the order of examples.
        loss: of outputs and rows of ``y``, in place of these.
    """
    judged = _loss if loss is None else loss
    optimizer = torch.optim.AdamW(groups, weight_decay=training.weight_decay)
    steps = training.epochs * max(len(x) // training.batch, 1)
    peaks = [group["lr"] for group in groups]
    schedule = one_cycle(optimizer, peaks, steps, training.pct_start)
    for step, rows in zip(range(1, steps + 1), _batches(len(x), training.batch, generator), strict=False):
        value = judged(plain_call(network.train(), x[rows]), y[rows])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
        if step % training.watch_every == 0:
            watch(partial(plain_call, network.eval()))
    return partial(plain_call, network.eval())


def _loss(outputs: Tensor, targets: Tensor) -> Tensor:
    if targets.is_floating_point():
        return 0.5 * (outputs - targets).square().sum(-1).mean()
    return nn.functional.cross_entropy(outputs, targets)


def pool_of(context: Context, support: Support) -> tuple[Tensor, Tensor]:
    """All training examples of the task's classes."""
    if support.whole or support.regression:
        return support.x, support.y
    return context.pool(support.classes, support.reserved)


def _batches(n: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless epochs of shuffled full batches; at least one batch an epoch even if n < size."""
    while True:
        order = torch.randperm(n, generator=generator)
        yield from order.split(size)[: max(n // size, 1)]


def _fresh(backbone: nn.Module, ways: int, x: Tensor, generator: torch.Generator) -> nn.Module:
    """The backbone's architecture, randomly initialised, norms with batch statistics, and a linear layer for
    ``ways`` classes on top (0: values, which are the network's own outputs)."""
    network = trained(_batch_norms(trainable_copy(backbone)))
    with torch.random.fork_rng(devices=[]):  # reset_parameters draws from the global generator
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        for module in network.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
            else:
                _reset(module)
        if not ways:
            return network.to(x.device)
        with torch.no_grad():
            features = plain_call(network.eval(), x[:1])
        linear = nn.Linear(features.shape[1], ways, device=x.device, dtype=features.dtype)
        return nn.Sequential(network, linear).to(x.device)


def _reset(module: nn.Module) -> None:
    """What a module that cannot reset itself holds directly: class tokens, position embeddings, norms of
    other libraries. Drawn as transformers draw them, scales one, shifts zero."""
    for name, parameter in module.named_parameters(recurse=False):
        if parameter.ndim > 1:
            nn.init.trunc_normal_(parameter, std=0.02)
        elif name in ("weight", "bias"):
            nn.init.constant_(parameter, float(name == "weight"))


def _batch_norms(module: nn.Module) -> nn.Module:
    """Undo :func:`adapt.backbones.freeze_batch_norm`: training from scratch needs batch statistics. What a
    frozen norm holds besides (the activation, in timm) stays behind it."""
    for name, child in module.named_children():
        if isinstance(child, FrozenBatchNorm):
            norm = nn.BatchNorm2d(child.weight.numel(), child.eps)
            inside = list(child.children())
            setattr(module, name, nn.Sequential(norm, *inside) if inside else norm)
        else:
            _batch_norms(child)
    return module
