"""Operations that write in place, or into an argument: right, or refused by name with the fix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adapt.forward import Engine
from adapt.forward.errors import NotDifferentiable, Unsupported
from adapt.forward.fast import fast
from adapt.forward.reference import reference
from tests.user_operations import X, adapted, assert_same, jacobian, view_then_base


def relu_in_place(x: Tensor) -> Tensor:
    y = x * 2
    return nn.ReLU(inplace=True)(y) + y


def add_in_place(x: Tensor) -> Tensor:
    y = x * 2
    y += x * x
    return y


def write_moving(x: Tensor) -> Tensor:
    y = x * 2
    y[0] = x[1] ** 2
    return y * x


def write_constant(x: Tensor) -> Tensor:
    y = x * 2
    y[1:3] = 1.0
    return y * x


def write_masked(x: Tensor) -> Tensor:
    y = x * 2
    y[x > 0] = 0.5
    return y * x


def base_then_view(x: Tensor) -> Tensor:
    y = x * 2
    view = y.view(-1)
    y.mul_(x)
    return view.view(4, 3)


def view_then_view(x: Tensor) -> Tensor:
    y = x * 2
    row = y[0]
    row.mul_(3)
    return row + x


def add_to_column(x: Tensor) -> Tensor:
    y = x * 2
    y[:, 0] += x[:, 1] ** 2
    return y


def write_transposed(x: Tensor) -> Tensor:
    y = x * 2
    y.t()[0] = x[:, 1]
    return y


def zero_part(x: Tensor) -> Tensor:
    y = x * 2
    y.narrow(0, 0, 2).zero_()
    return y * x


def fill_buffer(x: Tensor) -> Tensor:
    y = torch.zeros(4, 3, dtype=x.dtype)
    y[:2] = x[:2] ** 2
    return y * x


def fill_buffer_by_rows(x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    for i, row in enumerate(x):
        y[i] = row**2
    return y


def copy_to_buffer(x: Tensor) -> Tensor:
    return torch.zeros(4, 3, dtype=x.dtype).copy_(x)


def accumulate(x: Tensor) -> Tensor:
    total = torch.zeros(3, dtype=x.dtype)
    for row in x:
        total += row**2
    return total + x


def scatter(x: Tensor) -> Tensor:
    index = torch.tensor([0, 1, 0, 1])
    return torch.zeros(4, 3, dtype=x.dtype).index_add_(0, index, x)


IN_PLACE = [
    relu_in_place,
    add_in_place,
    write_moving,
    write_constant,
    write_masked,
    view_then_base,
    base_then_view,
    view_then_view,
    add_to_column,
    write_transposed,
    zero_part,
    fill_buffer,
    fill_buffer_by_rows,
    copy_to_buffer,
    accumulate,
    scatter,
]


@pytest.mark.parametrize("operation", IN_PLACE, ids=lambda f: f.__name__)
def test_writing_in_place_is_right_whichever_engine_does_it(operation: Callable[[Tensor], Tensor]) -> None:
    assert_same(adapted(operation), jacobian(operation))


@pytest.mark.parametrize("operation", IN_PLACE, ids=lambda f: f.__name__)
def test_the_fast_engine_is_right_or_refuses(operation: Callable[[Tensor], Tensor]) -> None:
    tangents = torch.stack([X**2, torch.ones_like(X)])
    expected = reference(operation, X, tangents)
    try:
        found = fast(operation, X, tangents)
    except Unsupported:
        return
    assert_same(found, expected)


@pytest.mark.parametrize(
    "operation",
    [
        lambda x, out: torch.sin(x, out=out),
        lambda x, out: torch.add(x, x, out=out),
        lambda x, out: torch.mul(x, 2.0, out=out),
        lambda x, out: torch.cumsum(x, 0, out=out),
        lambda x, out: torch.mm(x, torch.eye(3).double(), out=out),
    ],
    ids=["sin", "add", "mul", "cumsum", "mm"],
)
@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_an_output_argument_is_refused(operation: Any, engine: Engine) -> None:
    with pytest.raises(NotDifferentiable, match="write it without out="):
        adapted(lambda x: operation(x, torch.empty_like(X)), engine)
