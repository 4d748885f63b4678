"""The contract of spaces, for every row of the table and every backbone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vjp, vmap

from adapt import AdaptError
from adapt.backbones import FrozenPrefix, Mlp, fingerprint, tokeniser
from adapt.forward import pushforward
from tests.conformance.tables import BACKBONES, SPACES, Adaptable, randn
from tests.helpers import SIDE, distance, randomised, tiny_conv4


class Prompted(nn.Module):
    """A transformer of one block with a prompt: ``[n, T, 8] → [n, 8]``."""

    def __init__(self) -> None:
        super().__init__()
        self.prompt = nn.Parameter(torch.zeros(2, 8))
        self.norm, self.last = nn.LayerNorm(8), nn.LayerNorm(8)
        self.query, self.key, self.value = (nn.Linear(8, 8) for _ in range(3))
        self.hidden, self.out = nn.Linear(8, 16), nn.Linear(16, 8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.cat([self.prompt.expand(len(x), -1, -1), x], 1)
        q, k, v = (project(self.norm(h)) for project in (self.query, self.key, self.value))
        h = h + (q @ k.mT / 8**0.5).softmax(-1) @ v
        return (h + self.out(nn.functional.gelu(self.hidden(self.last(h))))).mean(1)


Network = tuple[Callable[[], nn.Module], tuple[int, ...]]
SMALL: dict[str, Network] = {
    "conv4": (tiny_conv4, (1, SIDE, SIDE)),
    "mlp": (lambda: nn.Sequential(Mlp((3, 8, 8, 2)), nn.LayerNorm(2)), (3,)),
    "transformer": (Prompted, (3, 8)),
}
NETWORKS: dict[str, Network] = BACKBONES | SMALL


def pairs(networks: dict[str, Network]) -> pytest.MarkDecorator:
    """Every space in every network."""
    cells = {f"{s}-{n}": (space, network) for s, space in SPACES.items() for n, network in networks.items()}
    return pytest.mark.parametrize(("build", "row"), cells.values(), ids=cells.keys())


def network_of(row: Network, build: Any, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Adaptable]:
    network = randomised(row[0]()).to(dtype)
    try:
        return network, build(network)
    except AdaptError as error:  # such as a prompt where there is none; some network has one, see below
        pytest.skip(str(error))


def examples(network: nn.Module, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    if tokeniser(network) is None:
        return randn(3, *shape, dtype=dtype)
    return torch.randint(1, 4, (3, *shape), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("build", SPACES.values(), ids=SPACES.keys())
def test_every_space_is_found_in_the_transformer(build: Any) -> None:
    assert build(randomised(Prompted())).start.numel() > 0


@pairs(NETWORKS)
def test_start_of_a_space_is_the_backbone_itself(build: Any, row: Network) -> None:
    network, space = network_of(row, build)
    before, x = fingerprint(network), examples(network, row[1])
    expected = network(x)
    assert torch.equal(functional_call(network, space.parameters(space.start), (x,)), expected)
    moved = functional_call(network, space.parameters(space.start + 0.1), (x,))
    assert not torch.allclose(moved, expected)
    assert fingerprint(network) == before


@pairs(NETWORKS)
def test_gradient_in_a_space_is_that_of_the_parameters(build: Any, row: Network) -> None:
    network, space = network_of(row, build, torch.float64)
    x, weights = examples(network, row[1], torch.float64), randn(3, 1, seed=1)

    def loss(features: Tensor) -> Tensor:
        return (weights * features.square()).sum()

    start = space.start.clone().requires_grad_(True)
    ours = torch.autograd.grad(loss(functional_call(network, space.parameters(start), (x,))), start)[0]
    parameters, pull_back, *_ = vjp(space.parameters, space.start)
    leaves = dict(network.requires_grad_(True).named_parameters())
    names = [*parameters]
    gradients = torch.autograd.grad(loss(network(x)), [leaves[name] for name in names])
    assert distance(ours, pull_back(dict(zip(names, gradients, strict=True)))[0]) <= 1e-10
    assert ours.norm() > 0


@pairs(SMALL)
def test_the_forward_engine_gives_the_jacobian_of_a_space(build: Any, row: Network) -> None:
    """At a point other than the start, where products have two slopes; with a frozen prefix too."""
    network, space = network_of(row, build, torch.float64)
    x, point = examples(network, row[1], torch.float64), space.start + 0.2 * randn(len(space.start), seed=2)
    tangents = randn(4, len(point), seed=3)
    prefix = FrozenPrefix(network, x)

    def plain(phi: Tensor) -> Tensor:
        return functional_call(network, space.parameters(phi), (x,))

    def reused(phi: Tensor) -> Tensor:
        return prefix(space.parameters(phi))

    expected = torch.einsum("ncp,kp->knc", jacrev(plain)(point), tangents)
    reused(space.start)  # notes what does not move
    for features in (plain, reused):
        for engine in (pushforward, partial(pushforward, engine="reference")):
            value, slopes = engine(features, point, tangents)
            assert distance(value, plain(point)) <= 1e-10
            assert distance(slopes, expected) <= 1e-10
    assert expected.norm() > 0


@pairs(NETWORKS)
def test_a_space_never_aliases_the_backbone(build: Any, row: Network) -> None:
    network, space = network_of(row, build)
    before = fingerprint(network)
    for tensor in (*space.parameters(space.start).values(), space.start):
        tensor.add_(1)
    assert fingerprint(network) == before
    kept = space.start.clone()
    for parameter in network.parameters():
        parameter.data.mul_(2)
    assert torch.equal(space.start, kept)


@pairs(SMALL)
def test_a_space_maps_vectors_under_vmap(build: Any, row: Network) -> None:
    _, space = network_of(row, build)
    points = space.start + randn(3, space.start.numel(), dtype=torch.float32)
    together = vmap(space.parameters)(points)
    for t, point in enumerate(points):
        alone = space.parameters(point)
        assert all(torch.allclose(together[name][t], alone[name], atol=1e-5) for name in alone)
