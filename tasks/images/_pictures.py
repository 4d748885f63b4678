"""From image files to arrays of one size, with Pillow."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from tasks.source import TaskError

__all__ = ["check_size", "pillow", "pixels", "scaled"]


def pillow() -> ModuleType:
    """The module `PIL.Image`.

    Raises:
        TaskError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise TaskError("reading images needs Pillow: pip install pillow") from error
    return Image


def check_size(source: str, size: int) -> None:
    """Raise TaskError unless `size` is a side that an image can be scaled to."""
    if not 8 <= size <= 1024:
        raise TaskError(f"{source}: size={size} is no side of an image in pixels: use 8 to 1024")


def scaled(image: Any, size: int) -> Any:
    """A Pillow image as `size` x `size`: the mean over the area where it shrinks, else bilinear."""
    if image.size == (size, size):
        return image
    resampling = pillow().Resampling
    shrinks = min(image.size) >= size
    return image.resize((size, size), resampling.BOX if shrinks else resampling.BILINEAR)


def pixels(image: Any) -> np.ndarray:
    """uint8 [C, H, W] of a Pillow image of mode L or RGB."""
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
