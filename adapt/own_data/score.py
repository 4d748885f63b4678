"""How good predictions are, with an interval that counts every example once; which of them are doubtful."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from adapt.compare.statistics import wilson

__all__ = ["Score", "least_sure", "mistakes", "score_classes", "score_values"]

RESAMPLES = 2000


@dataclass(frozen=True)
class Score:
    """Accuracy (0 … 1), or R² of values, its 95 % interval, and what it was measured on.

    Args:
        metric: "accuracy" or "R²".
        value, low, high: low and high are None where there is no interval.
        n: examples; 0: nothing could be measured.
        error: of values, the mean absolute error in their unit.
    """

    metric: str
    value: float
    low: float | None
    high: float | None
    n: int
    error: float | None = None

    def sentence(self) -> str:
        """In words."""
        if not self.n:
            return "not measured"
        if self.metric == "accuracy":
            among = (
                f" (95 % interval {100 * self.low:.1f} to {100 * self.high:.1f} %)"
                if self.low is not None and self.high is not None
                else ""
            )
            return f"{100 * self.value:.1f} % right{among}, of {self.n}"
        among = (
            f" (95 % interval {self.low:.3f} to {self.high:.3f})"
            if self.low is not None and self.high is not None
            else ""
        )
        return f"R² {self.value:.3f}{among}, off by {self.error:.4g} on average, of {self.n}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


def score_classes(predicted: Sequence[str], truth: Sequence[str]) -> Score:
    """Accuracy of n predictions; of none, that it was not measured."""
    if not len(truth):
        return Score("accuracy", 0.0, None, None, 0)
    right = sum(a == b for a, b in zip(predicted, truth, strict=True))
    low, high = wilson(right, len(truth))
    return Score("accuracy", right / len(truth), low, high, len(truth))


def score_values(predicted: np.ndarray, truth: np.ndarray, seed: int = 0) -> Score:
    """R² of n predictions; the interval is a bootstrap over examples (Efron and Tibshirani 1993, *An
    Introduction to the Bootstrap*, section 13.3)."""
    n = len(truth)
    rows = (
        np.random.default_rng(seed).integers(n, size=(RESAMPLES, n)) if n > 2 else np.zeros((0, n), np.int64)
    )
    found = [_r2(predicted[row], truth[row]) for row in rows]
    found = [value for value in found if np.isfinite(value)]
    low, high = (map(float, np.quantile(found, (0.025, 0.975)))) if found else (None, None)
    return Score("R²", _r2(predicted, truth), low, high, n, float(np.abs(predicted - truth).mean()))


def mistakes(predicted: Sequence[str], truth: Sequence[str]) -> list[tuple[str, str, int]]:
    """Label, what was predicted instead, how often; the most frequent first."""
    found = Counter((b, a) for a, b in zip(predicted, truth, strict=True) if a != b)
    return [(label, instead, count) for (label, instead), count in found.most_common()]


def least_sure(probabilities: np.ndarray, number: int) -> np.ndarray:
    """Rows of ``probabilities [n, C]`` whose two most probable classes are closest."""
    ordered = np.sort(probabilities, 1)
    return np.argsort(ordered[:, -1] - ordered[:, -2], kind="stable")[:number]


def _r2(predicted: np.ndarray, truth: np.ndarray) -> float:
    total = float(((truth - truth.mean()) ** 2).sum())
    return 1 - float(((truth - predicted) ** 2).sum()) / total if total > 0 else float("nan")
