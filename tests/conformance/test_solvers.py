"""The contract of solvers, for every row of the table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.optimize
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.func import vmap

from adapt.heads import one_hot
from adapt.inner import (
    CrossEntropy,
    Loss,
    Solver,
    SquaredError,
    plain,
)
from tests.conformance.tables import (
    DTYPES,
    F64,
    SOLVERS,
    STEPPING,
    SolverRow,
    randn,
    rows,
)
from tests.helpers import distance

LOSSES: dict[str, Loss] = {"squared error": SquaredError(), "cross-entropy": CrossEntropy()}


def linear_problem(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """A ``[n, C, k]``, nearly orthogonal columns; class rows ``[n, C]``; precision ``[k]``. Outputs: A z."""
    n, c, k = 9, 3, 4
    mixed = torch.eye(k, dtype=F64) + 0.1 * randn(k, k, seed=2)
    y, drawn = one_hot(torch.arange(n) % c, c, F64), randn(n * c, k, seed=seed)
    drawn[:, 0] += 3 * y.flatten()  # the first direction is worth going along
    a = n**0.5 * (torch.linalg.qr(drawn)[0] @ mixed).view(n, c, k)
    return a, y, 1 + randn(k, seed=1).abs()


def solve(solver: Solver, a: Tensor, y: Tensor, loss: Loss, precision: Tensor) -> Any:
    return solver(lambda z: a @ z, y, loss, plain(precision))


def objective(z: Tensor, a: Tensor, y: Tensor, loss: Loss, precision: Tensor) -> Tensor:
    return loss.value(a @ z, y) + 0.5 * (precision * z * z).sum()


@rows(STEPPING)
def test_solver_finds_the_ridge_solution(row: SolverRow) -> None:
    a, y, precision = linear_problem()
    z, trace = solve(row.make(row.quadratic), a, y, SquaredError(), precision)
    rows_ = a.reshape(-1, a.shape[-1])
    closed = torch.linalg.solve(rows_.T @ rows_ + torch.diag(precision), rows_.T @ y.reshape(-1))
    assert distance(z, closed) <= row.accuracy
    assert trace.losses.shape == (row.quadratic,)
    assert trace.losses[0] == pytest.approx(float(0.5 * y.square().sum()))


@rows(STEPPING)
def test_solver_finds_the_convex_optimum(row: SolverRow) -> None:
    """Gradient of the objective (by autograd) zero, and the same point as scipy's."""
    a, y, precision = linear_problem()
    loss = CrossEntropy()
    z, _ = solve(row.make(row.convex), a, y, loss, precision)
    z = z.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(objective(z, a, y, loss, precision), z)
    assert gradient.abs().max() <= 10 * row.accuracy

    def fun(point: np.ndarray) -> float:
        return objective(torch.from_numpy(point), a, y, loss, precision).item()

    theirs = scipy.optimize.minimize(fun, np.zeros(z.numel()), tol=1e-12).x
    assert distance(z.detach(), torch.from_numpy(theirs)) <= max(row.accuracy, 1e-6)


@rows(LOSSES)
@pytest.mark.parametrize("name", STEPPING)
def test_no_steps_stay_at_zero(name: str, row: Loss) -> None:
    a, y, precision = linear_problem()
    z, trace = solve(SOLVERS[name].make(0), a, y, row, precision)
    assert torch.equal(z, torch.zeros(4, dtype=F64))
    assert trace.losses.shape == (0,)
    assert trace.forward_equivalents == 0


@rows(LOSSES)
@pytest.mark.parametrize("name", STEPPING)
def test_solving_lowers_the_objective_and_costs_what_it_says(name: str, row: Loss) -> None:
    a, y, precision = linear_problem()
    zero = torch.zeros(4, dtype=F64)
    (z1, one), (z, three) = (solve(SOLVERS[name].make(steps), a, y, row, precision) for steps in (1, 3))
    assert objective(z1, a, y, row, precision) < objective(zero, a, y, row, precision)
    assert objective(z, a, y, row, precision) < objective(zero, a, y, row, precision)
    assert three.losses[-1] < three.losses[0] == one.losses[0]
    times = 1 if SOLVERS[name].pays_once else 3
    assert three.forward_equivalents == pytest.approx(times * one.forward_equivalents)
    assert one.forward_equivalents >= 1


@rows(LOSSES)
@pytest.mark.parametrize("name", SOLVERS)
def test_solution_is_differentiable_in_the_prior_and_the_model(name: str, row: Loss) -> None:
    a, y, precision = linear_problem()
    solver = SOLVERS[name].make(2)
    inputs = (a.requires_grad_(True), precision.requires_grad_(True))
    assert gradcheck(lambda a, p: solve(solver, a, y, row, p)[0], inputs, fast_mode=True)


@rows(LOSSES)
@pytest.mark.parametrize("name", SOLVERS)
def test_solver_under_vmap_is_a_loop_over_tasks(name: str, row: Loss) -> None:
    problems = [linear_problem(seed) for seed in range(3)]
    a, y, precision = (torch.stack(parts) for parts in zip(*problems, strict=True))
    solver = SOLVERS[name].make(3)

    def run(a: Tensor, y: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        z, trace = solve(solver, a, y, row, p)
        return z, trace.losses

    z, losses = vmap(run)(a, y, precision)
    for t in range(3):
        alone = run(*problems[t])
        assert distance(z[t], alone[0]) <= 1e-10
        assert distance(losses[t], alone[1]) <= 1e-10
        assert bool(alone[0].any())


@DTYPES
@rows(LOSSES)
@pytest.mark.parametrize("name", SOLVERS)
def test_directions_without_effect_do_no_harm_even_undamped(name: str, row: Loss, dtype: torch.dtype) -> None:
    """A column of zeros, a repeated one, no prior: all finite, and still where nothing moves."""
    a, y, _ = (tensor.to(dtype) for tensor in linear_problem())
    a = torch.cat([a, torch.zeros_like(a[..., :1]), a[..., :1]], -1).requires_grad_(True)
    precision = torch.zeros(6, dtype=dtype, requires_grad=True)
    z, trace = solve(SOLVERS[name].make(2), a, y, row, precision)
    assert bool(torch.isfinite(z).all()) and bool(torch.isfinite(trace.losses).all())
    assert z[4] == 0
    assert row.value(a @ z, y) < trace.losses[0]
    for gradient in torch.autograd.grad(z.square().sum(), (a, precision)):
        assert bool(torch.isfinite(gradient).all())
