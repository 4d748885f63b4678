"""Sums, products and choices of broadcast operands."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from adapt.forward.fast.dual import dual, primal, rule
from adapt.forward.fast.fallback import fallback

__all__ = ["accumulate", "plus", "scaled", "summed"]


def plus(a: Tensor | None, b: Tensor | None) -> Any:
    """a + b, where None is zero."""
    return b if a is None else a if b is None else a + b


def scaled(fresh: Tensor, factor: Tensor) -> Tensor:
    """``fresh`` ⊙ factor, in the memory of ``fresh``, which nobody else may hold."""
    return fresh.mul_(factor) if _may_write(fresh, factor) else fresh * factor


def summed(fresh: Tensor | None, other: Tensor | None) -> Any:
    """``fresh`` + other, in the memory of ``fresh``; None is zero."""
    if fresh is None or other is None:
        return plus(fresh, other)
    return fresh.add_(other) if _may_write(fresh, other) else fresh + other


def accumulate(fresh: Tensor | None, a: Tensor, b: Tensor, value: float = 1) -> Tensor:
    """``fresh`` + value a ⊙ b, in the memory of ``fresh``; None is zero."""
    if fresh is None:
        return a * b if value == 1 else value * (a * b)
    if _may_write(fresh, a) and _may_write(fresh, b):
        return fresh.addcmul_(a, b, value=value)
    return torch.addcmul(fresh, a, b, value=value)


def _may_write(fresh: Tensor, other: Tensor) -> bool:
    """New buffers are dear (the system clears every page of them); but where a transform or autograd looks
    on, or the result is larger, memory is left alone."""
    if torch.is_grad_enabled() or torch._C._functorch.peek_interpreter_stack() is not None:
        return False
    sizes = zip(reversed(other.shape), reversed(fresh.shape), strict=False)
    return other.dtype == fresh.dtype and other.ndim <= fresh.ndim and all(a in (1, b) for a, b in sizes)


@rule(Tensor.add, torch.add, Tensor.__add__, Tensor.__radd__)
def add(func: Any, input: Any, other: Any, *, alpha: float = 1) -> Any:
    """ȧ + α ḃ."""
    value = torch.add(primal(input), primal(other), alpha=alpha)
    if alpha == 1:
        return dual(value, plus, input, other)
    return dual(value, lambda da, db: plus(da, None if db is None else alpha * db), input, other)


@rule(Tensor.sub, torch.sub, Tensor.__sub__, Tensor.subtract, torch.subtract)
def sub(func: Any, input: Any, other: Any, *, alpha: float = 1) -> Any:
    """ȧ − α ḃ."""

    def push(da: Tensor | None, db: Tensor | None) -> Any:
        if db is None:
            return da
        return -alpha * db if da is None else torch.sub(da, db, alpha=alpha)

    return dual(torch.sub(primal(input), primal(other), alpha=alpha), push, input, other)


@rule(Tensor.__rsub__, torch.rsub)
def rsub(func: Any, input: Any, other: Any, *, alpha: float = 1) -> Any:
    """ḃ − α ȧ."""
    return sub(func, other, input, alpha=alpha)


@rule(Tensor.mul, torch.mul, Tensor.__mul__, Tensor.__rmul__, Tensor.multiply, torch.multiply)
def mul(func: Any, input: Any, other: Any) -> Any:
    """ȧ b + a ḃ."""
    a, b = primal(input), primal(other)
    value = a * b

    def push(da: Tensor | None, db: Tensor | None) -> Tensor:
        if da is None:
            return a * db
        return da * b if db is None else accumulate(da * b, a, db)

    return dual(value, push, input, other)


@rule(
    Tensor.div,
    torch.div,
    Tensor.__truediv__,
    Tensor.divide,
    torch.divide,
    Tensor.true_divide,
    torch.true_divide,
)
def div(func: Any, input: Any, other: Any, **kwargs: Any) -> Any:
    """(ȧ − (a/b) ḃ) / b."""
    if kwargs:  # a rounding mode
        return fallback(func, (input, other), kwargs)
    a, b = primal(input), primal(other)
    value = a / b

    def push(da: Tensor | None, db: Tensor | None) -> Tensor:
        if db is None:
            assert da is not None
            return da / b
        return (-value * db if da is None else da - value * db) / b

    return dual(value, push, input, other)


@rule(Tensor.__rtruediv__, Tensor.__rdiv__)
def rdiv(func: Any, input: Any, other: Any) -> Any:
    """As ``div``, the operands exchanged."""
    return div(func, other, input)


@rule(torch.addcmul, Tensor.addcmul)
def addcmul(func: Any, input: Any, tensor1: Any, tensor2: Any, *, value: float = 1) -> Any:
    """ċ + v (ȧ b + a ḃ), in one pass over memory per term."""
    c, a, b = primal(input), primal(tensor1), primal(tensor2)
    result = torch.addcmul(c, a, b, value=value)

    def push(dc: Tensor | None, da: Tensor | None, db: Tensor | None) -> Any:
        if da is None:
            return dc if db is None else plus(dc, accumulate(None, a, db, value))
        total = value * (da * b) if dc is None else torch.addcmul(dc, da, b, value=value)
        return total if db is None else accumulate(total, a, db, value)

    return dual(result, push, input, tensor1, tensor2)


@rule(torch.where, Tensor.where)
def where(func: Any, *args: Any, **kwargs: Any) -> Any:
    """ȧ where the condition holds, ḃ elsewhere."""
    if len(args) != 3:
        return fallback(func, args, kwargs)
    # The method's first argument is the tensor, the function's is the condition.
    condition, a, b = args if func is torch.where else (args[1], args[0], args[2])
    condition = primal(condition)
    value = torch.where(condition, primal(a), primal(b))

    def push(da: Tensor | None, db: Tensor | None) -> Tensor:
        return torch.where(condition, 0.0 if da is None else da, 0.0 if db is None else db)

    return dual(value, push, a, b)


@rule(torch.masked_fill, Tensor.masked_fill)
def masked_fill(func: Any, input: Any, mask: Tensor, value: Any) -> Any:
    """Zero where the mask is set."""
    if isinstance(value, Tensor):
        return fallback(func, (input, mask, value), {})
    return dual(primal(input).masked_fill(mask, value), lambda t: t.masked_fill(mask, 0), input)


@rule(F.glu)
def glu(func: Any, input: Any, dim: int = -1) -> Any:
    """a σ(b) of the two halves: the product rule. (Torch's own derivative knows no bfloat16 on a CPU.)"""
    if input.ndim == 0 or input.shape[dim] % 2:
        return func(primal(input), dim)  # an error
    a, b = input.chunk(2, dim)
    return a * b.sigmoid()
