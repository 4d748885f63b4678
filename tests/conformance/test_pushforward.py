"""The contract of the pushforward, for every engine: on functions with a dense Jacobian, and on networks."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.func import functional_call, jacrev, vmap

from adapt.forward import ENGINES, Engine, pushforward
from adapt.forward.reference import reference
from adapt.heads import Prototype, one_hot
from adapt.spaces import film
from tests.helpers import SIDE, distance, tiny_conv4
from tests.networks import NETWORKS, PLACEMENTS, K, problem

F64 = torch.float64
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: str(dtype).removeprefix("torch."))
#: The compiled engine takes minutes for this and is the reference wherever there is a transform.
TESTED = tuple(engine for engine in ENGINES if engine != "compiled")
EVERY_ENGINE = pytest.mark.parametrize("engine", TESTED)
#: Those that are held against the reference.
OTHERS = pytest.mark.parametrize("engine", [engine for engine in TESTED if engine != "reference"])


def rows(table: Mapping[str, Any]) -> pytest.MarkDecorator:
    """Parametrise ``row`` over a table."""
    return pytest.mark.parametrize("row", table.values(), ids=table.keys())


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = F64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64).to(dtype)


# --------------------------------------------------------------------- functions with a dense Jacobian


def _features_of_film(dtype: torch.dtype) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    backbone = tiny_conv4().to(dtype)
    space, x = film(backbone), randn(3, 1, SIDE, SIDE, seed=1, dtype=dtype)
    return lambda phi: functional_call(backbone, space.parameters(phi), (x,)), space.initial


def _smooth(dtype: torch.dtype) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    a, b = randn(7, 5, dtype=dtype), randn(4, 7, seed=1, dtype=dtype)
    return lambda z: (b @ torch.tanh(a @ z)).softmax(-1).view(2, 2), randn(5, seed=2, dtype=dtype)


def _leave_one_out(dtype: torch.dtype) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    y = one_hot(torch.tensor([0, 0, 1, 1, 2, 2]), 3, dtype)
    return lambda z: Prototype().loo_logits(z.view(6, 2), y), randn(12, dtype=dtype)


FUNCTIONS = {"smooth": _smooth, "network": _features_of_film, "leave-one-out": _leave_one_out}


@EVERY_ENGINE
@DTYPES
@rows(FUNCTIONS)
def test_pushforward_is_the_dense_jacobian_times_the_tangents(
    row: Any, dtype: torch.dtype, engine: Engine
) -> None:
    f, z = row(dtype)
    tangents = randn(3, z.numel(), seed=3, dtype=dtype)
    value, columns = pushforward(f, z, tangents, engine=engine)
    dense = torch.einsum("...p,kp->k...", jacrev(f)(z), tangents)
    assert distance(value, f(z)) <= TOLERANCE[dtype]
    assert distance(columns, dense) <= TOLERANCE[dtype]
    assert columns.dtype == dtype


@EVERY_ENGINE
@DTYPES
def test_pushforward_takes_pytrees(dtype: torch.dtype, engine: Engine) -> None:
    x: dict[str, Any] = {"w": randn(3, 2, dtype=dtype), "b": (randn(3, seed=1, dtype=dtype),)}
    tangents: dict[str, Any] = {
        "w": randn(4, 3, 2, seed=2, dtype=dtype),
        "b": (randn(4, 3, seed=3, dtype=dtype),),
    }

    def f(p: Any) -> Any:
        return {"out": torch.tanh(p["w"] @ p["w"].T + p["b"][0]), "sum": (p["w"].sum() * p["b"][0],)}

    value, columns = pushforward(f, x, tangents, engine=engine)
    dense: Any = jacrev(f)(x)
    parts: list[tuple[Any, Any, Any]] = [
        (columns["out"], dense["out"], value["out"]),
        (columns["sum"][0], dense["sum"][0], value["sum"][0]),
    ]
    for part, jacobian, expected in parts:
        along_w = torch.einsum("...ab,kab->k...", jacobian["w"], tangents["w"])
        along_b = torch.einsum("...a,ka->k...", jacobian["b"][0], tangents["b"][0])
        assert distance(part, along_w + along_b) <= TOLERANCE[dtype]
        assert part.shape == (4, *expected.shape)
    assert distance(value["out"], f(x)["out"]) <= TOLERANCE[dtype]
    assert distance(value["sum"][0], f(x)["sum"][0]) <= TOLERANCE[dtype]


@EVERY_ENGINE
@DTYPES
@rows(FUNCTIONS)
def test_pushforward_under_vmap_over_tasks(row: Any, dtype: torch.dtype, engine: Engine) -> None:
    f, z = row(dtype)
    points = z + 0.1 * randn(4, z.numel(), seed=4, dtype=dtype)
    tangents = randn(4, 2, z.numel(), seed=5, dtype=dtype)
    values, columns = vmap(lambda p, v: pushforward(f, p, v, engine=engine))(points, tangents)
    for t in range(4):
        value, column = pushforward(f, points[t], tangents[t], engine=engine)
        assert distance(values[t], value) <= TOLERANCE[dtype]
        assert distance(columns[t], column) <= TOLERANCE[dtype]


@EVERY_ENGINE
@rows(FUNCTIONS)
def test_reverse_over_forward(row: Any, engine: Engine) -> None:
    """The outer loop differentiates through the tangents: gradients equal those through a dense Jacobian."""
    f, z = row(F64)
    tangents = randn(2, z.numel(), seed=6).requires_grad_(True)
    z = z.detach().clone().requires_grad_(True)
    weights = randn(2, *f(z).shape, seed=7)

    def loss(columns: Tensor) -> Tensor:
        return (weights * columns.square()).sum()

    forward = torch.autograd.grad(loss(pushforward(f, z, tangents, engine=engine)[1]), (z, tangents))
    dense = torch.einsum("...p,kp->k...", jacrev(f)(z), tangents)
    reverse = torch.autograd.grad(loss(dense), (z, tangents))
    for ours, theirs in zip(forward, reverse, strict=True):
        assert distance(ours, theirs) <= 1e-9


@EVERY_ENGINE
def test_gradcheck_through_pushforward(engine: Engine) -> None:
    f, z = _smooth(F64)
    tangents = randn(2, z.numel(), seed=6)
    assert gradcheck(
        lambda p, v: pushforward(f, p, v, engine=engine),
        (z.clone().requires_grad_(True), tangents.requires_grad_(True)),
    )


# ---------------------------------------------------------------------------------------- networks

NETWORK = pytest.mark.parametrize("name", NETWORKS)
PLACEMENT = pytest.mark.parametrize("placement", PLACEMENTS)


@pytest.fixture
def no_second_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that hands a network on to the reference fails the test."""

    def refuse(*_: Any) -> NoReturn:
        raise AssertionError("left to the reference")

    # ``adapt.forward.pushforward`` is the function; this is its module.
    monkeypatch.setattr(importlib.import_module("adapt.forward.pushforward"), "reference", refuse)


@DTYPES
@PLACEMENT
@NETWORK
@OTHERS
def test_networks_agree_with_the_reference(
    engine: Engine, name: str, placement: str, dtype: torch.dtype, no_second_try: None
) -> None:
    p = problem(name, placement, dtype)
    tangents = torch.eye(K, dtype=dtype)

    def f(z: Tensor) -> Tensor:
        return p.f(z, p.basis, p.x)

    expected = reference(f, p.z, tangents)
    with torch.no_grad():
        plain = f(p.z)
        results = [pushforward(f, p.z, tangents, engine=engine, chunk=chunk) for chunk in (None, K)]
    for value, columns in results:
        assert distance(value, plain) <= TOLERANCE[dtype]
        assert distance(columns, expected[1]) <= TOLERANCE[dtype]


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # fused attention of a frozen layer
@NETWORK
@OTHERS
def test_networks_under_vmap_over_tasks(engine: Engine, name: str, no_second_try: None) -> None:
    """Each task with its own z, and with its own inputs as well."""
    p = problem(name, "norms")
    points, inputs = p.z + 0.1 * randn(3, K, seed=4), p.x + 0.1 * randn(3, *p.x.shape, seed=5)
    tangents = torch.eye(K, dtype=F64)

    def run(z: Tensor, x: Tensor) -> Any:
        return pushforward(lambda z: p.f(z, p.basis, x), z, tangents, engine=engine)

    with torch.no_grad():
        for together, alone in (
            (vmap(run, in_dims=(0, None))(points, p.x), [run(z, p.x) for z in points]),
            (vmap(run)(points, inputs), [run(z, x) for z, x in zip(points, inputs, strict=True)]),
        ):
            for part in range(2):
                expected = torch.stack([result[part] for result in alone])
                assert distance(together[part], expected) <= TOLERANCE[F64]


@PLACEMENT
@NETWORK
@OTHERS
def test_networks_in_reverse_over_forward(
    engine: Engine, name: str, placement: str, no_second_try: None
) -> None:
    """What learns the basis: gradients of a loss of value and columns with respect to z and U."""
    p = problem(name, placement)
    tangents = torch.eye(K, dtype=F64)
    weights = [randn(*shape, seed=7) for shape in ((2, 1), (K, 2, 1))]

    def gradients(push: Callable[..., Any]) -> tuple[Tensor, ...]:
        z, basis = (leaf.clone().requires_grad_(True) for leaf in (p.z, p.basis))
        result = push(lambda z: p.f(z, basis, p.x), z, tangents)
        loss = sum((w * part.square()).sum() for w, part in zip(weights, result, strict=True))
        return torch.autograd.grad(loss, (z, basis))

    ours = gradients(lambda *args: pushforward(*args, engine=engine))
    for mine, theirs in zip(ours, gradients(reference), strict=True):
        assert distance(mine, theirs) <= 1e-9
