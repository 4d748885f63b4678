"""Losses, from operations that have rules. (``nll_loss`` is linear: see ``rules.linear``.)"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from adapt.forward.fast.dual import rule
from adapt.forward.fast.fallback import fallback

__all__: list[str] = []


@rule(F.mse_loss)
def mse_loss(func: Any, input: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
    """mean or sum of (x − y)²."""
    reduction = kwargs.pop("reduction", "mean")
    if args or any(value is not None for value in kwargs.values()):  # weights, deprecated arguments
        return fallback(func, (input, target, *args), {**kwargs, "reduction": reduction})
    error = input - target
    return _reduce(error * error, reduction)


@rule(F.cross_entropy)
def cross_entropy(func: Any, input: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
    """−log softmax(x)_y, for class indices without smoothing."""
    smoothing = kwargs.pop("label_smoothing", 0.0)
    if args or smoothing or (isinstance(target, Tensor) and target.is_floating_point()):
        return fallback(func, (input, target, *args), {**kwargs, "label_smoothing": smoothing})
    log_p = torch.log_softmax(input, 1 if input.ndim > 1 else 0)
    return F.nll_loss(log_p, target, **kwargs)


def _reduce(value: Any, reduction: str) -> Any:
    return {"mean": value.mean, "sum": value.sum, "none": lambda: value}[reduction]()
