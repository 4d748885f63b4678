"""Each kind of corruption against the published procedure, written anew with scipy, Pillow and loops."""

from __future__ import annotations

import colorsys
import io
from collections.abc import Callable
from math import ceil, cos, radians, sin
from typing import Any

import numpy as np
import pytest
import scipy.ndimage as nd
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tasks import Corruption, TaskError
from tasks.corruptions import EXTRA_KINDS, KINDS

ALL = (*KINDS, *EXTRA_KINDS)


def photographs(count: int = 2, height: int = 32, width: int = 32, channels: int = 3) -> torch.Tensor:
    """Smooth coloured images with edges, bytes as fractions; one corner is black, another grey."""
    noise = np.random.default_rng(0).random((count, channels, height, width))
    x = nd.gaussian_filter(noise, (0, 0, 2, 2))
    x = (x - x.min()) / (x.max() - x.min())
    x[:, :, :4, :4], x[:, :, -4:, -4:] = 0, 0.5
    return torch.from_numpy((255 * x).round() / 255).float()


X = photographs()


def bad(kind: str, severity: int, x: torch.Tensor = X, strengths: str = "cifar") -> np.ndarray:
    return Corruption(kind, severity, strengths)(x, seeded()).double().numpy()


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def uniform(shape: tuple[int, ...], g: torch.Generator, low: float = 0, high: float = 1) -> np.ndarray:
    return low + (high - low) * torch.rand(shape, generator=g, dtype=torch.float64).numpy()


# ------------------------------------------------------------------ the published procedures, image by image


def zoomed(x: np.ndarray, factor: float) -> np.ndarray:
    """[C, h, h]"""
    h = x.shape[1]
    cut = ceil(h / factor)
    top = (h - cut) // 2
    large = nd.zoom(x[:, top : top + cut, top : top + cut], (1, factor, factor), order=1)
    trim = (large.shape[1] - h) // 2
    return large[:, trim : trim + h, trim : trim + h]


def moved(x: np.ndarray, radius: int, sigma: float, angle: float) -> np.ndarray:
    """ImageMagick's motion blur of [C, h, w], pixel by pixel."""
    steps = 2 * radius + 1
    weights = [np.exp(-(i**2) / (2 * sigma**2)) for i in range(steps)]
    out = np.zeros_like(x)
    for r in range(x.shape[1]):
        for c in range(x.shape[2]):
            for i, weight in enumerate(weights):
                row = min(max(r + ceil(i * sin(radians(angle)) - 0.5), 0), x.shape[1] - 1)
                column = min(max(c + ceil(i * cos(radians(angle)) - 0.5), 0), x.shape[2] - 1)
                out[:, r, c] += weight * x[:, row, column] / sum(weights)
    return out


def defocus(x: np.ndarray, radius: float, sigma: float) -> np.ndarray:
    at = np.arange(-3, 4)
    disk = (at[:, None] ** 2 + at**2 <= radius**2).astype(float)
    bell = np.exp(-np.array([1, 0, 1]) / (2 * sigma**2))
    kernel = nd.convolve(disk / disk.sum(), np.outer(bell, bell) / bell.sum() ** 2, mode="constant")
    return np.stack([nd.convolve(channel, kernel, mode="mirror") for channel in x])


def glass(x: np.ndarray, sigma: float, times: int, shifts: list[np.ndarray]) -> np.ndarray:
    x = nd.gaussian_filter(x, (0, sigma, sigma), mode="nearest")
    for t in range(times):
        for r in range(31, 1, -1):
            for c in range(31, 1, -1):
                x[:, r, c] = x[:, r + shifts[2 * t][r, c], c + shifts[2 * t + 1][r, c]]
    return nd.gaussian_filter(x, (0, sigma, sigma), mode="nearest")


def hsv(x: np.ndarray, change: Callable[[float, float, float], tuple[float, float, float]]) -> np.ndarray:
    pixels = [colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*p))) for p in x.reshape(3, -1).T]
    return np.array(pixels).T.reshape(x.shape)


def elastic(
    x: np.ndarray, alpha: float, sigma: float, away: np.ndarray, fields: list[np.ndarray]
) -> np.ndarray:
    before = np.array([[26, 26], [26, 6], [6, 6]], float)  # 16 ± 10 of 32
    after = before + away
    back = np.linalg.solve(np.c_[after, np.ones(3)], before)  # (column, row, 1) -> (column, row)
    matrix, offset = back[:2, ::-1].T[:, ::-1], back[2, ::-1]
    x = np.stack([nd.affine_transform(channel, matrix, offset, order=1, mode="mirror") for channel in x])
    down, right = (
        alpha * nd.gaussian_filter(f, sigma, mode="reflect", truncate=3) if alpha else 0 * f for f in fields
    )
    rows, columns = np.mgrid[:32, :32]
    where = (rows + down, columns + right)
    return np.stack([nd.map_coordinates(channel, where, order=1, mode="reflect") for channel in x])


def pillow(x: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    picture = Image.fromarray((255 * x.transpose(1, 2, 0)).round().astype(np.uint8))
    return np.asarray(change(picture)).transpose(2, 0, 1) / 255


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file)


# ------------------------------------------------------------------------------------------------- the tests

#: What draws nothing: the procedure, and its strengths in CIFAR-C and, where no length of pixels is in them,
#: in ImageNet-C.
FIXED: dict[str, tuple[Callable[[np.ndarray, Any], np.ndarray], dict[str, list[Any]]]] = {
    "defocus_blur": (
        lambda x, c: defocus(x, *c),
        {"cifar": [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)]},
    ),
    "gaussian_blur": (
        lambda x, c: nd.gaussian_filter(x, (0, c, c), mode="nearest"),
        {"cifar": [0.4, 0.6, 0.7, 0.8, 1]},
    ),
    "zoom_blur": (
        lambda x, c: np.mean([x, *(zoomed(x, z) for z in np.arange(1, *c))], axis=0),
        {
            "cifar": [(1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)],
            "imagenet": [(1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)],
        },
    ),
    "brightness": (
        lambda x, c: hsv(x, lambda h, s, v: (h, s, min(v + c, 1))),
        {"cifar": [0.05, 0.1, 0.15, 0.2, 0.3], "imagenet": [0.1, 0.2, 0.3, 0.4, 0.5]},
    ),
    "saturate": (
        lambda x, c: hsv(x, lambda h, s, v: (h, min(s * c[0] + c[1], 1), v)),
        {
            "cifar": [(0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)],
            "imagenet": [(0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)],
        },
    ),
    "contrast": (
        lambda x, c: (x - (m := x.mean((1, 2), keepdims=True))) * c + m,
        {"cifar": [0.75, 0.5, 0.4, 0.3, 0.15], "imagenet": [0.4, 0.3, 0.2, 0.1, 0.05]},
    ),
    "pixelate": (
        lambda x, c: pillow(x, lambda p: p.resize((int(32 * c),) * 2, BOX).resize((32, 32), BOX)),
        {"cifar": [0.95, 0.9, 0.85, 0.75, 0.65]},
    ),
    "jpeg_compression": (
        lambda x, c: pillow(x, lambda p: jpeg(p, c)),
        {"cifar": [80, 65, 58, 50, 40], "imagenet": [25, 18, 15, 10, 7]},
    ),
}
BOX = Image.Resampling.BOX


@pytest.mark.parametrize(("kind", "strengths"), [(k, name) for k, (_, c) in FIXED.items() for name in c])
def test_what_draws_nothing_is_as_published(kind: str, strengths: str) -> None:
    procedure, published = FIXED[kind]
    bytes_twice = 1.1 / 255 if kind == "pixelate" else 2e-5
    for severity, strength in enumerate(published[strengths], 1):
        expected = [np.clip(procedure(x, strength), 0, 1) for x in X.double().numpy()]
        np.testing.assert_allclose(bad(kind, severity, X, strengths), expected, atol=bytes_twice)


@pytest.mark.parametrize(
    ("severity", "sigma", "times"), [(1, 0.05, 1), (2, 0.25, 1), (3, 0.4, 1), (4, 0.25, 2), (5, 0.4, 2)]
)
def test_glass_is_the_published_loop(severity: int, sigma: float, times: int) -> None:
    g = seeded()
    shifts = [torch.randint(-1, 1, (2, 32, 32), generator=g).numpy() for _ in range(2 * times)]
    expected = [glass(x, sigma, times, [s[i] for s in shifts]) for i, x in enumerate(X.double().numpy())]
    np.testing.assert_allclose(bad("glass_blur", severity), expected, atol=2e-5)


@pytest.mark.parametrize(
    ("severity", "radius", "sigma"), [(1, 6, 1), (2, 6, 1.5), (3, 6, 2), (4, 8, 2), (5, 9, 2.5)]
)
def test_motion_is_imagemagicks(severity: int, radius: int, sigma: float) -> None:
    """Half the size, and so half of each length."""
    small = photographs(2, 16, 16)
    angles = uniform((2,), seeded(), -45, 45)
    radius = ceil(radius / 2)
    expected = [moved(x, radius, sigma / 2, a) for x, a in zip(small.double().numpy(), angles, strict=True)]
    np.testing.assert_allclose(bad("motion_blur", severity, small), expected, atol=2e-5)


@pytest.mark.parametrize(
    ("severity", "shares"),
    [
        (1, (0, 0, 0.08)),
        (2, (0.05, 0.2, 0.07)),
        (3, (0.08, 0.06, 0.06)),
        (4, (0.1, 0.04, 0.05)),
        (5, (0.1, 0.03, 0.03)),
    ],
)
def test_elastic_is_two_lookups(severity: int, shares: tuple[float, float, float]) -> None:
    alpha, sigma, far = (32 * share for share in shares)
    g = seeded()
    away, fields = uniform((2, 3, 2), g, -far, far), uniform((2, 2, 32, 32), g, -1, 1)
    expected = [
        elastic(x, alpha, sigma, away[i], list(fields[:, i])) for i, x in enumerate(X.double().numpy())
    ]
    np.testing.assert_allclose(bad("elastic_transform", severity), expected, atol=2e-4)


@pytest.mark.parametrize(
    ("severity", "c"),
    [
        (1, (0.1, 0.2, 1, 0.6, 8, 3, 0.95)),
        (2, (0.1, 0.2, 1, 0.5, 10, 4, 0.9)),
        (3, (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9)),
        (4, (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85)),
        (5, (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8)),
    ],
)
def test_snow_is_flakes_on_a_whiter_image(severity: int, c: tuple[Any, ...]) -> None:
    g = seeded()
    drawn = torch.randn(1, 1, 32, 32, generator=g).double().numpy()
    angles = uniform((1,), g, -135, -45)
    expected = []
    for x, noise, angle in zip(X[:1].double().numpy(), drawn, angles, strict=True):
        flakes = zoomed(c[0] + c[1] * noise, c[2])
        flakes = moved(np.clip(np.where(flakes < c[3], 0, flakes), 0, 1), c[4], c[5], angle)
        grey = 0.299 * x[0] + 0.587 * x[1] + 0.114 * x[2]
        x = c[6] * x + (1 - c[6]) * np.maximum(x, 1.5 * grey + 0.5)
        expected.append(np.clip(x + flakes + flakes[:, ::-1, ::-1], 0, 1))
    np.testing.assert_allclose(bad("snow", severity, X[:1]), expected, atol=2e-4)


def test_fog_lies_between_the_image_and_its_largest_value() -> None:
    """(x + c p) m / (m + c) with 0 <= p <= 1: p is solved for, and is a cloud that is all of that range."""
    for severity, thick in enumerate((0.2, 0.5, 0.75, 1, 1.5), 1):
        x = X.double().numpy()
        most = x.max((1, 2, 3), keepdims=True)
        cloud = (bad("fog", severity) * (most + thick) / most - x) / thick
        assert cloud.min() == pytest.approx(0, abs=1e-4) and cloud.max() == pytest.approx(1, abs=1e-4)
        np.testing.assert_allclose(cloud[:, 0], cloud[:, 2], atol=1e-4)  # one cloud for all channels
        assert not np.allclose(cloud[0], cloud[1], atol=0.1)  # and one for each image


def test_a_cloud_is_a_diamond_and_square_fractal() -> None:
    """Four points of a torus: all corners are one, so the middle is it plus noise, the edges half of each."""
    from tasks._corruptions.weather import plasma

    g = seeded()
    middle, across, down = (uniform((1, 1, 1), g, -1e4, 1e4).item() for _ in range(3))
    heights = np.array([[0, middle / 2 + across], [middle / 2 + down, middle]])
    expected = (heights - heights.min()) / (heights.max() - heights.min())
    np.testing.assert_allclose(plasma(1, 2, 3, seeded())[0].numpy(), expected)
    # The finer, the less: differences of neighbours fall with the decay.
    rough, smooth = (plasma(20, 32, decay, seeded()).diff(dim=2).abs().mean() for decay in (1.5, 3))
    assert rough > 2 * smooth


GREY = torch.full((40, 3, 32, 32), 0.5)


@pytest.mark.parametrize(
    ("kind", "deviations"),
    [
        ("gaussian_noise", [0.04, 0.06, 0.08, 0.09, 0.10]),
        ("speckle_noise", [0.5 * c for c in (0.06, 0.1, 0.12, 0.16, 0.2)]),
        ("shot_noise", [(0.5 / c) ** 0.5 for c in (500, 250, 100, 75, 50)]),
        ("impulse_noise", [0.5 * c**0.5 for c in (0.01, 0.02, 0.03, 0.05, 0.07)]),
    ],
)
def test_noise_is_as_strong_as_published(kind: str, deviations: list[float]) -> None:
    for severity, deviation in enumerate(deviations, 1):
        noisy = bad(kind, severity, GREY)
        assert noisy.mean() == pytest.approx(0.5, abs=0.002)
        assert noisy.std() == pytest.approx(deviation, rel=0.03)
        if kind == "shot_noise":
            counts = noisy * [500, 250, 100, 75, 50][severity - 1]
            np.testing.assert_allclose(counts, counts.round(), atol=1e-3)
        if kind == "impulse_noise":
            hit = noisy != 0.5
            assert {*np.unique(noisy[hit])} == {0.0, 1.0}
            assert scipy.stats.binomtest(int(noisy[hit].sum()), int(hit.sum())).pvalue > 1e-4


@pytest.mark.parametrize("kind", ["motion_blur", "fog", "snow", "elastic_transform", "glass_blur"])
def test_each_image_has_a_draw_of_its_own(kind: str) -> None:
    same = bad(kind, 5, X[:1].repeat(2, 1, 1, 1))
    assert np.abs(same[0] - same[1]).max() > 0.02


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(ALL),
    severity=st.integers(1, 5),
    strengths=st.sampled_from(["cifar", "imagenet"]),
    channels=st.sampled_from([1, 3]),
    size=st.tuples(st.integers(8, 50), st.integers(8, 50)),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 2**40),
)
def test_images_stay_images(
    kind: str,
    severity: int,
    strengths: str,
    channels: int,
    size: tuple[int, int],
    dtype: torch.dtype,
    seed: int,
) -> None:
    x = photographs(2, *size, channels).to(dtype)
    before, change = x.clone(), Corruption(kind, severity, strengths)
    if kind == "saturate" and channels == 1:
        with pytest.raises(TaskError, match="'saturate' needs images of 3 channels but got 1"):
            change(x, torch.Generator())
        return
    found = change(x, torch.Generator().manual_seed(seed))
    assert found.shape == x.shape and found.dtype == dtype
    assert bool(((found >= 0) & (found <= 1)).all())
    assert torch.equal(x, before), "changed its input"
    assert torch.equal(found, change(x, torch.Generator().manual_seed(seed)))
    assert change(x[:0], torch.Generator()).shape == x[:0].shape


def test_lengths_are_shares_of_the_image() -> None:
    """A blur of CIFAR-C's σ = 1 of 32 pixels is one of σ = 2 at 64."""
    large = photographs(1, 64, 64)
    expected = nd.gaussian_filter(large.double().numpy(), (0, 0, 2, 2), mode="nearest")
    np.testing.assert_allclose(bad("gaussian_blur", 5, large), expected, atol=1e-5)
    disk = bad("defocus_blur", 5, torch.eye(1).reshape(1, 1, 1, 1).new_zeros(1, 1, 64, 64).index_put(
        tuple(torch.tensor(i) for i in (0, 0, 32, 32)), torch.tensor(1.0)
    ))  # fmt: skip
    assert int((disk[0, 0] > 0.01).sum()) == 29  # whole pixels within 3 of the centre


def test_kinds_that_are_left_out_say_why() -> None:
    assert len(KINDS) == 14 and len(EXTRA_KINDS) == 3
    with pytest.raises(TaskError, match="'frost' is left out: it needs six photographs"):
        Corruption("frost")
    with pytest.raises(TaskError, match=r"'spatter' is left out: .*OpenCV"):
        Corruption("spatter")
    with pytest.raises(TaskError, match="strengths='tiny' is unknown: use one of imagenet, cifar"):
        Corruption("fog", 1, "tiny")
    with pytest.raises(TaskError, match="'snow' needs images of 1 or 3 channels but got 2"):
        Corruption("snow")(torch.zeros(1, 2, 8, 8), torch.Generator())
