"""What happens when the fast engine fails: the reference takes over, or what f itself raises comes out."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from adapt.errors import AdaptError
from adapt.forward import Engine, pushforward
from adapt.forward.errors import NotDifferentiable
from adapt.forward.fast import fast
from adapt.forward.fast.dual import RULES
from tests.helpers import distance

F64 = torch.float64
ENGINES = pytest.mark.parametrize("engine", ["fast", "reference"])
X, EYE = torch.tensor([0.3, -1.2, 2.0], dtype=F64), torch.eye(3, dtype=F64)


@pytest.mark.parametrize(
    "error", [RuntimeError, IndexError, AssertionError, AttributeError, ZeroDivisionError]
)
def test_an_error_in_a_rule_is_made_good_once(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise error("a gap in a rule")

    monkeypatch.setitem(RULES, torch.tanh, broken)
    calls = 0

    def f(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return torch.tanh(x) * x

    with pytest.raises(error, match="a gap"):
        fast(f, X, EYE)
    calls = 0
    value, columns = pushforward(f, X, EYE)
    assert calls == 2
    assert distance(value, X.tanh() * X) == 0
    assert distance(columns, torch.diag(X.tanh() + X / X.cosh() ** 2)) <= 1e-12


class Mine(Exception):
    pass


def missing(x: Tensor) -> Tensor:
    raise Mine("the file is not there")


def indexed(x: Tensor) -> Tensor:
    return (x * 2)[7]


def wrong_shape(x: Tensor) -> Tensor:
    return torch.tanh(x) @ torch.ones(5, dtype=F64)


@ENGINES
@pytest.mark.parametrize(
    ("f", "error"),
    [
        (missing, Mine),
        (indexed, IndexError),
        (wrong_shape, RuntimeError),
        (lambda x: x.view(2, 2), RuntimeError),
        (lambda x: F.group_norm(x.view(1, 3, 1).expand(1, 3, 4), 2), RuntimeError),
        (lambda x: F.rms_norm(x, (2,)), RuntimeError),
        (lambda x: F.instance_norm(x.view(1, 3, 1)), ValueError),
        (lambda x: x.nothing, AttributeError),
        (lambda x: {}["key"], KeyError),
    ],
)
def test_what_f_raises_comes_out_unchanged(
    f: Callable[[Tensor], Any], error: type[Exception], engine: Engine
) -> None:
    with pytest.raises(error) as plain:
        f(X)
    with pytest.raises(error) as found:
        pushforward(f, X, EYE, engine=engine)
    assert type(found.value) is type(plain.value)
    assert str(found.value) == str(plain.value)
    assert found.value.__cause__ is None


def test_what_is_meant_is_not_tried_again() -> None:
    for error in (AdaptError("say so"), MemoryError(), torch.OutOfMemoryError("full")):
        calls = 0

        def f(x: Tensor, error: BaseException = error) -> Tensor:
            nonlocal calls
            calls += 1
            raise error

        with pytest.raises(type(error)):
            pushforward(f, X, EYE)
        assert calls == 1


def test_what_fails_with_tangents_only_is_explained_whatever_it_raises() -> None:
    def f(x: Tensor) -> Tensor:
        if type(x) is not Tensor or torch._C._functorch.is_functorch_wrapped_tensor(x):
            raise TypeError("plain tensors only")
        return x

    for engine in ("fast", "reference"):
        with pytest.raises(NotDifferentiable, match="plain tensors only") as found:
            pushforward(f, X, EYE, engine=engine)
        assert isinstance(found.value.__cause__, TypeError)


def by_a_rule(x: Tensor) -> Tensor:
    return x.mul_(2)


def by_a_view(x: Tensor) -> Tensor:
    x.view(3, 1)[1:].exp_()
    return x


def by_an_item(x: Tensor) -> Tensor:
    x[1] = 5.0
    return x


@pytest.mark.parametrize("write", [by_a_rule, by_a_view, by_an_item])
@pytest.mark.parametrize("chunk", [1, 3])
def test_a_point_that_was_written_to_is_put_back_before_the_second_try(
    write: Callable[[Tensor], Tensor], chunk: int
) -> None:
    def f(x: Tensor) -> Tensor:
        return torch.fft.fft(write(x)).abs()  # complex numbers have no rules

    def written_out(x: Tensor) -> Tensor:
        return torch.fft.fft(write(x.clone())).abs()

    value, columns = pushforward(f, X.clone(), EYE, chunk=chunk)
    assert distance(value, written_out(X)) <= 1e-12
    step = 1e-6
    for j, column in enumerate(columns):
        right = (written_out(X + step * EYE[j]) - written_out(X - step * EYE[j])) / (2 * step)
        assert distance(column, right) <= 1e-8


def test_a_point_that_was_written_to_unseen_is_refused() -> None:
    def f(x: Tensor) -> Tensor:
        x.detach().mul_(2)
        return torch.fft.fft(x).abs()

    with pytest.raises(AdaptError, match="copy it first"):
        pushforward(f, X.clone(), EYE)


@ENGINES
def test_other_tensors_that_are_written_to_are_refused_where_they_would_be_written_to_twice(
    engine: Engine,
) -> None:
    count = torch.zeros(3, dtype=F64)
    with pytest.raises(AdaptError, match="write it out of place"):
        pushforward(lambda x: torch.fft.fft(x * count.add_(1)).abs(), X, EYE, engine=engine)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: F.rrelu(x, training=True),  # vmap does not know it, and so says nothing of chance
        lambda x: torch.rrelu(x, 0.1, 0.9, True),
        lambda x: F.dropout(x, 0.5),
    ],
)
def test_random_functions_are_refused(f: Callable[[Tensor], Tensor]) -> None:
    x = -torch.ones(64, dtype=F64)
    with pytest.raises(AdaptError, match="random"):
        pushforward(f, x, torch.ones(2, 64, dtype=F64))


def test_a_custom_operator_inside_a_function_of_torch_is_found_by_both_engines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Torch hands such a function over as a whole; what is in it drops its tangents without a word."""

    @torch.library.custom_op("adapt_hidden::cube", mutates_args=())
    def cube(x: Tensor) -> Tensor:
        return x**3

    namespace = {**F.softsign.__globals__, "cube": cube}
    exec(
        "def hidden(x):\n"
        "    if has_torch_function_unary(x):\n"
        "        return handle_torch_function(hidden, (x,), x)\n"
        "    return cube(x)\n",
        namespace,
    )
    for engine in ("fast", "reference"):
        with pytest.raises(NotDifferentiable, match=r"adapt_hidden\.cube"):
            pushforward(namespace["hidden"], X, EYE, engine=engine)


@ENGINES
@pytest.mark.parametrize(
    "f",
    [
        lambda x: x.scatter_reduce(0, torch.tensor([0, 0, 1]), x * 2, "prod"),
        lambda x: F.soft_margin_loss(torch.ones(3, dtype=F64), x),
    ],
)
def test_functions_of_torch_that_drop_tangents_are_refused(
    f: Callable[[Tensor], Tensor], engine: Engine
) -> None:
    """Torch says 0; central differences do not."""
    assert (f(X + 1e-6) - f(X - 1e-6)).abs().max() > 1e-8
    with pytest.raises(NotDifferentiable, match="passes no tangents"):
        pushforward(f, X, EYE, engine=engine)


class _Warns(torch.autograd.Function):
    """Twice x; its derivative warns."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Nothing is needed."""

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        warnings.warn("an old way", stacklevel=2)
        return 2 * tangent


@ENGINES
def test_a_warning_that_is_an_error_is_no_lack_of_a_derivative(engine: Engine) -> None:
    with pytest.raises(UserWarning, match="an old way"):  # as in all of these tests
        pushforward(_Warns.apply, X, EYE, engine=engine)
    with pytest.warns(UserWarning, match="an old way"):
        _, columns = pushforward(_Warns.apply, X, EYE, engine=engine)
    assert torch.equal(columns, 2 * EYE)
