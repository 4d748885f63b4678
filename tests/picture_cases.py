"""Pillow images of every kind that people have, with their pixels computed by hand."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

__all__ = ["READ", "REFUSED"]

SIDE = 8
RAMP = np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE) * 3
COLOURS = np.stack([RAMP, RAMP.T, 255 - RAMP], -1)
DEEP = np.linspace(0, 65535, SIDE * SIDE).round().astype(np.uint16).reshape(SIDE, SIDE)
FIRST = np.moveaxis(COLOURS, -1, 0)


def _turned(image: Image.Image) -> Image.Image:
    """To be shown turned by 90 degrees clockwise."""
    image.getexif()[0x0112] = 6
    return image


def _mode(mode: str, array: np.ndarray) -> Image.Image:
    return Image.frombytes(mode, (SIDE, SIDE), array.tobytes())


def _palette(transparent: bool) -> Image.Image:
    image = Image.fromarray(np.eye(SIDE, dtype=np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 0, 255])
    if transparent:
        image.info["transparency"] = 1
    return image


def _animation() -> Image.Image:
    content = io.BytesIO()
    frames = [Image.new("L", (SIDE, SIDE), shade) for shade in (40, 200)]
    frames[0].save(content, "TIFF", save_all=True, append_images=frames[1:])
    return Image.open(content)


def _with(image: Image.Image, **info: Any) -> Image.Image:
    image.info.update(info)
    return image


def _on_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The formula, in floating-point numbers: a p + (1 − a) 255."""
    share = alpha / 255
    return colours * share + 255 * (1 - share)


DIAGONAL = np.eye(SIDE)
#: Name -> (image, pixels [C, H, W], 0 … 255; grey where all is grey).
READ: dict[str, tuple[Image.Image, np.ndarray]] = {
    "grey": (Image.fromarray(RAMP), RAMP[None]),
    "one bit": (Image.fromarray(DIAGONAL.astype(bool)), 255 * DIAGONAL[None]),
    "16 bits": (Image.fromarray(DEEP), DEEP[None] / 257),
    "16 bits, big end first": (_mode("I;16B", DEEP.astype(">u2")), DEEP[None] / 257),
    "16 bits as 32": (Image.fromarray(DEEP.astype(np.int32)), DEEP[None] / 257),
    "colour": (Image.fromarray(COLOURS), FIRST),
    "colour and alpha": (
        Image.fromarray(np.dstack([COLOURS, RAMP])),
        _on_white(FIRST, RAMP),
    ),
    "grey and alpha": (
        Image.merge("LA", [Image.fromarray(RAMP), Image.fromarray(RAMP.T)]),
        _on_white(RAMP, RAMP.T)[None],
    ),
    "colour times alpha": (
        Image.fromarray(np.dstack([COLOURS, np.where(RAMP > 90, 255, 0).astype(np.uint8)])).convert("RGBa"),
        _on_white(FIRST, np.where(RAMP > 90, 255, 0).astype(np.uint8)),
    ),
    "palette": (_palette(False), np.stack([255 * (1 - DIAGONAL), 0 * DIAGONAL, 255 * DIAGONAL])),
    "palette with a transparent colour": (
        _palette(True),
        np.stack([255 + 0 * DIAGONAL, 255 * DIAGONAL, 255 * DIAGONAL]),
    ),
    "grey with a transparent shade": (
        _with(Image.fromarray(RAMP), transparency=int(RAMP[1, 1])),
        np.where(RAMP[1, 1] == RAMP, 255, RAMP)[None],
    ),
    "cyan of four inks": (
        Image.new("CMYK", (SIDE, SIDE), (255, 0, 0, 0)),
        np.stack([0 * DIAGONAL, 255 + 0 * DIAGONAL, 255 + 0 * DIAGONAL]),
    ),
    "luma and chroma": (
        Image.new("YCbCr", (SIDE, SIDE), (100, 128, 128)),
        np.full((3, SIDE, SIDE), 100),
    ),
    "grey, turned": (_turned(Image.fromarray(RAMP)), np.rot90(RAMP, -1)[None]),
    "colour, turned": (_turned(Image.fromarray(COLOURS)), np.rot90(FIRST, -1, (1, 2))),
    "16 bits, turned": (_turned(Image.fromarray(DEEP)), np.rot90(DEEP, -1)[None] / 257),
}
ANIMATION = _animation()
#: Name -> (image, what the message says).
REFUSED: dict[str, tuple[Image.Image, str]] = {
    "floating point": (
        Image.fromarray(RAMP.astype(np.float32) / 255),
        "floating-point numbers, of which black and",
    ),
    "32 bits": (Image.fromarray(DEEP.astype(np.int32) * 2), "grey values of 32 bits"),
    "negative": (Image.fromarray(DEEP.astype(np.int32) - 1), "grey values of 32 bits"),
}
