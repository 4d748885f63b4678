"""Fitted tasks of every kind of network, with examples to export them by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

import adapt
from adapt.adapter import FewShotAdapter, FittedTask, layered_state
from adapt.backbones import Texts, require
from adapt.heads import Ridge
from adapt.spaces import film, lora
from tasks import Digits, Distribution
from tests.helpers import make_adapter, make_source, tiny_conv4

__all__ = ["TASKS", "Made", "drawn"]

Made = tuple[FittedTask, Any]
TEXTS = ["pay the bill", "the bill is due", "what a fine day", "it may rain", "how much do I owe", "sunny"]
TOPICS = ["money", "money", "weather", "weather", "money", "weather"]


def drawn(index: int = 0) -> Any:
    """A task of scanned digits."""
    return Distribution(Digits(), 3, 4, 6, "support", "query").episode(index)


def digits() -> Made:
    episode = drawn()
    task = adapt.load("conv4_glyphs_film").fit(episode.support_x, [f"digit {y}" for y in episode.support_y])
    return task, episode.query_x


class Letters:
    """A tokenizer: a token for each letter."""

    def __call__(self, texts: Sequence[str], truncation: bool, max_length: int) -> dict[str, list[list[int]]]:
        return {"input_ids": [[1 + ord(letter) % 50 for letter in text][:max_length] for text in texts]}


def texts() -> Made:
    """By a small random network of the kind that encoders are."""
    transformers = require("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.BertConfig(vocab_size=60, max_position_embeddings=64, **sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = transformers.BertModel(config, add_pooling_layer=False).eval()
    backbone = Texts(transformer, Letters(), pad=0, max_tokens=64)
    space = film(backbone)
    adapter = FewShotAdapter(backbone, space, layered_state(space, 2), head=Ridge())
    return adapter.fit(TEXTS, TOPICS), TEXTS


def values() -> Made:
    x = torch.linspace(-3, 3, 10)[:, None]
    return adapt.load("mlp_sinusoid").fit(x, x.sin()), x


def merged() -> Made:
    """A space whose tensors are merged into the weights."""
    backbone, source = tiny_conv4(), make_source()
    space = lora(backbone, rank=2)
    adapter = make_adapter(backbone).replace(space=space, state=layered_state(space, 3))
    x = source.load(torch.arange(24).numpy())
    return adapter.fit(x, [0] * 12 + [1] * 12), x


TASKS: dict[str, Callable[[], Made]] = {
    "digits": digits,
    "texts": texts,
    "values": values,
    "merged": merged,
}
