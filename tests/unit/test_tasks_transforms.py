"""Style: off is off, strengths do what they say, consistency is what images of one task share."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import Style, TaskError, transforms

STRENGTHS: dict[str, Any] = {
    "rotation": 30.0,
    "scale": 0.3,
    "shear": 0.3,
    "translation": 0.2,
    "elastic": 0.05,
    "thickness": 1.0,
    "resolution_min": 4,
    "contrast": 0.8,
    "noise": 0.3,
    "flip": 0.5,
    "colour": 0.5,
    "invert": 0.5,
}


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cross(n: int = 6, size: int = 16) -> torch.Tensor:
    """The same asymmetric cross n times, [n, 1, size, size]."""
    x = torch.zeros(n, 1, size, size)
    x[..., size // 2 - 1 : size // 2 + 1, 3:-2] = 1
    x[..., 3:-3, size // 2] = 1
    return x


def spread(x: torch.Tensor) -> float:
    """How much the images of a batch differ: mean variance over the batch."""
    return x.var(0).mean().item()


def test_all_off_is_the_identity() -> None:
    x = torch.randn(4, 3, 7, 5)
    assert torch.equal(Style()(x, rng()), x)


@pytest.mark.parametrize("name", STRENGTHS)
def test_each_strength_changes_something_and_leaves_the_input_alone(name: str) -> None:
    x = cross()
    y = Style(**{name: STRENGTHS[name]})(x, rng())
    assert y.shape == x.shape
    assert not torch.equal(y, x)
    assert torch.equal(x, cross())


@pytest.mark.parametrize("name", STRENGTHS)
def test_the_weakest_setting_is_nearly_the_identity(name: str) -> None:
    weakest: Any = 16 if name == "resolution_min" else 1e-6  # the full height
    y = Style(**{name: weakest})(cross(), rng())
    assert torch.allclose(y, cross(), atol=1e-4)


@pytest.mark.parametrize("name", [name for name in STRENGTHS if name != "noise"])
def test_full_consistency_gives_one_style_and_none_gives_many(name: str) -> None:
    one = Style(**{name: STRENGTHS[name], "consistency": 1.0})(cross(), rng())
    many = Style(**{name: STRENGTHS[name], "consistency": 0.0})(cross(), rng())
    assert torch.allclose(one, one[:1].expand_as(one), atol=1e-6)
    assert spread(many) > 1e-4


def test_consistency_in_between_lies_in_between() -> None:
    x = cross(n=64)
    style = Style(rotation=60, translation=0.2)
    levels = [0.0, 0.5, 0.9, 1.0]
    spreads = [sum(spread(replace(style, consistency=c)(x, rng(seed))) for seed in range(10)) for c in levels]
    assert spreads == sorted(spreads, reverse=True)


@pytest.mark.parametrize("consistency", [0.0, 0.5, 1.0])
def test_what_one_image_may_look_like_does_not_depend_on_consistency(consistency: float) -> None:
    style = Style(contrast=1.0, consistency=consistency)
    factor = torch.stack([style(torch.ones(1, 1, 1, 1), rng(seed)).squeeze() for seed in range(2000)])
    # Uniform on (0, 1): mean 1/2, standard deviation 1/sqrt(12); four standard errors allowed.
    assert factor.mean().item() == pytest.approx(0.5, abs=4 / math.sqrt(12 * 2000))
    assert factor.std().item() == pytest.approx(1 / math.sqrt(12), abs=0.02)


def test_a_new_call_of_the_same_generator_is_a_new_style() -> None:
    style, generator = Style(rotation=60, consistency=1.0), rng()
    assert not torch.allclose(style(cross(), generator), style(cross(), generator), atol=1e-2)


def test_strengths_do_not_disturb_each_other() -> None:
    x = cross()
    alone = Style(contrast=0.5)(x, rng())
    with_thickness = Style(contrast=0.5, thickness=1e-9)(x, rng())
    assert torch.allclose(alone, with_thickness, atol=1e-6)


def test_translation_moves_by_whole_pixels() -> None:
    x = torch.zeros(200, 1, 16, 16)
    x[..., 8, 8] = 1.0
    y = Style(translation=0.25)(x, rng())
    at = torch.arange(16.0)
    moved = (y.sum((1, 2)) * at).sum(1) / y.sum((1, 2, 3)) - 8
    assert moved.abs().max() <= 4.0 + 1e-4  # a quarter of 16
    assert moved.abs().max() > 3.5
    assert abs(moved.mean().item()) < 0.7


def test_rotation_keeps_the_centre_and_turns_up_to_its_strength() -> None:
    x = torch.zeros(300, 1, 33, 33)
    x[..., 16, 16:30] = 1  # a hand that points right from the centre
    y = Style(rotation=90)(x, rng())
    at = torch.arange(33.0) - 16
    right, down = (y.sum((1, 2)) * at).sum(1), (y.sum((1, 3)) * at).sum(1)
    angle = torch.rad2deg(torch.atan2(down, right))
    assert angle.abs().max() <= 91
    assert angle.abs().max() > 85
    assert (angle > 10).any()
    assert (angle < -10).any()


def test_thickness_adds_and_removes_ink() -> None:
    ink = Style(thickness=1.0)(cross(n=100), rng()).sum((1, 2, 3))
    plain = cross(1).sum()
    assert (ink > 1.3 * plain).any()
    assert (ink < 0.8 * plain).any()


def test_resolution_keeps_the_mean_where_it_divides_evenly() -> None:
    x = torch.rand(1, 1, 16, 16, generator=rng())
    y = transforms._coarsen(x, torch.tensor([4]))
    blocks = torch.nn.functional.avg_pool2d(x, 4)
    expected = torch.nn.functional.interpolate(blocks, size=(16, 16), mode="bilinear", align_corners=False)
    assert torch.allclose(y, expected, atol=1e-6)


def test_images_need_not_be_square() -> None:
    style = Style(**{**STRENGTHS, "consistency": 0.5})
    assert style(torch.rand(3, 3, 12, 20), rng()).shape == (3, 3, 12, 20)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 5),
    size=st.integers(6, 20),
    consistency=st.floats(0, 1),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_pure_bounded_and_finite(n: int, size: int, consistency: float, share: float, seed: int) -> None:
    strengths = {name: most * share for name, most in STRENGTHS.items() if name != "resolution_min"}
    style = Style(**strengths, resolution_min=round(4 * share), consistency=consistency)
    x = torch.rand(n, 1, size, size, generator=rng(1))
    y = style(x, rng(seed))
    assert torch.equal(y, style(x, rng(seed)))
    assert y.shape == x.shape
    assert y.isfinite().all()
    assert y.min() >= -1e-6
    assert y.max() <= 1 + 1e-6


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rotation": -1}, r"style\.rotation=-1 is too small: use style.rotation>=0"),
        ({"scale": float("nan")}, r"style\.scale=nan"),
        ({"noise": float("inf")}, r"style\.noise=inf is no finite number: use style\.noise>=0"),
        ({"thickness": 1.5}, r"style\.thickness=1\.5 .*<=1"),
        ({"consistency": 1.1}, r"style\.consistency=1\.1"),
        ({"padding": "mirror"}, r"style\.padding='mirror' is unknown: use 'zeros' or 'border'"),
    ],
)
def test_errors_name_the_setting_and_the_fix(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        Style(**wrong)


def test_wrong_rank_is_named() -> None:
    with pytest.raises(TaskError, match=r"got shape \[8, 8\]"):
        Style(rotation=1)(torch.zeros(8, 8), rng())


def test_flip_mirrors_about_so_many_images() -> None:
    x = torch.rand(400, 2, 5, 6, generator=rng(1))
    y = Style(flip=0.3)(x, rng())
    mirrored = torch.tensor([torch.equal(b, a.flip(-1)) for a, b in zip(x, y, strict=True)])
    kept = torch.tensor([torch.equal(b, a) for a, b in zip(x, y, strict=True)])
    assert bool((mirrored ^ kept).all())
    assert abs(mirrored.float().mean() - 0.3) < 0.08  # 3.5 standard deviations
    assert torch.equal(Style(flip=1.0)(x, rng()), x.flip(-1))


def test_colour_multiplies_each_channel_of_each_image() -> None:
    x = torch.full((200, 3, 4, 4), 0.25)
    factors = Style(colour=0.5)(x, rng()) / x
    assert torch.equal(factors, factors[..., :1, :1].expand_as(factors))
    logs = factors[..., 0, 0].log()  # [n, C]
    assert logs.abs().max() <= 0.5 + 1e-6 and logs.std(0).min() > 0.2 and logs.std(1).min() > 0
