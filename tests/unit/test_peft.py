"""Checkpoints of PEFT, with PEFT itself as the judge: read, it computes the same; written, it loads them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.func import functional_call

import adapt
from adapt import AdaptError, FewShotAdapter
from adapt.adapter import initial_state
from adapt.adapter.peft import export_peft
from adapt.backbones import require
from adapt.spaces import Space, combine, film, ia3, lora, residual
from adapt.spaces.peft import read_peft, write_peft
from tests.helpers import distance, randomised
from tests.networks import library

#: PEFT asks models for an attribute that transformers renames.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

WIDTH, VOCABULARY = 8, 12


def bert() -> nn.Module:
    transformers: Any = library("transformers")
    config = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * WIDTH,
        max_position_embeddings=6,
        attn_implementation="eager",
    )
    return randomised(transformers.BertModel(config, add_pooling_layer=False))


def gpt2() -> nn.Module:
    transformers: Any = library("transformers")
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_embd=WIDTH, n_layer=1, n_head=2, n_positions=6, attn_implementation="eager"
    )
    return randomised(transformers.GPT2Model(config))


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1, stride=2)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.first(x).relu()).relu().mean((2, 3)))


class Wrapped(nn.Module):
    """Mean state of a model from the Hub: what an adapter's backbone looks like."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(inputs_embeds=x).last_hidden_state.mean(1)


def output(network: nn.Module, x: Tensor) -> Tensor:
    if x.ndim == 4:
        return network(x)
    return network(inputs_embeds=x).last_hidden_state


def ours(network: nn.Module, space: Space, phi: Tensor, x: Tensor) -> Tensor:
    parameters = space.parameters(phi)
    if x.ndim == 4:
        return functional_call(network, parameters, (x,))
    return functional_call(network, parameters, (), {"inputs_embeds": x}).last_hidden_state


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


TEXT, IMAGE = (2, 5, WIDTH), (2, 3, 8, 8)
#: network, input, and settings of PEFT.
TRAINED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str, dict[str, Any]]] = {
    "lora, bert": (bert, TEXT, "LoraConfig", {"r": 3, "lora_alpha": 5, "target_modules": ["query", "value"]}),
    "lora, rank-stabilised": (
        bert,
        TEXT,
        "LoraConfig",
        {"r": 3, "use_rslora": True, "target_modules": "all-linear", "lora_dropout": 0.1},
    ),
    "lora, gpt2": (
        gpt2,
        TEXT,
        "LoraConfig",
        {"r": 2, "target_modules": ["c_attn", "mlp.c_proj"], "fan_in_fan_out": True},
    ),
    "lora, convolutions": (
        lambda: randomised(Convolutions()),
        IMAGE,
        "LoraConfig",
        {"r": 2, "lora_alpha": 3, "target_modules": ["first", "second", "last"]},
    ),
    "ia3, bert": (
        bert,
        TEXT,
        "IA3Config",
        {"target_modules": ["key", "value", "output.dense"], "feedforward_modules": ["output.dense"]},
    ),
    "ia3, gpt2": (
        gpt2,
        TEXT,
        "IA3Config",
        {
            "target_modules": ["c_attn", "mlp.c_proj"],
            "feedforward_modules": ["mlp.c_proj"],
            "fan_in_fan_out": True,
        },
    ),
    "ia3, convolutions": (
        lambda: randomised(Convolutions()),
        IMAGE,
        "IA3Config",
        {"target_modules": ["first", "second", "last"], "feedforward_modules": ["second"]},
    ),
}


def trained(network: nn.Module, kind: str, settings: dict[str, Any], folder: Path) -> nn.Module:
    """``network`` with an adapter of PEFT, as if trained, which is also saved to ``folder``."""
    peft: Any = require("peft")
    model = peft.get_peft_model(network, getattr(peft, kind)(**settings)).eval()
    with torch.no_grad():
        for place, (name, value) in enumerate(model.named_parameters()):
            if "lora_" in name or "ia3_" in name:
                value.copy_(float("ia3_" in name) + 0.3 * draw(*value.shape, seed=place))
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("case", TRAINED.values(), ids=TRAINED.keys())
def test_a_checkpoint_of_peft_computes_the_same_here(case: Any, tmp_path: Path) -> None:
    build, shape, kind, settings = case
    x = draw(*shape)
    with torch.no_grad():
        expected = output(trained(build(), kind, settings, tmp_path), x)
        network = build()
        space, phi = read_peft(tmp_path, network)
        assert distance(ours(network, space, phi, x), expected) <= 1e-5
        assert distance(output(network, x), expected) > 1e-2
        assert torch.equal(ours(network, space, space.initial, x), output(network, x))


@pytest.mark.parametrize("case", TRAINED.values(), ids=TRAINED.keys())
def test_what_is_written_peft_puts_on_the_plain_model(case: Any, tmp_path: Path) -> None:
    build, shape, kind, settings = case
    x, peft = draw(*shape), require("peft")
    with torch.no_grad():
        trained(build(), kind, settings, tmp_path / "theirs")
        network = build()
        space, start = read_peft(tmp_path / "theirs", network)
        phi = start + 0.2 * draw(space.size, seed=7)
        write_peft(tmp_path / "ours", space, phi, base_model_name="some/model")
        expected = ours(network, space, phi, x)
        model = peft.PeftModel.from_pretrained(build(), tmp_path / "ours").eval()
        assert model.peft_config["default"].base_model_name_or_path == "some/model"
        assert distance(output(model, x), expected) <= 1e-5
        again, back = read_peft(tmp_path / "ours", network)
        assert again.shapes == space.shapes and torch.equal(back, phi)


@pytest.mark.parametrize("build", [lora, ia3], ids=["lora", "ia3"])
def test_a_task_adapted_here_goes_to_peft(build: Callable[..., Space], tmp_path: Path) -> None:
    """From a plain checkpoint through adapting to a checkpoint, for a model that the backbone wraps."""
    network, peft = Wrapped(bert()), require("peft")
    space = build(network, targets="*query,*dense")
    basis = 0.1 * draw(space.size, 3, seed=1)
    state = initial_state(space.initial + 0.05, basis)
    x = draw(6, 5, WIDTH, seed=2)
    task = FewShotAdapter(network, space, state).fit(x, ["a", "b"] * 3)
    assert bool(task.z.any())
    export_peft(task, tmp_path, prefixes=("", "encoder."))
    with torch.no_grad():
        model = peft.PeftModel.from_pretrained(bert(), tmp_path).eval()
        features = model(inputs_embeds=x).last_hidden_state.mean(1)
        assert distance(features, functional_call(network, task.parameters, (x,))) <= 1e-5
        assert distance(features, network(x)) > 1e-2
        read, phi = read_peft(tmp_path, network, prefixes=("", "encoder."))
        assert distance(functional_call(network, read.parameters(phi), (x,)), features) <= 1e-5


def test_a_checkpoint_is_a_start_that_can_be_saved(tmp_path: Path) -> None:
    trained(bert(), "LoraConfig", {"r": 2, "target_modules": ["query"]}, tmp_path / "theirs")
    network = Wrapped(bert())
    space, phi = read_peft(tmp_path / "theirs", network, prefixes=("", "encoder."))
    assert next(iter(space.shapes)) == "encoder.encoder.layer.0.attention.self.query.lora_A"
    made = FewShotAdapter(network, space, initial_state(phi, 0.1 * draw(space.size, 2)))
    made.save_pretrained(tmp_path / "ours")
    loaded = adapt.load(tmp_path / "ours", backbone=Wrapped(bert()))
    x = draw(6, 5, WIDTH, seed=2)
    assert torch.equal(loaded.fit(x, [0, 1] * 3).z, made.fit(x, [0, 1] * 3).z)


# ------------------------------------------------------------------------------------- what is refused

CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "another method": ({"peft_type": "VERA"}, r"peft_type 'VERA': only LORA and IA3"),
    "dora": ({"use_dora": True}, r"use_dora=True has no equal here"),
    "ranks": ({"rank_pattern": {"query": 2}}, r"rank_pattern=.*has no equal"),
    "biases": ({"bias": "all"}, r"bias='all' has no equal"),
    "whole modules": ({"modules_to_save": ["pooler"]}, r"modules_to_save=.*has no equal"),
    "what a later version may add": ({"use_tricks": 1}, r"use_tricks=1 has no equal"),
    "another base": ({"init_lora_weights": "pissa"}, r"init_lora_weights='pissa' changes the weights"),
    "no rank": ({"r": None}, r"not a complete PEFT checkpoint"),
    "another rank": ({"r": 3}, r"query\.lora_A has shape \(2, 8\), .* \(3, 8\) is needed"),
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    trained(bert(), "LoraConfig", {"r": 2, "target_modules": ["query"]}, tmp_path)
    return tmp_path


@pytest.mark.parametrize(("changes", "message"), CHANGES.values(), ids=CHANGES.keys())
def test_options_without_an_equal_are_refused(
    checkpoint: Path, changes: dict[str, Any], message: str
) -> None:
    path = checkpoint / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(AdaptError, match=message):
        read_peft(checkpoint, bert())


def test_tensors_that_do_not_fit_are_refused(checkpoint: Path) -> None:
    with pytest.raises(AdaptError, match=r"does not read base_model\.model\.bert\.<module>.*prefixes="):
        read_peft(checkpoint, bert(), prefixes=("bert.", ""))
    with pytest.raises(AdaptError, match=r"targets 'x\.encoder\.layer\.0\..*query' match no layer of Bert"):
        read_peft(checkpoint, bert(), prefixes=("", "x."))
    path = checkpoint / "adapter_model.safetensors"
    kept = {
        name: tensor
        for name, tensor in load_file(path).items()
        if "layer.0.attention.self.query.lora_B" not in name
    }
    save_file(kept, path)
    with pytest.raises(AdaptError, match=r"not a complete PEFT checkpoint \(KeyError.*lora_B"):
        read_peft(checkpoint, bert())


def test_spaces_without_an_equal_are_refused(tmp_path: Path) -> None:
    network = bert()
    for space in (residual(network), combine(film(network), lora(network))):
        with pytest.raises(AdaptError, match=r"has no equal in PEFT: only 'lora' and 'ia3'"):
            write_peft(tmp_path, space, space.initial)
    grouped, alone = lora(nn.Sequential(nn.Conv2d(4, 4, 3, groups=4))), lora(nn.Linear(3, 3))
    with pytest.raises(AdaptError, match=r"0 is a grouped convolution"):
        write_peft(tmp_path, grouped, grouped.initial)
    with pytest.raises(AdaptError, match=r"only layer does not begin"):
        write_peft(tmp_path, alone, alone.initial)
    space = lora(network)
    with pytest.raises(AdaptError, match=r"does not begin with 'encoder\.encoder'"):
        write_peft(tmp_path, space, space.initial, prefixes=("", "encoder.encoder"))
    assert [*tmp_path.iterdir()] == []


def test_the_page_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "docs" / "spaces.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        exec(compile(block, "docs/spaces.md", "exec"), scope)
    written = {path.name for path in (tmp_path / "adapted").iterdir()}
    assert written == {"adapter_config.json", "adapter_model.safetensors"}
    read, phi = read_peft(tmp_path / "adapted", scope["plain"])
    x, task = scope["examples"], scope["task"]
    expected = functional_call(scope["backbone"], task.parameters, (x,))
    assert distance(functional_call(scope["plain"], read.parameters(phi), (x,)), expected) <= 1e-5
