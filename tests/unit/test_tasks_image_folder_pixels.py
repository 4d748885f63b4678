"""What the pixels of image files become: modes, depths, transparency, orientation, scale."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks import ImageFolder, TaskWarning
from tests.image_files import SHORT, plain, png, tree, write


def one(tmp_path: Path, name: str, content: bytes, channels: int = 3, size: int = SHORT) -> np.ndarray:
    """What `content` becomes, as numbers from 0 to 255."""
    root = write(tmp_path, {f"a/{name}": content, "a/~.png": plain(1), **tree({"b": 2}, 50)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TaskWarning)
        source = ImageFolder(root, size, channels)
    return source.load(np.array([0]))[0].numpy() * 255


RAMP = np.arange(SHORT * SHORT, dtype=np.uint8).reshape(SHORT, SHORT) * 3


def test_grey_and_colour(tmp_path: Path) -> None:
    assert np.allclose(one(tmp_path / "a", "x.png", png(Image.fromarray(RAMP)), 1), RAMP)
    assert np.allclose(one(tmp_path / "b", "x.png", png(Image.fromarray(RAMP)), 3), np.stack([RAMP] * 3))
    colour = np.stack([RAMP, RAMP.T, 255 - RAMP], -1)
    assert np.allclose(
        one(tmp_path / "c", "x.webp", png(Image.fromarray(colour), "WEBP", lossless=True)),
        colour.transpose(2, 0, 1),
    )
    luma = colour @ np.array([0.299, 0.587, 0.114])
    assert np.abs(one(tmp_path / "d", "x.bmp", png(Image.fromarray(colour), "BMP"), 1) - luma).max() < 1


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_keep_their_range(tmp_path: Path, form: str) -> None:
    values = np.linspace(0, 65535, SHORT * SHORT).round().astype(np.uint16).reshape(SHORT, SHORT)
    found = one(tmp_path, f"x.{form.lower()}", png(Image.fromarray(values), form), 1)
    assert np.abs(found - values / 257).max() <= 0.51


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    rgba = np.zeros((SHORT, SHORT, 4), np.uint8)  # black
    rgba[..., 3] = RAMP
    found = one(tmp_path / "a", "x.png", png(Image.fromarray(rgba)))
    assert np.abs(found - (255 - RAMP)).max() <= 1
    palette = Image.new("P", (SHORT, SHORT), 1)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    found = one(tmp_path / "b", "x.gif", png(palette, "GIF", transparency=1))
    assert np.allclose(found, 255)


def test_cmyk(tmp_path: Path) -> None:
    cyan = Image.new("CMYK", (SHORT, SHORT), (255, 0, 0, 0))
    found = one(tmp_path, "x.jpg", png(cyan, "JPEG", quality=95))
    assert found[0].max() < 10 and found[1].min() > 245 and found[2].min() > 245


def test_the_camera_that_was_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    found = one(tmp_path, "x.png", png(Image.fromarray(RAMP), exif=exif), 1)
    assert np.allclose(found[0], np.rot90(RAMP, -1))


def test_the_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("L", (SHORT, SHORT), shade) for shade in (40, 200)]
    content = png(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.allclose(one(tmp_path, "x.gif", content), 40)
    with pytest.warns(TaskWarning, match="animated images, of which the first frame is used: 1"):
        ImageFolder(str(tmp_path), SHORT)


def test_scaling_takes_the_mean_over_the_area(tmp_path: Path) -> None:
    big = np.random.default_rng(0).integers(0, 256, (3 * SHORT, 2 * SHORT), dtype=np.uint8)
    found = one(tmp_path, "x.png", png(Image.fromarray(big)), 1)
    assert np.abs(found[0] - big.reshape(SHORT, 3, SHORT, 2).mean((1, 3))).max() <= 1.01  # rounded twice


def test_floating_point_and_huge_images_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(
        tmp_path, tree({"cat": 4, "dog": 4}) | {"cat/z.tif": png(Image.new("F", (SHORT, SHORT)), "TIFF")}
    )
    with pytest.warns(TaskWarning, match=r"cat/z\.tif: grey values are floating-point"):
        ImageFolder(root, SHORT)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    (tmp_path / "cat/z.tif").write_bytes(png(Image.new("L", (11, 11)), "TIFF"))
    with pytest.warns(TaskWarning, match=r"cat/z\.tif: Image size \(121 pixels\) exceeds limit"):
        ImageFolder(root, SHORT)
