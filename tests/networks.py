"""Small networks of every kind that users adapt, as functions of a vector z: engines are tested on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from adapt import AdaptError
from adapt.backbones import Conv4, FrozenBatchNorm, ResNet12, freeze_batch_norm, require
from adapt.spaces import Space, Subspace, full, named
from tests.helpers import SIDE, randomised

__all__ = ["NETWORKS", "PLACEMENTS", "TOKENS", "K", "Problem", "Sentences", "problem"]

#: Dimension of z.
K = 3
TOKENS, WIDTH = 6, 8
#: The second of two sentences is shorter.
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
NORMS = (FrozenBatchNorm, nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)


class Sentences(nn.Module):
    """The mean state of a transformer on two sentences whose embeddings are shifted by ``x [2, T, D]``."""

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, x: Tensor) -> Tensor:
        ids = torch.arange(2 * TOKENS).view(2, TOKENS)
        embedded = self.transformer.get_input_embeddings()(ids) + x
        return self.transformer(inputs_embeds=embedded, attention_mask=MASK).last_hidden_state.mean(1)


class Encoder(nn.Module):
    """Torch's own transformer."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 2 * WIDTH, activation="gelu", batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x, src_key_padding_mask=MASK == 0).mean(1)


def library(name: str) -> object:
    try:
        return require(name)
    except AdaptError as error:
        pytest.skip(str(error))


def vision_transformer() -> nn.Module:
    return library("timm").create_model(
        "vit_tiny_patch16_224",
        img_size=32,
        patch_size=16,
        embed_dim=WIDTH,
        depth=2,
        num_heads=2,
        num_classes=0,
    )


def mobilenet() -> nn.Module:
    """Without most of its repetitions: a stage has one block, the second has one with a skip as well."""
    network = library("timm").create_model("mobilenetv2_035", num_classes=0)
    for number, stage in enumerate(network.blocks):
        del stage[2 if number == 1 else 1 :]
    return network


def bert(attention: str) -> nn.Module:
    transformers = library("transformers")
    config = transformers.BertConfig(
        vocab_size=12,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * WIDTH,
        max_position_embeddings=TOKENS,
        attn_implementation=attention,
    )
    return Sentences(transformers.BertModel(config, add_pooling_layer=False))


def gpt2(attention: str) -> nn.Module:
    transformers = library("transformers")
    config = transformers.GPT2Config(
        vocab_size=12,
        n_embd=WIDTH,
        n_layer=2,
        n_head=2,
        n_positions=TOKENS,
        use_cache=False,
        attn_implementation=attention,
    )
    return Sentences(transformers.GPT2Model(config))


IMAGE, TEXT = (2, 3, 32, 32), (2, TOKENS, WIDTH)

#: name → how it is built, and the shape of its input.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "conv4": (lambda: randomised(Conv4(width=4)), (2, 1, SIDE, SIDE)),
    "resnet12": (lambda: randomised(ResNet12(width=2)), (2, 3, SIDE, SIDE)),
    "vision transformer": (lambda: randomised(vision_transformer()), IMAGE),
    "mobilenet": (lambda: randomised(mobilenet()), IMAGE),
    "mobilenet, frozen": (lambda: freeze_batch_norm(randomised(mobilenet())), IMAGE),
    "bert, fused attention": (lambda: randomised(bert("sdpa")), TEXT),
    "bert, plain attention": (lambda: randomised(bert("eager")), TEXT),
    "gpt2, fused attention": (lambda: randomised(gpt2("sdpa")), TEXT),
    "gpt2, plain attention": (lambda: randomised(gpt2("eager")), TEXT),
    "torch's encoder": (lambda: randomised(Encoder()), TEXT),
}


def _norms(network: nn.Module, skipped: float = 0) -> Space:
    norms = [name for name, module in network.named_modules() if isinstance(module, NORMS)]
    chosen = norms[int(skipped * len(norms)) :]
    names = [f"{name}.{local}" for name in chosen for local in ("weight", "bias")]
    return named("norms", network, names)


#: What adapts.
PLACEMENTS: dict[str, Callable[[nn.Module], Space]] = {
    "norms": _norms,
    "last third": lambda network: _norms(network, 2 / 3),
    "all weights": full,
}


@dataclass(frozen=True)
class Problem:
    """``f(z, U, x)``: features at φ₀ + U z, for z ``[K]``, U ``[P, K]`` and inputs x."""

    f: Callable[[Tensor, Tensor, Tensor], Tensor]
    z: Tensor
    basis: Tensor
    x: Tensor


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@cache
def problem(name: str, placement: str, dtype: torch.dtype = torch.float64) -> Problem:
    build, shape = NETWORKS[name]
    network = build().to(dtype).requires_grad_(False)
    space = PLACEMENTS[placement](network)

    def f(z: Tensor, basis: Tensor, x: Tensor) -> Tensor:
        parameters = Subspace(space, space.initial, basis).parameters(z)
        return functional_call(network, parameters, (x,))

    basis = 0.1 * draw(space.size, K, seed=1)
    z, x = draw(K, seed=2), draw(*shape, seed=3)
    return Problem(f, z.to(dtype), basis.to(dtype), x.to(dtype))
