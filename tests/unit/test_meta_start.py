"""Where meta-training starts: bases from gradients, displacements, chance, and none."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from adapt import AdaptError
from adapt.adapter import initial_state
from adapt.inner import Descent, GaussNewton
from adapt.meta import MetaTraining, displacement_basis, initial_basis, task_gradient_basis
from adapt.meta.start import SMALL, masked, movable, trainable
from tasks import FunctionTasks, Sinusoid
from tests.planted import REGRESSION, LinearTasks, linear_network, tiny_mlp

MEAN = (1.0, -2.0, 0.5, 0.0, 3.0, -1.0)
FIRST, SECOND = (0.0, 2.0, 0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.3, 0.0, 0.4, 0.0)
PLANTED = LinearTasks((FIRST, SECOND), MEAN, shots=30)
SINES = FunctionTasks(Sinusoid(), shots=5, queries=4)


def start(tasks: Any = SINES, *, seed: int = 0, count: int = 6, **settings: Any) -> Any:
    network, space = tiny_mlp()
    return initial_basis(
        network, space, REGRESSION, tasks.episodes(0, count), MetaTraining(**settings), seed=seed
    )


@pytest.mark.parametrize("solver", [GaussNewton(), Descent("sgd", lr=0.5, steps=40)])
def test_displacements_recover_a_planted_family(solver: Any) -> None:
    """Noiseless linear regression with more points than weights: every task is solved exactly."""
    network, space = linear_network()
    tasks, count = PLANTED, 40
    state = displacement_basis(network, space, tasks.episodes(0, count), 4, solver, problem=REGRESSION)
    weights = torch.stack([torch.as_tensor(tasks.weights(i), dtype=torch.float32) for i in range(count)])
    torch.testing.assert_close(state.origin, weights.mean(0), atol=1e-3, rtol=0)
    assert torch.allclose(state.origin, torch.tensor(MEAN), atol=0.8)

    covariance = (weights - weights.mean(0)).T @ (weights - weights.mean(0)) / count
    torch.testing.assert_close(state.basis @ state.basis.T, covariance, atol=5e-3, rtol=0)  # z ~ N(0, I)
    lengths = state.basis.norm(dim=0)
    assert lengths[0] == pytest.approx(2.0, rel=0.3) and lengths[1] == pytest.approx(0.5, rel=0.3)
    assert bool((lengths[2:] < 2e-2).all())
    planted = torch.tensor([FIRST, SECOND]).T
    assert bool((torch.cosine_similarity(state.basis[:, :2], planted, dim=0).abs() > 0.99).all())


def test_radius_scales_a_basis_of_displacements() -> None:
    plain, wide = (start(basis="displacements", k=2, radius=radius) for radius in (1.0, 3.0))
    torch.testing.assert_close(wide.basis, 3 * plain.basis)
    torch.testing.assert_close(wide.origin, plain.origin)
    assert not torch.allclose(plain.origin, tiny_mlp()[1].initial, atol=1e-3)


def test_displacements_come_from_the_descent_of_the_settings() -> None:
    network, space = tiny_mlp()
    ours = start(basis="displacements", k=2, basis_steps=3, basis_lr=0.02)
    solver = Descent(steps=3, lr=0.02)
    theirs = displacement_basis(network, space, SINES.episodes(0, 6), 2, solver, problem=REGRESSION)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_gradients_of_regression_tasks() -> None:
    network, space = tiny_mlp()
    state = task_gradient_basis(network, space, SINES.episodes(0, 5), 2, problem=REGRESSION)
    phi = space.initial.clone().requires_grad_(True)
    rows = []
    for episode in SINES.episodes(0, 5):
        outputs = torch.func.functional_call(network, space.parameters(phi), episode.support_x)
        rows.append(torch.autograd.grad(0.5 * (outputs - episode.support_y).square().sum(), phi)[0])
    directions = torch.linalg.svd(torch.stack(rows), full_matrices=False)[2][:2].T
    assert bool((torch.cosine_similarity(state.basis, directions, dim=0).abs() > 1 - 1e-5).all())


def test_a_random_basis_is_orthonormal_and_a_function_of_its_seed() -> None:
    state = start(basis="random", k=3, radius=2.0)
    torch.testing.assert_close(state.basis.T @ state.basis, 4 * torch.eye(3))
    assert torch.equal(start(basis="random", k=3, radius=2.0).basis, state.basis)
    assert not torch.equal(start(basis="random", k=3, radius=2.0, seed=1).basis, state.basis)
    assert torch.equal(state.origin, tiny_mlp()[1].initial)


def test_an_identity_basis_moves_every_parameter_by_itself() -> None:
    state = start(basis="identity", radius=0.5)
    assert torch.equal(state.basis, torch.full((22,), 0.5)) and state.k == 22
    assert bool(torch.isneginf(state.log_precision).all())


@pytest.mark.parametrize("basis", ["gradients", "displacements", "random", "identity"])
def test_what_may_not_move_has_zero_rows(basis: str) -> None:
    state = start(basis=basis, k=3, moves="0.bias")
    moving = torch.arange(7, 14)  # after seven weights of the first layer come its seven biases
    assert state.basis[moving].norm() > 0
    rest = state.basis.clone()
    rest[moving] = 0
    assert rest.norm() == 0
    if basis == "displacements":
        changed = (state.origin != tiny_mlp()[1].initial).nonzero().flatten()
        assert set(changed.tolist()) <= set(moving.tolist())


def test_a_random_basis_has_no_more_directions_than_parameters_may_move() -> None:
    assert start(basis="random", k=8, moves="2.bias").basis.shape == (22, 1)


def test_patterns_of_names() -> None:
    space = tiny_mlp()[1]
    assert movable(space, "*").tolist() == [1.0] * 22
    assert movable(space, "*.bias").sum() == 8 and movable(space, "2.*").sum() == 8
    with pytest.raises(
        AdaptError, match=r"meta.moves=bias matches none of 0.weight, 0.bias, 2.weight, 2.bias"
    ):
        movable(space, "bias")


def test_what_is_learned_starts_where_it_has_a_slope() -> None:
    state = initial_state(torch.ones(3), torch.ones(3, 2))
    assert all(a is b for a, b in zip(trainable(state, ("origin", "basis")), state, strict=True))
    learned = trainable(state, ("log_damping", "log_precision"))
    assert learned.log_damping == pytest.approx(SMALL) and torch.equal(learned.log_precision, torch.zeros(2))
    free = state._replace(log_precision=torch.full((2,), -torch.inf))
    assert trainable(free, ("log_precision",)).log_precision.tolist() == pytest.approx([SMALL] * 2)


def test_masks_fit_matrices_and_diagonals() -> None:
    mask: Tensor = torch.tensor([1.0, 0.0])
    assert masked(torch.ones(2), mask).tolist() == [1, 0]
    assert masked(torch.ones(2, 3), mask).tolist() == [[1, 1, 1], [0, 0, 0]]
