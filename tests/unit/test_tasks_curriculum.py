"""Tasks whose size changes: by index, and within a batch of meta-training."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from adapt.adapter import AdapterState, Problem
from adapt.inner import GaussNewton
from adapt.meta import MetaTraining, initial_basis, meta_train
from adapt.meta.batches import Ragged, map_tasks, single, stacked
from adapt.meta.gradient import outer_gradient
from adapt.meta.query import Learner
from adapt.spaces import film
from tasks import (
    ArraySource,
    Curriculum,
    Distribution,
    Episode,
    FunctionTasks,
    MetaDataset,
    Mixture,
    NoisyLabels,
    Sinusoid,
    TaskError,
    Uniform,
)
from tests.helpers import make_source, tiny_conv4
from tests.unit.test_tasks_distribution import same, source

TOY = source({"train": [30] * 5})
MANY, FEW = Distribution(TOY, 3, 10, 2), Distribution(TOY, 2, Uniform(2, 4), 2)
COURSE = Curriculum({100: FEW, 0: MANY})


def test_a_stage_gives_its_own_episodes() -> None:
    for index, stage in ((0, MANY), (99, MANY), (100, FEW), (10**6, FEW)):
        assert same(COURSE.episode(index), stage.episode(index))
    assert [len(e.meta.classes) for e in COURSE.episodes(98, 102)] == [3, 3, 2, 2]
    assert (COURSE.last, COURSE.source, COURSE.regression) == (FEW, TOY, False)
    assert (str(COURSE.shots), str(COURSE.ways), COURSE.queries) == ("2|4|10", "2|3", 2)
    assert [*COURSE.stages] == [0, 100] and COURSE.support_split == "train"


def test_regression_can_have_a_course() -> None:
    stages = {0: FunctionTasks(Sinusoid(), shots=10), 5: FunctionTasks(Sinusoid(), shots=3)}
    course = Curriculum(stages)
    assert [len(e.support_y) for e in course.episodes(4, 6)] == [10, 3] and course.regression


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Curriculum({5: MANY}), r"start at \[5\]: give a stage for index 0"),
        (lambda: Curriculum({}), "give a stage for index 0"),
        (
            lambda: Curriculum({0: MANY, 9: Distribution(make_source(), 2, 1, 1)}),
            "changes the source from toy to patterns at 9",
        ),
        (lambda: COURSE.episode(-1), "episode index -1 is negative"),
    ],
)
def test_mistakes_are_named(make: Any, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        make()


# ----------------------------------------------------------------------- batches of tasks that differ in size


def variable(images: ArraySource, **more: Any) -> Distribution:
    arguments = {"ways": Uniform(2, 3), "shots": Uniform(2, 4), "queries": 3, **more}
    return Distribution(images, imbalanced=True, **arguments)


def test_a_batch_of_one_size_is_stacked_and_any_other_is_ragged() -> None:
    assert isinstance(stacked(MANY, 0, 3).support_x, torch.Tensor)
    batch = stacked(FEW, 0, 6)
    columns: Any = batch[:4]
    assert all(isinstance(column, Ragged) and len(column) == 6 for column in columns)
    for index in range(6):
        one, own = single(batch, index), FEW.episode(index)
        assert all(torch.equal(a, b) for a, b in zip(one[:4], own[:4], strict=True))
        assert len(one.meta.classes) == len(own.meta.classes)
    chosen = columns[1][torch.tensor([4, 4, 0])]
    assert [len(part) for part in chosen.tensors] == [len(FEW.episode(i).support_y) for i in (4, 4, 0)]


def test_equal_tensors_with_other_numbers_of_classes_are_no_batch() -> None:
    """2 ways of 3 shots and 3 ways of 2, each with 6 queries."""
    both = Mixture({"x": Distribution(TOY, 2, 3, 3), "y": Distribution(TOY, 3, 2, 2)})
    batch = stacked(both, 0, 20)
    assert isinstance(batch.support_x, Ragged)
    assert {len(single(batch, i).meta.classes) for i in range(20)} == {2, 3}


def test_ragged_batches_are_computed_one_task_at_a_time() -> None:
    batch = stacked(FEW, 0, 5)

    def total(episode: Episode) -> tuple[torch.Tensor]:
        return (episode.support_x.sum(),)

    found = torch.cat([result for (result,) in map_tasks(total, batch, chunk=3)])
    torch.testing.assert_close(found, torch.stack([FEW.episode(i).support_x.sum() for i in range(5)]))


def test_the_gradient_of_a_ragged_batch_is_the_mean_of_its_tasks() -> None:
    backbone = tiny_conv4()
    space, tasks = film(backbone), variable(make_source(per_class=20))
    settings = MetaTraining(k=2, basis="random")
    state = initial_basis(backbone, space, Problem(), [], settings)
    learner = Learner(backbone, space, GaussNewton(), Problem())
    gradients, loss = outer_gradient(learner, state, stacked(tasks, 0, 4), ("origin",), chunk=4)
    alone = [outer_gradient(learner, state, stacked(tasks, i, i + 1), ("origin",), chunk=1) for i in range(4)]
    torch.testing.assert_close(loss, torch.stack([value for _, value in alone]).mean())
    mean = torch.stack([found["origin"] for found, _ in alone]).mean(0)
    torch.testing.assert_close(gradients["origin"], mean, rtol=1e-4, atol=1e-6)


IMAGES = make_source(per_class=20)
VARIABLE: dict[str, Any] = {
    "uniform": variable(IMAGES),
    "meta-dataset": Distribution(
        IMAGES, sizes=MetaDataset(2, 3, most_support=12, most_per_class=5, least_shots=2)
    ),
    "curriculum": Curriculum({0: variable(IMAGES, shots=6), 3: Distribution(IMAGES, 3, 2, 2)}),
    "mixture": Mixture(
        {"few": Distribution(IMAGES, 2, 2, 3), "more": Distribution(IMAGES, 3, 4, 2)}, {"few": 1, "more": 1}
    ),
    "label noise": NoisyLabels(Distribution(IMAGES, 3, 4, 2), 0.2),
}


@pytest.mark.parametrize("name", VARIABLE)
@pytest.mark.parametrize("distinct", [0, 3])
def test_meta_training_on_tasks_that_differ_in_size(name: str, distinct: int) -> None:
    tasks, backbone = VARIABLE[name], tiny_conv4()
    space = film(backbone)
    settings = MetaTraining(
        k=2, basis="random", steps=2, tasks_per_step=2, validate_every=1, validation_tasks=2, lr=1e-2,
        distinct_tasks=distinct,
    )  # fmt: skip
    start = initial_basis(backbone, space, Problem(), [], settings)
    seen: list[dict[str, float]] = []
    state, metrics = meta_train(
        backbone, space, start, GaussNewton(), Problem(), tasks, variable(IMAGES, support_split="validation"),
        settings, report=lambda _, values: seen.append(values),
    )  # fmt: skip
    assert isinstance(state, AdapterState)
    assert sum("train/loss" in values for values in seen) == 2, "a step was left out"
    assert all(torch.isfinite(torch.tensor([*values.values()])).all() for values in seen)
    assert 0 <= metrics["validation/accuracy"] <= 1
