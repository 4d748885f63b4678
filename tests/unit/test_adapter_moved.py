"""``adapter.to`` and ``task.to``: another device or dtype, the same predictions, and the original
untouched."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import adapt
from adapt import AdaptError, FewShotAdapter
from adapt.adapter import initial_state
from adapt.backbones import fingerprint, info_of, own
from adapt.spaces import Space, bias, combine, film, full, ia3, lora, residual
from tests.helpers import randomised
from tests.misbehaving import Tokens

WIDTH = 6
X = torch.rand(8, WIDTH, generator=torch.Generator().manual_seed(0))
Y = np.array(["a", "b"] * 4)


class Tied(nn.Module):
    """Two layers with one weight, and a buffer that two modules share."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.b.weight = self.a.weight
        self.norm = nn.LayerNorm(WIDTH)
        self.register_buffer("scale", torch.full((), 0.5))
        self.a.register_buffer("scale", self.scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.b(self.a(x).tanh()) * self.scale)


def last() -> tuple[nn.Module, ...]:
    return nn.Linear(4, 4), nn.LayerNorm(4)


def weight_norm() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(WIDTH, 4)), *last())


def weight_norm_of_old() -> nn.Module:
    """Its weight is computed from others, and torch refuses to copy such a tensor."""
    network = nn.Sequential(nn.utils.weight_norm(nn.Linear(WIDTH, 4)), *last())
    network(X)
    return network


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: nn.Sequential(nn.Linear(WIDTH, 5), nn.Tanh(), nn.Linear(5, 4), nn.LayerNorm(4)),
    "tied": Tied,
    "weight norm": weight_norm,
    "weight norm of old": weight_norm_of_old,
    "batch norm": lambda: nn.Sequential(
        nn.Linear(WIDTH, 4), nn.BatchNorm1d(4), nn.Linear(4, 4), nn.LayerNorm(4)
    ).eval(),
}
SPACES: dict[str, Callable[[nn.Module], Space]] = {
    "bias": bias,
    "lora": lora,
    "ia3": lambda net: ia3(net, "*"),
    "film and residual": lambda net: combine(film(net), residual(net)),
}


def adapter_on(network: nn.Module, build: Callable[[nn.Module], Space] = bias) -> FewShotAdapter:
    space = build(network)
    directions = 0.1 * torch.randn(space.size, 2, generator=torch.Generator().manual_seed(1))
    return FewShotAdapter(network, space, initial_state(space.initial, directions.to(space.initial)))


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize("build", SPACES.values(), ids=SPACES.keys())
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())
def test_another_dtype_leaves_the_original_as_it_is(network: Any, build: Any) -> None:
    backbone = network()
    adapter = adapter_on(backbone, build)
    task = adapter.fit(X, Y)
    before, predicted = fingerprint(backbone), task.logits(X)
    moved = adapter.to(torch.float64)
    refitted, taken = moved.fit(X.double(), Y), task.to(torch.float64)
    assert moved.backbone is not backbone and info_of(moved.backbone) == info_of(backbone)
    for each in (refitted, taken):
        assert {each.z.dtype, each.logits(X).dtype, each.head_state.dtype} == {torch.float64}
        assert torch.allclose(each.logits(X).float(), predicted, atol=1e-4)
    for parameter in moved.backbone.parameters():
        parameter.data.zero_()  # nothing is shared
    assert fingerprint(backbone) == before
    assert torch.equal(task.logits(X), predicted)
    assert torch.equal(adapter.fit(X, Y).logits(X), predicted)


def test_what_is_tied_stays_tied_and_what_is_there_already_is_not_copied() -> None:
    adapter = adapter_on(Tied(), full)
    moved = adapter.to(torch.float64)
    copied: Any = moved.backbone
    assert copied.a.weight is copied.b.weight and copied.a.scale is copied.scale
    assert adapter.to("cpu").backbone is adapter.backbone is adapter.to(torch.float32).backbone
    assert moved.to(torch.float64).backbone is moved.backbone
    assert moved.to("cpu", torch.float32).backbone is not moved.backbone


def test_whole_numbers_stay_whole() -> None:
    adapter = adapter_on(Tokens(True))
    moved = adapter.to(torch.float64)
    task = moved.fit(["abc", "xy", "abd", "x"], ["a", "b", "a", "b"])
    assert task.logits(["abc"]).dtype == torch.float64
    assert adapter.fit(["abc", "xy", "abd", "x"], ["a", "b", "a", "b"]).logits(["abc"]).dtype == torch.float32


def test_a_stated_input_dtype_moves_along() -> None:
    backbone, _ = own(nn.Sequential(nn.Linear(WIDTH, 4)), input_dtype="float32")
    moved = adapter_on(backbone).to(torch.float64)
    assert moved.examples(X).dtype == torch.float64
    assert info_of(backbone).input_dtype == "float32"  # type: ignore[union-attr]


def test_a_moved_adapter_is_saved_as_what_it_is(tmp_path: Any) -> None:
    backbone, _ = own(nn.Sequential(nn.Linear(WIDTH, 4)))
    moved = adapter_on(backbone).to(torch.float64)
    task = moved.fit(X, Y)
    task.save_pretrained(tmp_path)
    with pytest.raises(AdaptError, match="weights are not those"):
        adapt.load(tmp_path, backbone)
    assert torch.equal(adapt.load(tmp_path, moved.backbone).logits(X), task.logits(X))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), r"to\('nowhere'\): torch cannot compute there"),
        (("cuda:99",), r"to\('cuda:99'\): torch cannot compute there"),
        (("meta",), "without values"),
        ((object(),), "torch cannot compute there"),
        ((torch.int64,), r"to\(torch\.int64\): .*floating-point"),
        (("cpu", torch.bool), r"to\(torch\.bool\): .*floating-point"),
        ((torch.float32, torch.float64), "one dtype is enough"),
    ],
)
def test_what_cannot_be_is_said(arguments: Any, message: str) -> None:
    with pytest.raises(AdaptError, match=message):
        adapter_on(nn.Sequential(nn.Linear(WIDTH, 4))).to(*arguments)


def test_what_cannot_be_copied_is_said() -> None:
    network = nn.Sequential(nn.Linear(WIDTH, 4))
    network.lock = threading.Lock()  # type: ignore[assignment]
    adapter = adapter_on(network)
    with pytest.raises(
        AdaptError, match=r"Sequential cannot be copied \(.*lock.*\), and to\(\) leaves the original"
    ):
        adapter.to(torch.float64)
    assert adapter.to("cpu").backbone is network


def test_a_space_whose_weights_cannot_follow_is_said() -> None:
    network = randomised(nn.Sequential(nn.Linear(WIDTH, 4)))
    weight = network[0].weight.clone()
    space = Space(
        "own",
        {"shift": (4, WIDTH)},
        torch.zeros(4 * WIDTH),
        merge=lambda own: {"0.weight": (weight + own["shift"]).float()},
    )
    adapter = FewShotAdapter(network, space, initial_state(space.initial, torch.zeros(space.size, 1)))
    with pytest.raises(AdaptError, match=r"space 'own' makes 0\.weight from tensors that cannot be moved"):
        adapter.to(torch.float64)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_another_device_leaves_the_original_as_it_is() -> None:
    adapter = adapter_on(Tied(), lora)
    task = adapter.fit(X, Y)
    predicted = task.logits(X)
    for each in (adapter.to("cuda").fit(X, Y), task.to("cuda")):
        assert each.logits(X).is_cuda and torch.allclose(each.logits(X).cpu(), predicted, atol=1e-3)
    assert torch.equal(task.logits(X), predicted)
    assert adapter.to("cuda").to("cuda").backbone is not adapter.backbone
