"""The contract of backbones, for every row of the table."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, jacrev, vmap

from adapt.backbones import ARCHITECTURES, fingerprint, load_backbone, save_backbone
from adapt.forward import pushforward
from adapt.spaces import film
from tests.conformance.tables import (
    BACKBONES,
    F64,
    randn,
    rows,
)
from tests.helpers import distance, randomised


@rows(BACKBONES)
def test_backbone_treats_every_example_alone_and_changes_nothing(row: Any) -> None:
    build, shape = row
    network = randomised(build())
    before = fingerprint(network)
    x = randn(4, *shape, dtype=torch.float32)
    for mode in (True, False):  # frozen norms: training mode is no different
        network.train(mode)
        together = network(x)
        assert together.ndim == 2
        assert distance(together, torch.cat([network(x[i : i + 1]) for i in range(4)])) <= 1e-5
    assert fingerprint(network) == before


@rows(BACKBONES)
def test_backbone_runs_under_forward_mode_and_vmap(row: Any) -> None:
    build, shape = row
    network = randomised(build()).double()
    space, x = film(network), randn(2, *shape, seed=1)

    def features(phi: Tensor) -> Tensor:
        return functional_call(network, space.parameters(phi), (x,))

    tangents = torch.eye(space.size, dtype=F64)
    dense = jacrev(features)(space.initial).movedim(-1, 0)
    assert distance(pushforward(features, space.initial, tangents)[1], dense) <= 1e-10
    points = space.initial + 0.1 * randn(3, space.size)
    assert distance(vmap(features)(points), torch.stack([features(p) for p in points])) <= 1e-10


@rows(BACKBONES)
def test_backbone_survives_saving(row: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    build, shape = row
    network = randomised(build())
    monkeypatch.setitem(ARCHITECTURES, "row", build)
    saved = save_backbone(
        tmp_path / "it", network, architecture="row", arguments={}, input_shape=shape, training={}
    )
    loaded, info = load_backbone(tmp_path / "it")
    x = randn(2, *shape, dtype=torch.float32)
    assert distance(loaded(x), network(x)) <= 1e-5  # the memory layout may differ
    assert fingerprint(loaded) == fingerprint(network)
    assert info == saved
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
