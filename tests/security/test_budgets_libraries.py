"""Backbones of libraries: no setting is an address to fetch from, and no code of a repository runs."""

from __future__ import annotations

import builtins
import json
import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from adapt import AdaptError
from adapt.backbones import load_backbone, require
from adapt.backbones.weights import load_file

ADDRESS = "http://127.0.0.1:9/evil.pth"
TIMM: dict[str, Any] = {
    "pretrained_cfg": {"url": ADDRESS},
    "pretrained_cfg_overlay": {"file": "/etc/passwd"},
    "checkpoint_path": "/etc/passwd",
    "cache_dir": "/tmp/elsewhere",
    "features_only": True,
    "scriptable": True,
    "device": "cuda",
    "dtype": "float16",
    "block_fn": "torch.nn.Linear",
    "kwargs_filter": ["a"],
    "pretrained_filter_fn": "os.system",
    "num_classes": 10**9,
    "cls": "x",
    # what may be set, but not to this
    "act_layer": "torch.nn.ReLU",
    "norm_layer": {"_target_": "os.system"},
    "pad_type": "../x",
    "in_chans": 10**9,
    "img_size": [224] * 5000,
    "depth": 10**9,
    "embed_dim": 10**12,
    "drop_rate": float(10**9),
    "qkv_bias": "yes",
    "weights": ["a"],
    "seed": -1,
    "size": 10**6,
    "mean": "0.5",
    "std": [0.0],
    "pooling": ADDRESS,
    "prompts": 10**9,
}
TORCHVISION: dict[str, Any] = {
    "norm_layer": "torch.nn.BatchNorm2d",
    "weights_backbone": ADDRESS,
    "progress": True,
    "block": "x",
    "weights": {"url": ADDRESS},
    "num_classes": 10**9,
    "width_per_group": 10**12,
    "dropout": 2.0,
    "size": 10**6,
    "image_size": 10**9,
}
HF: dict[str, Any] = {
    "trust_remote_code": True,
    "revision": "x",
    "token": "x",
    "cache_dir": "/tmp",
    "adapter_kwargs": {},
    "weights": 5,
    "max_tokens": 10**12,
    "prompts": 10**9,
    "size": 10**9,
    "pooling": "../x",
    "mean": [[[0.5]]],
}
CASES = [
    *(("timm:vit_tiny_patch16_224", name, value) for name, value in TIMM.items()),
    *(("torchvision:resnet18", name, value) for name, value in TORCHVISION.items()),
    *(("hf:owner/model", name, value) for name, value in HF.items()),
    ("mlp:1-2-1", "weights", "/etc/passwd"),
]


@pytest.mark.parametrize(("backbone", "name", "value"), CASES, ids=[f"{c[0]} {c[1]}" for c in CASES])
def test_settings_are_listed_by_name_type_and_range(
    backbone: str, name: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = backbone.partition(":")[0]

    def build(*_: Any, **__: Any) -> None:
        pytest.fail("was built")

    for parameter in require_signature(family):
        build.__signature__ = parameter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules["adapt.backbones.named"].FAMILIES, family, build)  # type: ignore[attr-defined]
    with pytest.raises(AdaptError, match=rf"\b{name}\b"):
        load_backbone(backbone, **{"weights": "random", name: value} if family != "mlp" else {name: value})


def require_signature(family: str) -> Iterator[Any]:
    import inspect

    yield inspect.signature(sys.modules["adapt.backbones.named"].FAMILIES[family])  # type: ignore[attr-defined]


def test_what_is_listed_still_works() -> None:
    network, _ = load_backbone(
        "timm:vit_tiny_patch16_224", weights="random", img_size=32, depth=1, in_chans=1, qkv_bias=False
    )
    assert network(torch.zeros(1, 1, 32, 32)).shape == (1, 192)


def test_a_network_of_a_library_is_counted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapt.budget.machine_memory", lambda: 10**6)
    with pytest.raises(AdaptError, match=r"'timm:vit_tiny_patch16_224' has .* numbers.*make it smaller"):
        load_backbone("timm:vit_tiny_patch16_224", weights="random")


# ------------------------------------------------------------------------------------------- transformers

CODE = """
from pathlib import Path
Path(__file__).with_name("ran").touch()
from transformers import BertConfig, BertModel, BertTokenizer
class Config(BertConfig):
    model_type = "evil"
class Model(BertModel):
    config_class = Config
Tokenizer = BertTokenizer
"""
SMALL = {"vocab_size": 12, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture
def unasked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A folder whose code must not run; nobody is asked whether it may, and would say yes."""
    asked: list[str] = []

    def answer(question: str = "") -> str:
        asked.append(question)
        return "y"

    monkeypatch.setattr(builtins, "input", answer)
    (tmp_path / "evil.py").write_text(CODE)
    yield tmp_path
    assert not asked
    assert not [*tmp_path.rglob("ran")]


@pytest.mark.parametrize("weights", ["random", "pretrained"])
@pytest.mark.parametrize("kind", ["evil", "bert"])
def test_code_of_a_repository_is_not_run(kind: str, weights: str, unasked: Path) -> None:
    mapped = {
        "AutoConfig": "evil.Config",
        "AutoModel": "evil.Model",
        "AutoTokenizer": ["evil.Tokenizer", None],
    }
    config = {"model_type": kind, "auto_map": mapped, "architectures": ["Model"], **SMALL}
    (unasked / "config.json").write_text(json.dumps(config))
    described = {"tokenizer_class": "Tokenizer", "auto_map": mapped}
    (unasked / "tokenizer_config.json").write_text(json.dumps(described))
    with pytest.raises(AdaptError):
        load_backbone(f"hf:{unasked}", weights=weights)


def test_code_of_a_repository_is_named_as_what_it_is(unasked: Path) -> None:
    config = {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}}
    (unasked / "config.json").write_text(json.dumps(config))
    with pytest.raises(AdaptError, match="comes with code of its own, which is never run"):
        load_backbone(f"hf:{unasked}")


def test_the_model_that_an_adapter_of_peft_names_is_not_fetched(tmp_path: Path) -> None:
    require("transformers").BertConfig(**SMALL).save_pretrained(tmp_path)
    adapter = {"peft_type": "LORA", "base_model_name_or_path": "owner/evil", "target_modules": "(a+)+$"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(adapter))
    for weights in ("random", "pretrained"):
        with pytest.raises(AdaptError, match="holds an adapter of PEFT: name the model"):
            load_backbone(f"hf:{tmp_path}", weights=weights)


# ------------------------------------------------------------------------------------------- weights


def test_weights_that_unpack_to_more_than_their_file_are_refused(tmp_path: Path) -> None:
    network = torch.nn.Linear(512, 512)
    with torch.no_grad():
        network.weight.zero_()
    torch.save(network.state_dict(), tmp_path / "plain.pt")
    load_file(network, str(tmp_path / "plain.pt"))
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for member in plain.namelist():
            bomb.writestr(member, plain.read(member))
    assert (tmp_path / "bomb.pt").stat().st_size * 50 < (tmp_path / "plain.pt").stat().st_size
    with pytest.raises(AdaptError, match=r"a file of [\d,]+ bytes that says to hold"):
        load_file(network, str(tmp_path / "bomb.pt"))


@pytest.mark.parametrize("name", ["hf", "timm:local-dir"])
@pytest.mark.parametrize("kind", ["pipe", "link to a device"])
def test_a_folder_for_a_library_holds_regular_files(name: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    with pytest.raises(AdaptError, match="no regular file"):
        load_backbone(f"{name}:{tmp_path}")


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "link to a device"])
def test_a_file_of_weights_is_a_regular_file(suffix: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"it.{suffix}"
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    with pytest.raises(AdaptError, match=r"does not exist|no regular file"):
        load_file(torch.nn.Linear(1, 1), str(path))
