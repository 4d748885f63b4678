"""Spaces choose parameters by what they do, whoever holds them and whatever they are called."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from adapt import AdaptError
from adapt.forward import pushforward
from adapt.spaces import Space, bias, film, full, ia3, lora, residual
from tests.unusual import (
    Attending,
    ChannelNorm,
    LlamaRMSNorm,
    Pooled,
    Recurrent,
    Standardised,
    Stepping,
    Tabled,
    Times,
)

F64 = torch.float64


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
