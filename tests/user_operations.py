"""A module of a user's with an operation in it: its pushforward, and what reverse mode says."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from adapt.forward import Engine, pushforward
from tests.helpers import distance

X = torch.linspace(-2, 2, 12, dtype=torch.float64).view(4, 3)


class Wrapped(nn.Module):
    """A user's module: an operation between a weight and a nonlinearity."""

    def __init__(self, operation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(0.5, 1.5, 3, dtype=torch.float64))
        self.operation = operation

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.operation(x * self.weight))


def adapted(operation: Callable[[Tensor], Tensor], engine: Engine = "fast") -> tuple[Tensor, Tensor]:
    """Value and Jacobian with respect to the weight, by pushforward."""
    model = Wrapped(operation)
    value, columns = pushforward(
        lambda w: functional_call(model, {"weight": w}, (X,)),
        model.weight.detach(),
        torch.eye(3, dtype=torch.float64),
        engine=engine,
    )
    return value, columns


def jacobian(operation: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """The same in reverse mode, of an equivalent operation."""
    model = Wrapped(operation)
    weight = model.weight.detach()
    return model(X).detach(), jacrev(lambda w: functional_call(model, {"weight": w}, (X,)))(weight).movedim(
        -1, 0
    )


def assert_same(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    for computed, right in zip(found, expected, strict=True):
        assert distance(computed, right) < 1e-12


def view_then_base(x: Tensor) -> Tensor:
    y = x * 2
    y[0].mul_(3)
    return y
