"""Examples as estimators take them, and how often each of them is there."""

import hashlib
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.utils.validation import validate_data
from torch import Tensor

from adapt.adapter import FewShotAdapter
from adapt.errors import AdaptError
from tasks.readers.texts import holds_texts, read_texts

__all__ = [
    "Scale",
    "as_array",
    "distinct",
    "numeric_table",
    "read_others",
    "read_table",
    "take",
    "weights_of",
]

Examples = list[str] | Tensor


class Scale(NamedTuple):
    """What the columns of a table were standardised by: mean and standard deviation ``[columns]``."""

    center: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, weights: np.ndarray | None = None) -> "Scale":
        """Of rows ``x [n, columns]``; a column that is constant stays 0."""
        center = np.average(x, 0, weights)
        spread = np.sqrt(np.average((x - center) ** 2, 0, weights))
        constant = spread <= 10 * np.finfo(np.float64).eps * np.abs(center)  # what is left is rounding
        return cls(center, np.where(constant, 1.0, spread))

    def apply(self, x: np.ndarray) -> Tensor:
        """Standardised rows, float64."""
        return torch.from_numpy((x - self.center) / self.spread)


class Distinct(NamedTuple):
    """The different examples among some, in an order that does not depend on theirs.

    Attributes:
        rows: number of the first of each ``[m]``.
        counts: the sum of the weights of each ``[m]``.
    """

    rows: np.ndarray
    counts: np.ndarray


def distinct(x: Examples | np.ndarray, y: np.ndarray, weights: np.ndarray | None) -> Distinct:
    """Examples that are the same, with the same target ``y [n, …]``, are one that counts as often as they do.

    So an example of weight 2 is the same as two examples, whatever the order in which they come.
    """
    labels = y if y.dtype.kind == "f" else np.unique(y, return_inverse=True)[1]
    first: dict[tuple[bytes, bytes], int] = {}
    counts: dict[tuple[bytes, bytes], float] = {}
    array = x.cpu().numpy() if isinstance(x, Tensor) else x
    for row, (example, label) in enumerate(zip(array, labels, strict=True)):
        weight = 1.0 if weights is None else float(weights[row])
        if weight == 0:
            continue
        key = _digest(example), label.tobytes()
        first.setdefault(key, row)
        counts[key] = counts.get(key, 0.0) + weight
    order = sorted(first)
    rows = np.array([first[key] for key in order], np.int64)
    return Distinct(rows, np.array([counts[key] for key in order]))


def _digest(example: str | np.ndarray) -> bytes:
    """What is the same for the same example; there are two zeros."""
    data = example.encode() if isinstance(example, str) else np.ascontiguousarray(example + 0).tobytes()
    return hashlib.blake2b(data, digest_size=16).digest()


def weights_of(sample_weight: Any, n: int) -> np.ndarray | None:
    """Weights ``[n]``, float64; None if there are none.

    Raises:
        AdaptError: not n finite numbers from 0 on, or all 0.
    """
    if sample_weight is None:
        return None
    try:
        weights = np.array(sample_weight, np.float64)
    except (TypeError, ValueError):
        raise AdaptError("sample_weight must hold numbers, one for every example") from None
    weights = np.full(n, float(weights)) if weights.ndim == 0 else weights
    if weights.shape != (n,):
        raise AdaptError(f"sample_weight has shape {weights.shape}, not ({n},): give each example one number")
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise AdaptError("sample_weight must hold finite numbers from 0 on, and not only zeros")
    return weights


def read_table(estimator: Any, x: Any, y: Any = None, *, reset: bool, values: bool = False) -> Any:
    """A table of numbers ``[n, columns]``, float64, by scikit-learn's rules; with ``y``, both."""
    given = {"reset": reset, "dtype": np.float64}
    if y is None:
        return validate_data(estimator, as_array(x), **given)
    targets = {"multi_output": values, "y_numeric": values}
    return validate_data(estimator, as_array(x), as_array(y), **given, **targets)


def numeric_table(x: Any) -> bool:
    """Whether ``x`` has columns, whose number and names an estimator keeps."""
    return getattr(x, "ndim", 0) == 2 and not (isinstance(x, np.ndarray) and x.dtype.kind in "US")


def read_others(x: Any, adapter: FewShotAdapter) -> Examples:
    """Texts, or what the backbone of ``adapter`` takes."""
    if not isinstance(x, Tensor) and holds_texts(x):
        return read_texts(x, AdaptError)
    return adapter.examples(x)


def as_array(x: Any) -> Any:
    """A tensor as scikit-learn takes it; all else as it is."""
    return x.detach().cpu().numpy() if isinstance(x, Tensor) else x


def take(x: Examples, rows: np.ndarray) -> Examples:
    """Some of the examples."""
    return x[torch.as_tensor(rows)] if isinstance(x, Tensor) else [x[row] for row in rows]
