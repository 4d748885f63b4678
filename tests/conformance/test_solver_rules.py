"""What every solver and head does with what it should never have been given: rules, not luck.

Outputs that are no numbers, infinite precision, examples that are all the same, weights of zero.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.func import vmap

from adapt.adapter import Problem, initial_state
from adapt.adapter.problem import model_of
from adapt.heads import Prototype, Ridge, one_hot
from adapt.inner import CrossEntropy, Loss, Solver, SquaredError, plain
from tests.conformance.tables import DTYPES, F64, SOLVERS, STEPPING, SolverRow, randn, rows
from tests.conformance.test_solvers import LOSSES, linear_problem, solve
from tests.helpers import distance


def bad_model(kind: str, a: Tensor) -> Callable[[Tensor], Tensor]:
    """Outputs ``A z`` with a fault in the first example."""
    first = one_hot(torch.tensor(0), len(a), a.dtype)[:, None]  # [n, 1]
    faults: dict[str, Callable[[Tensor], Tensor]] = {
        "NaN at the start": lambda z: (z.sum() - 1).sqrt(),
        "infinite at the start": lambda z: 1 / z.square().sum(),
        "all infinite": lambda z: (1e30 + z.sum()) * 1e300,
        "NaN as soon as it moves": lambda z: (1e-12 - z.square().sum()).sqrt(),
        "infinite as soon as it moves": lambda z: z.sum() * torch.finfo(z.dtype).max,
    }
    fault = faults[kind]
    return lambda z: a @ z + first * fault(z)


FAULTS = [
    "NaN at the start",
    "infinite at the start",
    "all infinite",
    "NaN as soon as it moves",
    "infinite as soon as it moves",
]


@DTYPES
@pytest.mark.parametrize("kind", FAULTS)
@rows(LOSSES)
@pytest.mark.parametrize("name", SOLVERS)
def test_what_is_no_number_never_reaches_z(name: str, row: Loss, kind: str, dtype: torch.dtype) -> None:
    a, y, precision = (tensor.to(dtype) for tensor in linear_problem())
    with torch.no_grad():
        z, trace = SOLVERS[name].make(3)(bad_model(kind, a), y, row, plain(precision))
    assert z.dtype == dtype and bool(torch.isfinite(z).all())
    if kind.endswith("at the start"):
        assert not z.any()
        assert not torch.isfinite(trace.losses[0])


@rows(LOSSES)
@pytest.mark.parametrize("name", SOLVERS)
def test_a_bad_task_of_a_batch_does_not_touch_the_others(name: str, row: Loss) -> None:
    a, y, precision = (torch.stack(parts) for parts in zip(*map(linear_problem, range(3)), strict=True))
    broken = a.clone()
    broken[1, 0, 0, 0] = torch.nan
    solver = SOLVERS[name].make(3)

    def run(a: Tensor, y: Tensor, precision: Tensor) -> Tensor:
        return solve(solver, a, y, row, precision)[0]

    with torch.no_grad():
        expected, z = vmap(run)(a, y, precision), vmap(run)(broken, y, precision)
    assert distance(z[[0, 2]], expected[[0, 2]]) <= 1e-12
    assert bool(expected.any(1).all())
    assert not z[1].any()


@DTYPES
@rows(LOSSES)
@pytest.mark.parametrize("name", SOLVERS)
def test_infinite_precision_freezes_its_direction_and_no_other(
    name: str, row: Loss, dtype: torch.dtype
) -> None:
    a, y, precision = (tensor.to(dtype) for tensor in linear_problem())
    precision[1] = torch.inf
    z, trace = solve(SOLVERS[name].make(3), a, y, row, precision)
    without = a.clone()
    without[..., 1] = 0
    expected, _ = solve(SOLVERS[name].make(3), without, y, row, precision.nan_to_num(posinf=1.0))
    assert z[1] == 0 and bool(z[0] != 0)
    assert distance(z, expected) <= 100 * torch.finfo(dtype).eps
    assert bool(torch.isfinite(trace.losses).all())
    everything = torch.full_like(precision, torch.inf)
    assert not solve(SOLVERS[name].make(3), a, y, row, everything)[0].any()


@DTYPES
@rows({name: row for name, row in STEPPING.items() if name in ("gauss_newton", "linearised")})
def test_a_stiff_direction_does_not_drown_the_others(row: SolverRow, dtype: torch.dtype) -> None:
    """Precision 1e10 on one direction, and the others go where they would go without it."""
    a, y, precision = (tensor.to(dtype) for tensor in linear_problem())
    precision[1] = 1e10
    z, _ = solve(row.make(2), a, y, SquaredError(), precision)
    precision[1] = torch.inf
    expected, _ = solve(row.make(2), a, y, SquaredError(), precision)
    assert distance(z, expected) <= 1e-5


@rows(SOLVERS)
def test_a_single_example_with_a_value(row: SolverRow) -> None:
    """The only loss is that of one number; nothing breaks."""
    model, target = 0.3 * randn(1, 1, 3), torch.ones(1, 1, dtype=F64)
    z, _ = row.make(2)(lambda z: model @ z, target, SquaredError(), plain(torch.ones(3, dtype=F64)))
    assert bool(torch.isfinite(z).all())
    assert bool(z.any())
    assert SquaredError().value(model @ z, target) <= 0.5


@rows(SOLVERS)
def test_solving_in_no_dimensions_at_all(row: SolverRow) -> None:
    a, y, precision = linear_problem()
    z, trace = solve(row.make(2), a[..., :0], y, CrossEntropy(), precision[:0])
    assert z.shape == (0,) and bool(torch.isfinite(trace.losses).all())


@DTYPES
@pytest.mark.parametrize("kind", ["all the same", "each twice", "all zero"])
@pytest.mark.parametrize("regression", [False, True], ids=["classes", "values"])
@rows(SOLVERS)
def test_examples_that_are_alike(row: SolverRow, regression: bool, kind: str, dtype: torch.dtype) -> None:
    """Through the heads: z is finite, and the support loss no greater than at z = 0 where it is judged."""
    base, directions = randn(6, 5, dtype=dtype), 0.3 * randn(3, 5, seed=1, dtype=dtype)
    x = {"all the same": base[:1].repeat(6, 1), "each twice": base[:3].repeat(2, 1), "all zero": 0 * base}[
        kind
    ]
    targets = one_hot(torch.arange(6) % 2, 2, dtype)
    if regression:
        targets = targets[:, :1] - 0.5
    head = Ridge(scale=1.0)
    problem = (
        Problem(SquaredError(), head, head) if regression else Problem(CrossEntropy(), Prototype(), head)
    )
    state = initial_state(torch.zeros(3, dtype=dtype), torch.eye(3, dtype=dtype))

    def features(z: Tensor) -> Tensor:
        return torch.tanh(x + x * (z @ directions))

    with torch.no_grad():
        model = model_of(features, state, targets, problem)
        z, _ = row.make(3)(model, targets, problem.loss, state.learned)
        outputs = model(z)
    assert bool(torch.isfinite(z).all()) and bool(torch.isfinite(outputs).all())
    if kind == "all zero":
        assert not z.any()


def test_the_rows_cover_what_they_should() -> None:
    """Guards against a table that quietly became empty."""
    solvers: list[Solver] = [row.make(1) for row in SOLVERS.values()]
    assert len({type(solver) for solver in solvers}) >= 4 and 0 < len(STEPPING) < len(SOLVERS)
