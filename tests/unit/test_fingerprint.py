"""Fingerprints of whatever a state dict may hold: ordinary ones stay what they were, others are found or
refused."""

from __future__ import annotations

import collections
import dataclasses
import enum
import hashlib
import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import adapt
from adapt import AdaptError, FewShotAdapter
from adapt.adapter import initial_state
from adapt.backbones import Conv4, check_state, fingerprint, own
from adapt.spaces import bias
from tests.helpers import tiny_conv4

pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:torch.quantize_per:UserWarning"),
    pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta:UserWarning"),
    pytest.mark.filterwarnings("ignore:Sparse BSR tensor support is in beta:UserWarning"),
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype:UserWarning"),
]


class Holder(nn.Module):
    """Has ``value`` in its state."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value

    def get_extra_state(self) -> Any:
        return self.value

    def set_extra_state(self, state: Any) -> None:
        self.value = state


def tied() -> nn.Module:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    network[1].weight = network[0].weight
    return network


def with_buffers() -> nn.Module:
    network = nn.Module()
    for name, value in {
        "scalar": torch.tensor(3.5),
        "flags": torch.tensor([True, False]),
        "whole": torch.arange(4, dtype=torch.int16),
        "short": torch.tensor([1.5, float("nan")], dtype=torch.bfloat16),
        "halves": torch.ones(2, dtype=torch.float16),
        "complex": torch.tensor([1 + 2j]),
        "strided": torch.arange(6.0).reshape(2, 3).T,
        "expanded": torch.ones(1).expand(3),
        "empty": torch.zeros(0),
    }.items():
        network.register_buffer(name, value)
    return network


@pytest.mark.parametrize("build", [Conv4, tiny_conv4, tied, with_buffers, lambda: nn.LSTM(2, 3)])
def test_of_an_ordinary_state_dict_it_is_what_it_always_was(build: Callable[[], nn.Module]) -> None:
    """sha256 over name, dtype, shape and bytes: saved adapters hold it."""
    network, digest = build(), hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        raw = value.contiguous().view(-1) if value.ndim else value.reshape(1)
        digest.update(b"".join(bytes(one.reshape(1).view(torch.uint8).tolist()) for one in raw[:4096]))
        if len(raw) > 4096:
            digest.update(raw[4096:].contiguous().view(torch.uint8).numpy().tobytes())
    assert fingerprint(network) == digest.hexdigest()


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclasses.dataclass
class Record:
    number: int
    tensor: Tensor


def quantised(axis: int | None, factor: float = 1.0) -> Tensor:
    value = factor * torch.arange(6.0).reshape(2, 3)
    if axis is None:
        return torch.quantize_per_tensor(value, 0.1, 3, torch.qint8)
    scales = torch.full((value.shape[axis],), 0.1)
    return torch.quantize_per_channel(value, scales, torch.zeros(len(scales)), axis, torch.qint8)


def coo(values: list[float], indices: list[int]) -> Tensor:
    return torch.sparse_coo_tensor([indices], values, (4,), check_invariants=False)


#: Different values, each of which must have a fingerprint of its own.
DIFFERENT: list[Callable[[], Any]] = [
    *(lambda value=value: value for value in (None, 0, 1, 0.0, 1.0, True, 1j, "1", b"1", "", range(1))),
    *(lambda value=value: value for value in ([1, 2], [[1], 2], [1, [2]], {}, [], {1: 2}, {2: 1}, {"1": 2})),
    *(
        lambda value=value: value
        for value in ({1}, {2}, {"a", "b"}, frozenset({(1, 2)}), collections.deque([5]))
    ),
    *(
        lambda value=value: value
        for value in (torch.float32, torch.device("cpu"), torch.Size([1, 7]), Colour.RED)
    ),
    lambda: Colour.BLUE,
    lambda: np.arange(3.0),
    lambda: np.arange(3),
    lambda: np.float32(1),
    lambda: io.BytesIO(b"weights"),
    lambda: Record(1, torch.ones(2)),
    lambda: Record(1, torch.zeros(2)),
    lambda: {"nested": [{"deep": (torch.ones(2), 1)}]},
    lambda: {"nested": [{"deep": (torch.ones(2), 2)}]},
    lambda: {"nested": [{"deep": (torch.zeros(2), 1)}]},
    lambda: torch.ones(2),
    lambda: torch.ones(2, dtype=torch.complex64),
    lambda: torch.tensor([1 - 1j]),
    lambda: torch.tensor([1 + 1j]),
    lambda: torch.ones(2).to(torch.float8_e4m3fn),
    lambda: quantised(None),
    lambda: quantised(None, 0.5),
    lambda: quantised(0),
    lambda: quantised(1),
    lambda: coo([1.0, 2.0], [0, 1]),
    lambda: coo([1.0, 2.0], [0, 2]),
    lambda: torch.eye(4).to_sparse_csr(),
    lambda: torch.eye(4).to_sparse_csc(),
    lambda: torch.eye(4).to_sparse_bsr(2),
    lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    lambda: torch.nested.nested_tensor([torch.ones(3), torch.ones(2)]),
]


def test_different_state_has_different_fingerprints_and_equal_state_the_same() -> None:
    found = [fingerprint(Holder(make())) for make in DIFFERENT]
    assert found == [fingerprint(Holder(make())) for make in DIFFERENT]
    assert len(set(found)) == len(found)


#: The same value, represented in two ways.
EQUAL: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "order of keys": (lambda: {"a": 1, "b": 2}, lambda: {"b": 2, "a": 1}),
    "kind of mapping": (lambda: {"a": 1}, lambda: collections.OrderedDict(a=1)),
    "order of a set": (lambda: {"x", "yy", "z"}, lambda: {"z", "yy", "x"}),
    "conjugate that is not computed yet": (
        lambda: torch.tensor([1 + 1j]).conj(),
        lambda: torch.tensor([1 - 1j]),
    ),
    "sum that is not computed yet": (
        lambda: coo([1.0, 1.0, 2.0], [0, 0, 1]),
        lambda: coo([2.0, 2.0], [0, 1]),
    ),
    "strides": (
        lambda: torch.arange(6.0).reshape(3, 2).T.contiguous().T,
        lambda: torch.arange(6.0).reshape(3, 2),
    ),
    "layout of oneDNN": (lambda: torch.ones(2, 3).to_mkldnn(), lambda: torch.ones(2, 3)),
}


@pytest.mark.parametrize(("one", "other"), EQUAL.values(), ids=EQUAL.keys())
def test_how_a_value_is_held_does_not_matter(one: Callable[[], Any], other: Callable[[], Any]) -> None:
    assert fingerprint(Holder(one())) == fingerprint(Holder(other()))


def dynamic(
    seed: int, kind: Any, layers: Callable[[], nn.Module], dtype: torch.dtype = torch.qint8
) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.ao.quantization.quantize_dynamic(nn.Sequential(layers()), {kind}, dtype=dtype)


@pytest.mark.parametrize(
    ("kind", "layers", "dtype"),
    [
        (nn.Linear, lambda: nn.Linear(4, 4), torch.qint8),
        (nn.Linear, lambda: nn.Linear(4, 4), torch.float16),
        (nn.LSTM, lambda: nn.LSTM(4, 4), torch.qint8),
        (nn.GRU, lambda: nn.GRU(4, 4), torch.qint8),
        (nn.LSTMCell, lambda: nn.LSTMCell(4, 4), torch.qint8),
    ],
)
def test_packed_weights_of_quantised_layers(
    kind: Any, layers: Callable[[], nn.Module], dtype: torch.dtype
) -> None:
    a, again, b = (fingerprint(dynamic(seed, kind, layers, dtype)) for seed in (0, 0, 1))
    assert a == again != b


@pytest.mark.parametrize(
    "value",
    [object(), lambda: 1, torch.Generator(), nn.Linear(2, 2), [{"deep": object()}], np.array([object()])],
)
def test_what_cannot_be_hashed_is_refused_when_the_adapter_is_made(value: Any) -> None:
    network = nn.Sequential(nn.Linear(3, 2), Holder(value))
    space = bias(network)
    state = initial_state(space.initial, torch.ones(2, 1))
    for refuses in (
        lambda: FewShotAdapter(network, space, state),
        lambda: own(network),
        lambda: check_state(network),
    ):
        with pytest.raises(
            AdaptError,
            match=r"backbone\.1\._extra_state.* holds a value of type .*get_extra_state return tensors",
        ):
            refuses()


def test_an_adapter_on_quantised_layers_is_saved_and_found_again(tmp_path: Any) -> None:
    def network() -> nn.Module:
        return nn.Sequential(
            dynamic(0, nn.Linear, lambda: nn.Linear(4, 6)), nn.Tanh(), head, Holder({"version": 3})
        )

    class Through(Holder):
        def forward(self, x: Tensor) -> Tensor:
            return x

    head, x = nn.Linear(6, 3), torch.rand(8, 4)
    backbone = network()
    backbone[3] = Through({"version": 3})
    space = bias(backbone)
    task = FewShotAdapter(backbone, space, initial_state(space.initial, torch.eye(3)[:, :2])).fit(
        x, [0, 1] * 4
    )
    task.save_pretrained(tmp_path)
    again = network()
    again[3] = Through({"version": 3})
    assert torch.equal(adapt.load(tmp_path, again).logits(x), task.logits(x))
    again[3] = Through({"version": 4})
    with pytest.raises(AdaptError, match="weights are not those"):
        adapt.load(tmp_path, again)


def test_shipped_artifacts_still_verify() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("conv4_glyphs_film", "mlp_sinusoid", "mlp_vehicle_dynamics_maml"):
            assert isinstance(adapt.load(name), FewShotAdapter)
