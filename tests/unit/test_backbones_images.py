"""Images on their way into a pretrained network: size, channels, normalisation, prompts."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn
from torch.func import functional_call, vmap

from adapt import AdaptError
from adapt.backbones import Images, ViT, frozen
from adapt.backbones.prompts import prompted
from adapt.backbones.vit import _positions
from tests.helpers import distance, randomised


class Same(nn.Module):
    """Hands out what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def images(size: int | None = None, channels: int = 3, mean: float = 0.0, std: float = 1.0) -> Images:
    return Images(Same(), size=size, mean=[mean], std=[std], channels=channels)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=25, deadline=None)
@given(
    st.integers(2, 40),
    st.integers(2, 40),
    st.integers(1, 40),
    st.sampled_from([1, 3]),
    st.sampled_from([1, 3]),
)
def test_any_image_becomes_one_that_the_network_takes(
    height: int, width: int, size: int, given: int, taken: int
) -> None:
    """A constant stays what it is, and no value leaves the range of the image."""
    network, x = images(size, taken), noise(2, given, height, width)
    y = network(x).expand(-1, taken, -1, -1)
    assert y.shape == (2, taken, size, size)
    assert y.min() >= x.min() - 1e-6 and y.max() <= x.max() + 1e-6
    assert torch.allclose(network(torch.full_like(x, 0.25)), torch.tensor(0.25))


@pytest.mark.parametrize(("height", "width", "size"), [(64, 48, 20), (33, 65, 32), (9, 11, 32), (20, 50, 32)])
def test_resizing_is_that_of_pillow(height: int, width: int, size: int) -> None:
    """Whose bilinear filter widens where the image shrinks, along each axis for itself."""
    x = noise(1, 1, height, width)
    expected = Image.fromarray(x[0, 0].numpy(), "F").resize((size, size), Image.Resampling.BILINEAR)
    assert np.allclose(images(size, 1)(x)[0, 0].numpy(), np.asarray(expected), atol=1e-5)


def test_an_image_of_the_right_size_is_left_alone() -> None:
    x = noise(2, 3, 8, 8)
    assert torch.equal(images(8)(x), x) and torch.equal(images(None)(x[..., :5]), x[..., :5])


def test_normalisation_by_hand() -> None:
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.25, 0.5]
    network, x = Images(Same(), size=None, mean=mean, std=std), noise(2, 3, 4, 5)
    for channel in range(3):
        assert torch.allclose(network(x)[:, channel], (x[:, channel] - mean[channel]) / std[channel])


def test_grey_is_repeated_and_colour_averaged() -> None:
    grey, colour = noise(2, 1, 4, 4), noise(2, 3, 4, 4)
    assert torch.equal(images(4, 3)(grey), grey.expand(-1, 3, -1, -1))
    assert torch.allclose(images(4, 1)(colour), colour.mean(1, keepdim=True))


def test_doubles_and_many_tasks_at_once() -> None:
    network = images(6, mean=0.5, std=0.25).double()
    x = noise(4, 2, 3, 9, 7).double()
    assert network(x[0]).dtype == torch.float64
    assert distance(vmap(network)(x), torch.stack([network(task) for task in x])) <= 1e-12


@pytest.mark.parametrize(
    "x",
    [noise(3, 8, 8), noise(2, 4, 8, 8), noise(2, 8, 8, 3), torch.zeros(2, 3, 8, 8, dtype=torch.uint8)],
    ids=["no batch", "four channels", "channels last", "bytes"],
)
def test_what_is_no_image_is_named(x: Tensor) -> None:
    with pytest.raises(AdaptError, match=r"takes images \[n, 1 or 3, H, W\] of numbers in \[0, 1\], got"):
        images(8)(x)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": 0}, "at least one pixel"),
        ({"mean": [0.5, 0.5]}, "mean has 2 values, .* one per channel"),
        ({"std": [0.0]}, "standard deviations are positive"),
    ],
)
def test_settings_that_make_no_sense_are_named(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(AdaptError, match=message):
        Images(Same(), **{"size": 8, "mean": [0.5], "std": [0.5], **wrong})  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------ what freezes


def test_a_frozen_network_does_what_it_did() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.Dropout(),
    )
    network(noise(8, 3, 9, 9))  # moves the statistics
    x = noise(2, 3, 9, 9, seed=1)
    expected = network.eval()(x)
    made = frozen(network.train())
    assert torch.allclose(made(x), expected, atol=1e-6)
    assert not any(module.training for module in made.modules())
    assert not any(parameter.requires_grad for parameter in made.parameters())
    assert distance(vmap(made)(torch.stack([x, x])), torch.stack([expected, expected])) <= 1e-6


def test_a_network_of_volumes_can_be_frozen() -> None:
    network = frozen(nn.Sequential(nn.Conv3d(1, 2, 3), nn.Flatten()))
    assert network(noise(1, 1, 4, 4, 4)).shape == (1, 16)


# ------------------------------------------------------------------------------------------ prompts


@pytest.fixture
def vit() -> nn.Module:
    return randomised(ViT(width=16, depth=2, heads=2))


def test_prompts_take_part_in_attention_and_are_gone_afterwards(vit: nn.Module) -> None:
    x = noise(2, 3, 16, 16)
    network = prompted(copy.deepcopy(vit), 3, seed=1)
    tokens = vit.get_submodule("stem")(x).flatten(2).mT
    tokens = tokens + _positions(16, 2, 2)
    prompt = dict(network.named_parameters())["prompt"]
    assert prompt.shape == (3, 16) and 0 < prompt.abs().max() < 0.2
    long = torch.cat([tokens[:, :1], prompt.expand(2, -1, -1), tokens[:, 1:]], 1)
    states = vit.get_submodule("blocks")(long)
    kept = torch.cat([states[:, :1], states[:, 4:]], 1)
    assert torch.allclose(network(x), vit.get_submodule("norm")(kept.mean(1)), atol=1e-6)
    assert not torch.allclose(network(x), vit(x), atol=1e-4)


def test_prompts_move_by_name_also_in_a_copy(vit: nn.Module) -> None:
    network, x = prompted(vit, 2), noise(2, 3, 16, 16)
    copied = copy.deepcopy(network)
    before = network(x)
    with torch.no_grad():
        dict(copied.named_parameters())["prompt"].add_(noise(2, 16))
    moved = copied(x)
    assert torch.equal(network(x), before) and not torch.allclose(moved, before, atol=1e-3)
    other = {"prompt": dict(copied.named_parameters())["prompt"]}
    assert torch.allclose(functional_call(network, other, (x,)), moved)


def test_prompts_need_a_transformer(vit: nn.Module) -> None:
    assert prompted(vit, 0) is vit
    with pytest.raises(AdaptError, match="prompts=-1"):
        prompted(vit, -1)
    with pytest.raises(AdaptError, match=r"prompts=2: Sequential is no transformer"):
        prompted(nn.Sequential(nn.Conv2d(1, 2, 3)), 2)


def test_vit_knows_where_its_patches_are_and_takes_any_image(vit: nn.Module) -> None:
    x = noise(1, 3, 16, 16)
    swapped = torch.cat([x[..., 8:], x[..., :8]], 3)  # the same patches, but for the edges that overlap
    assert vit(x).shape == vit(noise(1, 3, 24, 40)).shape == (1, 16)
    assert not torch.allclose(vit(x), vit(swapped), atol=1e-3)
    for wrong in ({"width": 20}, {"width": 24, "heads": 5}, {"patch": 6}, {"patch": 1}):
        with pytest.raises(AdaptError, match=r"vit: (width|patch)="):
            ViT(**wrong)
