"""Labels as people have them, with their classes; and labels that cannot be used, with the reason.

Both sides read this table: the library (`fit`, `score`, saved tasks) and the sources (`from_arrays`).
"""

from __future__ import annotations

import datetime
import decimal
import enum
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

__all__ = ["KEPT", "REFUSED"]


class Colour(str, enum.Enum):  # noqa: UP042 - what people have
    """Prints as `Colour.RED`, and is the string "red"."""

    RED = "red"
    BLUE = "blue"


BIG = 2**63

#: Name -> (labels of four examples, the classes in order).
KEPT: dict[str, tuple[Any, list[Any]]] = {
    "strings": (["b", "a", "b", "a"], ["a", "b"]),
    "strings of numpy": ([np.str_("b"), "a", np.str_("b"), "a"], ["a", "b"]),
    "column of strings": (pd.Series(["b", "a", "b", "a"]), ["a", "b"]),
    "categories": (pd.Categorical(["b", "a", "b", "a"], categories=["z", "b", "a"]), ["a", "b"]),
    "column of categories": (pd.Series(["b", "a", "b", "a"], dtype="category"), ["a", "b"]),
    "index": (pd.Index(["b", "a", "b", "a"]), ["a", "b"]),
    "array of objects": (np.array(["b", "a", "b", "a"], object), ["a", "b"]),
    "members of an Enum": ([Colour.RED, Colour.BLUE] * 2, ["blue", "red"]),
    "case and space": (["a", "A", " a", "a "], [" a", "A", "a", "a "]),
    "Arrow": (pa.array(["b", "a", "b", "a"]), ["a", "b"]),
    "numbers of Arrow": (pa.array([3, 2, 3, 2]), [2, 3]),
    "empty": (["", " ", "", " "], ["", " "]),
    "NUL inside": (["a\0b", "ab"] * 2, ["a\0b", "ab"]),
    "what Unicode calls equivalent": (["é", "e\u0301"] * 2, ["e\u0301", "é"]),
    "beyond the first plane": (["😀", "\uffff"] * 2, ["\uffff", "😀"]),
    "texts of numbers": (["1", "1.0", "01", "１"], ["01", "1", "1.0", "１"]),
    "whole numbers": ([3, -1, 3, -1], [-1, 3]),
    "range": (range(4), [0, 1, 2, 3]),
    "whole numbers of numpy": ([np.int64(3), 2, np.uint8(3), 2], [2, 3]),
    "tensor": (torch.tensor([3, 2, 3, 2], dtype=torch.int16), [2, 3]),
    "sparse tensor": (torch.tensor([3, 0, 3, 0]).to_sparse(), [0, 3]),
    "list of tensors": ([torch.tensor(3), torch.tensor(2)] * 2, [2, 3]),
    "foreign bytes": (np.array([3, 2, 3, 2], ">i4"), [2, 3]),
    "objects that are numbers": (np.array([3, 2, 3, 2], object), [2, 3]),
    "nullable column": (pd.Series([3, 2, 3, 2], dtype="Int64"), [2, 3]),
    "beyond 63 bits": ([BIG, BIG + 1, BIG, BIG + 1], [BIG, BIG + 1]),
    "beyond 63 bits and small": ([BIG, 1, BIG + 1, 1], [1, BIG, BIG + 1]),
    "array beyond 63 bits": (np.array([BIG, BIG + 1] * 2, np.uint64), [BIG, BIG + 1]),
    "beyond 53 bits": ([2**53, 2**53 + 1] * 2, [2**53, 2**53 + 1]),
    "booleans": ([True, False] * 2, [False, True]),
    "booleans of numpy": ([np.bool_(True), False] * 2, [False, True]),
    "tensor of booleans": (torch.tensor([True, False] * 2), [False, True]),
    "numbers": ([0.5, -1.5, 0.5, -1.5], [-1.5, 0.5]),
    "zeros": ([0.0, -0.0, 1.5, -0.0], [0.0, 1.5]),
    "numbers, some of them whole": ([1, 1.5, 1.0, 1.5], [1.0, 1.5]),
    "neighbours": ([1.0, 1.0 + 2**-52] * 2, [1.0, 1.0 + 2**-52]),
    "float32": (torch.tensor([0.1, 0.2] * 2), [float(np.float32(0.1)), float(np.float32(0.2))]),
    "bfloat16": (torch.tensor([0.5, 3.0] * 2, dtype=torch.bfloat16), [0.5, 3.0]),
    "float16": (np.array([0.5, 3.0] * 2, np.float16), [0.5, 3.0]),
    "long double": (np.array([0.5, 3.0] * 2, np.longdouble), [0.5, 3.0]),
}

#: Name -> (labels of four examples, what the message says).
REFUSED: dict[str, tuple[Any, str]] = {
    "string and number": (
        [1, "1", 1, "1"],
        r"mixes strings with 1 \(int\): use strings, or numbers, not a mixture \(see \w+\[0\]\)",
    ),
    "string and boolean": (["True", True] * 2, r"mixes strings with True \(bool\): .*see \w+\[1\]"),
    "boolean and number": ([True, 1, 0, 0], r"mixes booleans with 1 \(int\): .*see \w+\[1\]"),
    "boolean and half": ([True, 0.5] * 2, r"mixes booleans with 0.5 \(float\)"),
    "string and NaN": (["a", "nan", float("nan"), "a"], r"mixes strings with nan \(float\): .*see \w+\[2\]"),
    "string and None": (["a", "None", None, "a"], r"mixes strings with None .*see \w+\[2\]"),
    "column with a gap": (pd.Series(["a", "b", None, "b"]), r"mixes strings with nan .*see \w+\[2\]"),
    "nullable strings with a gap": (
        pd.Series(["a", "b", None, "b"], dtype="string"),
        r"mixes strings with <NA> .*see \w+\[2\]",
    ),
    "nullable numbers with a gap": (
        pd.Series([1, 2, None, 2], dtype="Int64"),
        r"\w+\[2\] is <NA>: every example needs a label",
    ),
    "category with a gap": (pd.Categorical(["a", "b", None, "b"]), r"mixes strings with nan .*see \w+\[2\]"),
    "number and None": ([1, 2, None, 2], r"\w+\[2\] is None: every example needs a label"),
    "not a number": (np.array([1.0, 2.0, np.nan, 1.0]), r"holds NaN or infinity, at \w+\[2\]"),
    "infinity": ([1.0, 2.0, float("inf"), 1.0], r"holds NaN or infinity, at \w+\[2\]"),
    "masked": (np.ma.array([1, 2, 1, 2], mask=[0, 0, 1, 0]), r"\w+\[2\] is masked"),
    "ends in NUL": (["a", "a\0", "a", "a\0"], r"'a\\x00', which ends in a NUL character"),
    "lone surrogate": (["a", "caf\udce9"] * 2, r"'caf\\udce9', in which half a character stands"),
    "array with a lone surrogate": (np.array(["a", "\ud800"] * 2), "in which half a character stands"),
    "bytes": ([b"a", b"b"] * 2, r"holds labels of type bytes, such as \w+\[0\] = b'a': decode"),
    "array of bytes": (np.array([b"a", b"b"] * 2), r"holds labels of type \|S1: decode them"),
    "beyond 64 bits": ([2**64, 1] * 2, "holds 18446744073709551616, .* 64 bits: pass them as strings"),
    "beyond 63 bits and negative": ([BIG, -1] * 2, "holds 9223372036854775808, .* 64 bits"),
    "one number as a float": (
        [2**53 + 1, float(2**53)] * 2,
        "whole numbers that are others as floating-point ones",
    ),
    "dates of numpy": (np.array(["2020-01-01"] * 4, "M8[D]"), r"datetime64\[D\]: use strings, for instance"),
    "dates of pandas": (pd.Series(pd.to_datetime(["2020-01-01"] * 4)), "datetime64.*: use strings"),
    "dates": ([datetime.date(2020, 1, 1)] * 4, "holds labels of type date, .*use strings"),
    "decimals": ([decimal.Decimal(1)] * 4, "holds labels of type Decimal, .*use strings"),
    "tuples": ([(1, 2), (3, 4)] * 2, "holds labels of type tuple, .*use strings"),
    "complex": (np.array([1j, 2j] * 2), "holds labels of type complex128"),
    "nest": ([[1], [2]] * 2, "nest of lists"),
    "one-hot": (np.eye(4), r"has shape \(4, 4\)"),
    "column vector": (np.array([[1], [2]] * 2), r"has shape \(4, 1\)"),
    "table": (pd.DataFrame({"label": ["a", "b"] * 2}), r"has shape \(4, 1\) \(a DataFrame\)"),
    "one string": ("abab", r"has shape \(\) \(one label\)"),
    "one string of bytes": (b"abab", r"has shape \(\) \(one label\)"),
    "dict": ({"a": 0, "b": 1, "c": 2, "d": 3}, r"has shape \(\) \(a dict\)"),
    "set": ({"a", "b", "c", "d"}, r"has shape \(\) \(a set, which has no order\)"),
    "generator": ((label for label in "abab"), r"has shape \(\) \(a generator, not a list\)"),
    "none": (None, r"has shape \(\) \(a NoneType\)"),
}
