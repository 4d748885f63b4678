"""What users pass to ``fit`` and ``predict``, as tensors: one clear error names what is wrong.

Labels, pictures and texts are read as everywhere else in the project (`tasks/readers/`).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from adapt.adapter.batches import Part
from adapt.adapter.loaders import is_loader, parts_of
from adapt.backbones import Pictures, Tokenise
from adapt.errors import AdaptError
from adapt.heads import one_hot
from adapt.inner import Loss
from tasks.readers.labels import as_array, classes_of, positions, read_labels, widened
from tasks.readers.pictures import channels_first, channels_of, fractions, is_bytes, is_picture, pixels
from tasks.readers.texts import check_listed, holds_texts, read_texts

__all__ = ["Examples", "Labels", "as_examples", "as_positions", "as_targets", "label_classes", "no_other"]

#: What ``fit`` and ``predict`` take.
Examples = Tensor | np.ndarray | Sequence[Any] | Dataset[Any] | DataLoader[Any]
Labels = Tensor | np.ndarray | Sequence[Any]
NOTHING_KNOWN = Pictures()
#: How far beyond the range that a backbone was trained on values may lie, in widths of that range: scaling
#: with a bicubic kernel overshoots.
SLACK = 0.1


def as_examples(
    x: Any,
    shape: tuple[int, ...] | None,
    like: Tensor,
    tokenise: Tokenise | None = None,
    pictures: Pictures = NOTHING_KNOWN,
    fewest: int = 1,
    dtype_for: Callable[[Tensor], torch.dtype] | None = None,
) -> Tensor:
    """``x [n, *shape]`` as a tensor of the dtype and device of ``like``; texts, or token ids, as int64 if
    there is a tokeniser. ``dtype_for(x)``: another dtype than that of ``like``.

    Args:
        x: numbers: an array, tensor, table or nest of lists; or a list of examples: Pillow images, arrays or
            tensors; or texts; or a torch ``Dataset`` or unshuffled ``DataLoader`` of such.
        shape: of one example; None: any.
        like: a tensor of the wanted dtype and device.
        tokenise: of a backbone that reads texts.
        pictures: what the backbone wants of pictures. Bytes are then fractions of 255 of its range; channels
            may be last; Pillow images are converted, and scaled where the size is given. Other numbers are
            taken as they are, and must lie in the range.
        fewest: examples that are needed; if it is 0, ``[0]`` comes back for none.
        dtype_for: see above.

    ``x`` may be a :class:`~adapt.adapter.batches.Part` of more examples.

    Raises:
        AdaptError: not numbers, no examples, the wrong shape, NaN or infinity, values outside the range;
            texts, and no tokeniser, or no list of texts.
    """
    x, first, only = x if isinstance(x, Part) else Part(x)
    if is_loader(x):
        x = parts_of(x, ordered=True)[0]
    check_listed(x, AdaptError)
    if hasattr(x, "__len__") and getattr(x, "ndim", True) and not len(x):
        if not fewest:
            return like.new_zeros(0)
        raise AdaptError("x holds no examples: pass an array [n, …] with at least one")
    if holds_texts(x):
        if tokenise is None:
            raise AdaptError("x holds texts, but this backbone takes numbers: it has no tokeniser")
        x = tokenise(read_texts(x, AdaptError))
    examples = _numbers(x, shape, pictures, only)
    if examples.is_complex():
        raise AdaptError("x holds complex numbers: pass real ones, for instance x.real")
    if examples.ndim == 0:
        raise AdaptError("x holds no examples: pass an array [n, …] with at least one")
    examples = channels_first(examples, pictures.shapes)
    if shape is not None and tuple(examples.shape[1:]) != shape:
        raise AdaptError(
            f"x has examples of shape {tuple(examples.shape[1:])} but this backbone takes "
            f"{shape}: resize them, or add the missing axis"
        )
    if tokenise is not None and (examples.is_floating_point() or examples.ndim != 2):
        raise AdaptError(
            f"x is of shape {tuple(examples.shape)} and dtype {examples.dtype}, but this backbone reads "
            "texts: pass strings, or rows of token ids"
        )
    if tokenise is not None:
        if bool((examples < 0).any()):
            raise AdaptError(f"x holds the token id {int(examples.min())}: ids start at 0")
        return examples.to(device=like.device, dtype=torch.int64)
    if is_bytes(examples) and (pictures.range is not None or examples.ndim == 4):
        low, high = pictures.range or (0.0, 1.0)
        wide = like.dtype if like.dtype in (torch.float32, torch.float64) else torch.float32
        examples = low + (high - low) * fractions(examples, wide, AdaptError, all_there=only)
    whole = not examples.is_floating_point()
    dtype = dtype_for(examples) if dtype_for else like.dtype
    if not dtype.is_floating_point and not whole:
        _check_whole(examples, first)
    examples = examples.to(device=like.device, dtype=dtype)
    if not bool(torch.isfinite(examples).all()):
        bad = int((~torch.isfinite(examples).reshape(len(examples), -1).all(1)).nonzero()[0])
        raise AdaptError(f"x[{first + bad}] holds NaN or infinity: clean the data first")
    if pictures.range is not None and examples.numel():
        _check_range(examples, pictures.range, whole)
    return examples


def _check_whole(examples: Tensor, first: int) -> None:
    """Refuse fractions where the backbone looks numbers up."""
    bad = ((examples != examples.round()) | ~torch.isfinite(examples)).reshape(len(examples), -1).any(1)
    if bool(bad.any()):
        row = first + int(bad.nonzero()[0])
        raise AdaptError(f"x[{row}] holds numbers that are not whole, but this backbone looks up whole ones")


def _check_range(examples: Tensor, trained: tuple[float, float], whole: bool) -> None:
    """Refuse values that the backbone never saw: they would cost accuracy without a word."""
    low, high = (float(value) for value in examples.aminmax())
    slack = SLACK * (trained[1] - trained[0])
    if trained[0] - slack <= low and high <= trained[1] + slack:
        return
    fix = "undo their normalisation, which the backbone does itself"
    if whole or (low >= 0 and high > 2 * trained[1]):
        fix = "pass bytes as uint8 (0 … 255), or divide them by 255"
    raise AdaptError(
        f"x holds values from {low:g} to {high:g}, but this backbone was trained on values from "
        f"{trained[0]:g} to {trained[1]:g}: {fix}"
    )


def _numbers(x: Any, shape: tuple[int, ...] | None, pictures: Pictures, only: bool) -> Tensor:
    """``x`` as a tensor of whatever type; a list of examples is put together."""
    if is_picture(x):
        raise AdaptError("x is one picture: pass a list of them, [x]")
    if hasattr(x, "iloc"):  # a column or table of pandas
        x = np.asarray(x)
    if isinstance(x, Sequence) or (isinstance(x, np.ndarray) and x.dtype == object and x.ndim == 1):
        x = [*x]
    if isinstance(x, list) and x:
        if any(map(is_picture, x)):
            x = _of_images(x, shape, pictures, only)
        elif all(isinstance(row, Tensor | np.ndarray) for row in x):
            x = _of_rows([_tensor(row) for row in x], pictures, only)
    return _tensor(x)


def _tensor(x: Any) -> Tensor:
    if isinstance(x, Tensor):
        return (x if x.layout == torch.strided else x.to_dense()).detach()
    if isinstance(x, np.ndarray) and x.dtype == np.longdouble:  # of which torch has none
        x = x.astype(np.float64)
    try:
        # torch reads neither negative strides nor foreign byte orders, and warns of read-only arrays: such
        # arrays are copied.
        return torch.as_tensor(
            np.require(x, x.dtype.newbyteorder("="), ["C", "W"]) if isinstance(x, np.ndarray) else x
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise AdaptError(
            f"x must be an array or tensor of numbers, got {type(x).__name__}: {error}"
        ) from None


def _of_images(
    images: Sequence[Any], shape: tuple[int, ...] | None, pictures: Pictures, only: bool
) -> Tensor:
    """Pillow images as bytes ``[n, C, H, W]``; of different sizes, as numbers that are scaled already."""
    if odd := [row for row, image in enumerate(images) if not is_picture(image)]:
        raise AdaptError(
            f"x mixes pictures with a {type(images[odd[0]]).__name__}, at x[{odd[0]}]: pass one kind"
        )
    known = shape is not None and len(shape) == 3 and shape[0] in (1, 3)
    channels = shape[0] if shape is not None and known else channels_of(images)
    rows = []
    for row, image in enumerate(images):
        try:
            rows.append(torch.from_numpy(pixels(image, channels, shape[1:] if known else None).copy()))  # type: ignore[index,arg-type]
        except (ValueError, OSError, SyntaxError) as error:  # what decoders raise at damaged files
            raise AdaptError(f"x[{row}] is no picture that can be read: {error}") from None
    return _of_rows(rows, pictures, only)


def _of_rows(rows: list[Tensor], pictures: Pictures, only: bool) -> Tensor:
    """Examples as one tensor; pictures of different sizes, where the backbone scales them, scaled by it."""
    shapes = [tuple(row.shape) for row in rows]
    odd = next((row for row, found in enumerate(shapes) if found != shapes[0]), None)
    if odd is None:
        return torch.stack([row.to(rows[0]) for row in rows]) if rows else torch.empty(0)
    scales = pictures.images is not None and pictures.images.size is not None
    if not scales or {len(found) for found in shapes} != {3}:
        raise AdaptError(
            f"x[0] has shape {shapes[0]} and x[{odd}] has {shapes[odd]}: examples must be of one shape, "
            "resize them"
        )
    assert pictures.images is not None
    parts = [channels_first(row[None], pictures.shapes) for row in rows]
    floats = [
        fractions(part, torch.float32, AdaptError, all_there=only)
        if is_bytes(part)
        else part.to(torch.get_default_dtype())
        for part in parts
    ]
    wide = max(part.shape[1] for part in floats)
    if any(part.shape[1] not in (1, wide) for part in floats):
        raise AdaptError(f"x holds pictures of shapes {sorted({*shapes})}: give them 1 or 3 channels each")
    scaled = [pictures.images.scaled(part).expand(-1, wide, -1, -1) for part in floats]
    return torch.cat([part.to(scaled[0]) for part in scaled])


def as_targets(y: Any, n: int, like: Tensor, loss: Loss) -> tuple[np.ndarray, Tensor]:
    """The classes ``[C]`` (none in regression) and what a head is fitted to ``[n, C]``, of the dtype and
    device of ``like``, for n examples.

    Raises:
        AdaptError: labels or values that cannot be used.
    """
    if loss.regression:
        return np.empty(0), _values(y, n, like)
    classes, index = classes_of(read_labels(y, n, AdaptError))
    if len(classes) < 2:
        raise AdaptError(f"y holds only the class {classes[0].item()!r}: a task needs at least two classes")
    return classes, one_hot(torch.from_numpy(index).to(like.device), len(classes), like.dtype)


def as_positions(y: Any, n: int, classes: np.ndarray) -> np.ndarray:
    """The position of each label of ``y`` among ``classes [C]``, int64 ``[n]``; −1 for one that is no class.

    Raises:
        AdaptError: labels that cannot be used, or of another kind than the classes.
    """
    return positions(read_labels(y, n, AdaptError), classes, AdaptError)


def label_classes(y: Any, n: int, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``classes [C]`` and those of ``y`` that are not among them, sorted, and the position of each label of
    ``y``, int64 ``[n]``.

    Raises:
        AdaptError: labels that cannot be used, of another kind than the classes, or that no type holds with
            them.
    """
    return widened(read_labels(y, n, AdaptError), classes, AdaptError)


def no_other(y: Any, n: int, classes: np.ndarray, why: str) -> np.ndarray:
    """As :func:`as_positions`, of labels that are all classes; ``why`` they must be, says what to do.

    Raises:
        AdaptError: labels that cannot be used, or that are no class.
    """
    place = as_positions(y, n, classes)
    if (place < 0).any():
        row = int(np.flatnonzero(place < 0)[0])
        raise AdaptError(f"y[{row}] is {read_labels(y, n, AdaptError)[row].item()!r}, no class here: {why}")
    return place


def _values(y: Any, n: int, like: Tensor) -> Tensor:
    """Rows of real values ``[n, C]``; a plain list of n numbers is one column."""
    if isinstance(y, np.ma.MaskedArray):
        check_listed(y, AdaptError, "y")
    try:
        array = as_array(y) if isinstance(y, Tensor) else np.asarray(y)
    except ValueError:
        raise AdaptError("y is a ragged nest of lists: pass one number, or one row, per example") from None
    if array.dtype.kind not in "biuf":
        raise AdaptError(f"y must hold real numbers, this adapter does regression: got {array.dtype}")
    with np.errstate(over="ignore"):
        values = torch.from_numpy(array.astype(np.float64))
    if values.ndim not in (1, 2) or len(values) != n or not values.numel():
        raise AdaptError(
            f"y has shape {tuple(values.shape)} but x has {n} examples: pass one number, or "
            "one row of numbers, per example"
        )
    values = values.reshape(len(values), -1).to(device=like.device, dtype=like.dtype)
    if not bool(torch.isfinite(values).all()):
        bad = int((~torch.isfinite(values).all(1)).nonzero()[0])
        raise AdaptError(f"y holds NaN or infinity, at y[{bad}]: every example needs a value")
    return values
