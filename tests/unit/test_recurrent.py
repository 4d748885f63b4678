"""Recurrent layers in the precisions that have fused kernels, which have no forward derivative."""

from __future__ import annotations

import copy
import threading
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from adapt.forward import Engine, pushforward
from adapt.forward.kernels import differentiable_kernels
from adapt.forward.preflight import preflight
from tests.helpers import distance

LAYERS: dict[str, tuple[type[nn.RNNBase], dict[str, Any]]] = {
    "LSTM": (nn.LSTM, {}),
    "LSTM, two ways": (nn.LSTM, {"num_layers": 2, "bidirectional": True}),
    "LSTM, projected": (nn.LSTM, {"proj_size": 3}),
    "LSTM, no bias": (nn.LSTM, {"bias": False}),
    "GRU": (nn.GRU, {"bidirectional": True}),
    "RNN": (nn.RNN, {"nonlinearity": "relu"}),
}


class Sequences(nn.Module):
    """The last state of a recurrent layer on sequences ``[n, 4, 5]``."""

    def __init__(self, name: str) -> None:
        super().__init__()
        kind, options = LAYERS[name]
        self.before = nn.Conv1d(5, 5, 1)
        self.layer = kind(5, 6, batch_first=True, **options)

    def forward(self, x: Tensor) -> Tensor:
        states: Tensor = self.layer(self.before(x.mT).mT)[0]
        return states[:, -1]


def model(name: str) -> nn.Module:
    torch.manual_seed(0)
    return Sequences(name).eval().requires_grad_(False)


def pushed(network: nn.Module, engine: Engine, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    network = network.to(dtype)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64).to(dtype)
    points = {name: value.detach() for name, value in network.named_parameters()}
    columns = {
        name: torch.randn(2, *value.shape, generator=generator, dtype=torch.float64).to(dtype)
        for name, value in points.items()
    }
    with torch.no_grad():
        value, found = pushforward(
            lambda p: functional_call(network, p, (x,)), points, columns, engine=engine
        )
    return value, found


@pytest.mark.parametrize("engine", ["fast", "reference"])
@pytest.mark.parametrize("name", LAYERS)
def test_float32_is_as_exact_as_float32_can_be(name: str, engine: Engine) -> None:
    right = pushed(model(name), "reference", torch.float64)  # which has no fused kernel
    for ours, theirs in zip(pushed(model(name), engine, torch.float32), right, strict=True):
        assert distance(ours.double(), theirs) <= 1e-5


def test_bfloat16_works_too() -> None:
    right = pushed(model("LSTM"), "reference", torch.float64)
    for ours, theirs in zip(pushed(model("LSTM"), "fast", torch.bfloat16), right, strict=True):
        assert distance(ours.double(), theirs) <= 5e-2


def test_preflight_lets_them_pass() -> None:
    found = preflight(model("LSTM"), torch.randn(2, 4, 5))
    assert not found.blocked
    assert not found.repeated
    assert "LSTM: plain, not fused, in each pass" in found.applied


def settings() -> tuple[bool, bool]:
    return torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled


def test_the_kernels_are_off_for_recurrent_layers_only_and_on_again_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = settings()
    seen = []

    def f(w: Tensor) -> Tensor:
        seen.append(settings())
        return F.conv1d(torch.ones(1, 5, 4), w)

    for engine in ("fast", "reference"):
        pushforward(f, torch.ones(5, 5, 1), torch.ones(1, 5, 5, 1), engine=engine)
        pushed(model("LSTM"), engine, torch.float32)
    assert seen == [before] * 2
    assert settings() == before


def test_a_failure_inside_turns_them_on_again() -> None:
    before = settings()
    with differentiable_kernels(), pytest.raises(RuntimeError):
        torch.lstm(torch.ones(1), (torch.ones(1),), [], True, 1, 0.0, False, False, True)  # type: ignore[call-overload]
    assert settings() == before


def test_threads_share_the_switch() -> None:
    before, results = settings(), list[Tensor]()
    network = model("LSTM")
    threads = [
        threading.Thread(
            target=lambda: results.append(pushed(copy.deepcopy(network), "fast", torch.float32)[1])
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert settings() == before
    assert all(distance(result, results[0]) <= 1e-6 for result in results)
