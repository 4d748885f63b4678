"""A text before all texts, where there is none: images, tokenizers with signs of their own, others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from adapt import AdaptError
from adapt.backbones import load_backbone, require, settled, texts
from adapt.backbones.preamble import split_preamble
from adapt.backbones.settled import unmoved
from tests.unit.test_preamble import PREAMBLE, Owner


def test_a_model_of_images_has_no_preamble(tmp_path: Path) -> None:
    transformers = require("transformers")
    config = transformers.ViTConfig(
        image_size=16,
        patch_size=8,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
    )
    transformers.logging.disable_progress_bar()
    transformers.ViTModel(config).save_pretrained(tmp_path)
    transformers.logging.enable_progress_bar()
    with pytest.raises(AdaptError, match="reads images, which no text precedes: leave preamble out"):
        load_backbone(f"hf:{tmp_path}", mean=[0.5], std=[0.5], preamble=PREAMBLE)


def test_signs_of_the_tokenizer_stand_around_the_whole() -> None:
    """A beginning before the preamble and not before texts, an end behind texts and not behind it."""

    def tokens(given: Any, add_special_tokens: bool = True, **_: Any) -> dict[str, Any]:
        if isinstance(given, list):
            return {"input_ids": [tokens(text)["input_ids"] for text in given]}
        plain = [3 + len(word) for word in given.split()]
        return {"input_ids": [1, *plain, 2] if add_special_tokens else plain}

    assert split_preamble(tokens, "a bc", "it") == ([1, 4, 5], 1)
    network = texts.Texts(nn.Linear(1, 1), tokens, pad=0, masking="none", preamble=[1, 4, 5], leading=1)
    assert network.tokenise(["a", "bcd e"]).tolist() == [[4, 2, 0], [6, 4, 2]]


def test_other_backbones_keep_nothing() -> None:
    network = nn.Linear(2, 2)
    parameters = {"weight": torch.ones(2, 2)}
    assert settled(network, parameters, Owner()) is parameters and unmoved(network, ["weight"]) == {}
