"""A picture has the same pixels by whatever way it comes: data sets, folders, arrays, or to `fit`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from adapt import AdaptError
from adapt.adapter.inputs import as_examples
from adapt.backbones import Images, pictures_of
from tasks import (
    ArraySource,
    ImageFolder,
    Source,
    TaskError,
    TaskWarning,
    TextSource,
    from_arrays,
    from_hugging_face,
    from_torch,
)
from tests.picture_cases import ANIMATION, COLOURS, DEEP, FIRST, RAMP, READ, REFUSED, SIDE

LIKE = torch.zeros(())
ANY_SIZE = pictures_of(Images(nn.Flatten(), size=None, mean=(0,), std=(1,)), None)
SMALL, WIDE = Image.new("L", (4, 4)), Image.new("L", (5, 4))


def pixels(source: Source) -> np.ndarray:
    """Of the first example, 0 … 255."""
    rows = np.sort(np.concatenate([*source.classes("train").values()]))
    return 255 * source.load(rows[:1])[0].double().numpy()


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    """Rounded to bytes, twice where there is alpha or chroma."""
    return found.shape == expected.shape and float(np.abs(found - expected).max()) <= 1.01


@pytest.mark.parametrize(("image", "expected"), READ.values(), ids=READ.keys())
def test_a_torch_data_set_an_array_and_fit_agree(image: Image.Image, expected: np.ndarray) -> None:
    for source in (from_torch([(image, 0), (image, 1)]), from_arrays([image, image], [0, 1])):
        assert close(pixels(source), expected)
    found = as_examples([image], None, LIKE, pictures=ANY_SIZE)
    assert found.dtype == torch.float32 and close(255 * found[0].double().numpy(), expected)
    shape = (1, SIDE, SIDE)
    grey = as_examples([image], shape, LIKE, pictures=pictures_of(nn.Flatten(), shape))[0]
    luma = expected if len(expected) == 1 else np.tensordot([[0.299, 0.587, 0.114]], expected, 1)
    assert close(255 * grey.double().numpy(), luma)


@pytest.mark.parametrize(("image", "expected"), READ.values(), ids=READ.keys())
def test_hugging_face_agrees(image: Image.Image, expected: np.ndarray) -> None:
    datasets = pytest.importorskip("datasets")
    if image.mode in ("RGBa", "YCbCr", "I;16B"):
        pytest.skip("no file format that the library stores images in holds it")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    stored = io.BytesIO()
    if image.mode == "P" or image.getexif():
        image.save(stored, "PNG", exif=image.getexif())
        rows: list[Any] = [{"bytes": stored.getvalue(), "path": None}] * 2
    else:
        rows = [image, image]
    data = datasets.Dataset.from_dict({"image": rows, "label": [0, 1]}, features=features)
    assert close(pixels(from_hugging_face(data)), expected)
    raw = data.cast_column("image", datasets.Image(decode=False))
    assert close(pixels(from_hugging_face(raw)), expected)


@pytest.mark.parametrize(("image", "expected"), READ.values(), ids=READ.keys())
def test_a_folder_agrees(image: Image.Image, expected: np.ndarray, tmp_path: Path) -> None:
    if image.mode in ("RGBa", "YCbCr", "I;16B", "CMYK"):
        pytest.skip("no file format without loss holds it")
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for number in range(2):
            other = Image.new("L", (SIDE, SIDE), 17 * number + len(label) + ord(label[0]))
            other.save(tmp_path / label / f"{number}.png")
    form = "TIFF" if image.mode == "I" else "PNG"  # Pillow tells by the content what it is
    image.save(tmp_path / "cat" / "0.png", form, exif=image.getexif())
    source = ImageFolder(str(tmp_path), SIDE, channels=len(expected))
    assert close(255 * source.load(np.array([0]))[0].double().numpy(), expected)


@pytest.mark.parametrize(("image", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_pictures_whose_white_nobody_knows_are_named(image: Image.Image, message: str) -> None:
    good = Image.fromarray(RAMP)
    with pytest.raises(TaskError, match=rf"x\[1\] is no picture that can be read: .*{message}"):
        from_torch([(good, 0), (image, 1)])
    with pytest.raises(AdaptError, match=rf"x\[1\] is no picture that can be read: .*{message}"):
        as_examples([good, image], None, LIKE, pictures=ANY_SIZE)


def test_grey_and_colour_together_are_colour() -> None:
    grey, colour = Image.fromarray(RAMP), Image.fromarray(COLOURS)
    source = from_torch([(grey, "a"), (colour, "b")])
    assert source.shape == (3, SIDE, SIDE) and close(pixels(source), np.stack([RAMP] * 3))
    found = as_examples([grey, colour], None, LIKE, pictures=ANY_SIZE)
    assert close(255 * found.numpy(), np.stack([[RAMP] * 3, FIRST]))


def test_animations_are_counted() -> None:
    with pytest.warns(TaskWarning, match=r"animated images, of which one frame is used: 2 .*x\[0\]"):
        source = from_torch([(ANIMATION, 0), (ANIMATION, 1)])
    assert close(pixels(source), np.full((1, SIDE, SIDE), 40))


def test_scaling_takes_the_mean_over_the_area() -> None:
    big = np.random.default_rng(0).integers(0, 256, (3 * SIDE, 2 * SIDE), dtype=np.uint8)
    mean = big.reshape(SIDE, 3, SIDE, 2).mean((1, 3))[None]
    source = from_torch([(Image.fromarray(big), 0), (Image.fromarray(RAMP), 1)], size=SIDE)
    assert close(pixels(source), mean)
    shape = (1, SIDE, SIDE)
    found = as_examples([Image.fromarray(big)], shape, LIKE, pictures=pictures_of(nn.Flatten(), shape))
    assert close(255 * found[0].numpy(), mean)


ARRAYS: dict[str, tuple[np.ndarray, np.ndarray]] = {
    "channels first": (FIRST[None], FIRST),
    "channels last": (COLOURS[None], FIRST),
    "one channel, last": (RAMP[None, ..., None], RAMP[None]),
    "alpha, last": (np.dstack([COLOURS, RAMP])[None], READ["colour and alpha"][1]),
    "16 bits": (DEEP[None, None], DEEP[None] / 257),
    "16 bits, last": (DEEP[None, ..., None], DEEP[None] / 257),
}


@pytest.mark.parametrize(("x", "expected"), ARRAYS.values(), ids=ARRAYS.keys())
def test_arrays_of_pixels(x: np.ndarray, expected: np.ndarray) -> None:
    assert close(pixels(from_arrays(np.concatenate([x, x]), [0, 1])), expected)
    assert close(pixels(from_torch([(x[0], 0), (x[0], 1)])), expected)
    for kind in (x, torch.from_numpy(x), [x[0]], [torch.from_numpy(x[0])]):
        for wanted in (ANY_SIZE, pictures_of(nn.Flatten(), expected.shape)):
            found = as_examples(kind, None, LIKE, pictures=wanted)
            assert close(255 * found[0].double().numpy(), expected)


def test_fractions_may_have_their_channels_last_too() -> None:
    fractions = (COLOURS / 255).astype(np.float32)[None]
    found = as_examples(fractions, (3, SIDE, SIDE), LIKE, pictures=pictures_of(nn.Flatten(), (3, SIDE, SIDE)))
    assert torch.equal(found, torch.from_numpy(fractions).permute(0, 3, 1, 2))
    both = torch.rand(2, 3, 5, 3)  # channels may be first: they are
    assert torch.equal(as_examples(both, None, LIKE, pictures=ANY_SIZE), both)
    planes = np.random.default_rng(0).random((2, 5, 7, 4), dtype=np.float32)  # who says they are colours?
    assert np.array_equal(as_examples(planes, None, LIKE).numpy(), planes)
    source = from_arrays(planes, [0, 1])
    assert source.shape == (5, 7, 4)


def test_numbers_of_a_table_are_no_pixels() -> None:
    table = np.array([[0, 128, 255]], np.uint8)
    assert as_examples(table, (3,), LIKE).tolist() == [[0.0, 128.0, 255.0]]


def test_what_sources_cannot_read_is_named() -> None:
    for make, message in (
        (lambda: from_arrays(np.zeros((2, 1, 4, 4), np.int64), [0, 1]), r"whole numbers .* token ids"),
        (lambda: from_arrays([SMALL, RAMP], [0, 1]), r"x mixes pictures with a ndarray, at x\[1\]"),
        (lambda: from_torch([(RAMP, 0), 3]), r"item 1 of the dataset is a int: it should be \(x, y\)"),
        (lambda: from_arrays(3, [0]), r"x holds no examples \(int\)"),  # type: ignore[arg-type]
        (lambda: from_torch([]), r"x holds no examples \(list\)"),
        (lambda: from_torch([({"pixels": RAMP}, 0)] * 2), "x holds object, no numbers"),
        (lambda: from_torch([(SMALL, 0), (WIDE, 1)]), r"\(1, 4, 4\) .*give images one size=<side>"),
        (lambda: from_torch([(SMALL, 0)] * 2, size=2.0), "size=2.0 is no whole number"),  # type: ignore[arg-type]
        (lambda: from_arrays([[1.0], [1.0, 2.0]], [0, 1]), "differ in shape"),
    ):  # fmt: skip
        with pytest.raises(TaskError, match=message):
            make()


def test_texts_of_a_torch_data_set_are_texts() -> None:
    source = from_torch([("hi", "a"), ("bye", "b")])
    assert isinstance(source, TextSource) and source.texts == ["hi", "bye"]
    arrays = from_arrays(np.array(["hi", "bye"]), [0, 1])
    assert isinstance(arrays, TextSource) and arrays.texts == ["hi", "bye"]
    assert not isinstance(arrays, ArraySource)
