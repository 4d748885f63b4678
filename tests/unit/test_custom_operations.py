"""Operations that users bring, and ways of writing them: right, or refused by name with the fix.

Each is compared with what torch itself says (``vmap(jvp)``), or with the derivative that it defines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, jvp, vmap

from adapt.errors import AdaptError
from adapt.forward import Engine, pushforward
from adapt.forward.errors import NotDifferentiable
from adapt.forward.fast.fallback import listener
from adapt.forward.kernels import differentiable_kernels
from tests.helpers import NoJvp, distance, randomised
from tests.user_operations import Wrapped, X, adapted, assert_same, jacobian, view_then_base

# -------------------------------------------------------------------------------------- autograd.Function


class Straight(NoJvp):
    """Rounds; its derivative is *defined* as 2, which no differentiation of its code would find."""

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return 2 * tangent


class OldStyle(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2 * gradient


class NoVmap(Straight):
    generate_vmap_rule = False


def test_the_jvp_of_a_function_is_what_counts() -> None:
    value, columns = adapted(Straight.apply)
    expected = X * Wrapped(Straight.apply).weight.detach()
    slope = 1 - torch.tanh(expected.round()) ** 2
    assert distance(value, torch.tanh(expected.round())) < 1e-12
    assert distance(columns.sum(0), 2 * X * slope) < 1e-12
    assert_same((value, columns), jacobian(Straight.apply))


@pytest.mark.parametrize("function", [NoJvp, OldStyle, NoVmap])
def test_a_function_that_lacks_something_is_named_with_what_it_lacks(function: Any) -> None:
    lacking = {NoJvp: "a jvp static method", OldStyle: "a setup_context", NoVmap: "generate_vmap_rule = True"}
    with pytest.raises(AdaptError) as error:
        adapted(function.apply)
    assert str(error.value).startswith(f"{function.__name__} cannot be differentiated forward (")
    assert f"give the autograd.Function {lacking[function]}" in str(error.value)
    assert isinstance(error.value.__cause__, RuntimeError)


def test_the_one_of_two_functions_that_is_at_fault_is_named() -> None:
    with pytest.raises(AdaptError, match=r"^NoJvp "):
        adapted(lambda x: NoJvp.apply(Straight.apply(x)))


def test_the_operator_that_torch_stops_at_is_named_not_the_first_that_the_engine_leaves_to_it() -> None:
    with pytest.raises(AdaptError, match=r"^cdist .*matrix product"):
        adapted(lambda x: torch.cdist(Straight.apply(x), x))


# ------------------------------------------------------------------------------------- custom operators


@pytest.fixture(scope="module")
def operators() -> Iterator[Any]:
    """``doubled_sine`` of torch's own operators, and two that torch cannot look into."""
    name = "adapt_tests"
    library = torch.library.Library(name, "DEF")
    library.define("doubled_sine(Tensor x) -> Tensor")
    library.impl("doubled_sine", lambda x: 2 * torch.sin(x), "CompositeImplicitAutograd")
    library.define("bare_cube(Tensor x) -> Tensor")
    library.impl("bare_cube", lambda x: x**3, "CPU")

    @torch.library.custom_op(f"{name}::cube", mutates_args=())
    def cube(x: Tensor) -> Tensor:
        return x**3

    def remember(ctx: Any, inputs: Any, output: Any) -> None:
        (ctx.x,) = inputs

    cube.register_autograd(lambda ctx, gradient: 3 * ctx.x**2 * gradient, setup_context=remember)
    yield getattr(torch.ops, name)
    library._destroy()


def test_an_operator_made_of_torchs_works_and_the_rest_stays_on_rules(operators: Any) -> None:
    fell_back: list[str] = []
    token = listener.set(lambda func: fell_back.append(str(func)))
    try:
        found = adapted(operators.doubled_sine)
    finally:
        listener.reset(token)
    assert fell_back == ["adapt_tests.doubled_sine"]
    assert_same(found, jacobian(lambda x: 2 * torch.sin(x)))


@pytest.mark.parametrize("engine", ["fast", "reference"])
@pytest.mark.parametrize("name", ["cube", "bare_cube"])
def test_an_operator_that_drops_tangents_is_refused(operators: Any, name: str, engine: Engine) -> None:
    """Torch's ``jvp`` silently takes its derivative for zero, whether it has a backward formula or not."""
    point = torch.ones(3, dtype=torch.float64)
    assert jvp(getattr(operators, name), (point,), (point,))[1].abs().max() == 0
    with pytest.raises(NotDifferentiable, match=rf"^adapt_tests\.{name} cannot .*CompositeImplicit"):
        adapted(getattr(operators, name), engine)


def test_it_is_refused_behind_what_the_fast_engine_leaves_to_the_reference(operators: Any) -> None:
    with pytest.raises(NotDifferentiable, match=r"^adapt_tests\.cube "):
        adapted(lambda x: operators.cube(view_then_base(x)))


def test_it_may_work_on_what_does_not_move(operators: Any) -> None:
    assert_same(adapted(lambda x: operators.cube(X) * x), jacobian(lambda x: X**3 * x))


# ----------------------------------------------------------------------------------------- NumPy


@pytest.mark.parametrize(
    "operation",
    [lambda x: torch.as_tensor(x.numpy()), lambda x: torch.as_tensor(np.sin(x))],
    ids=["numpy()", "ufunc"],
)
def test_numpy_in_the_middle_is_refused(operation: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(AdaptError, match=r"^Tensor\.(numpy|__array__) cannot .*compute with torch"):
        adapted(operation)


# ------------------------------------------------------------------------------------ transforms inside f


@pytest.mark.parametrize(
    ("operation", "equivalent"),
    [
        (lambda x: vmap(lambda row: row.sin() * row.sum())(x), lambda x: x.sin() * x.sum(1, keepdim=True)),
        (lambda x: vmap(lambda c: c * x)(torch.ones(2, 1, 3).double())[1], lambda x: x),
        (lambda x: jvp(torch.sin, (x,), (torch.ones_like(X),))[1], torch.cos),
        (lambda x: grad(lambda z: (z**3).sum())(x), lambda x: 3 * x**2),
        (lambda x: vmap(grad(lambda row: (row**3).sum()))(x), lambda x: 3 * x**2),
    ],
    ids=["vmap over examples", "vmap around it", "jvp", "grad", "gradient per example"],
)
def test_transforms_inside_are_right(operation: Any, equivalent: Any) -> None:
    assert_same(adapted(operation), jacobian(equivalent))


def test_autograd_inside_is_refused() -> None:
    with pytest.raises(AdaptError, match=r"torch\.func\.grad"):
        adapted(lambda x: torch.autograd.grad((x.requires_grad_() ** 3).sum(), x)[0])


# ------------------------------------------------------------------------------- operators of torch


def plain_attention(q: Tensor) -> Tensor:
    return torch.softmax(q @ q.mT / q.shape[-1] ** 0.5, -1) @ q


def test_default_attention_is_right() -> None:
    def attention(x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x[None], x[None], x[None])[0]

    assert_same(adapted(attention), jacobian(plain_attention))


@pytest.mark.parametrize("make", ["attention", "encoder"])
def test_attention_modules_in_evaluation_mode_are_right(make: str) -> None:
    if make == "attention":
        model: nn.Module = nn.MultiheadAttention(8, 2, batch_first=True)
        arguments = 3
    else:
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        model, arguments = nn.TransformerEncoder(layer, 2), 1
    model = randomised(model).double()
    x = torch.linspace(-1, 1, 2 * 5 * 8, dtype=torch.float64).view(2, 5, 8)
    parameters = {name: p.detach() for name, p in model.named_parameters() if name.endswith("bias")}

    def f(p: dict[str, Tensor]) -> Tensor:
        result = functional_call(model, p, (x,) * arguments)
        return result[0] if isinstance(result, tuple) else result

    with differentiable_kernels():
        jacobians = jacrev(f)(parameters)
    generator = torch.Generator().manual_seed(0)
    columns = {
        name: torch.randn(2, *p.shape, generator=generator, dtype=p.dtype) for name, p in parameters.items()
    }
    expected = sum(
        torch.einsum("...p,kp->k...", jacobians[name].flatten(3), columns[name].flatten(1))
        for name in parameters
    )
    value, found = pushforward(f, parameters, columns)
    assert distance(value, f(parameters)) < 1e-12
    assert isinstance(expected, Tensor)
    assert distance(found, expected) < 1e-12


def test_cdist_is_refused_with_the_fix() -> None:
    with pytest.raises(NotDifferentiable, match=r"^cdist cannot be differentiated forward \(") as error:
        adapted(lambda x: torch.cdist(x, x))
    assert "|a|² − 2 a·b + |b|²" in error.value.fix
    assert "\n" not in str(error.value)
    assert isinstance(error.value.__cause__, NotImplementedError)


def test_embedding_bag_is_refused_with_the_fix() -> None:
    bags = nn.EmbeddingBag(5, 3)
    with pytest.raises(NotDifferentiable, match=r"^torch\.embedding_bag .*an embedding followed by a sum"):
        pushforward(
            lambda w: functional_call(bags, {"weight": w}, (torch.tensor([[0, 1], [2, 3]]),)),
            bags.weight.detach(),
            torch.ones(1, 5, 3),
        )
