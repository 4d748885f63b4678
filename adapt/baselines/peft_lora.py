"""LoRA by Hugging Face's PEFT library on the few shots: a linear head first, then low-rank changes and head.

    (W, A, B) ← (W, A, B) − AdamW(∇ mean CE(y_i, Wᵀ features(x_i; θ + (α/r) B A)))      θ stays

Hu et al. (2022), *LoRA: Low-Rank Adaptation of Large Language Models*, section 4.1, as PEFT implements it
(Mangrulkar et al. 2022); starting from a fitted head is that of Kumar et al. (2022), see
:mod:`adapt.baselines.finetune`. In a regression the network's outputs are the predictions, the loss is half
the squared error, and training starts from the meta-learned φ₀.
"""

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from adapt.adapter.method import Adapt, Context, Predictor, Role, Support, Watch
from adapt.backbones import plain_call, require
from adapt.baselines._module import at_origin, trainable_copy
from adapt.baselines._targets import support_for, targets_of
from adapt.checks import STEPS, WIDTH, between, check_settings, least, optional, positive
from adapt.errors import AdaptError
from adapt.heads import Logistic
from adapt.heads.base import check_outputs
from adapt.spaces.layers import Layer, layers_of
from adapt.spaces.roles import KINDS

__all__ = ["PeftLora"]


@dataclass(frozen=True)
class PeftLora:
    """``epochs`` over the support set in batches of ``batch``; AdamW at rate ``lr`` for A and B, and ten
    times that for the head, which only classification has.

    Attributes:
        rank, alpha: r and α.
        targets: which layers, by patterns of their names (``*query*,*value*``); None: those that PEFT adapts
            in this kind of transformer (mostly queries and values), or else every linear and convolution
            layer. Grouped convolutions are left out.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: str | None = None
    lr: float = 1e-3
    epochs: int = 8
    batch: int = 32
    weight_decay: float = 0.01
    head: Logistic = field(default_factory=Logistic)
    max_tasks: int | None = None
    role: Role = "finetune"
    keeps_backbone: bool = True

    def __post_init__(self) -> None:
        check_settings(
            self,
            "peft_lora",
            rank=least(1, ceiling=WIDTH),
            alpha=positive(),
            lr=positive(),
            epochs=least(1, ceiling=STEPS),
            batch=least(1, ceiling=WIDTH),
            weight_decay=between(0, None),
            max_tasks=optional(least(1)),
        )

    def prepare(self, context: Context) -> Adapt:
        """See :class:`adapt.adapter.Method`.

        Raises:
            AdaptError: PEFT is not installed, or ``targets`` match no layer.
        """
        peft = require("peft")
        config = self._config(peft, context.backbone)

        def adapt(support: Support, watch: Watch) -> Predictor:
            backbone = context.adapter.backbone if support.regression else context.backbone
            support = support_for(backbone, support)
            regression = support.regression
            start = at_origin(context.adapter) if regression else trainable_copy(context.backbone)
            network = _injected(peft, config, start, context.seed)
            moving: list[dict[str, Any]] = [
                {"params": [value for value in network.parameters() if value.requires_grad]}
            ]
            outputs: Predictor = partial(plain_call, network)
            if not regression:
                with torch.no_grad():
                    weights = self.head.fit(plain_call(network, support.x), targets_of(support))
                moving.append({"params": [weights.requires_grad_(True)], "lr": 10 * self.lr})
                outputs = lambda x: self.head.logits(weights, plain_call(network, x))  # noqa: E731
            optimizer = torch.optim.AdamW(moving, lr=self.lr, weight_decay=self.weight_decay)
            loss = _squared_error if regression else nn.functional.cross_entropy
            for rows in self._epochs(len(support.x), context.seed):
                watch(outputs)  # before the first epoch and after each but the last, which the caller sees
                self._epoch(support, rows, outputs, loss, optimizer)
            return outputs

        return adapt

    def _epochs(self, n: int, seed: int) -> Iterator[tuple[Tensor, ...]]:
        """Shuffled batches of row numbers."""
        generator = torch.Generator().manual_seed(seed)
        for _ in range(self.epochs):
            yield torch.randperm(n, generator=generator).split(self.batch)

    def _epoch(
        self,
        support: Support,
        batches: tuple[Tensor, ...],
        outputs: Predictor,
        loss: Callable[[Tensor, Tensor], Tensor],
        optimizer: torch.optim.Optimizer,
    ) -> None:
        for rows in batches:
            value = loss(outputs(support.x[rows]), support.y[rows])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()

    def _config(self, peft: ModuleType, backbone: nn.Module) -> Any:
        layers = layers_of(
            "peft_lora",
            backbone,
            self.targets or _usual(peft, backbone),
            _replaceable,
        )
        names = [layer.name for layer in layers if layer.name]
        if not names:
            raise AdaptError(
                f"peft_lora replaces layers inside a network, and {type(backbone).__name__} is a single "
                "layer: leave peft_lora out of method="
            )
        return peft.LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=0.0,
            # As a pattern of whole names: PEFT takes the names of a list for endings of others.
            target_modules="|".join(map(re.escape, names)),
            fan_in_fan_out=all(layer.transposed for layer in layers),
        )


def _replaceable(layer: Layer) -> bool:
    """Whether PEFT has a layer of its own to put in the place of this one."""
    known = isinstance(layer.module, KINDS) or type(layer.module).__name__ == "Conv1D"
    return known and getattr(layer.module, "groups", 1) == 1


def _usual(peft: ModuleType, backbone: nn.Module) -> str:
    """Patterns of the layers that PEFT adapts in a model of transformers of this kind; ``*`` if it says
    nothing."""
    names = [name for name, _ in backbone.named_modules()]
    for module in backbone.modules():
        kind = getattr(getattr(module, "config", None), "model_type", None)
        wanted = peft.utils.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(kind, ())
        found = [f"*.{end}" for end in wanted if any(fnmatchcase(name, f"*.{end}") for name in names)]
        if found:
            return ",".join(found)
    return "*"


def _injected(peft: ModuleType, config: Any, network: nn.Module, seed: int) -> nn.Module:
    """``network`` with LoRA in it, which alone requires gradients."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.manual_seed(seed)  # A is drawn from the global generator
        warnings.filterwarnings("ignore", "fan_in_fan_out is set to")  # PEFT then does the right thing
        # PEFT asks models for an attribute that transformers renames.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        injected: nn.Module = peft.inject_adapter_in_model(config, network.requires_grad_(False))
    return injected


def _squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    check_outputs(outputs, targets)
    return 0.5 * (outputs - targets).square().sum(-1).mean()
