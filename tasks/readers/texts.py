"""Texts: a list of strings, and nothing that merely can be run through like one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import Any

import numpy as np
import torch

__all__ = ["check_listed", "holds_texts", "read_texts"]


def check_listed(x: Any, error: type[ValueError], name: str = "x") -> None:
    """Refuse what has no rows in an order: one text, bytes, a dict, a set, a generator, a table of texts; and
    arrays of which something is masked.

    A table (of pandas, say) whose columns are all numbers is an array like others, and passes.

    Raises:
        error: names what it is and what to pass.
    """
    short = name.rpartition(" ")[2]  # of "demo: texts"
    if isinstance(x, str):
        raise error(f"{name} is one text (a string): pass a list of texts, [{short}]")
    if isinstance(x, bytes | bytearray):
        raise error(f"{name} is bytes: pass a list of texts, decoded, or an array of numbers")
    if isinstance(x, Mapping):
        column = (
            "input_ids" if "input_ids" in x else next((key for key in x if isinstance(key, str)), "column")
        )
        also = ", or the texts themselves" if column == "input_ids" else ""
        raise error(
            f"{name} is a {type(x).__name__}, whose keys are no examples: pass {short}[{column!r}]{also}"
        )
    if isinstance(x, Set):
        raise error(f"{name} is a {type(x).__name__}, which has no order: pass a list")
    if isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        masked = np.ma.getmaskarray(x).reshape(len(x), -1).any(1)
        raise error(f"{name}[{int(np.flatnonzero(masked)[0])}] is masked: fill it in, or leave it out")
    if isinstance(x, Iterator):
        raise error(f"{name} is a {type(x).__name__}, which can be read only once: pass list({short})")
    columns = getattr(x, "columns", getattr(x, "column_names", None))
    if columns is not None and getattr(x, "ndim", 2) == 2 and not _numeric(x):
        first = str(next(iter(columns), "text"))
        raise error(f"{name} is a {type(x).__name__}, a table: pass one column of it, {short}[{first!r}]")


def holds_texts(x: Any) -> bool:
    """Whether some row of ``x`` is a string (or a mistake for one): an array, column, list or tuple."""
    if isinstance(x, torch.Tensor) or not hasattr(x, "__len__") or not len(x):
        return False
    dtype = getattr(x, "dtype", None)
    if isinstance(dtype, np.dtype) and dtype.kind not in "OST":
        return dtype.kind == "U"
    rows = np.asarray(x).flat if getattr(x, "ndim", 1) > 1 else x
    return any(isinstance(row, str | bytes) or type(row).__name__ == "StringScalar" for row in rows)


def read_texts(x: Any, error: type[ValueError], name: str = "x") -> list[str]:
    """The texts of ``x``: a list, tuple, array ``[n]`` or column of strings; empty ones are strings as well.

    Raises:
        error: what :func:`check_listed` refuses; a row that is no string, by its number.

    Example:
        >>> read_texts(["a", None], ValueError)
        Traceback (most recent call last):
        ValueError: x[1] is None: every example needs a text
    """
    check_listed(x, error, name)
    if getattr(x, "ndim", 1) != 1:
        raise error(f"{name} has shape {tuple(x.shape)}: pass one text per example, an array [n]")
    texts = []
    for row, text in enumerate(x):
        text = text.as_py() if hasattr(text, "as_py") else text  # of Arrow
        if not isinstance(text, str):
            if (
                text is None
                or type(text).__name__ in ("NAType", "NaTType")
                or text is np.ma.masked
                or (isinstance(text, float) and text != text)
            ):
                raise error(f"{name}[{row}] is {text!r}: every example needs a text")
            fix = "decode it" if isinstance(text, bytes) else "every example is one string"
            raise error(f"{name}[{row}] is a {type(text).__name__} ({_short(text)}): {fix}")
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise error(
                f"{name}[{row}] holds half a character (a lone surrogate), which no tokeniser reads: decode "
                "it with the encoding that it was written in"
            )
        texts.append(str.__str__(text))
    return texts


def _numeric(table: Any) -> bool:
    dtypes = getattr(table, "dtypes", ())
    return bool(len(dtypes)) and all(getattr(dtype, "kind", "O") in "biuf" for dtype in dtypes)


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."
