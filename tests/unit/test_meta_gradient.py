"""The outer gradient: right, the same for any chunk, and what stands in for it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adapt.adapter import AdapterState, FewShotAdapter, initial_state
from adapt.inner import Descent, GaussNewton, Trace
from adapt.meta import MetaTraining
from adapt.meta.batches import single, stacked
from adapt.meta.gradient import Gradients, outer_gradient, reptile_direction
from adapt.meta.memory import affordable, saved_bytes
from adapt.meta.query import Learner
from adapt.meta.step import Training
from adapt.spaces import film
from tasks import ArraySource, Distribution, FunctionTasks, Sinusoid
from tests.helpers import make_adapter
from tests.planted import REGRESSION, tiny_mlp

SINES = FunctionTasks(Sinusoid(), shots=5, queries=4)
EVERYTHING = AdapterState._fields


def sine_state(dtype: torch.dtype = torch.float32, k: int = 3) -> tuple[Learner, AdapterState]:
    network, space = tiny_mlp(dtype)
    basis = 0.3 * torch.randn(space.size, k, generator=torch.Generator().manual_seed(1)).to(dtype)
    state = initial_state(space.initial.clone(), basis)
    return Learner(network, space, GaussNewton(steps=2), REGRESSION), state._replace(
        log_damping=torch.tensor(-1.0, dtype=dtype)
    )


@pytest.fixture
def shapes(source: ArraySource) -> Distribution:
    return Distribution(source, ways=3, shots=3, queries=4, support_split="train", seed=1)


def agrees_with_differences(
    learner: Learner, state: AdapterState, tasks: Any, learn: tuple[str, ...], step: float, **how: Any
) -> None:
    """Along a random direction in each field, in double precision."""
    batch = stacked(tasks, 0, 3)
    batch = type(batch)._make([*(t.double() if t.is_floating_point() else t for t in batch[:4]), batch.meta])
    gradients, _ = outer_gradient(learner, state, batch, learn, chunk=3, **how)
    for name in learn:
        value = getattr(state, name)
        direction = torch.randn(value.shape, generator=torch.Generator().manual_seed(2)).to(value)
        ends = []
        for sign in (1, -1):
            there = state._replace(**{name: value + sign * step * direction})
            ends.append(float(outer_gradient(learner, there, batch, learn, chunk=3, **how)[1]))
        slope = (ends[0] - ends[1]) / (2 * step)
        assert float((gradients[name] * direction).sum()) == pytest.approx(
            slope, rel=1e-4, abs=1e-15 / step
        ), name


def test_gradient_of_regression_agrees_with_finite_differences() -> None:
    learner, state = sine_state(torch.float64)
    agrees_with_differences(learner, state, SINES, EVERYTHING, step=1e-5)
    agrees_with_differences(learner, state, SINES, EVERYTHING, step=1e-5, size=2)


def test_gradient_of_classification_agrees_with_finite_differences(
    adapter: FewShotAdapter, shapes: Distribution
) -> None:
    network = adapter.backbone.double()
    state = AdapterState(*(tensor.double() for tensor in adapter.state))
    state = state._replace(log_damping=torch.tensor(-1.0, dtype=torch.float64))
    learner = Learner(network, film(network), GaussNewton(steps=2), adapter.problem)
    # A tiny step: rectifiers and poolings have kinks everywhere.
    agrees_with_differences(learner, state, shapes, EVERYTHING, step=1e-8)


def test_learned_rates_have_a_gradient_through_descent() -> None:
    learner, state = sine_state(torch.float64)
    descent = Learner(learner.backbone, learner.space, Descent("sgd", lr=0.1, steps=3), REGRESSION)
    agrees_with_differences(descent, state, SINES, ("origin", "basis", "log_rates"), step=1e-5)


def same(ours: tuple[Gradients, Tensor], theirs: tuple[Gradients, Tensor]) -> None:
    assert ours[0].keys() == theirs[0].keys()
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-5, atol=1e-7)
    for name, gradient in ours[0].items():
        torch.testing.assert_close(gradient, theirs[0][name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("chunk", [1, 2, 4, 100])
@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_any_chunk_gives_the_same(kind: str, chunk: int, backbone: nn.Module, shapes: Distribution) -> None:
    if kind == "regression":
        learner, state = sine_state()
        batch = stacked(SINES, 0, 5)
    else:
        adapter = make_adapter(backbone)
        learner, state = Learner(backbone, adapter.space, GaussNewton(), adapter.problem), adapter.state
        batch = stacked(shapes, 0, 5)
    learn = ("origin", "basis", "log_precision", "log_sharpness")
    same(
        outer_gradient(learner, state, batch, learn, chunk=chunk),
        outer_gradient(learner, state, batch, learn, chunk=5),
    )
    same(
        reptile_direction(learner, state, batch, chunk=chunk),
        reptile_direction(learner, state, batch, chunk=5),
    )


def test_leading_directions_alone_get_a_gradient() -> None:
    learner, state = sine_state()
    found, _ = outer_gradient(
        learner, state, stacked(SINES, 0, 2), ("basis", "log_precision"), chunk=2, size=1
    )
    assert found["basis"][:, 0].norm() > 0 and found["log_precision"][0] != 0
    assert found["basis"][:, 1:].norm() == 0 and found["log_precision"][1:].norm() == 0


def constant(model: Any, targets: Tensor, loss: Any, learned: Any) -> tuple[Tensor, Trace]:
    return torch.full_like(learned.precision, 0.5).detach(), Trace(targets.new_zeros(0), 0.0)


def test_first_order_is_exact_where_the_solution_does_not_depend_on_the_state() -> None:
    learner, state = sine_state()
    batch, learn = stacked(SINES, 0, 3), ("origin", "basis")
    fixed = Learner(learner.backbone, learner.space, constant, REGRESSION)
    exact = outer_gradient(fixed, state, batch, learn, chunk=3)
    same(outer_gradient(fixed, state, batch, learn, chunk=3, first_order=True), exact)
    ours = outer_gradient(learner, state, batch, learn, chunk=3, first_order=True)
    theirs = outer_gradient(learner, state, batch, learn, chunk=3)
    assert torch.equal(ours[1], theirs[1]) and not torch.allclose(ours[0]["origin"], theirs[0]["origin"])


def test_first_order_gradient_by_hand() -> None:
    learner, state = sine_state()
    episode = SINES.episode(4)
    z, _ = learner.adapt(state, episode)
    phi = (state.origin + state.basis @ z.detach()).requires_grad_(True)
    outputs = torch.func.functional_call(learner.backbone, learner.space.parameters(phi), episode.query_x)
    (slope,) = torch.autograd.grad(nn.functional.mse_loss(outputs, episode.query_y), phi)
    batch = stacked(SINES, 4, 5)
    found, _ = outer_gradient(learner, state, batch, ("origin", "basis"), chunk=1, first_order=True)
    torch.testing.assert_close(found["origin"], slope)
    torch.testing.assert_close(found["basis"], torch.outer(slope, z.detach()))


def test_reptile_moves_towards_the_mean_solution() -> None:
    learner, state = sine_state()
    settings = MetaTraining(gradient="reptile", learn=("origin",), lr=0.5, steps=2, tasks_per_step=3)
    training = Training(learner, SINES, settings, 0)
    begun = training.valued(training.begin(state), stacked(SINES, 10, 12))
    now, metrics = training.step(begun)
    solutions = torch.stack([learner.adapt(state, episode)[0] for episode in SINES.episodes(0, 3)])
    expected = state.origin + 0.5 * state.basis @ solutions.mean(0)
    torch.testing.assert_close(now.state.origin, expected)
    assert all(a is b for a, b in zip(now.state[1:], begun.state[1:], strict=True))
    losses = [float(learner.score(learner.adapt(state, e)[1], e).loss) for e in SINES.episodes(0, 3)]
    assert metrics["train/loss"] == pytest.approx(sum(losses) / 3, rel=1e-5)
    then, _ = training.step(now)  # the second of two steps: half the rate
    solutions = torch.stack([learner.adapt(now.state, episode)[0] for episode in SINES.episodes(3, 6)])
    expected = now.state.origin + 0.25 * state.basis @ solutions.mean(0)
    torch.testing.assert_close(then.state.origin, expected)


def test_one_of_stacked_episodes_is_that_episode(shapes: Distribution) -> None:
    for tasks in (SINES, shapes):
        for ours, theirs in zip(single(stacked(tasks, 2, 5), 1)[:4], tasks.episode(3)[:4], strict=True):
            assert torch.equal(ours, theirs)


# ------------------------------------------------------------------------------------------ memory


def test_bytes_saved_for_backward_count_once() -> None:
    x, w = torch.ones(10, 3, requires_grad=True), torch.ones(3, requires_grad=True)
    assert saved_bytes((x * w).sum()) == 4 * (30 + 3)
    assert saved_bytes((x * x).sum() + (x * x).sum()) == 4 * 30
    assert saved_bytes(torch.ones(3)) == 0


def test_bytes_are_counted_through_torch_func() -> None:
    w = torch.ones(1000, requires_grad=True)
    gradient = torch.func.grad(lambda z: (z * w).sin().sum())(torch.ones(1000))
    assert saved_bytes(gradient.sum()) >= 2 * 4000


def test_as_many_tasks_as_fit() -> None:
    x = torch.ones(2**18, requires_grad=True)  # a megabyte
    assert affordable(x.sin().sum(), 10) == 10
    assert affordable(x.sin().sum(), 1) == 1
    assert affordable(x.exp().sin().sum(), 1) == 1  # it does not fit, but has to be done
    assert affordable(torch.ones(3).sum(), 1) == 2**20


def test_a_step_that_runs_out_of_memory_is_done_again_with_half_the_tasks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learner, state = sine_state()
    training = Training(learner, SINES, MetaTraining(tasks_per_step=5), 0)
    begun = training.valued(training.begin(state), stacked(SINES, 10, 12))
    assert begun.chunk > 100
    begun = training.valued(training.begin(state), stacked(SINES, 10, 12))
    tried: list[int] = []

    def scarce(*arguments: Any, chunk: int, **more: Any) -> tuple[Gradients, Tensor]:
        tried.append(chunk)
        if chunk > 2:
            raise torch.OutOfMemoryError
        return outer_gradient(*arguments, chunk=chunk, **more)

    plain, _ = training.step(begun)
    monkeypatch.setattr("adapt.meta.step.outer_gradient", scarce)
    now, _ = training.step(begun)
    assert now.chunk == tried[-1] <= 2 and tried == [begun.chunk // 2**i for i in range(len(tried))]
    for ours, theirs in zip(now.state, plain.state, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    tried.clear()
    training.step(now)
    assert tried == [now.chunk]  # it has learned


def test_no_memory_for_a_single_task_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    learner, state = sine_state()
    training = Training(learner, SINES, MetaTraining(chunk=1), 0)
    begun = training.valued(training.begin(state), stacked(SINES, 10, 12))

    def scarce(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr("adapt.meta.step.outer_gradient", scarce)
    with pytest.raises(torch.OutOfMemoryError):
        training.step(begun)
