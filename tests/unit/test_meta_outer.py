"""The rules of the outer loop: averages, patience, steps that are left out, nested sizes, resuming."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from adapt import AdaptError
from adapt.adapter import AdapterState, Problem
from adapt.files import read_metadata, read_tensors
from adapt.inner import Descent, GaussNewton, Solver
from adapt.meta import MetaTraining, initial_basis, meta_train
from adapt.meta.adam import Moments, adam, clipped, cosine
from adapt.meta.batches import stacked
from adapt.meta.query import Learner
from adapt.meta.validation import Metrics, validate
from tasks import ArraySource, Distribution, FunctionTasks, Sinusoid
from tests.planted import REGRESSION, LinearTasks, linear_network, tiny_mlp

TRAIN = FunctionTasks(Sinusoid(), shots=5, queries=5)
HELD = FunctionTasks(Sinusoid(), shots=5, queries=5, support_split="validation")
SETTINGS: dict[str, Any] = {
    "k": 3, "basis": "random", "steps": 8, "tasks_per_step": 5, "lr": 1e-2, "validate_every": 2,
    "validation_tasks": 10,
}  # fmt: skip
Seen = list[tuple[int, Metrics]]


def run(
    *,
    network: Any = None,
    solver: Solver = GaussNewton(),  # noqa: B008 (immutable)
    train: Any = TRAIN,
    held: Any = HELD,
    problem: Problem = REGRESSION,
    seed: int = 0,
    checkpoint: Path | None = None,
    resume: Path | None = None,
    progress: Any = lambda steps: steps,
    **changes: Any,
) -> tuple[AdapterState, AdapterState, Metrics, Seen]:
    """Start, result, its metrics, and all that was reported."""
    (backbone, space), settings = network or tiny_mlp(), MetaTraining(**{**SETTINGS, **changes})
    start = initial_basis(backbone, space, problem, train.episodes(0, 5), settings, seed=seed)
    seen: Seen = []
    state, metrics = meta_train(
        backbone,
        space,
        None if resume else start,
        solver,
        problem,
        train,
        held,
        settings,
        seed=seed,
        progress=progress,
        report=lambda step, values: seen.append((step, values)),
        checkpoint=checkpoint,
        resume=resume,
    )
    return start, state, metrics, seen


def same(ours: AdapterState, theirs: AdapterState) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def validations(seen: Seen, name: str = "validation/loss") -> dict[int, float]:
    return {step: metrics[name] for step, metrics in seen if name in metrics}


def test_regression_improves_and_reports_its_error() -> None:
    _, _, metrics, seen = run(steps=40, validate_every=10)
    losses = validations(seen)
    assert list(losses) == [0, 10, 20, 30, 40]
    assert metrics["validation/loss"] == min(losses.values()) < 0.8 * losses[0]
    assert metrics["validation/mse"] == metrics["validation/loss"] and "validation/accuracy" not in metrics


@pytest.mark.parametrize(
    ("changes", "solver"),
    [
        ({"gradient": "first_order", "learn": ["origin", "basis"]}, GaussNewton()),
        ({"gradient": "reptile", "learn": ["origin"], "lr": 0.5}, GaussNewton()),
        ({"basis": "identity", "learn": ["origin"]}, Descent("sgd", lr=0.05, steps=2)),
        ({"basis": "identity", "learn": ["origin", "log_rates"]}, Descent("sgd", lr=0.05, steps=2)),
        ({"basis": "displacements", "learn": ["origin", "basis", "log_damping"]}, GaussNewton(steps=2)),
        ({"learn": ["log_precision"]}, GaussNewton()),
        ({"subspaces": 2, "learn": ["origin", "basis", "router"]}, GaussNewton()),
    ],
)
def test_every_way_of_training_learns_what_it_should(changes: dict[str, Any], solver: Solver) -> None:
    start, state, metrics, seen = run(
        solver=solver, **{"steps": 30, "validate_every": 10, "lr": 3e-2, **changes}
    )
    assert metrics["validation/loss"] < validations(seen)[0]
    learn = tuple(changes.get("learn", MetaTraining().learn))
    changed = {name for name in start._fields if not torch.equal(getattr(start, name), getattr(state, name))}
    assert changed == set(learn) - {"log_sharpness"}  # which squared error does not know


def test_only_what_may_move_gets_directions() -> None:
    """As context parameters (CAVIA): tasks move the first bias, φ₀ is learned everywhere."""
    start, state, _, _ = run(moves="0.bias")
    moving = torch.arange(7, 14)
    rest = torch.ones(22, dtype=torch.bool)
    rest[moving] = False
    assert state.basis[rest].norm() == 0 and not torch.equal(state.basis[moving], start.basis[moving])
    assert bool((state.origin != start.origin).all())


class Counting(FunctionTasks):
    """Notes which tasks are drawn."""

    def batch(self, start: int, stop: int) -> Any:
        DRAWN.extend(range(start, stop))
        return super().batch(start, stop)


DRAWN: list[int] = []


def test_distinct_tasks_are_drawn_once_and_come_round_again() -> None:
    DRAWN.clear()
    counting = Counting(Sinusoid(), shots=5, queries=5)
    _, few, _, _ = run(train=counting, distinct_tasks=7)
    assert [*range(7)] == DRAWN
    _, many, _, _ = run(train=counting, distinct_tasks=40)  # as many as are asked for: each is used once
    assert same(many, run()[1]) and not same(few, many)


# ------------------------------------------------------------------------------------- the rules


def test_the_average_follows_the_state_and_is_what_is_returned(tmp_path: Path) -> None:
    path = tmp_path / "it"
    start, state, metrics, _ = run(ema=0.75, steps=1, validate_every=1, checkpoint=path)
    saved = read_tensors(path)
    for name in MetaTraining().learn:
        mixed = 0.75 * getattr(start, name) + 0.25 * saved[f"state.{name}"]
        torch.testing.assert_close(saved[f"average.{name}"], mixed)
        assert torch.equal(getattr(state, name), saved[f"average.{name}"])
    assert metrics["validation/loss"] < float("inf")
    assert torch.isneginf(saved["average.log_damping"])  # not learned: stays what it was


def test_without_an_average_the_state_is_returned() -> None:
    _, plain, _, _ = run()
    _, zero, _, _ = run(ema=0.0)
    _, slow, _, _ = run(ema=0.9)
    assert same(plain, zero) and not same(plain, slow)


def test_patience_stops_after_validations_without_improvement() -> None:
    ended: list[bool] = []

    def bar(steps: Iterable[int]) -> Iterator[int]:
        try:
            yield from steps
        finally:
            ended.append(True)

    _, _, metrics, seen = run(lr=10.0, steps=40, validate_every=1, patience=3, progress=bar)
    losses = validations(seen)
    best = min(losses, key=lambda step: losses[step])
    assert max(losses) == best + 3 < 40 and metrics["validation/loss"] == losses[best]
    assert ended == [True]
    assert max(validations(run(lr=10.0, steps=12, validate_every=1)[3])) == 12  # without patience


class SometimesBroken(FunctionTasks):
    """Infinite targets in the tasks of step 2."""

    def batch(self, start: int, stop: int) -> Any:
        batch = super().batch(start, stop)
        return batch._replace(query_y=batch.query_y * torch.inf) if start == 10 else batch


def test_a_step_that_is_not_finite_is_left_out_and_counted(tmp_path: Path) -> None:
    broken = SometimesBroken(Sinusoid(), shots=5, queries=5)
    _, state, metrics, seen = run(train=broken)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in state[:3])
    skipped = {step: values["train/skipped"] for step, values in seen if "train/skipped" in values}
    assert skipped == {3: 1}
    assert [step for step, values in seen if "train/loss" in values] == [1, 2, 4, 5, 6, 7, 8]
    assert metrics["validation/loss"] < validations(seen)[0]
    states = []
    for steps in (2, 3):  # the third step changes nothing
        path = tmp_path / str(steps)
        run(
            train=broken,
            checkpoint=path,
            steps=3,
            validate_every=steps,
            progress=lambda s, n=steps: list(s)[:n],
        )
        states.append({k: v for k, v in read_tensors(path).items() if not k.startswith("best")})
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_long_gradients_are_scaled_down() -> None:
    gradients = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor(4.0)}
    found, norm = clipped(gradients, 1.0)
    assert norm == 5.0 and found["a"].tolist() == pytest.approx([0.6, 0]) and found["b"] == pytest.approx(0.8)
    assert clipped(gradients, 6.0)[0] is gradients
    assert not clipped({"a": torch.tensor(torch.nan)}, 1.0)[1] > 0


def test_adam_is_that_of_torch() -> None:
    value = torch.tensor([1.0, -2.0], requires_grad=True)
    optimizer = torch.optim.Adam([value], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5)
    ours, moments = value.detach().clone(), Moments(torch.zeros(2), torch.zeros(2))
    for step in range(5):
        gradient = torch.tensor([0.5 * step - 1, 3.0])
        value.grad = gradient.clone()
        optimizer.step()
        schedule.step()
        ours, moments = adam(ours, gradient, moments, step + 1, 0.1 * cosine(step, 5))
        torch.testing.assert_close(ours, value.detach())


# ------------------------------------------------------------------------------------- nested sizes

LONG, SHORT = (3.0, 0.0, 0.0, 0.0, 0.0, 0.0), (0.0, 1.5, 0.0, 0.0, 0.0, 0.0)


def test_nested_training_makes_the_leading_direction_the_best_one() -> None:
    """Tasks differ in a long and a short direction; a start that mixes the two suits both runs."""
    tasks, held = LinearTasks((LONG, SHORT)), LinearTasks((LONG, SHORT), seed=9)
    common: dict[str, Any] = {
        "train": tasks,
        "held": held,
        "k": 2,
        "steps": 200,
        "lr": 3e-2,
        "validate_every": 100,
    }
    common |= {"learn": ["basis"]}
    _, plain, _, _ = run(network=linear_network(), **common)
    _, nested, metrics, seen = run(network=linear_network(), nested=[1, 2], **common)
    losses = validations(seen, "validation/loss_k1")
    assert sorted(losses) == [0, 100, 200] and losses[200] < losses[0]
    assert validations(seen, "validation/loss_k2") == validations(seen)
    long = torch.tensor(LONG)
    ours, theirs = (
        torch.cosine_similarity(state.basis[:, 0], long, dim=0).abs() for state in (nested, plain)
    )
    assert ours > 0.99 > theirs
    learner = Learner(*linear_network(), GaussNewton(), REGRESSION)
    alone = validate(learner, plain.leading(1), stacked(held, 0, 10), chunk=10)
    assert metrics["validation/loss_k1"] < alone["validation/loss"]
    assert metrics["validation/mse_k1"] > metrics["validation/mse"]


def test_no_more_nested_sizes_than_directions() -> None:
    """Five tasks give five directions."""
    _, state, metrics, _ = run(basis="gradients", k=8, nested=[4, 8])
    assert state.k == 5
    assert {"validation/loss_k4", "validation/loss_k5"} <= set(metrics)


def test_the_drawn_size_is_a_function_of_seed_and_step() -> None:
    first, again, other = (run(nested=[1, 3], seed=seed)[1] for seed in (0, 0, 1))
    assert same(first, again) and not same(first, other)


# ------------------------------------------------------------------------------------- checkpoints


class Killed(Exception):
    pass


@pytest.mark.parametrize(
    "changes",
    [
        {"ema": 0.5, "nested": [1, 3], "patience": 5},
        {"gradient": "reptile", "learn": ["origin"], "lr": 0.5},
        {"basis": "identity", "chunk": 2},
        {"subspaces": 2},
    ],
)
def test_resuming_gives_the_same_to_the_last_bit(changes: dict[str, Any], tmp_path: Path) -> None:
    solver = Descent("sgd", lr=0.05, steps=2) if changes.get("basis") == "identity" else GaussNewton()
    _, whole, metrics, seen = run(solver=solver, checkpoint=tmp_path / "whole", **changes)
    interrupted = tmp_path / "interrupted"

    def killed(steps: Iterable[int]) -> Iterator[int]:
        for index in steps:
            if index == 5:  # the last checkpoint is that of step 4
                raise Killed
            yield index

    with pytest.raises(Killed):
        run(solver=solver, checkpoint=interrupted, progress=killed, **changes)
    again = tmp_path / "again"
    _, state, resumed, later = run(solver=solver, resume=interrupted, checkpoint=again, **changes)
    assert same(state, whole) and resumed == metrics
    assert later == [entry for entry in seen if entry[0] > 4]
    ours, theirs = read_tensors(again), read_tensors(tmp_path / "whole")
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert read_metadata(again) == read_metadata(tmp_path / "whole")


def test_a_finished_run_can_be_resumed_and_does_nothing(tmp_path: Path) -> None:
    _, whole, metrics, _ = run(checkpoint=tmp_path / "it")
    _, state, again, seen = run(resume=tmp_path / "it")
    assert same(state, whole) and again == metrics and seen == []


def test_a_checkpoint_is_there_before_the_first_step(tmp_path: Path) -> None:
    def killed(steps: Iterable[int]) -> NoReturn:
        raise Killed

    with pytest.raises(Killed):
        run(checkpoint=tmp_path / "it", progress=killed)
    assert same(run(resume=tmp_path / "it")[1], run()[1])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lr": 0.5}, "meta.lr was 0.01 there and is 0.5 here"),
        ({"seed": 3}, "seed was 0 there and is 3 here"),
        ({"solver": GaussNewton(steps=2)}, "inner was GaussNewton"),
        ({"train": replace(TRAIN, shots=6)}, "train.shots was 5 there and is 6 here"),
        ({"network": linear_network()}, "backbone was"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    run(checkpoint=tmp_path / "it")
    with pytest.raises(AdaptError, match="cannot be resumed") as caught:
        if "network" in changes:
            changes |= {"train": LinearTasks((LONG,)), "held": LinearTasks((LONG,))}
            said = "was"
        run(resume=tmp_path / "it", **changes)
    assert said in str(caught.value)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    from adapt.files import write_tensors

    with pytest.raises(AdaptError, match="does not exist"):
        run(resume=tmp_path / "nothing")
    write_tensors(tmp_path / "other", {"a": torch.ones(1)})
    with pytest.raises(AdaptError, match="not a checkpoint of meta-training"):
        run(resume=tmp_path / "other")
    with pytest.raises(AdaptError, match="a state to start from, or a checkpoint"):
        network, space = tiny_mlp()
        meta_train(network, space, None, GaussNewton(), REGRESSION, TRAIN, HELD, MetaTraining())


# ------------------------------------------------------------------------------------- what is refused


def test_tasks_must_fit_the_loss(source: ArraySource) -> None:
    classes = Distribution(source, ways=2, shots=2, queries=2, support_split="train")
    with pytest.raises(AdaptError, match="SquaredError does not fit tasks whose targets are classes"):
        run(held=classes)
    with pytest.raises(AdaptError, match="CrossEntropy does not fit tasks whose targets are values"):
        network, space = tiny_mlp()
        start = initial_basis(network, space, REGRESSION, (), MetaTraining(basis="random"))
        meta_train(network, space, start, GaussNewton(), Problem(), TRAIN, HELD, MetaTraining())


def test_one_shot_regression_is_allowed() -> None:
    one = replace(TRAIN, shots=1)
    assert run(train=one, held=replace(HELD, shots=1), steps=2)[2]["validation/loss"] > 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gradient": "second_order"}, "choose exact, first_order, reptile"),
        ({"basis": "ones"}, "choose gradients, displacements, auto_decoder, starts, random, identity"),
        ({"learn": []}, "name at least one of origin, basis"),
        ({"learn": ["lambda"]}, "name at least one of origin, basis"),
        ({"gradient": "reptile"}, r"use meta.learn=\[origin\]"),
        ({"nested": [9]}, "between 1 and meta.k=8"),
        ({"nested": [0, 2]}, "between 1 and meta.k=8"),
        ({"nested": [2], "basis": "identity"}, "no order"),
        ({"lr": 0.0}, "meta.lr=0.0: must be positive"),
        ({"clip": float("nan")}, "meta.clip=nan is no finite number: must be positive"),
        ({"radius": -1.0}, "meta.radius=-1.0"),
        ({"ema": 1.0}, "between 0"),
        ({"patience": -1}, "meta.patience=-1"),
        ({"chunk": 0}, "meta.chunk=0"),
        ({"distinct_tasks": 3}, "meta.distinct_tasks=3: at least meta.tasks_per_step=4"),
        ({"memory_mb": 0}, "meta.memory_mb=0 is too small"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(AdaptError, match=said):
        MetaTraining(**changes)
