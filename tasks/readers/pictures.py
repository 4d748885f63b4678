"""Pictures: Pillow images and arrays of pixels, in one form.

    [C, H, W] ,  C = 1 for what is grey, else 3 ;  bytes are fractions of 255, 16 bits of 65535

An image is turned as its EXIF says and laid on white where it is transparent; of an animation the present
frame counts, which is the first of a file; grey values of 16 bits are divided by 257 (Pillow would clip
them). Grey values that are floating-point numbers are refused, for nobody knows what is white.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

__all__ = [
    "WHITE",
    "channels_first",
    "channels_of",
    "fractions",
    "is_bytes",
    "is_picture",
    "pixels",
    "scaled",
    "upright",
]

#: Modes of Pillow that hold no colour.
GREY = ("1", "L", "LA", "La", "F")
#: How many values a pixel may have: grey, colour, colour and alpha.
CHANNELS = (1, 3, 4)
#: The brightest pixel, by type.
WHITE = {"uint8": 255, "uint16": 65535}


def is_picture(value: Any) -> bool:
    """Whether ``value`` is a Pillow image; where nobody imported Pillow there is none."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(value, module.Image)


def channels_of(images: Sequence[Any]) -> int:
    """3 if some Pillow image has colours, else 1."""
    return 1 if all(image.mode in GREY or image.mode.startswith("I") for image in images) else 3


def upright(image: Any) -> Any:
    """A Pillow image turned as its EXIF says."""
    from PIL import ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged metadata
        return ImageOps.exif_transpose(image)


def pixels(image: Any, channels: int, size: tuple[int, int] | None = None) -> np.ndarray:
    """uint8 ``[channels, H, W]`` of a Pillow image of any mode.

    Args:
        channels: 3 for colour, 1 for grey.
        size: (H, W) to scale to; None: as it is.

    Raises:
        ValueError: grey values whose white nobody knows; and what a decoder raises at a damaged image.
    """
    image = _flat(upright(image)).convert("RGB" if channels == 3 else "L")
    if size is not None:
        image = scaled(image, size)
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def scaled(image: Any, size: tuple[int, int]) -> Any:
    """A Pillow image as (H, W) pixels: the mean over the area where it shrinks, else bilinear."""
    from PIL.Image import Resampling

    height, width = size
    if image.size == (width, height):
        return image
    shrinks = image.width >= width and image.height >= height
    return image.resize((width, height), Resampling.BOX if shrinks else Resampling.BILINEAR)


def channels_first(x: Any, shapes: Sequence[Sequence[int | None]] | None = None) -> Any:
    """Pictures ``[n, C, H, W]``, whose channels may stand last in ``x``, as an array or tensor like it.

    Args:
        x: ``[n, …]``; what is no picture comes back as it is.
        shapes: (C, H, W) that are wanted, None for what may be any. Channels are then last if only so the
            shape is one of them, and colours with alpha are laid on white where three channels are wanted.
            Without, only bytes are taken for pictures, with channels last where the last axis is 1, 3 or 4
            long and the second is not.
    """
    if x.ndim != 4:
        return x
    last = x.permute(0, 3, 1, 2) if isinstance(x, torch.Tensor) else x.transpose(0, 3, 1, 2)
    if shapes is None:
        if not is_bytes(x) or last.shape[1] not in CHANNELS or x.shape[1] in CHANNELS:
            return x
        return _on_white(last) if last.shape[1] == 4 else last
    for turned in (x, last):
        if fits(turned.shape[1:], shapes):
            return turned
    for turned in (x, last):
        if turned.shape[1] == 4 and fits((3, *turned.shape[2:]), shapes):
            return _on_white(turned)
    return x


def fits(found: Sequence[int], shapes: Sequence[Sequence[int | None]]) -> bool:
    """Whether a shape is one of those that are wanted."""
    return any(
        len(found) == len(shape) and all(b in (None, a) for a, b in zip(found, shape, strict=True))
        for shape in shapes
    )


def is_bytes(x: Any) -> bool:
    """Whether an array or tensor holds pixels of 8 or 16 bits."""
    return str(x.dtype).removeprefix("torch.") in WHITE


def fractions(
    x: torch.Tensor, dtype: torch.dtype, error: type[ValueError] = ValueError, *, all_there: bool = True
) -> torch.Tensor:
    """Pixels of 8 or 16 bits as numbers from 0 to 1. ``all_there``: there are no others to judge them by.

    Raises:
        error: nothing but 0 and 1, which would all be black.
    """
    values = x.to(dtype)  # torch finds no largest number of 16 bits
    if all_there and values.numel() and float(values.max()) == 1:
        raise error("x holds bytes, all of them 0 or 1, but white is 255: pass them as float or bool")
    return values / WHITE[str(x.dtype).removeprefix("torch.")]


def _flat(image: Any) -> Any:
    """A Pillow image without transparency and with eight bits."""
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip at 255
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535 or (image.mode == "I" and 0 < values.max() <= 255):
            raise ValueError("grey values of 32 bits, of which white is not known")
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("grey values are floating-point numbers, of which black and white are not known")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image


def _on_white(x: Any) -> Any:
    """``[n, 3, H, W]`` of colours and alpha ``[n, 4, H, W]``, of the same type."""
    if isinstance(x, torch.Tensor):
        return torch.from_numpy(_on_white(x.detach().cpu().numpy())).to(x.device)
    white = WHITE.get(str(x.dtype), 1)
    alpha = x[:, 3:].astype(np.float64) / white
    laid = x[:, :3] * alpha + white * (1 - alpha)
    return (laid if x.dtype.kind == "f" else np.rint(laid)).astype(x.dtype)
