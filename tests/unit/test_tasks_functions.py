"""FunctionTasks: episodes and batches are pure, splits share nothing, errors name the fix, configs fit."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig

from adapt.app.config import config_folder
from adapt.app.main import main as _  # noqa: F401 (registers the schema)
from adapt.app.stages.session import distribution
from adapt.errors import AdaptError
from tasks import (
    Digits,
    Distribution,
    Episode,
    FunctionSource,
    FunctionTasks,
    Sinusoid,
    TaskError,
    VehicleDynamics,
)

SOURCES: dict[str, FunctionSource] = {
    "sinusoid": Sinusoid(),
    "sinusoid, noisy": Sinusoid(noise=0.3),
    "vehicle_dynamics": VehicleDynamics(),
    "vehicle_dynamics, noisy": VehicleDynamics(noise=0.3),
}
EVERY = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())


def same(a: Episode, b: Episode) -> bool:
    tensors = all(torch.equal(x, y) for x, y in zip(a[:4], b[:4], strict=True))
    return tensors and a.meta.parameters == b.meta.parameters


@EVERY
@settings(max_examples=25, deadline=None)
@given(
    shots=st.integers(1, 12),
    queries=st.integers(1, 12),
    seed=st.integers(0, 2**40),
    index=st.integers(0, 2**40),
)
def test_any_episode(source: FunctionSource, shots: int, queries: int, seed: int, index: int) -> None:
    tasks = FunctionTasks(source, shots, queries, seed=seed)
    episode = tasks.episode(index)
    assert episode.support_x.shape == (shots, *source.shape)
    assert episode.support_y.shape == (shots, source.outputs)
    assert episode.query_x.shape == (queries, *source.shape)
    assert episode.query_y.shape == (queries, source.outputs)
    for tensor in episode[:4]:
        assert tensor.dtype == torch.float32
        assert bool(torch.isfinite(tensor).all())
    meta = episode.meta
    assert (meta.index, meta.seed, meta.classes) == (index, seed, ())
    assert len(meta.support_indices) == len(meta.query_indices) == 0
    assert meta.parameters and all(np.isfinite(value) for value in meta.parameters.values())
    assert same(episode, tasks.episode(index))


@EVERY
def test_order_and_other_draws_do_not_matter(source: FunctionSource) -> None:
    tasks = FunctionTasks(source, 5, 7)
    forwards = [*tasks.episodes(3, 7)]
    torch.rand(5)
    np.random.default_rng().random(5)
    backwards = [tasks.episode(i) for i in (6, 5, 4, 3)]
    assert [e.meta.index for e in forwards] == [3, 4, 5, 6]
    assert all(same(a, b) for a, b in zip(forwards, reversed(backwards), strict=True))


@EVERY
def test_a_copy_in_another_process_draws_the_same(source: FunctionSource) -> None:
    tasks = FunctionTasks(source, 5, 7)
    assert same(tasks.episode(5), pickle.loads(pickle.dumps(tasks)).episode(5))
    assert same(tasks.episode(5), pickle.loads(pickle.dumps(tasks.episode(5))))


@EVERY
def test_what_was_handed_out_is_a_copy(source: FunctionSource) -> None:
    tasks = FunctionTasks(source, 5, 7)
    first, again = tasks.episode(0), tasks.episode(0)
    for tensor in first[:4]:
        tensor.zero_()
    assert same(again, tasks.episode(0))


@EVERY
def test_batch_is_the_episodes_bit_for_bit(source: FunctionSource) -> None:
    tasks = FunctionTasks(source, 5, 7, support_split="validation", seed=3)
    batch, singles = tasks.batch(4, 14), [*tasks.episodes(4, 14)]
    for together, apart in zip(batch[:4], zip(*(e[:4] for e in singles), strict=True), strict=True):
        assert torch.equal(together, torch.stack(apart))
    assert batch.meta.index == 4
    assert batch.meta.parameters == singles[0].meta.parameters


@EVERY
def test_no_two_tasks_coincide_between_splits_seeds_or_indices(source: FunctionSource) -> None:
    drawn = [
        tuple(episode.meta.parameters.values())
        for split in source.splits
        for seed in range(3)
        for episode in FunctionTasks(source, 1, 1, split, seed=seed).episodes(0, 20)
    ]
    assert len(drawn) == len(set(drawn)) == 180
    assert len({value for values in drawn for value in values}) == 180 * len(drawn[0])


@EVERY
def test_query_split_may_be_repeated(source: FunctionSource) -> None:
    once = FunctionTasks(source, 2, 3, "test")
    assert same(once.episode(0), FunctionTasks(source, 2, 3, "test", "test").episode(0))


def test_noise_is_on_the_targets_of_the_support_alone() -> None:
    for kind in (Sinusoid, VehicleDynamics):
        clean, noisy = (FunctionTasks(kind(noise), 400, 9).episode(1) for noise in (0.0, 0.3))
        assert torch.equal(clean.support_x, noisy.support_x)
        assert torch.equal(clean.query_x, noisy.query_x)
        assert torch.equal(clean.query_y, noisy.query_y)
        assert clean.meta.parameters == noisy.meta.parameters
        difference = noisy.support_y - clean.support_y
        assert difference.std(0).tolist() == pytest.approx([0.3] * kind.outputs, rel=0.15)
        assert difference.mean(0).abs().max() < 0.07


@pytest.mark.parametrize("kind", [Sinusoid, VehicleDynamics])
@pytest.mark.parametrize("noise", [-0.1, float("nan"), float("inf")])
def test_noise_must_be_a_standard_deviation(kind: Any, noise: float) -> None:
    with pytest.raises(TaskError, match=r"noise=.* use noise>=0"):
        kind(noise)


def test_digest_is_of_the_settings() -> None:
    digests = [source.digest() for source in SOURCES.values()]
    assert len(set(digests)) == len(digests)
    assert Sinusoid(noise=0).digest() == Sinusoid(noise=0.0).digest()
    assert VehicleDynamics(0.3).digest() == SOURCES["vehicle_dynamics, noisy"].digest()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"shots": 0}, "task.shots=0 is too small: use task.shots>=1"),
        ({"queries": 0}, "task.queries=0 is too small"),
        ({"seed": -1}, "task.seed=-1 is too small"),
        ({"support_split": "dev"}, "sinusoid has no split 'dev': use one of train, validation, test"),
        ({"query_split": "test"}, "task.query_split=test is not task.support_split=train"),
    ],
)
def test_settings_that_cannot_be(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        FunctionTasks(Sinusoid(), **wrong)


def test_episodes_that_cannot_be() -> None:
    tasks = FunctionTasks(Sinusoid())
    with pytest.raises(TaskError, match="episode index -1 is negative"):
        tasks.episode(-1)
    with pytest.raises(TaskError, match="episode index -2 is negative"):
        tasks.batch(-2, 3)
    with pytest.raises(TaskError, match="use stop > start"):
        tasks.batch(3, 3)


def test_tasks_say_whether_targets_are_numbers() -> None:
    assert FunctionTasks(Sinusoid()).regression
    labelled = Distribution(Digits(size=8), 2, 1, 1, "support", "query")
    assert not labelled.regression
    assert labelled.episode(0).meta.parameters == {}


# --------------------------------------------------------------------------------------------- configs


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose("config", [*overrides])


@pytest.mark.parametrize(("name", "kind"), [("sinusoid", Sinusoid), ("vehicle_dynamics", VehicleDynamics)])
def test_config_builds_tasks_of_functions(name: str, kind: Any) -> None:
    config = composed(f"task={name}", "task.shots=4", "task.source.noise=0.5", "seed=6")
    tasks = distribution(config)
    assert tasks == FunctionTasks(tasks.source, 4, 100, "test", None, 6)  # type: ignore[arg-type]
    assert tasks.source.digest() == kind(noise=0.5).digest()
    validation = distribution(config, split="validation", seed=9)
    assert (validation.support_split, validation.query_split, validation.seed) == ("validation", None, 9)


def test_config_builds_tasks_of_classes() -> None:
    tasks = distribution(composed("task=digits", "task.ways=3"))
    assert isinstance(tasks, Distribution)
    assert (tasks.ways, tasks.support_split, tasks.query_split) == (3, "support", "query")


@pytest.mark.parametrize("wrong", ["task.transform={_target_:tasks.Style}", "task.replace=true"])
def test_config_of_functions_has_no_styles(wrong: str) -> None:
    with pytest.raises(AdaptError, match=r"is not a setting of tasks\.FunctionTasks"):
        distribution(composed("task=sinusoid", wrong))
