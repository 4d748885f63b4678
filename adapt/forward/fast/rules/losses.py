"""Losses, from operations that have rules."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from adapt.forward.errors import NotDifferentiable
from adapt.forward.fast.dual import Dual, dual, primal, rule
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


@rule(F.nll_loss)
def nll_loss(
    func: Any,
    input: Any,
    target: Tensor,
    weight: Any = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
) -> Any:
    """−w_y x_y: linear in x. Torch has no derivative along the weights of the classes, and says 0."""
    value = func(primal(input), target, primal(weight), size_average, ignore_index, reduce, reduction)
    if type(weight) is not Dual:
        return dual(
            value, lambda t: func(t, target, weight, size_average, ignore_index, reduce, reduction), input
        )
    if size_average is not None or reduce is not None:  # deprecated
        raise NotDifferentiable("nll_loss", "size_average and reduce are deprecated", "use reduction")
    axis = 1 if input.ndim > 1 else 0
    known = target != ignore_index
    labels = target.where(known, 0)
    weights = weight[labels] * known
    each = -input.gather(axis, labels.unsqueeze(axis)).squeeze(axis) * weights
    return each.sum() / weights.sum() if reduction == "mean" else _reduce(each, reduction)


def _reduce(value: Any, reduction: str) -> Any:
    return {"mean": value.mean, "sum": value.sum, "none": lambda: value}[reduction]()
