"""Checks of what users pass to ``fit`` and ``predict``: one clear error that names what is wrong."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapt.backbones import Tokenise
from adapt.errors import AdaptError
from adapt.heads import one_hot
from adapt.inner import Loss

__all__ = ["as_examples", "as_targets"]


def as_examples(
    x: Tensor | np.ndarray | Sequence[str],
    shape: tuple[int, ...] | None,
    like: Tensor,
    tokenise: Tokenise | None = None,
    dtype_for: Callable[[Tensor], torch.dtype] | None = None,
) -> Tensor:
    """``x [n, *shape]`` as a tensor of the dtype and device of ``like``; texts, or token ids, as int64 if
    there is a tokeniser. ``dtype_for(x)``: another dtype than that of ``like``.

    Raises:
        AdaptError: not numbers, no examples, the wrong shape, NaN or infinity; texts, and no tokeniser.
    """
    if _texts(x):
        if tokenise is None:
            raise AdaptError("x holds texts, but this backbone takes numbers: it has no tokeniser")
        x = tokenise([str(text) for text in x])
    try:
        # torch reads neither negative strides nor foreign byte orders, and warns of read-only arrays: such
        # arrays are copied.
        examples = torch.as_tensor(
            np.require(x, x.dtype.newbyteorder("="), ["C", "W"]) if isinstance(x, np.ndarray) else x
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise AdaptError(
            f"x must be an array or tensor of numbers, got {type(x).__name__}: {error}"
        ) from None
    if examples.is_complex():
        raise AdaptError("x holds complex numbers: pass real ones, for instance x.real")
    if examples.ndim == 0 or len(examples) == 0:
        raise AdaptError("x holds no examples: pass an array [n, …] with at least one")
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
    dtype = torch.int64 if tokenise is not None else dtype_for(examples) if dtype_for else like.dtype
    if not dtype.is_floating_point and examples.is_floating_point():
        whole = (examples == examples.round()) & torch.isfinite(examples)
        if not bool(whole.all()):
            bad = int((~whole.reshape(len(whole), -1).all(1)).nonzero()[0])
            raise AdaptError(
                f"x[{bad}] holds numbers that are not whole, but this backbone looks up whole ones"
            )
    examples = examples.to(device=like.device, dtype=dtype)
    if not bool(torch.isfinite(examples).all()):
        bad = int((~torch.isfinite(examples).reshape(len(examples), -1).all(1)).nonzero()[0])
        raise AdaptError(f"x[{bad}] holds NaN or infinity: clean the data first")
    return examples


def _texts(x: object) -> bool:
    """Whether ``x`` is a list of strings, or an array or column of them."""
    if isinstance(x, (Tensor, str)) or not hasattr(x, "__len__") or not len(x):
        return False
    if isinstance(x, np.ndarray):
        return x.dtype.kind == "U" or (x.dtype.kind == "O" and all(isinstance(text, str) for text in x.flat))
    return hasattr(x, "__iter__") and all(isinstance(text, str) for text in x)


def as_targets(
    y: Tensor | np.ndarray | Sequence[Any], n: int, like: Tensor, loss: Loss
) -> tuple[np.ndarray, Tensor]:
    """The classes ``[C]`` (none in regression) and what a head is fitted to ``[n, C]``, of the dtype and
    device of ``like``, for n examples.

    Raises:
        AdaptError: labels or values that cannot be used.
    """
    if loss.regression:
        return np.empty(0), _values(y, n, like)
    classes, labels = _labels(y, n)
    return classes, one_hot(labels.to(like.device), len(classes), like.dtype)


def _values(y: Tensor | np.ndarray | Sequence[Any], n: int, like: Tensor) -> Tensor:
    """Rows of real values ``[n, C]``; a plain list of n numbers is one column."""
    try:
        array = y.detach().cpu().numpy() if isinstance(y, Tensor) else np.asarray(y)
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
        raise AdaptError("y holds NaN or infinity: every example needs a value")
    return values


def _labels(y: Tensor | np.ndarray | Sequence[Any], n: int) -> tuple[np.ndarray, Tensor]:
    """The sorted distinct labels ``[C]`` and, per example, the index of its label, int64 ``[n]``.

    Raises:
        AdaptError: a number of labels other than n, fewer than two classes, labels that cannot be ordered, or
        NaN.
    """
    labels = y.detach().cpu().numpy() if isinstance(y, Tensor) else _label_array(y)
    if labels.ndim != 1 or len(labels) != n:
        raise AdaptError(f"y has shape {labels.shape} but x has {n} examples: pass one label per example")
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise AdaptError("y holds NaN or infinity: every example needs a label")
    if labels.dtype.kind not in "biufU":
        raise AdaptError(f"y holds labels of type {labels.dtype}: use strings, or numbers, not a mixture")
    classes, index = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise AdaptError(f"y holds only the class {classes[0].item()!r}: a task needs at least two classes")
    return classes, torch.as_tensor(index.astype(np.int64))


def _label_array(y: Any) -> np.ndarray:
    """``y`` as an array; object arrays of strings (a pandas column) become strings.

    numpy alone would silently make strings of a number or NaN that stands beside strings.
    """
    if isinstance(y, str) or not (isinstance(y, Sequence) or hasattr(y, "__array__")):
        return np.asarray(y)  # of no length, which the caller reports
    labels = list(y)
    strings = [isinstance(label, str) for label in labels]
    if any(strings) and not all(strings):
        odd = labels[strings.index(False)]
        raise AdaptError(
            f"y mixes strings with {odd!r} ({type(odd).__name__}): use strings, or numbers, not a mixture"
        )
    try:
        return np.asarray(labels)
    except ValueError:
        raise AdaptError("y is a ragged nest of lists: pass one label per example") from None
