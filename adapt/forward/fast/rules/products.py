"""Matrix products and convolutions: linear in each operand, so that the derivative is the product rule."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from adapt.forward.errors import Unsupported
from adapt.forward.fast.dual import dual, primal, rule
from adapt.forward.fast.fallback import fallback
from adapt.forward.fast.rules.arithmetic import plus, summed

__all__: list[str] = []


@rule(torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.mm, Tensor.mm, torch.bmm, Tensor.bmm)
@rule(torch.mv, Tensor.mv, torch.dot, Tensor.dot, torch.outer, Tensor.outer, torch.inner, torch.linalg.vecdot)
def bilinear(func: Any, input: Any, *others: Any, **kwargs: Any) -> Any:
    """Ȧ B + A Ḃ."""
    if len(others) != 1:  # named, differently by each function
        return fallback(func, (input, *others), kwargs)
    a, b = primal(input), primal(others[0])

    def push(da: Tensor | None, db: Tensor | None) -> Any:
        left = None if da is None else func(da, b, **kwargs)
        return plus(left, None if db is None else func(a, db, **kwargs))

    return dual(func(a, b, **kwargs), push, input, others[0])


@rule(Tensor.__rmatmul__)
def rmatmul(func: Any, input: Any, other: Any) -> Any:
    """As ``matmul``, the operands exchanged."""
    return bilinear(torch.matmul, other, input)


@rule(torch.einsum)
def einsum(func: Any, equation: str, *operands: Any) -> Any:
    """One term per moving operand."""
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = tuple(operands[0])
    values = [primal(operand) for operand in operands]

    def push(*tangents: Tensor | None) -> Any:
        total = None
        for i, tangent in enumerate(tangents):
            if tangent is not None:
                total = plus(total, torch.einsum(equation, *values[:i], tangent, *values[i + 1 :]))
        return total

    return dual(torch.einsum(equation, *values), push, *operands)


@rule(torch.addmm, Tensor.addmm, torch.addmv, Tensor.addmv, torch.baddbmm, Tensor.baddbmm)
def addmm(func: Any, input: Any, *factors: Any, beta: float = 1, alpha: float = 1, **kwargs: Any) -> Any:
    """β Ċ + α (Ȧ B + A Ḃ)."""
    if len(factors) != 2:  # named, differently by each function
        return fallback(func, (input, *factors), {**kwargs, "beta": beta, "alpha": alpha})
    c, a, b = primal(input), primal(factors[0]), primal(factors[1])

    def push(dc: Tensor | None, da: Tensor | None, db: Tensor | None) -> Any:
        product = plus(None if da is None else da @ b, None if db is None else a @ db)
        scaled = product if product is None or alpha == 1 else alpha * product
        return plus(scaled, dc if dc is None or beta == 1 else beta * dc)

    return dual(func(c, a, b, beta=beta, alpha=alpha), push, input, *factors)


@rule(F.linear)
def linear(func: Any, input: Any, weight: Any, bias: Any = None) -> Any:
    """Ẋ Wᵀ + X Ẇᵀ + ḃ."""
    x, w = primal(input), primal(weight)

    def push(dx: Tensor | None, dw: Tensor | None, db: Tensor | None) -> Any:
        product = summed(None if dx is None else F.linear(dx, w), None if dw is None else F.linear(x, dw))
        return summed(product, db)

    return dual(F.linear(x, w, primal(bias)), push, input, weight, bias)


@rule(F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
def convolution(func: Any, input: Any, weight: Any, bias: Any = None, *args: Any, **kwargs: Any) -> Any:
    """ẋ ∗ w + x ∗ ẇ + ḃ."""
    x, w = primal(input), primal(weight)

    def push(dx: Tensor | None, dw: Tensor | None, db: Tensor | None) -> Any:
        product = None if dx is None else func(dx, w, None, *args, **kwargs)
        product = summed(product, None if dw is None else func(x, dw, None, *args, **kwargs))
        return summed(product, None if db is None else db.view(-1, *(1,) * (w.ndim - 2)))

    return dual(func(x, w, primal(bias), *args, **kwargs), push, input, weight, bias)


@rule(F.embedding)
def embedding(
    func: Any,
    input: Tensor,
    weight: Any,
    padding_idx: Any = None,
    max_norm: Any = None,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Rows of Ẇ."""
    if max_norm is not None:
        raise Unsupported("embedding", "max_norm changes the weight")

    def rows(weight: Tensor) -> Tensor:
        return func(input, weight, padding_idx, None, *args, **kwargs)

    return dual(rows(primal(weight)), rows, weight)
