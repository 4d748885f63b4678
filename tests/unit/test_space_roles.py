"""Spaces choose parameters by what they do, whoever holds them and whatever they are called, and name the
rest."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from adapt import AdaptError
from adapt.backbones import freeze_batch_norm, load_backbone, require
from adapt.forward import pushforward
from adapt.spaces import Space, bias, combine, film, full, ia3, lora, residual
from adapt.spaces.peft import write_peft
from adapt.spaces.saved import describe, rebuild

F64 = torch.float64


class LlamaRMSNorm(nn.Module):
    """As transformers write it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.variance_epsilon = nn.Parameter(torch.ones(width)), 1e-6

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * (x.square().mean(-1, keepdim=True) + self.variance_epsilon).rsqrt()


class Standardised(nn.Module):
    """A layer norm under other names: those of the Annotated Transformer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a_2, self.b_2, self.eps = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width)), 1e-6

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return self.a_2 * centred / (centred.square().mean(-1, keepdim=True) + self.eps).sqrt() + self.b_2


class ChannelNorm(nn.Module):
    """Over channels, with parameters [C, 1]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.ones(channels, 1)), nn.Parameter(torch.zeros(channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.gamma * (x - x.mean(1, keepdim=True)) + self.beta


class Times(nn.Module):
    """A linear layer that stores its weight [in, out]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight, self.bias = (
            nn.Parameter(torch.randn(inputs, outputs)),
            nn.Parameter(torch.zeros(outputs)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class Pooled(nn.Module):
    """Generalised mean, with an exponent and an ε, and is no norm."""

    def __init__(self) -> None:
        super().__init__()
        self.p, self.eps = nn.Parameter(torch.full((1,), 3.0)), 1e-6

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(min=self.eps).pow(self.p).mean(1).pow(1 / self.p)


class Attending(nn.Module):
    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True, **settings)
        self.norm, self.keys = nn.RMSNorm(8), settings.get("kdim", 8)

    def forward(self, x: Tensor) -> Tensor:
        keys = x[..., : self.keys]
        return self.norm(x + self.attention(x, keys, keys)[0]).mean(1)


class Recurrent(nn.Module):
    def __init__(self, kind: Any, **settings: Any) -> None:
        super().__init__()
        self.cells = kind(8, 3, batch_first=True, **settings)

    def forward(self, x: Tensor) -> Tensor:
        return self.cells(x)[0].mean(1)


class Stepping(nn.Module):
    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.cell = kind(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for step in x.unbind(1):
            state = self.cell(step, state)
        assert state is not None
        return state[0] if isinstance(state, tuple) else state


class Tabled(nn.Module):
    """Tables, a token and a scale that stand in the network itself."""

    def __init__(self) -> None:
        super().__init__()
        self.positions, self.token = nn.Parameter(torch.zeros(4, 8)), nn.Parameter(torch.zeros(1, 1, 8))
        self.relative_bias_table = nn.Parameter(torch.zeros(5, 1))
        self.table, self.linear = nn.Embedding(5, 8), nn.Linear(8, 3)
        self.gamma = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.gamma * self.linear(x + self.positions + self.token + self.table.weight[0]).mean(1)


def own() -> nn.Module:
    return nn.Sequential(Times(8, 6), LlamaRMSNorm(6), Times(6, 6), Standardised(6), ChannelNorm(4), Pooled())


LSTM2 = [
    f"cells.bias_{gate}_l{layer}{way}"
    for layer in (0, 1)
    for way in ("", "_reverse")
    for gate in ("ih", "hh")
]
IN, OUT = "attention.in_proj_bias", "attention.out_proj.bias"
TORCH_LAYER = nn.TransformerEncoderLayer
#: Network of sequences [n, 4, 8], its biases, and its norms.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], list[str], list[str]]] = {
    "attention": (Attending, [IN, OUT], ["norm.weight"]),
    "attention with extra keys": (
        partial(Attending, add_bias_kv=True),
        [IN, "attention.bias_k", "attention.bias_v", OUT],
        ["norm.weight"],
    ),
    "attention to others": (partial(Attending, kdim=5, vdim=5), [IN, OUT], ["norm.weight"]),
    "lstm": (partial(Recurrent, nn.LSTM, num_layers=2, bidirectional=True), LSTM2, []),
    "lstm, projected": (partial(Recurrent, nn.LSTM, proj_size=2), LSTM2[:2], []),
    "gru": (partial(Recurrent, nn.GRU), LSTM2[:2], []),
    "rnn": (partial(Recurrent, nn.RNN, nonlinearity="relu"), LSTM2[:2], []),
    "lstm cell": (partial(Stepping, nn.LSTMCell), ["cell.bias_ih", "cell.bias_hh"], []),
    "gru cell": (partial(Stepping, nn.GRUCell), ["cell.bias_ih", "cell.bias_hh"], []),
    "one's own": (
        own,
        ["0.bias", "2.bias", "3.b_2", "4.beta"],
        ["1.weight", "3.a_2", "3.b_2", "4.gamma", "4.beta"],
    ),
    "tables": (Tabled, ["linear.bias"], []),
    "torch's encoder": (
        lambda: nn.Sequential(TORCH_LAYER(8, 2, 8, batch_first=True), nn.Flatten()),
        [
            *("0.self_attn.in_proj_bias", "0.self_attn.out_proj.bias", "0.linear1.bias", "0.linear2.bias"),
            *("0.norm1.bias", "0.norm2.bias"),
        ],
        ["0.norm1.weight", "0.norm1.bias", "0.norm2.weight", "0.norm2.bias"],
    ),
}
networks = pytest.mark.parametrize(("build", "biases", "norms"), NETWORKS.values(), ids=NETWORKS.keys())


def made(build: Callable[[], nn.Module], dtype: torch.dtype = F64) -> nn.Module:
    """With weights, biases and scales that are neither 0 nor 1."""
    network, generator = build().to(dtype).eval().requires_grad_(False), torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator, dtype=dtype))
    return network


@networks
def test_biases_and_norms_are_found_by_what_they_do(build: Any, biases: list[str], norms: list[str]) -> None:
    network = made(build)
    assert [*bias(network).shapes] == biases
    if norms:
        assert [*film(network).shapes] == norms
    else:
        with pytest.raises(AdaptError, match="finds nothing to adapt"):
            film(network)


MATRICES = {
    "attention": ["attention.in_proj", "attention.out_proj"],
    "attention to others": [f"attention.{part}_proj" for part in ("q", "k", "v", "out")],
    "lstm, projected": [f"cells.weight_{part}_l0" for part in ("ih", "hh", "hr")],
    "gru cell": ["cell.weight_ih", "cell.weight_hh"],
    "one's own": ["0", "2"],
    "tables": ["linear"],
}


@pytest.mark.parametrize(("name", "expected"), MATRICES.items())
def test_matrices_are_found_by_what_they_do(name: str, expected: list[str]) -> None:
    network = made(NETWORKS[name][0])
    assert [*lora(network).shapes] == [f"{layer}.lora_{half}" for layer in expected for half in "AB"]
    assert [*residual(network).shapes] == [f"{layer}.residual" for layer in expected]
    if name != "attention to others":
        assert [*ia3(network).shapes] == [f"{layer}.ia3_l" for layer in expected]


def scaled_by_hand(network: nn.Module, name: str, x: Tensor, row: int, factor: float) -> Tensor:
    """The network's values with one row of a layer, and its bias, scaled."""
    parameters = {key: value.clone() for key, value in network.named_parameters()}
    for key in (
        (f"{name}_weight", f"{name}_bias") if "proj" in name else (name, name.replace("weight", "bias"))
    ):
        parameters[key][row] *= factor
    return functional_call(network, parameters, (x,))


@pytest.mark.parametrize(
    ("network", "layer"),
    [("attention", "attention.in_proj"), ("gru", "cells.weight_hh_l0"), ("lstm cell", "cell.weight_ih")],
)
def test_a_factor_scales_a_row_and_its_bias(network: str, layer: str) -> None:
    backbone, x = made(NETWORKS[network][0]), torch.rand(3, 4, 8, dtype=F64)
    space = ia3(backbone, targets=layer)
    phi = space.initial.clone()
    phi[4] = 1.7
    found = functional_call(backbone, space.parameters(phi), (x,))
    assert torch.allclose(found, scaled_by_hand(backbone, layer, x, 4, 1.7), atol=1e-12)


SPACES: list[Callable[[nn.Module], Space]] = [bias, film, lora, ia3, residual, full]


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.__name__)
@networks
def test_engines_agree_on_them(build: Any, biases: list[str], norms: list[str], space: Any) -> None:
    """The fast engine, the reference, and finite differences; and the start is the network itself."""
    network, generator = made(build), torch.Generator().manual_seed(1)
    if space is film and not norms:
        return
    chosen = space(network)
    x = torch.randn(3, 4, 8, generator=generator, dtype=F64)

    def f(phi: Tensor) -> Tensor:
        return functional_call(network, chosen.parameters(phi), (x,))

    assert torch.allclose(f(chosen.initial), network(x), atol=1e-12)
    point = chosen.initial + 0.1 * torch.randn(chosen.size, generator=generator, dtype=F64)
    tangents = torch.randn(2, chosen.size, generator=generator, dtype=F64)
    value, columns = pushforward(f, point, tangents)
    step = 1e-6
    measured = torch.stack([(f(point + step * v) - f(point - step * v)) / (2 * step) for v in tangents])
    assert torch.allclose(value, f(point), atol=1e-12)
    assert torch.allclose(columns, pushforward(f, point, tangents, engine="reference")[1], atol=1e-10)
    assert torch.allclose(columns, measured, atol=1e-6, rtol=1e-6) and columns.abs().max() > 0


# ------------------------------------------------------------------------------------------ what is left out


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
