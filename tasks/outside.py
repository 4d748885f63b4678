"""Telling queries that belong to no class of the task from those that do."""

from __future__ import annotations

import numpy as np
import torch

from .source import TaskError

__all__ = ["auroc", "false_positives"]


def auroc(inside: torch.Tensor | np.ndarray, outside: torch.Tensor | np.ndarray) -> float:
    """The chance that a query of the task scores higher than one of another class: 1 is perfect, 0.5 a guess.

    Hendrycks and Gimpel (2017), *A Baseline for Detecting Misclassified and Out-of-Distribution Examples*,
    with the largest class probability as the score; any number that is large for what is known will do.

    Args:
        inside: scores [m] of the queries.
        outside: scores [o] of `episode.meta.outside_x`.

    Raises:
        TaskError: no scores, or ones that are not finite.

    Example:
        >>> auroc(torch.tensor([0.9, 0.8, 0.4]), torch.tensor([0.3, 0.5]))
        0.8333333333333333
    """
    from sklearn.metrics import roc_auc_score

    scores = _finite(inside, outside)
    known = np.repeat([1, 0], [len(part) for part in scores])
    return float(roc_auc_score(known, np.concatenate(scores)))


def false_positives(
    inside: torch.Tensor | np.ndarray, outside: torch.Tensor | np.ndarray, recall: float = 0.95
) -> float:
    """The share of those of other classes that score as high as `recall` of the task's queries do (FPR@95).

    Hendrycks and Gimpel (2017), as :func:`auroc`, whose arguments and errors these are.

    Example:
        >>> false_positives(torch.tensor([0.9, 0.8, 0.4]), torch.tensor([0.3, 0.5]))
        0.5
    """
    known, others = _finite(inside, outside)
    least = np.quantile(known, 1 - recall, method="lower")
    return float((others >= least).mean())


def _finite(
    inside: torch.Tensor | np.ndarray, outside: torch.Tensor | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    scores = [np.asarray(part, dtype=np.float64).ravel() for part in (inside, outside)]
    if not all(len(part) and np.isfinite(part).all() for part in scores):
        raise TaskError("needs finite scores of queries and of others: set task.outside, and look for NaN")
    return scores[0], scores[1]
