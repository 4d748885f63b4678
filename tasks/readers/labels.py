"""Labels: any kind that people have, to one number per class.

The number of distinct labels before is the number of classes after. Labels that no array of one type holds
apart are refused by name: numpy would make `1` and `"1"` one string, `2**63` and `2**63 + 1` one float, and
drop the NUL that ends `"a\\0"`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np
import torch

__all__ = ["as_array", "classes_of", "kind_of", "positions", "read_labels", "widened"]

ADVICE = "use strings, or numbers, not a mixture"
#: Kinds of numpy that labels are kept in.
KINDS = {"b": "booleans", "i": "whole numbers", "u": "whole numbers", "f": "numbers", "U": "strings"}
#: Values that say that there is none, beside None and NaN: pandas', and a masked element of numpy.
MISSING = ("NAType", "NaTType", "MaskedConstant")


def read_labels(y: Any, n: int | None, error: type[ValueError], name: str = "y") -> np.ndarray:
    """``y`` as an array of booleans, whole numbers, finite numbers or strings ``[n]``, in which labels are
    equal if and only if they were.

    Args:
        y: a list, tuple, array, tensor (of any device) or column of labels. 0.0 and −0.0 are one number, and
            so are 1 and 1.0; spellings of a letter that Unicode calls equivalent are two strings.
        n: number of examples; None: any.
        error: raised for labels that cannot be used.
        name: of ``y`` in messages.

    Raises:
        error: no list of labels, too many or few, a missing one, kinds of labels that are mixed, and labels
            that no type of numpy holds apart.

    Example:
        >>> read_labels([2**63, 2**63 + 1], 2, ValueError).dtype
        dtype('uint64')
    """
    found = _listed(y, error, name)
    shape = found.shape if isinstance(found, np.ndarray) else (len(found),)
    if len(shape) != 1 or (n is not None and shape[0] != n):
        where = f"but x has {n} examples: " if n is not None else "that is no list of labels: "
        raise error(f"{name} has shape {shape} {where}pass one label per example")
    return _array(found, error, name)


def classes_of(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct labels ``[C]``, sorted, and the position of each label among them, int64 ``[n]``."""
    classes, index = np.unique(labels, return_inverse=True)
    return classes, index.astype(np.int64)


def kind_of(labels: np.ndarray) -> str:
    """What labels of an array are, in words."""
    return KINDS[labels.dtype.kind]


def positions(
    labels: np.ndarray, classes: np.ndarray, error: type[ValueError], name: str = "y"
) -> np.ndarray:
    """The position of each of ``labels [n]`` among ``classes [C]``, int64 ``[n]``; −1 for one that is no
    class.

    Numbers are compared by value: whole numbers exactly, floating-point ones in the less precise of the two
    types, as 0.1 from a float32 tensor is not 0.1. Booleans are the numbers 0 and 1.

    Raises:
        error: labels of another kind than the classes, or none of which is a class; a precision in which
            some would be one.
    """
    found = _places(labels, classes, error, name)
    if len(found) and (found < 0).all():
        raise error(
            f"{name} holds none of the classes of this task: it has {_some(labels)}, and they are "
            f"{_some(classes)}"
        )
    return found


def widened(
    labels: np.ndarray, classes: np.ndarray, error: type[ValueError], name: str = "y"
) -> tuple[np.ndarray, np.ndarray]:
    """``classes [C]`` with those of ``labels [n]`` that are not among them, sorted, and the position of each
    label, int64 ``[n]``. What is a label of the classes, and in which type, :func:`positions` says.

    Raises:
        error: labels of another kind than the classes; labels that no type holds together with them.
    """
    place = _places(labels, classes, error, name)
    new = np.unique(labels[place < 0])
    if not len(new):
        return classes, place
    together = {*classes.tolist(), *new.tolist()}
    with np.errstate(all="ignore"):
        every = np.unique(np.concatenate([classes, new]))
        kept = np.array(every, classes.dtype) if classes.dtype.kind != "U" else every
    every = kept if {*kept.tolist()} == together else every
    if {*every.tolist()} != together:
        raise error(f"{name} holds {_some(new)}, which no type holds together with the classes: use strings")
    where = {label: position for position, label in enumerate(every.tolist())}
    moved = np.array([where[label] for label in classes.tolist()], np.int64)
    fresh = [where.get(label, 0) for label in labels.tolist()]
    return every, np.where(place < 0, fresh, moved[place])


def _places(labels: np.ndarray, classes: np.ndarray, error: type[ValueError], name: str) -> np.ndarray:
    both = {labels.dtype.kind, classes.dtype.kind}
    bits = "b" not in both or both == {"b"} or all(set(a.tolist()) <= {0, 1} for a in (labels, classes))
    if ("U" in both and both != {"U"}) or not bits:
        raise error(
            f"{name} holds {kind_of(labels)}, such as {labels[0].item()!r}, but the classes are "
            f"{kind_of(classes)}, such as {classes[0].item()!r}: give labels the type that they had in fit"
        )
    if both == {"f"} and labels.dtype != classes.dtype:
        coarse = min(labels.dtype, classes.dtype, key=lambda dtype: dtype.itemsize)
        labels, classes = (_cast(values, coarse, error, name) for values in (labels, classes))
    place = {label: position for position, label in enumerate(classes.tolist())}
    return np.array([place.get(label, -1) for label in labels.tolist()], np.int64)


def _listed(y: Any, error: type[ValueError], name: str) -> np.ndarray | list[Any]:
    """``y`` as an array of one type, or as a list of Python values."""
    if isinstance(y, torch.Tensor):
        y = as_array(y)
    if isinstance(y, np.ma.MaskedArray) and np.ma.is_masked(y):
        row = int(np.flatnonzero(np.ma.getmaskarray(y).reshape(len(y), -1).any(1))[0])
        raise error(f"{name}[{row}] is masked: every example needs a label")
    dtype = getattr(y, "dtype", None)  # pandas has types of its own, whose values may be missing
    if isinstance(dtype, np.dtype) and (dtype.kind in "biufU" or (np.ndim(y) != 1 and dtype.kind != "V")):
        return np.asarray(y)
    if isinstance(dtype, np.dtype) and dtype.kind in "cmMSV":
        fix = {"S": "decode them, or use strings", "c": "use strings, or numbers"}.get(
            dtype.kind, f"use strings, for instance {name}.astype(str)"
        )
        raise error(f"{name} holds labels of type {dtype}: {fix}")
    listed = isinstance(y, Sequence) or hasattr(y, "__array__")
    if isinstance(y, str | bytes | bytearray) or not listed:
        what = "one label" if isinstance(y, str | bytes | bytearray) else _what(y)
        raise error(f"{name} has shape () ({what}): pass one label per example, as a list or an array")
    if getattr(y, "ndim", 1) != 1:
        raise error(f"{name} has shape {tuple(y.shape)} ({_what(y)}): pass one label per example")
    return [*y]


def _what(y: Any) -> str:
    kinds = {Mapping: "a dict", Set: "a set, which has no order", Iterator: "a generator, not a list"}
    return next((said for kind, said in kinds.items() if isinstance(y, kind)), f"a {type(y).__name__}")


def as_array(y: torch.Tensor) -> np.ndarray:
    """A tensor of any device, layout and type as an array of the same numbers."""
    y = y.detach().cpu()
    y = y.to_dense() if y.layout != torch.strided else y
    if y.is_floating_point() and y.dtype not in (torch.float16, torch.float32, torch.float64):
        y = y.float()  # numpy has no such type, and float32 holds all of its numbers
    found: np.ndarray = y.resolve_conj().resolve_neg().numpy()
    return found


def _array(found: np.ndarray | list[Any], error: type[ValueError], name: str) -> np.ndarray:
    """Labels of one kind, as an array that holds them apart."""
    if isinstance(found, list):
        return _of_values(found, error, name)
    if found.dtype.kind == "U":
        return _strings(found.tolist(), error, name)
    if found.dtype.kind != "f":
        return found.astype(found.dtype.newbyteorder("="))
    if not np.isfinite(found).all():
        row = int(np.flatnonzero(~np.isfinite(found))[0])
        raise error(f"{name} holds NaN or infinity, at {name}[{row}]: every example needs a label")
    if found.dtype.itemsize > 8:  # long double, which JSON cannot hold
        return _cast(found, np.dtype(np.float64), error, name)
    return found.astype(found.dtype.newbyteorder("=")) + found.dtype.type(0)  # −0.0 becomes 0.0


def _of_values(found: list[Any], error: type[ValueError], name: str) -> np.ndarray:
    """The array of a list of labels, each looked at for itself."""
    # A type that all labels bring along is kept: 0.1 in float32 is another number than 0.1.
    brought = {_dtype(label) for label in found}
    values = [_plain(label) for label in found]
    kinds: dict[str, int] = {}  # kind -> the first row of it
    for row, label in enumerate(values):
        kinds.setdefault(_kind(label), row)
    if odd := [(kind, row) for kind, row in kinds.items() if kind not in ("str", "bool", "int", "float")]:
        kind, row = odd[0]
        if "str" in kinds and kind == "missing":
            raise error(_mixture(name, values, kinds))
        if kind == "missing" and isinstance(values[row], float):
            raise error(f"{name} holds NaN or infinity, at {name}[{row}]: every example needs a label")
        if kind == "missing":
            raise error(f"{name}[{row}] is {values[row]!r}: every example needs a label")
        if kind == "nest":
            raise error(
                f"{name} is a ragged nest of lists, or has more than one label at {name}[{row}] "
                f"({values[row]!r}): pass one label per example"
            )
        fix = "decode it" if kind == "bytes" else "use strings, for instance str(label), or numbers"
        raise error(f"{name} holds labels of type {kind}, such as {name}[{row}] = {values[row]!r}: {fix}")
    if len(kinds) > 1 and {*kinds} != {"int", "float"}:
        raise error(_mixture(name, values, kinds))
    if "str" in kinds:
        return _strings(values, error, name)
    if [*kinds] == ["int"]:
        return _whole(values, error, name)
    if "float" not in kinds:
        return np.array(values, bool)  # of none as well
    known = [dtype for dtype in brought if dtype is not None]
    dtype = np.result_type(*known) if None not in brought and known else np.dtype(np.float64)
    array = np.array(values, dtype)
    if {*values} != {*array.tolist()}:
        raise error(
            f"{name} holds whole numbers that are others as floating-point ones, such as stand beside them: "
            "use strings"
        )
    return _array(array, error, name)


def _dtype(label: Any) -> np.dtype | None:
    if isinstance(label, torch.Tensor) and label.ndim == 0:
        return as_array(label).dtype
    return label.dtype if isinstance(label, np.generic) else None


def _plain(label: Any) -> Any:
    """A value of Python for a scalar of numpy or torch."""
    if isinstance(label, np.ma.core.MaskedConstant):
        return label
    if isinstance(label, torch.Tensor | np.ndarray) and label.ndim == 0:
        return label.item()
    if isinstance(label, np.generic) and label.dtype.kind in "biufUS":
        return label.item()
    return label.as_py() if hasattr(label, "as_py") else label  # of Arrow


def _kind(label: Any) -> str:
    """str, bool, int and float can be labels; missing and nest have errors of their own; else the type."""
    if isinstance(label, str):
        return "str"
    if isinstance(label, bool | int | float):
        if label != label:
            return "missing"
        return "bool" if isinstance(label, bool) else "int" if isinstance(label, int) else "float"
    if label is None or type(label).__name__ in MISSING:
        return "missing"
    if isinstance(label, list | tuple | dict | set | torch.Tensor | np.ndarray):
        return "tuple" if isinstance(label, tuple) else "nest"
    return "bytes" if isinstance(label, bytes | bytearray) else type(label).__name__


def _mixture(name: str, values: list[Any], kinds: Mapping[str, int]) -> str:
    """A sentence on two kinds of labels in one list."""
    many = {"str": "strings", "bool": "booleans", "int": "whole numbers", "float": "numbers"}
    first = next(kind for kind in many if kind in kinds)
    row = next(row for kind, row in kinds.items() if kind != first)
    return (
        f"{name} mixes {many[first]} with {values[row]!r} ({type(values[row]).__name__}): {ADVICE} (see "
        f"{name}[{row}])"
    )


def _strings(values: list[str], error: type[ValueError], name: str) -> np.ndarray:
    for label in {*values}:
        if label.endswith("\0"):
            raise error(
                f"{name} holds the label {label!r}, which ends in a NUL character that no array of strings "
                "keeps: strip it"
            )
        if any("\ud800" <= letter <= "\udfff" for letter in label):
            raise error(
                f"{name} holds the label {label!r}, in which half a character stands (a lone surrogate) that "
                "no file can hold: decode it with the encoding that it was written in"
            )
    # A subclass such as an Enum becomes its text, not what it prints as.
    return np.array([str.__str__(label) for label in values], dtype=str)


def _whole(values: list[int], error: type[ValueError], name: str) -> np.ndarray:
    low, high = min(values), max(values)
    if low >= -(2**63) and high < 2**63:
        return np.array([int(label) for label in values], np.int64)
    if low >= 0 and high < 2**64:
        return np.array([int(label) for label in values], np.uint64)
    far = high if high >= 2**63 else low
    raise error(
        f"{name} holds {far}, and not all of its labels fit one type of 64 bits: pass them as strings"
    )


def _cast(values: np.ndarray, dtype: np.dtype, error: type[ValueError], name: str) -> np.ndarray:
    """``values`` in another type, in which those that differ still do."""
    with np.errstate(over="ignore"):
        cast = values.astype(dtype)
    before, after = np.unique(values), np.unique(cast)
    if len(after) < len(before):
        same = int(np.flatnonzero(np.diff(before.astype(dtype)) == 0)[0])
        raise error(
            f"{name}: the labels {before[same].item()!r} and {before[same + 1].item()!r} are one number in "
            f"{dtype}: pass strings, or numbers of one type"
        )
    return cast


def _some(labels: np.ndarray) -> str:
    distinct = np.unique(labels).tolist()
    return ", ".join(map(repr, distinct[:3])) + (", …" if len(distinct) > 3 else "")
