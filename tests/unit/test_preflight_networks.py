"""Preflight of whole networks: batch norm, precision, libraries, and the page that says so."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from adapt.backbones import require
from adapt.forward import Engine, pushforward
from adapt.forward.agreement import TOLERANCE
from adapt.forward.fast import dual
from adapt.forward.preflight import Preflight, preflight
from tests.helpers import distance, randomised

EXACT: tuple[Engine, ...] = ("fast", "reference")


def convolutional(norm: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), norm, nn.GELU(), nn.Flatten(), nn.Linear(4 * 36, 5))


IMAGES = torch.linspace(-1, 1, 4 * 64).view(4, 1, 8, 8)


def test_a_plain_network_is_ready() -> None:
    found = preflight(randomised(convolutional(nn.GroupNorm(2, 4))), IMAGES)
    assert found == Preflight()
    assert str(found) == "ready for forward gradients"
    found.raise_if_blocked()


# ------------------------------------------------------------------------------------- policy: batch norm


def test_batch_norm_with_running_statistics_is_ready() -> None:
    assert preflight(randomised(convolutional(nn.BatchNorm2d(4))), IMAGES) == Preflight()


@pytest.mark.parametrize("engine", EXACT)
def test_batch_norm_uses_running_statistics(engine: Engine) -> None:
    model = randomised(convolutional(nn.BatchNorm2d(4))).double()
    images = IMAGES.double()
    parameters = dict(model.named_parameters())
    columns = {name: torch.randn(1, *p.shape, dtype=p.dtype) for name, p in parameters.items()}
    _, tangents = pushforward(
        lambda p: functional_call(model, p, (images,)), parameters, columns, engine=engine
    )
    alone = pushforward(
        lambda p: functional_call(model, p, (images[:1],)), parameters, columns, engine=engine
    )
    assert distance(tangents[:, :1], alone[1]) < 1e-12  # an example's do not depend on the others


@pytest.mark.parametrize(
    ("norm", "words"),
    [
        (nn.BatchNorm2d(4), "adapt.backbones.freeze_batch_norm"),
        (nn.BatchNorm2d(4, track_running_stats=False).eval(), "GroupNorm"),
    ],
    ids=["training", "not tracked"],
)
def test_batch_statistics_are_refused(norm: nn.Module, words: str) -> None:
    (finding,) = preflight(convolutional(norm), IMAGES).blocked
    assert finding.name == "BatchNorm2d"
    assert finding.module == "1"
    assert words in finding.fix


# ------------------------------------------------------------------------------------- policy: precision


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    return randomised(nn.Sequential(nn.Linear(5, 16), nn.TransformerEncoder(layer, 1), nn.Linear(16, 3)))


MODELS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "batch norm": (lambda: randomised(convolutional(nn.BatchNorm2d(4))), IMAGES),
    "group norm": (lambda: randomised(convolutional(nn.GroupNorm(2, 4))), IMAGES),
    "transformer": (encoder, torch.linspace(-1, 1, 2 * 4 * 5).view(2, 4, 5)),
}


def pushed(model: nn.Module, x: Tensor, engine: Engine) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    points = {name: p.detach() for name, p in model.named_parameters()}
    columns = {n: torch.randn(3, *p.shape, generator=generator).to(p.dtype) for n, p in points.items()}
    value, tangents = pushforward(lambda p: functional_call(model, p, (x,)), points, columns, engine=engine)
    return value, tangents


@pytest.mark.parametrize("name", MODELS)
def test_under_autocast_engines_agree_within_rounding(name: str) -> None:
    make, x = MODELS[name]
    model = make()
    right = pushed(model, x, "reference")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain = model(x)
        found = preflight(model, x)
        fast, reference = (pushed(model, x, engine) for engine in EXACT)
    assert not found.blocked
    assert fast[0].dtype == plain.dtype
    assert distance(fast[0], plain) < TOLERANCE[torch.bfloat16]
    for computed, other, exact in zip(fast, reference, right, strict=True):
        assert computed.dtype == other.dtype
        assert distance(computed, other) < TOLERANCE[torch.bfloat16] / 4
        assert distance(computed.float(), exact) < TOLERANCE[torch.bfloat16]
        assert distance(computed.float(), exact) > 1e-5  # autocast was on


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCE.items(), ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_any_floating_point_dtype_will_do(name: str, dtype: torch.dtype, tolerance: float) -> None:
    make, x = MODELS[name]
    right = pushed(make().double(), x.double(), "reference")
    model = make().to(dtype)
    assert not preflight(model, x.to(dtype)).blocked
    for computed, exact in zip(pushed(model, x.to(dtype), "fast"), right, strict=True):
        assert computed.dtype == dtype
        assert distance(computed.double(), exact) < tolerance


# ------------------------------------------------------------------------------------- libraries


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_networks_of_timm_are_ready_in_evaluation_mode(name: str) -> None:
    options = {"img_size": 32} if name.startswith("vit") else {}
    model = require("timm").create_model(name, pretrained=False, num_classes=0, **options)
    assert not preflight(model.eval(), torch.randn(2, 3, 32, 32)).blocked


def bert() -> Any:
    library = require("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return library.BertModel(library.BertConfig(vocab_size=20, **sizes)).eval()


def test_networks_of_transformers_are_ready_in_evaluation_mode() -> None:
    tokens = torch.arange(8).view(2, 4)
    assert not preflight(bert(), (tokens, torch.ones_like(tokens))).blocked


def test_flash_attention_is_replaced_on_request() -> None:
    tokens = torch.arange(8).view(2, 4)
    model = bert()
    model.config._attn_implementation = "flash_attention_2"  # needs a GPU and a package to set properly
    (finding,) = preflight(model, tokens).blocked
    assert 'set_attn_implementation("eager")' in finding.fix
    found = preflight(model, tokens, apply=True)
    assert not found.blocked
    assert "BertModel.set_attn_implementation" in str(found)
    assert model.config._attn_implementation == "eager"


# ------------------------------------------------------------------------------------- the page


def test_the_page_does_what_it_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    require("timm")  # repairs an installation of torchvision that does not fit torch
    monkeypatch.setattr(dual, "RULES", rules := dict(dual.RULES))
    text = (Path(__file__).resolve().parents[2] / "docs" / "own-backbone.md").read_text(encoding="utf-8")
    page: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        exec(compile(block, "docs/own-backbone.md", "exec"), page)
    assert capsys.readouterr().out == "ready for forward gradients\n"
    assert torch.special.log_ndtr in rules
    x = torch.linspace(-2, 2, 12).view(4, 3)
    directions = torch.ones(1, *x.shape)
    for f in (torch.special.log_ndtr, page["Straight"].apply):
        for computed, right in zip(
            pushforward(f, x, directions), pushforward(f, x, directions, engine="reference"), strict=True
        ):
            assert distance(computed, right) < 1e-5
    assert pushforward(page["Straight"].apply, x, directions)[1].eq(1).all()
