"""Second-order solvers against closed forms, scipy and finite differences; the rule of Marquardt."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adapt import AdaptError
from adapt.adapter import Problem, initial_state
from adapt.adapter.problem import model_of
from adapt.forward import pushforward
from adapt.heads import Direct, Logistic, Prototype, Ridge, one_hot
from adapt.inner import (
    CrossEntropy,
    GaussNewton,
    Learned,
    Linearised,
    Loss,
    Model,
    SquaredError,
    Trace,
    plain,
)
from adapt.inner.levenberg_marquardt import Quadratic, minimise
from adapt.inner.linearised import solve_linear
from tests.helpers import distance

F64 = torch.float64


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


N, D, K = 12, 6, 3
BASE, COLUMNS = randn(N, D), randn(K, N, D, seed=1)
CLASSES = one_hot(torch.arange(N) % 3, 3, F64)
VALUES = randn(N, 2, seed=2)
PRECISION = torch.tensor([0.5, 1.0, 2.0], dtype=F64)


def straight(z: Tensor) -> Tensor:
    """Features that are linear in z, ``[N, D]``."""
    return BASE + torch.tensordot(z, COLUMNS, 1)


def bent(z: Tensor) -> Tensor:
    return torch.tanh(straight(z))


def seen(
    features: Callable[[Tensor], Tensor], targets: Tensor, problem: Problem, sharpness: float = 1.0
) -> Model:
    state = initial_state(torch.zeros(K, dtype=F64), torch.eye(K, dtype=F64))
    sharp = torch.tensor(sharpness, dtype=F64).log()
    return model_of(features, state._replace(log_sharpness=sharp), targets, problem)


RIDGE = Problem(SquaredError(), Ridge(scale=1.0), Ridge(scale=1.0))
CLASSIFY = Problem(CrossEntropy(), Prototype(temperature=1.0), Logistic())
PROBLEMS = [(RIDGE, VALUES), (CLASSIFY, CLASSES)]
KINDS = pytest.mark.parametrize(("problem", "targets"), PROBLEMS, ids=["regression", "classification"])


def objective(model: Model, targets: Tensor, loss: Loss, z: Tensor) -> Tensor:
    return loss.value(model(z), targets) + 0.5 * (PRECISION * z * z).sum()


def test_one_step_on_outputs_is_gauss_newton() -> None:
    """Squared error, and features that are the outputs: both are the same quadratic problem."""
    learned = Learned(PRECISION, torch.tensor(0.3, dtype=F64), torch.ones(3, dtype=F64))
    for damping in (0.5, 1.0):
        ours, trace = Linearised(1, damping)(bent, BASE + 1, SquaredError(), learned)
        theirs, their_trace = GaussNewton(1, damping)(bent, BASE + 1, SquaredError(), learned)
        assert distance(ours, theirs) <= 1e-12
        assert torch.equal(trace.losses, their_trace.losses)
        assert trace.forward_equivalents == their_trace.forward_equivalents == 4
        flat = pushforward(bent, torch.zeros(3, dtype=F64), torch.eye(3, dtype=F64))[1].flatten(1)
        system = flat @ flat.T + damping * (torch.diag(PRECISION) + 0.3 * torch.eye(3, dtype=F64))
        closed = -torch.linalg.solve(system, flat @ (torch.tanh(BASE) - BASE - 1).flatten())
        assert distance(ours, closed) <= 1e-12


@KINDS
def test_on_linear_features_it_is_gauss_newton_and_scipys_optimum(problem: Problem, targets: Tensor) -> None:
    model = seen(straight, targets, problem)
    for steps in (1, 2, 40):
        ours, trace = Linearised(steps)(model, targets, problem.loss, plain(PRECISION))
        theirs, their_trace = GaussNewton(steps)(model, targets, problem.loss, plain(PRECISION))
        assert distance(ours, theirs) <= 1e-8  # rounding errors of 40 steps, which machines differ in
        assert distance(trace.losses, their_trace.losses) <= 1e-9
    point = ours.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(objective(model, targets, problem.loss, point), point)
    assert gradient.abs().max() <= 1e-6

    def fun(z: np.ndarray) -> float:
        return float(objective(model, targets, problem.loss, torch.from_numpy(z)))

    assert distance(ours, torch.from_numpy(scipy.optimize.minimize(fun, np.zeros(3), tol=1e-10).x)) <= 1e-5


@KINDS
def test_weights_of_zero_are_the_subset(problem: Problem, targets: Tensor) -> None:
    kept = torch.arange(N) % 5 != 1
    every = seen(straight, targets, problem)
    few = seen(lambda z: straight(z)[kept], targets[kept], problem)
    learned = plain(PRECISION)
    ours, losses, _ = solve_linear(
        BASE, COLUMNS, every.readout, targets, problem.loss, learned, 6, kept.to(F64)
    )
    theirs, their_losses, _ = solve_linear(
        BASE[kept], COLUMNS[:, kept], few.readout, targets[kept], problem.loss, learned, 6
    )
    everything = solve_linear(BASE, COLUMNS, every.readout, targets, problem.loss, learned, 6)[0]
    assert distance(ours, theirs) <= 1e-9
    assert distance(losses, their_losses) <= 1e-9
    assert distance(ours, everything) > 1e-3


def test_head_and_directions_are_solved_for_jointly() -> None:
    """The gradient and curvature that are used are those of the objective with the head solved out, by finite
    differences, and by refitting the head from scratch without each example."""

    def solved_out(z: Tensor) -> Tensor:
        there, total = straight(z), torch.zeros((), dtype=F64)
        for i in range(N):
            others = torch.arange(N) != i
            head = Ridge(scale=1.0)
            predicted = head.logits(head.fit(there[others], VALUES[others]), there[i : i + 1])
            total = total + SquaredError().value(predicted, VALUES[i : i + 1])
        return total

    model, step = seen(straight, VALUES, RIDGE), 1e-5
    for z in (torch.zeros(3, dtype=F64), randn(3, seed=5)):
        outputs, columns = pushforward(lambda z: model.readout(straight(z), None), z, torch.eye(3, dtype=F64))
        gradient = columns.flatten(1) @ SquaredError().gradient(outputs, VALUES).flatten()
        differences = torch.stack(
            [
                (solved_out(z + step * e) - solved_out(z - step * e)) / (2 * step)
                for e in torch.eye(3, dtype=F64)
            ]
        )
        assert distance(gradient, differences) <= 1e-6
    z, _ = Linearised(60)(model, VALUES, SquaredError(), plain(PRECISION))
    slope = torch.stack(
        [(solved_out(z + step * e) - solved_out(z - step * e)) / (2 * step) for e in torch.eye(3, dtype=F64)]
    )
    assert distance(slope, -PRECISION * z) <= 1e-4
    assert z.norm() > 0.05


# ---------------------------------------------------------------------------------------- Marquardt's rule

ONE = torch.ones(1, dtype=F64)
FREE = plain(torch.zeros(1, dtype=F64))


def run(model: Callable[[Tensor], Tensor], steps: int, targets: Tensor, loss: Loss) -> tuple[Tensor, Trace]:
    return GaussNewton(steps)(model, targets, loss, FREE)


def test_what_makes_plain_gauss_newton_diverge_converges() -> None:
    """arctan(z + 2) = 0: Newton's steps overshoot further each time (|z + 2| > 1.39)."""

    def model(z: Tensor) -> Tensor:
        return torch.atan(z + 2)[None]

    plainly = torch.zeros(1, dtype=F64)
    for _ in range(4):
        slope = 1 / (1 + (plainly + 2) ** 2)
        plainly = plainly - torch.atan(plainly + 2) / slope
    assert plainly.abs() > 100
    z, trace = run(model, 30, torch.zeros(1, 1, dtype=F64), SquaredError())
    assert z.item() == pytest.approx(-2, abs=1e-8)
    assert trace.losses[-1] < 1e-12


def test_separable_classes_without_a_prior_stay_finite_and_improve() -> None:
    targets = torch.eye(2, dtype=F64)
    signs = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=F64)
    z, trace = run(lambda z: z * signs, 50, targets, CrossEntropy())
    assert bool(torch.isfinite(z).all()) and z > 3
    assert CrossEntropy().value(z * signs, targets) < 1e-2 * trace.losses[0]


def test_a_cycle_is_broken() -> None:
    """A wave on a slope: full steps jump from one crest to the next and never settle."""

    def model(z: Tensor) -> Tensor:
        return torch.cat([torch.sin(4 * (z + 3)), 0.3 * (z + 3)])[None]

    targets = torch.zeros(1, 2, dtype=F64)
    z, trace = run(model, 40, targets, SquaredError())
    final = SquaredError().value(model(z), targets)
    assert final <= trace.losses.min() * (1 + 1e-9) < trace.losses[0]
    leaf = z.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(SquaredError().value(model(leaf), targets), leaf)
    assert gradient.abs() < 1e-4


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), curve=st.floats(0, 30), steps=st.integers(2, 12), mu=st.floats(0, 2))
def test_the_base_of_the_last_step_is_never_worse_than_the_start(
    seed: int, curve: float, steps: int, mu: float
) -> None:
    """Every step starts from the best point evaluated so far, however strongly the model bends."""
    a, b, targets = randn(5, 2, seed=seed % 1000), randn(5, 2, seed=seed % 997), randn(5, 1, seed=seed % 991)
    visited: list[tuple[float, Tensor]] = []
    precision = torch.full((2,), 0.1, dtype=F64)

    def model(z: Tensor) -> Tensor:
        return (a @ z + torch.sin(curve * (b @ z)))[:, None]

    def evaluate(z: Tensor) -> Quadratic:
        outputs, columns = pushforward(model, z, torch.eye(2, dtype=F64))
        flat, value = columns.flatten(1), SquaredError().value(outputs, targets)
        visited.append((float(value + 0.5 * (precision * z * z).sum()), z))
        return Quadratic(value, flat @ (outputs - targets).flatten(), flat @ flat.T)

    z, losses, _ = minimise(evaluate, steps, precision, torch.tensor(mu, dtype=F64))
    assert len(visited) == len(losses) == steps
    assert bool(torch.isfinite(z).all())
    # The last candidate is a step from the best point: on that point's model it must go downhill.
    best = min(visited, key=lambda pair: pair[0])
    outputs, columns = pushforward(model, best[1], torch.eye(2, dtype=F64))
    gradient = columns.flatten(1) @ (outputs - targets).flatten() + precision * best[1]
    assert gradient @ (z - best[1]) <= 1e-12


def test_damping_shrinks_by_four_and_grows_by_eight() -> None:
    """By hand: slopes and curvatures are given, values say whether a step helped. δ = g / (h + λ + μ)."""
    values = iter([10.0, 9.0, 20.0, 20.0, 8.0])
    asked: list[float] = []

    def evaluate(z: Tensor) -> Quadratic:
        asked.append(z.item())
        return Quadratic(torch.tensor(next(values), dtype=F64), ONE.clone(), 2 * ONE[None])

    z, losses, _ = minimise(evaluate, 5, torch.zeros(1, dtype=F64), torch.tensor(8.0, dtype=F64))
    assert losses.tolist() == [10.0, 9.0, 20.0, 20.0, 8.0]
    first = -1 / (2 + 8)
    second = first - 1 / (2 + 2)  # helped: 8 / 4
    third = first - 1 / (2 + 16)  # did not help: back to the first, 2 · 8
    fourth = first - 1 / (2 + 128)
    assert asked == pytest.approx([0.0, first, second, third, fourth])
    assert z.item() == pytest.approx(fourth - 1 / (2 + 32))


def test_no_damping_can_grow_from_a_tenth_of_the_curvature() -> None:
    values = iter([1.0, 2.0, 2.0])
    asked: list[float] = []

    def evaluate(z: Tensor) -> Quadratic:
        asked.append(z.item())
        return Quadratic(torch.tensor(next(values), dtype=F64), ONE.clone(), 2 * ONE[None])

    minimise(evaluate, 3, 0.5 * ONE, torch.tensor(0.0, dtype=F64))
    assert asked == pytest.approx([0.0, -1 / 2.5, -1 / (2.5 + 0.25)])


def test_values_that_are_no_numbers_are_steps_that_did_not_help() -> None:
    """exp(e^z) overflows at the first candidate: it goes back, and on with more damping."""

    def model(z: Tensor) -> Tensor:
        return torch.cat([z.exp().exp(), 0 * z])[None]

    targets = torch.tensor([[60.0, 0.0]], dtype=F64)
    z, trace = run(model, 40, targets, SquaredError())
    assert not torch.isfinite(trace.losses).all()
    assert z.item() == pytest.approx(np.log(np.log(60.0)), abs=1e-6)


def test_a_linear_network_output_is_fitted_directly() -> None:
    """Direct: nothing is left out, the support loss is the training loss."""
    problem = Problem(SquaredError(), Direct(), Direct())
    model = seen(straight, BASE + COLUMNS[1], problem)
    z, trace = Linearised(1)(model, BASE + COLUMNS[1], SquaredError(), plain(1e-12 * PRECISION))
    assert distance(z, torch.tensor([0.0, 1.0, 0.0], dtype=F64)) <= 1e-9
    assert trace.losses[0] == pytest.approx(0.5 * float(COLUMNS[1].square().sum()))


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"steps": -1}, "inner.steps=-1: .*negative"),
        ({"damping": -0.1}, "inner.damping=-0.1"),
        ({"damping": float("nan")}, "inner.damping=nan"),
        ({"engine": "slow"}, "inner.engine=slow: choose fast"),
    ],
)
def test_bad_settings_are_named(settings_: dict[str, float], message: str) -> None:
    for kind in (GaussNewton, Linearised):
        with pytest.raises(AdaptError, match=message):
            kind(**settings_)  # type: ignore[arg-type]
