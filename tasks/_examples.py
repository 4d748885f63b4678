"""Examples of the caller's own, as an array or as texts; and which of them belong to which class."""

from __future__ import annotations

import io
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from tasks.readers.labels import as_array, classes_of, kind_of, read_labels
from tasks.readers.pictures import WHITE, channels_first, channels_of, is_picture, pixels
from tasks.readers.regular import regular_file
from tasks.readers.texts import check_listed, holds_texts, read_texts

from .images._pictures import pillow
from .source import TaskError, TaskWarning

__all__ = ["read_examples", "rows_of_classes"]


def read_examples(x: Any, size: int | None = None) -> np.ndarray | list[str]:
    """Numbers ``[n, *shape]``, or n texts.

    An array is not copied. Pillow images become bytes ``[C, H, W]``: one channel if all are grey, else three
    (`tasks/readers/pictures.py`). Arrays of bytes that are pictures may have their channels last.

    Args:
        x: an array, tensor, table of numbers or column; or a list of arrays, tensors, lists of numbers,
            texts, Pillow images, or images as Hugging Face stores them (``{"bytes", "path"}``).
        size: side that Pillow images are scaled to; None: as they are.

    Raises:
        TaskError: anything else; examples that differ in shape; pictures that cannot be read.
    """
    check_listed(x, TaskError, "x")
    if holds_texts(x):
        return read_texts(x, TaskError)
    if isinstance(x, list | tuple) and x:
        rows = [_opened(row, value) if _stored(value) else value for row, value in enumerate(x)]
        if any(map(is_picture, rows)):
            return _pictures(rows, size)
        arrays = [_array(value) for value in rows]
        odd = next((row for row, array in enumerate(arrays) if array.shape != arrays[0].shape), None)
        if odd is not None:
            raise TaskError(
                f"examples differ in shape: x[0] has {arrays[0].shape} and x[{odd}] {arrays[odd].shape}: "
                "give all one shape"
            )
        x = np.stack(arrays)
    found = _array(x)
    if found.ndim == 0 or not len(found):
        raise TaskError(f"x holds no examples ({type(x).__name__}): give an array [n, …] or a list of some")
    if found.dtype.kind not in "biuf":
        raise TaskError(f"x holds {found.dtype}, no numbers: give numbers, texts or pictures")
    if found.dtype == np.int64 and found.ndim > 2:
        raise TaskError(
            f"x holds whole numbers (int64) of shape {found.shape}, which would be token ids: give "
            "pictures as bytes, x.astype(np.uint8), and other numbers as x.astype(np.float32)"
        )
    found = channels_first(found)
    if found.dtype == np.uint16 and found.ndim == 4:
        found = found.astype(np.float32) / np.float32(WHITE["uint16"])
    return found


def rows_of_classes(y: Any, n: int | None, names: Sequence[str] | None) -> dict[str, np.ndarray]:
    """Class name -> rows [m], classes in the order of their labels (numbers as numbers); no two labels share
    a name.

    Args:
        y: n labels: whole numbers, strings or booleans (`tasks/readers/labels.py`).
        n: number of examples; None: any.
        names: of the classes, if labels are their numbers 0, 1, ….

    Raises:
        TaskError: labels that cannot be used, or that are no numbers of `names`.
    """
    labels = read_labels(y, n, TaskError, "labels")
    if labels.dtype.kind == "f":
        raise TaskError(
            f"labels of type {labels.dtype} are no classes: give one whole number or string per example"
        )
    values, which = classes_of(labels)
    if names is not None:
        if twice := sorted(name for name, times in Counter(names).items() if times > 1):
            raise TaskError(f"two names are {twice[0]!r}: give each class a name of its own")
        if kind_of(labels) == "strings" or (len(values) and not 0 <= values[0] <= values[-1] < len(names)):
            raise TaskError(
                f"labels {values[0]} to {values[-1]} are not numbers of the {len(names)} names: leave "
                "names out"
            )
    order = np.argsort(which, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(which))[:-1])
    called = [str(value) if names is None else names[int(value)] for value in values]
    return dict(zip(called, parts, strict=False))  # of no labels there is one empty part


def _array(value: Any) -> np.ndarray:
    try:
        return as_array(value) if isinstance(value, torch.Tensor) else np.asarray(value)
    except ValueError:
        raise TaskError("x is a ragged nest of lists: give examples of one shape") from None


def _pictures(images: Sequence[Any], size: int | None) -> np.ndarray:
    """Pillow images as uint8 [n, C, H, W]."""
    if odd := [row for row, image in enumerate(images) if not is_picture(image)]:
        raise TaskError(
            f"x mixes pictures with a {type(images[odd[0]]).__name__}, at x[{odd[0]}]: give one kind"
        )
    channels, found = channels_of(images), []
    for row, image in enumerate(images):
        try:
            found.append(pixels(image, channels, None if size is None else (size, size)))
        except Exception as error:  # decoders of damaged files raise whatever they meet
            raise TaskError(f"x[{row}] is no picture that can be read: {error}") from None
    for row, array in enumerate(found):
        if array.shape != found[0].shape:
            raise TaskError(
                f"examples differ in shape: x[0] has {found[0].shape} and x[{row}] {array.shape}: give "
                "images one size=<side>"
            )
    animated = [row for row, image in enumerate(images) if getattr(image, "is_animated", False)]
    if animated:
        warnings.warn(
            f"animated images, of which one frame is used: {len(animated)} (the first is x[{animated[0]}])",
            TaskWarning,
            stacklevel=4,
        )
    return np.stack(found)


def _stored(value: Any) -> bool:
    """Whether a value is an image as Hugging Face stores it, not decoded."""
    return isinstance(value, Mapping) and {*value} == {"bytes", "path"}


def _opened(row: int, value: Mapping[str, Any]) -> Any:
    content = value["bytes"]
    try:
        return pillow().open(regular_file(value["path"]) if content is None else io.BytesIO(content))
    except Exception as error:  # decoders of damaged files raise whatever they meet
        raise TaskError(f"x[{row}] is no picture that can be read: {error}") from None
