"""The contract of spaces, for every row of the table and every backbone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, vjp, vmap

from adapt.backbones import fingerprint
from tests.conformance.tables import (
    BACKBONES,
    SPACES,
    randn,
    rows,
)
from tests.helpers import distance, randomised, tiny_conv4

SPACE_ROWS = pytest.mark.parametrize(
    ("build", "row"),
    [(build, row) for build in SPACES.values() for row in BACKBONES.values()],
    ids=[f"{space}-{backbone}" for space in SPACES for backbone in BACKBONES],
)


@SPACE_ROWS
def test_start_of_a_space_is_the_backbone_itself(build: Any, row: Any) -> None:
    network, shape = randomised(row[0]()), row[1]
    before, x = fingerprint(network), randn(3, *shape, dtype=torch.float32)
    space = build(network)
    expected = network(x)
    assert torch.equal(functional_call(network, space.parameters(space.start), (x,)), expected)
    moved = functional_call(network, space.parameters(space.start + 0.1), (x,))
    assert not torch.allclose(moved, expected)
    assert fingerprint(network) == before


@SPACE_ROWS
def test_gradient_in_a_space_is_that_of_the_parameters(build: Any, row: Any) -> None:
    network, shape = randomised(row[0]()).double(), row[1]
    space, x, weights = build(network), randn(3, *shape), randn(3, 1, seed=1)

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


@SPACE_ROWS
def test_a_space_never_aliases_the_backbone(build: Any, row: Any) -> None:
    network = randomised(row[0]())
    space, before = build(network), fingerprint(network)
    for tensor in (*space.parameters(space.start).values(), space.start):
        tensor.add_(1)
    assert fingerprint(network) == before
    kept = space.start.clone()
    for parameter in network.parameters():
        parameter.data.mul_(2)
    assert torch.equal(space.start, kept)


@rows(SPACES)
def test_a_space_maps_vectors_under_vmap(row: Any) -> None:
    space = row(tiny_conv4())
    points = space.start + randn(3, space.start.numel(), dtype=torch.float32)
    together = vmap(space.parameters)(points)
    for t, point in enumerate(points):
        alone = space.parameters(point)
        assert all(torch.allclose(together[name][t], alone[name], atol=1e-6) for name in alone)
