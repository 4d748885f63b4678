"""Inner solvers beyond their contract: losses against autograd, one step by hand, the cost they state."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.functional import hessian

from adapt import AdaptError
from adapt.forward.estimators import Exact, Gaussian, Reverse
from adapt.heads import one_hot
from adapt.inner import (
    Auto,
    CrossEntropy,
    Descent,
    GaussNewton,
    Learned,
    Linearised,
    Loss,
    SquaredError,
    plain,
)

TARGETS = one_hot(torch.tensor([0, 2, 1, 0]), 3, torch.float64)
OUTPUTS = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LOSSES: list[Loss] = [SquaredError(), CrossEntropy()]


@pytest.mark.parametrize("loss", LOSSES, ids=["squared error", "cross-entropy"])
def test_gradient_and_curvature_are_those_of_the_value(loss: Loss) -> None:
    outputs = OUTPUTS.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss.value(outputs, TARGETS), outputs)
    assert torch.allclose(loss.gradient(OUTPUTS, TARGETS), gradient, atol=1e-12)
    dense = hessian(lambda o: loss.value(o, TARGETS), OUTPUTS).reshape(12, 12)
    columns = torch.eye(12, dtype=torch.float64).view(12, 4, 3)
    assert torch.allclose(loss.curvature(OUTPUTS, columns).reshape(12, 12), dense, atol=1e-12)


def test_cross_entropy_is_torchs() -> None:
    expected = torch.nn.functional.cross_entropy(OUTPUTS, TARGETS.argmax(1), reduction="sum")
    assert torch.allclose(CrossEntropy().value(OUTPUTS, TARGETS), expected)


def bend(z: Tensor) -> Tensor:
    """A model that is not linear, [2] -> [4, 3]."""
    grid = torch.arange(12.0, dtype=z.dtype).view(4, 3) / 6
    return torch.sin(grid * z[0]) + z[1] * grid


def linear(a: Tensor, z: Tensor) -> Tensor:
    return (a @ z).view(3, 2)


def test_gauss_newton_steps_are_the_formula() -> None:
    """Two damped steps, with a dense Jacobian and Hessian of the loss in the outputs."""
    precision = torch.tensor([0.5, 2.0], dtype=torch.float64)
    z = torch.zeros(2, dtype=torch.float64)
    for _ in range(2):
        outputs = bend(z)
        jacobian = torch.func.jacrev(bend)(z).reshape(12, 2)
        curvature = hessian(lambda o: CrossEntropy().value(o, TARGETS), outputs).reshape(12, 12)
        gradient = jacobian.T @ (outputs.softmax(-1) - TARGETS).reshape(12) + 3 * precision * z
        z = z - torch.linalg.solve(jacobian.T @ curvature @ jacobian + torch.diag(3 * precision), gradient)
    ours, trace = GaussNewton(steps=2, damping=3.0)(bend, TARGETS, CrossEntropy(), plain(precision))
    assert torch.allclose(ours, z, atol=1e-10)
    assert trace.forward_equivalents == 2 * (1 + 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_repeated_directions_without_a_prior_are_no_singular_system(dtype: torch.dtype) -> None:
    """Twenty drawn problems, each direction twice and one of zeros: the linear solver never gives up."""
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        columns = torch.randn(6, 2, generator=generator, dtype=dtype)
        a = torch.cat([columns, columns, 0 * columns[:, :1]], 1)
        targets = one_hot(torch.tensor([0, 1, 0]), 2, dtype)
        prior = plain(torch.zeros(5, dtype=dtype))
        z, _ = GaussNewton(steps=3)(partial(linear, a), targets, SquaredError(), prior)
        best = torch.linalg.lstsq(columns, targets.view(6, 1)).solution[:, 0]
        assert torch.allclose(z[:2] + z[2:4], best, atol=1e-3)
        assert z[4] == 0


def test_more_damping_moves_less() -> None:
    moved = [
        GaussNewton(damping=damping)(bend, TARGETS.float(), CrossEntropy(), plain(torch.ones(2)))[0].norm()
        for damping in (0.0, 0.1, 1.0, 10.0, 1e6)
    ]
    assert moved == sorted(moved, reverse=True)
    assert moved[-1] < 1e-5


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
def test_descent_is_torchs_optimizer(name: str) -> None:
    """On the mean of loss and prior over examples."""
    precision = torch.tensor([0.5, 2.0], dtype=torch.float64)
    z = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer: torch.optim.Optimizer
    if name == "adam":
        optimizer = torch.optim.Adam([z], lr=0.1)
    else:
        optimizer = torch.optim.SGD([z], lr=0.1, momentum=0.7 if name == "momentum" else 0.0)
    losses = []
    for _ in range(5):
        value = CrossEntropy().value(bend(z), TARGETS)
        losses.append(value.item() + 0.5 * (precision * z * z).sum().item())
        optimizer.zero_grad()
        ((value + 0.5 * (precision * z * z).sum()) / 4).backward()
        optimizer.step()
    ours, trace = Descent(name, lr=0.1, steps=5, momentum=0.7)(
        bend, TARGETS, CrossEntropy(), plain(precision)
    )
    assert torch.allclose(ours, z.detach(), atol=1e-10)
    assert trace.losses[0] == pytest.approx(losses[0])


RATES = torch.tensor([3.0, 0.25], dtype=torch.float64)


def test_learned_rates_are_meta_sgd() -> None:
    """Li et al. (2017), equation 2, by hand: z ← z − η a ∘ ∇(mean loss and prior)."""
    precision = torch.tensor([0.5, 2.0], dtype=torch.float64)
    learned = Learned(precision, torch.tensor(9.0), RATES)  # descent has no damping
    z = torch.zeros(2, dtype=torch.float64)
    for _ in range(3):
        gradient = torch.func.grad(
            lambda z: CrossEntropy().value(bend(z), TARGETS) + 0.5 * (precision * z * z).sum()
        )(z)
        z = z - 0.1 * RATES * gradient / 4
    ours, _ = Descent("sgd", lr=0.1, steps=3)(bend, TARGETS, CrossEntropy(), learned)
    assert torch.allclose(ours, z, atol=1e-12)


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
def test_learned_rates_multiply_the_learning_rate(name: str) -> None:
    """Each direction's own, so a factor on all of them is one on ``lr``; a direction of rate 0 stays at 0."""
    prior = plain(torch.ones(2, dtype=torch.float64))

    def run(lr: float, rates: Tensor) -> Tensor:
        learned = prior._replace(rates=rates)
        return Descent(name, lr=lr, steps=4)(bend, TARGETS, CrossEntropy(), learned)[0]

    assert torch.allclose(run(0.1, 3 * prior.rates), run(0.3, prior.rates), atol=1e-12)
    still = run(0.1, torch.tensor([1.0, 0.0], dtype=torch.float64))
    assert still[1] == 0 and still[0] != 0
    first = Descent(name, lr=0.1, steps=1)
    plainly, scaled = (
        first(bend, TARGETS, CrossEntropy(), prior._replace(rates=rates))[0] for rates in (prior.rates, RATES)
    )
    assert torch.allclose(scaled, RATES * plainly, atol=1e-12)
    leaf = RATES.clone().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda rates: run(0.1, rates), leaf, fast_mode=True)


def test_momentum_by_hand() -> None:
    """A constant slope of 1: velocities 1, 1 + β, 1 + β + β²."""

    def slope(z: Tensor) -> Tensor:
        return z[None] + 1.0

    loss, start = Slope(), plain(torch.zeros(1, dtype=torch.float64))
    for steps, travelled in ((1, 1.0), (2, 2.5), (3, 4.25)):
        z, _ = Descent("momentum", lr=0.1, steps=steps, momentum=0.5)(slope, torch.zeros(1, 1), loss, start)
        assert z.item() == pytest.approx(-0.1 * travelled)


@dataclass(frozen=True)
class Slope(SquaredError):
    """ℓ = Σ o."""

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.sum(-1)


def test_a_damped_step_is_the_formula_and_rates_have_no_part_in_it() -> None:
    """δ = (H + Λ⁻¹ + μI)⁻¹ g; ``damping`` multiplies both."""
    precision, mu = torch.tensor([0.5, 2.0], dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)
    zero = torch.zeros(2, dtype=torch.float64)
    jacobian = torch.func.jacrev(bend)(zero).reshape(12, 2)
    gradient = jacobian.T @ (bend(zero) - TARGETS).reshape(12)
    for damping in (1.0, 3.0):
        system = jacobian.T @ jacobian + damping * torch.diag(precision + mu)
        learned = Learned(precision, mu, RATES)
        ours, _ = GaussNewton(1, damping)(bend, TARGETS, SquaredError(), learned)
        assert torch.allclose(ours, -torch.linalg.solve(system, gradient), atol=1e-12)


@pytest.mark.parametrize("steps", [1, 4])
def test_trace_holds_the_support_loss_before_every_step(steps: int) -> None:
    """Without the prior, as `Trace` says, so that solvers can be compared."""
    prior = plain(torch.full((2,), 5.0, dtype=torch.float64))
    for solver in (GaussNewton(steps), Descent("sgd", 0.1, steps), Descent("adam", 0.1, steps, Exact())):
        _, trace = solver(bend, TARGETS, CrossEntropy(), prior)
        before, _ = type(solver)(**{**vars(solver), "steps": steps - 1})(bend, TARGETS, CrossEntropy(), prior)
        assert trace.losses.shape == (steps,)
        assert torch.allclose(trace.losses[-1], CrossEntropy().value(bend(before), TARGETS))


@pytest.mark.parametrize(
    ("gradient", "cost"), [(Reverse(), 3.0), (Exact(), 3.0), (Gaussian(tangents=5), 6.0)], ids=str
)
def test_cost_of_a_descent_step(gradient: Any, cost: float) -> None:
    """1 for the value, 2 for a backward pass or 1 for each tangent (here k = 2)."""
    _, trace = Descent("sgd", 0.1, 4, gradient)(bend, TARGETS.float(), CrossEntropy(), plain(torch.ones(2)))
    assert trace.forward_equivalents == 4 * cost


def test_solving_in_no_dimensions() -> None:
    none = plain(torch.zeros(0))
    for solver in (GaussNewton(steps=2), Linearised(), Auto(), Descent("sgd", 0.1, 2)):
        z, trace = solver(lambda z: torch.zeros(4, 3) + z.sum(), TARGETS.float(), CrossEntropy(), none)
        assert z.shape == (0,)
        assert bool(torch.isfinite(trace.losses).all())


def test_solving_needs_no_graph_and_leaves_none_under_no_grad() -> None:
    precision = torch.ones(2, requires_grad=True)
    for solver in (GaussNewton(), Linearised(), Auto(), Descent(steps=2)):
        with torch.no_grad():
            z, _ = solver(bend, TARGETS.float(), CrossEntropy(), plain(precision))
        assert not z.requires_grad


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussNewton(steps=-1), "inner.steps=-1: .*negative"),
        (lambda: GaussNewton(damping=-0.1), "inner.damping=-0.1"),
        (lambda: GaussNewton(damping=float("nan")), "inner.damping=nan"),
        (lambda: Descent(optimizer="lbfgs"), "inner.optimizer=lbfgs: choose sgd, momentum or adam"),
        (lambda: Descent(steps=-1), "inner.steps=-1"),
        (lambda: Descent(momentum=1.0), "inner.momentum=1.0: .*between 0 and 1"),
        (lambda: Descent(momentum=float("nan")), "inner.momentum=nan"),
        (lambda: Descent(lr=0), "inner.lr=0: .*positive"),
    ],
)
def test_bad_settings_are_named(make: Any, message: str) -> None:
    with pytest.raises(AdaptError, match=message):
        make()
