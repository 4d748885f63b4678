"""What spaces leave out they name, and what they were when they were saved they stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from adapt import AdaptError
from adapt.adapter.method import Context, Support
from adapt.backbones import freeze_batch_norm, load_backbone, require
from adapt.baselines import PeftLora
from adapt.spaces import Space, bias, combine, film, full, ia3, lora, residual
from adapt.spaces.peft import write_peft
from adapt.spaces.saved import describe, rebuild
from tests.unusual import Attending, Tabled, Times

F64 = torch.float64

SPACES: list[Callable[[nn.Module], Space]] = [bias, film, lora, ia3, residual, full]


def test_what_is_left_out_is_named() -> None:
    network = Tabled()
    tables = ("positions", "table.weight")
    assert lora(network).left_out == residual(network).left_out == ia3(network).left_out == tables
    assert set(bias(network).left_out) == {"token", "relative_bias_table", "gamma"}
    assert full(network).left_out == ()
    both = combine(bias(network), lora(network))
    assert set(both.left_out) == {"token", "relative_bias_table", "gamma", *tables}


def test_batch_norms_that_are_not_frozen_are_named() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.LayerNorm(4)).eval()
    assert film(network).left_out == ("1.weight", "1.bias")
    assert film(freeze_batch_norm(network)).left_out == ()


def test_projections_that_share_a_bias_are_named() -> None:
    expected = tuple(f"attention.{part}_proj_weight" for part in "qkv")
    assert ia3(Attending(kdim=5, vdim=5)).left_out == expected
    assert lora(Attending(kdim=5, vdim=5)).left_out == ()


def test_whole_numbers_do_not_move() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    network[0].weight = nn.Parameter(torch.ones(4, 3, dtype=torch.int8), requires_grad=False)
    network[1].bias = nn.Parameter(torch.ones(2, dtype=torch.int64), requires_grad=False)
    assert (bias(network).left_out, [*bias(network).shapes]) == (("1.bias",), ["0.bias"])
    assert full(network).left_out == ("0.weight", "1.bias")
    assert lora(network).left_out == ("0.weight",)


@pytest.mark.parametrize("build", [full, lora, ia3, residual])
def test_numbers_of_different_widths_are_no_vector(build: Any) -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2, dtype=F64))
    with pytest.raises(
        AdaptError, match=r"0\.weight \(torch\.float32\) and 1\..* \(torch\.float64\).*one vector"
    ):
        build(network)


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.__name__)
@pytest.mark.parametrize(
    ("network", "message"),
    [
        (lambda: nn.Sequential(nn.LazyLinear(3), nn.LayerNorm(3)), "LazyLinear in backbone.0 is lazy"),
        (lambda: nn.Sequential(nn.Linear(3, 3, device="meta"), nn.LayerNorm(3)), "device meta"),
        (lambda: nn.DataParallel(nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))), "backbone.module"),
    ],
    ids=["lazy", "meta", "parallel"],
)
def test_a_space_of_what_is_no_plain_module(space: Any, network: Any, message: str) -> None:
    with pytest.raises(AdaptError, match=message.replace(".", r"\.")):
        space(network())


# ------------------------------------------------------------------------------------------ what was saved


@pytest.mark.parametrize(
    ("build", "saved"),
    [
        (bias, {"name": "bias", "settings": {}, "parameters": ["attention.out_proj.bias"]}),
        (
            lora,
            {
                "name": "lora",
                "settings": {"rank": 2, "alpha": None, "targets": "*", "seed": 0},
                "parameters": ["attention.out_proj.lora_A", "attention.out_proj.lora_B"],
            },
        ),
        (
            residual,
            {"name": "residual", "settings": {"targets": "*"}, "parameters": ["attention.out_proj.residual"]},
        ),
    ],
    ids=["bias", "lora", "residual"],
)
def test_a_space_of_an_earlier_version_keeps_its_tensors(build: Any, saved: dict[str, Any]) -> None:
    """Which did not know of the projections inside attention."""
    network = Attending()
    again = rebuild(saved, network)
    assert [*again.shapes] == saved["parameters"] != [*build(network).shapes]
    assert describe(again) == saved
    assert again.parameters(again.initial).keys() == {
        f"attention.out_proj.{'bias' if build is bias else 'weight'}"
    }


def test_spaces_of_what_ships_are_what_they_were() -> None:
    network = load_backbone("conv4_glyphs")[0]
    norms = [name for name, module in network.named_modules() if type(module).__name__ == "FrozenBatchNorm"]
    assert [*film(network).shapes] == [f"{name}.{part}" for name in norms for part in ("weight", "bias")]
    for build in (bias, film, lora, full):
        assert build(network).left_out == ()
    mlp = load_backbone("mlp:2-3-1")[0]
    assert [*bias(mlp).shapes] == ["layers.0.bias", "layers.2.bias"]


def test_peft_has_no_name_for_parts_of_attention() -> None:
    space = lora(Attending())
    with pytest.raises(
        AdaptError, match=r"attention\.in_proj is one of several matrices of a MultiheadAttention"
    ):
        write_peft("nowhere", space, space.initial)


def test_norms_of_transformers() -> None:
    transformers = require("transformers")
    config = transformers.LlamaConfig(
        vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
    )
    found = [*film(transformers.LlamaModel(config)).shapes]
    assert found == [
        "layers.0.input_layernorm.weight",
        "layers.0.post_attention_layernorm.weight",
        "norm.weight",
    ]


def test_norms_of_timm() -> None:
    network = require("timm").create_model("convnextv2_atto", num_classes=0)
    kinds = {name.rpartition(".")[0].rpartition(".")[2] for name in film(network).shapes}
    assert "grn" in kinds  # a norm of its own, beside layer norms
    assert not any(name.endswith("gamma") and "grn" not in name for name in film(network).shapes)


def test_peft_is_given_the_layers_that_it_knows() -> None:
    """Of a linear layer of one's own, and of the parts of attention, it has none."""
    network = nn.Sequential(Times(8, 8), nn.Linear(8, 8), Attending(), nn.Linear(8, 3)).eval()
    x = torch.rand(8, 4, 8, generator=torch.Generator().manual_seed(0))
    support = Support(x, torch.tensor([0, 1] * 4), ("a", "b"))
    method = PeftLora(epochs=1, targets="1,3")
    assert method.prepare(Context(network, None))(support, lambda _: None)(x).shape == (8, 2)  # type: ignore[arg-type]
    with pytest.raises(AdaptError, match=r"'0' match no layer"):
        PeftLora(targets="0").prepare(Context(network, None))  # type: ignore[arg-type]
