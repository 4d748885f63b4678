"""GroupedTasks: groups that are too small, errors that name the fix, and that meta-training takes them."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapt.adapter.problem import Problem
from adapt.backbones import Mlp
from adapt.heads import Logistic, Prototype
from adapt.inner import CrossEntropy, GaussNewton
from adapt.meta import MetaTraining, initial_basis, meta_train
from adapt.spaces import full
from tasks import Card, GroupArrays, GroupedTasks, TaskError, TaskWarning

CARD = Card("groups", "", "here", "CC0", "", {}, (), "none")


def source(sizes: tuple[int, ...] = (6, 4), *, values: bool = False) -> GroupArrays:
    """Train groups g0, g1, …, the group's number in the hundreds of every example; classes a and b of the
    given size."""
    members: dict[str, dict[str, dict[str, np.ndarray]]] = {"train": {}, "validation": {}, "test": {}}
    rows, start = [], 0
    for group, size in enumerate((*sizes, 8, 8)):
        split = ("train", "validation", "test")[max(group - len(sizes) + 1, 0)]
        mine = start + np.arange(2 * size)
        rows.append(np.stack([np.full(2 * size, 100.0 * group), np.arange(2 * size) // size], 1))
        classes = {"": mine} if values else {"a": mine[:size], "b": mine[size:]}
        members[split][f"g{group}"] = classes
        start += 2 * size
    x = np.concatenate(rows).astype(np.float32)
    numbers = x[:, :1] + np.arange(len(x), dtype=np.float32)[:, None]  # 100 · group + row
    return GroupArrays(CARD, x, members, numbers if values else None)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 5), st.integers(0, 50), st.booleans())
def test_a_task_is_rows_of_one_group(shots: int, queries: int, seed: int, index: int, values: bool) -> None:
    tasks = GroupedTasks(source((6, 6, 7), values=values), shots, queries, seed=seed)
    episode = tasks.episode(index)
    rows = [*episode.meta.support_indices.tolist(), *episode.meta.query_indices.tolist()]
    assert len({*rows}) == len(rows) == (1 if values else 2) * (shots + queries)
    group = int(episode.meta.parameters["group"])
    assert tasks.names[group] == f"g{group}"
    for x in (episode.support_x, episode.query_x):
        assert x[:, 0].tolist() == [100.0 * group] * len(x)
    if values:
        assert episode.support_y[:, 0].tolist() == [100.0 * group + row for row in rows[:shots]]
    else:
        assert episode.meta.classes == ("a", "b")
        assert episode.support_x[:, 1].tolist() == episode.support_y.tolist()
        assert episode.query_x[:, 1].tolist() == episode.query_y.tolist()


def test_every_group_is_drawn_about_equally_often() -> None:
    tasks = GroupedTasks(source((6, 6, 6)), 1, 1)
    groups = [tasks.episode(i).meta.parameters["group"] for i in range(600)]
    assert np.bincount(np.array(groups, int)).tolist() == pytest.approx([200] * 3, abs=45)  # 4 deviations


def test_groups_that_are_too_small_are_left_out_and_counted() -> None:
    with pytest.warns(TaskWarning, match=r"need 5 per class: 1 of 2 groups of split 'train' have fewer"):
        tasks = GroupedTasks(source((6, 4)), shots=3, queries=2)
    assert tasks.names == ("g0",)
    with pytest.raises(TaskError, match=r"need 7 per class, but no group of split 'train' has more than 6"):
        GroupedTasks(source((6, 4)), shots=3, queries=4)
    with pytest.raises(TaskError, match="need 20 in all, but no group of split 'train' has more than 12"):
        GroupedTasks(source((6, 4), values=True), shots=10, queries=10)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"shots": 0}, "task.shots=0 is too small: use task.shots>=1"),
        ({"queries": 0}, "task.queries=0 is too small"),
        ({"seed": -1}, "task.seed=-1 is too small"),
        ({"support_split": "dev"}, "groups has no split 'dev': use one of train, validation, test"),
        ({"query_split": "test"}, r"support and queries are of one group: use task.query_split=null"),
    ],
)
def test_settings_that_cannot_be(wrong: dict, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        GroupedTasks(source((6,)), **{"shots": 2, "queries": 2, **wrong})


def test_a_negative_index_and_a_group_in_two_splits() -> None:
    with pytest.raises(TaskError, match="episode index -1 is negative"):
        GroupedTasks(source((6,)), 1, 1).episode(-1)
    both = {split: {"g": {"a": np.arange(2)}} for split in ("train", "test")}
    with pytest.raises(TaskError, match="group 'g' is in two splits"):
        GroupArrays(CARD, np.zeros((2, 1), np.float32), both)


def test_digest_sees_rows_values_and_groups() -> None:
    digests = [
        source((6,)).digest(),
        source((7,)).digest(),
        source((6,), values=True).digest(),
        GroupArrays(CARD, np.zeros((2, 1), np.float32), {"train": {"g": {"a": np.arange(2)}}}).digest(),
        GroupArrays(CARD, np.zeros((2, 1), np.float32), {"train": {"h": {"a": np.arange(2)}}}).digest(),
        GroupArrays(CARD, np.ones((2, 1), np.float32), {"train": {"g": {"a": np.arange(2)}}}).digest(),
    ]
    assert len({*digests}) == len(digests)
    assert source((6,)).digest() == digests[0]


def test_the_stream_of_tasks_stays_what_it_was() -> None:
    drawn = [GroupedTasks(source((6, 6)), 2, 2, seed=1).episode(i).meta for i in range(5)]
    said = repr([(m.support_indices.tolist(), m.query_indices.tolist()) for m in drawn])
    assert hashlib.sha256(said.encode()).hexdigest()[:16] == "d478138b9965e188"


def test_meta_training_takes_them() -> None:
    torch.manual_seed(0)
    backbone = Mlp((2, 8, 4), "tanh")  # of rectified units some tasks have features that are all zero
    space, problem = full(backbone), Problem(CrossEntropy(), Prototype(), Logistic())
    meta = MetaTraining(k=2, basis="random", steps=2, tasks_per_step=2, validation_tasks=2, validate_every=1)
    tasks = GroupedTasks(source((6, 6)), 2, 2)
    start = initial_basis(backbone, space, problem, (), meta)
    state, metrics = meta_train(
        backbone, space, start, GaussNewton(), problem, tasks, GroupedTasks(source(), 2, 2, "test"), meta
    )
    assert state.basis.shape == (space.size, 2)
    assert metrics["validation/accuracy"] >= 0.5
