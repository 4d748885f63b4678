"""Examples in parts, so that the memory of predicting does not grow with their number.

What is cut is what the caller passed, before it becomes real numbers for the network: pictures of bytes would
take four times their memory, files of pictures any. A part is read exactly as it is read among all others.
Where that is not sure (a nest of lists, pictures of which nobody said how many channels), all are read, and
the network is given the parts of that.
"""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from adapt.errors import AdaptError
from tasks.readers.pictures import fractions, is_bytes, is_picture

__all__ = ["FEWEST", "Part", "default_rows", "parts"]

#: Numbers of the examples that are given to a network at once; what it makes of them is many times as large.
NUMBERS = 2**18
#: Bounds of the number of examples: fewer would keep no processor busy, and more save no time.
FEWEST, MOST = 64, 4096


class Part(NamedTuple):
    """Some consecutive examples.

    Attributes:
        x: the examples, of the type of the whole.
        first: the number of the first one.
        only: whether there are no others.
    """

    x: Any
    first: int = 0
    only: bool = True


def default_rows(size: int) -> int:
    """How many examples of ``size`` numbers each go through a network at a time, where nobody says.

    Example:
        >>> default_rows(4), default_rows(32 * 32), default_rows(3 * 224 * 224)
        (4096, 256, 64)
    """
    return min(MOST, max(FEWEST, NUMBERS // max(size, 1)))


def parts(x: Any, rows: int | None, shaped: bool) -> Iterator[Part]:
    """``x`` in parts of so many examples (None: by their size); as a whole where it is not sure that parts
    would be read as the whole is.

    Args:
        shaped: whether it is known what shape a picture becomes.

    Raises:
        AdaptError: bytes that are all 0 or 1.
    """
    size = _size(x, shaped)
    rows = None if size is None else rows or default_rows(size)
    if rows is None or len(x) <= rows:
        yield Part(x)
        return
    _check_bytes(x)
    for first in range(0, len(x), rows):
        where = slice(first, first + rows)
        yield Part(x.iloc[where] if hasattr(x, "iloc") else x[where], first, False)


def _size(x: Any, shaped: bool) -> int | None:
    """How many numbers an example is, roughly; None: ``x`` is not to be cut."""
    many = NUMBERS // FEWEST
    if isinstance(x, Tensor):
        return prod(x.shape[1:]) if x.ndim and x.layout == torch.strided else None
    if isinstance(x, np.ndarray):
        if not x.ndim or isinstance(x, np.ma.MaskedArray) or x.dtype.kind not in "biufU":
            return None
        return many if x.dtype.kind == "U" else prod(x.shape[1:])
    if hasattr(x, "iloc"):  # of pandas
        return many if x.ndim == 1 else x.shape[1]
    if not isinstance(x, list | tuple) or not x:
        return None
    if all(isinstance(row, str) for row in x) or (shaped and all(map(is_picture, x))):
        return many
    arrays = all(isinstance(row, Tensor | np.ndarray) for row in x)
    return prod(x[0].shape) if arrays and len({(tuple(row.shape), row.dtype) for row in x}) == 1 else None


def _check_bytes(x: Any) -> None:
    """The one rule of reading that is about all examples: pictures of bytes are not all black."""
    arrays: Sequence[Any] = (
        [x] if isinstance(x, Tensor | np.ndarray) else x if isinstance(x, list | tuple) else []
    )
    if not arrays or not all(isinstance(it, Tensor | np.ndarray) and is_bytes(it) for it in arrays):
        return
    brightest = max((int(it.max()) for it in arrays if prod(it.shape)), default=0)
    if brightest == 1:
        fractions(torch.ones(1, dtype=torch.uint8), torch.float32, AdaptError)
