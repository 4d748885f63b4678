"""Distribution: episodes are pure, disjoint and class-major, over any source; errors name the fix."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import ArraySource, Card, Digits, Distribution, Episode, Style, TaskError


def source(sizes: dict[str, list[int]], name: str = "toy") -> ArraySource:
    """Each example [1, 1, 2] holds (its own index, its class), so that an episode can be traced back."""
    rows: list[tuple[int, int]] = []
    members: dict[str, dict[str, np.ndarray]] = {}
    for split, counts in sizes.items():
        members[split] = {}
        for label, count in enumerate(counts):
            members[split][f"c{label}"] = np.arange(len(rows), len(rows) + count)
            rows += [(len(rows) + i, label) for i in range(count)]
    card = Card(name, "", "", "CC0", "", {"examples": len(rows)}, (), "none")
    return ArraySource(card, np.array(rows, np.float32).reshape(-1, 1, 1, 2), members)


def unchanged(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return x


def same(a: Episode, b: Episode) -> bool:
    tensors = all(torch.equal(x, y) for x, y in zip(a[:4], b[:4], strict=True))
    return tensors and a.meta.classes == b.meta.classes


def check(tasks: Distribution, index: int) -> None:
    """Everything that must hold for any episode of any distribution over `source`."""
    episode = tasks.episode(index)
    n, k, q = tasks.ways, tasks.shots, tasks.queries
    assert episode.support_x.shape == (n * k, 1, 1, 2)
    assert episode.query_x.shape == (n * q, 1, 1, 2)
    assert episode.support_y.tolist() == [y for y in range(n) for _ in range(k)]
    assert episode.query_y.tolist() == [y for y in range(n) for _ in range(q)]
    assert episode.support_x.dtype == episode.query_x.dtype == torch.float32

    meta = episode.meta
    assert (meta.index, meta.seed) == (index, tasks.seed)
    assert len(set(meta.classes)) == n
    # What was loaded is what meta says, and each row shows the class that its label names.
    assert episode.support_x[:, 0, 0, 0].tolist() == meta.support_indices.tolist()
    assert episode.query_x[:, 0, 0, 0].tolist() == meta.query_indices.tolist()
    for x, y in ((episode.support_x, episode.support_y), (episode.query_x, episode.query_y)):
        assert [f"c{int(label)}" for label in x[:, 0, 0, 1]] == [meta.classes[i] for i in y.tolist()]

    assert not set(meta.support_indices) & set(meta.query_indices)
    if not tasks.replace:
        drawn = [*meta.support_indices, *meta.query_indices]
        assert len(drawn) == len(set(drawn))
    assert same(episode, tasks.episode(index))


@settings(max_examples=60, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**32), index=st.integers(0, 2**40))
def test_one_split(data: st.DataObject, seed: int, index: int) -> None:
    shots, queries = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    need = shots + queries
    sizes = data.draw(st.lists(st.integers(need, need + 3), min_size=2, max_size=6))
    ways = data.draw(st.integers(2, len(sizes)))
    check(Distribution(source({"train": sizes}), ways, shots, queries, seed=seed), index)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), index=st.integers(0, 1000))
def test_two_splits(data: st.DataObject, index: int) -> None:
    shots, queries = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    supports = data.draw(st.lists(st.integers(shots, shots + 3), min_size=2, max_size=5))
    pool = data.draw(st.lists(st.integers(queries, queries + 3), min_size=2, max_size=5))
    toy = source({"a": supports, "b": pool})
    ways = data.draw(st.integers(2, min(len(supports), len(pool))))
    tasks = Distribution(toy, ways, shots, queries, support_split="a", query_split="b")
    check(tasks, index)
    meta = tasks.episode(index).meta
    assert set(meta.support_indices) <= set(np.concatenate([*toy.classes("a").values()]))
    assert set(meta.query_indices) <= set(np.concatenate([*toy.classes("b").values()]))


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(2, 12), min_size=2, max_size=5),
    shots=st.integers(1, 8),
    queries=st.integers(1, 8),
    index=st.integers(0, 1000),
)
def test_replacement_divides_a_small_class(sizes: list[int], shots: int, queries: int, index: int) -> None:
    tasks = Distribution(source({"train": sizes}), 2, shots, queries, transform=unchanged, replace=True)
    check(tasks, index)


def test_replacement_divides_in_proportion() -> None:
    tasks = Distribution(source({"train": [8, 8]}), 2, 10, 30, transform=unchanged, replace=True)
    many = [tasks.episode(i).meta for i in range(50)]
    supports = [set(meta.support_indices[:10]) for meta in many]
    queries = [set(meta.query_indices[:30]) for meta in many]
    assert max(map(len, supports)) == 2
    assert max(map(len, queries)) == 6


def test_replacement_is_not_used_where_there_is_enough() -> None:
    tasks = Distribution(source({"train": [9, 9]}), 2, 3, 6, transform=unchanged, replace=True)
    meta = tasks.episode(0).meta
    assert len({*meta.support_indices, *meta.query_indices}) == 18


def test_episodes_differ_by_index_and_by_seed() -> None:
    toy = source({"train": [30] * 8})
    a, b = Distribution(toy, seed=0), Distribution(toy, seed=1)
    assert not same(a.episode(0), a.episode(1))
    assert not same(a.episode(0), b.episode(0))


def test_order_and_other_draws_do_not_matter() -> None:
    tasks = Distribution(source({"train": [30] * 8}))
    forwards = [*tasks.episodes(3, 7)]
    torch.rand(5)
    np.random.default_rng().random(5)
    backwards = [tasks.episode(i) for i in (6, 5, 4, 3)]
    assert [e.meta.index for e in forwards] == [3, 4, 5, 6]
    assert all(same(a, b) for a, b in zip(forwards, reversed(backwards), strict=True))


def test_a_copy_in_another_process_draws_the_same() -> None:
    tasks = Distribution(source({"train": [9] * 3}), 2, 2, 3, transform=Style(contrast=1.0), replace=True)
    assert same(tasks.episode(5), pickle.loads(pickle.dumps(tasks)).episode(5))


def test_every_class_and_example_is_drawn() -> None:
    tasks = Distribution(source({"train": [6] * 5}), 2, 2, 2)
    metas = [tasks.episode(i).meta for i in range(200)]
    assert {name for meta in metas for name in meta.classes} == {f"c{i}" for i in range(5)}
    assert set(np.concatenate([meta.support_indices for meta in metas])) == set(range(30))
    assert len({meta.classes for meta in metas}) == 20  # labels are shuffled: all ordered pairs


def test_transform_is_called_once_on_support_and_queries() -> None:
    shapes: list[tuple[int, ...]] = []

    def record(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        shapes.append(tuple(x.shape))
        return x + torch.rand((), generator=generator)

    tasks = Distribution(source({"train": [9] * 3}), 2, 2, 3, transform=record)
    episode = tasks.episode(0)
    assert shapes == [(10, 1, 1, 2)]
    shift = episode.support_x[:, 0, 0, 0] - torch.from_numpy(episode.meta.support_indices)
    assert torch.allclose(shift, shift[:1].expand_as(shift), atol=1e-5)
    assert same(episode, tasks.episode(0))
    assert shift[0] != tasks.episode(1).support_x[0, 0, 0, 0] - tasks.episode(1).meta.support_indices[0]


def test_transform_does_not_change_which_examples_are_drawn() -> None:
    toy = source({"train": [9] * 3})
    plain = Distribution(toy, 2, 2, 3)
    styled = Distribution(toy, 2, 2, 3, transform=Style(contrast=1.0))
    assert np.array_equal(plain.episode(4).meta.query_indices, styled.episode(4).meta.query_indices)


def test_only_classes_of_both_splits_are_used() -> None:
    toy = source({"a": [5, 5, 5], "b": [5, 5]})
    tasks = Distribution(toy, 2, 1, 1, support_split="a", query_split="b")
    assert tasks.class_names == ("c0", "c1")


TOY = {"train": [30, 30, 8, 30, 30], "few": [1, 9], "none": [0, 3]}
SPLITS: dict[str, Any] = {"support_split": "support", "query_split": "query"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ways": 1}, "task.ways=1 is too small: use task.ways>=2"),
        ({"shots": 0}, "task.shots=0 is too small: use task.shots>=1"),
        ({"queries": 0}, "task.queries=0 is too small: use task.queries>=1"),
        ({"seed": -1}, "task.seed=-1 is too small: use task.seed>=0"),
        ({"ways": 6}, "task.ways=6 but toy has 5 classes in split 'train': use task.ways<=5"),
        (
            {"shots": 4, "queries": 5},
            "task.shots=4 and task.queries=5 need 9 examples per class but class 'c2' of toy has 8 in split "
            "'train': use at most 8 together",
        ),
        (
            {"shots": 4, "queries": 5, "transform": unchanged},
            "task.shots=4 and task.queries=5 need 9 examples per class but class 'c2' of toy has 8 in split "
            "'train': use at most 8 together, or task.replace=true",
        ),
        (
            {"replace": True},
            "task.replace=true without a transform would repeat identical examples: set task.transform, or "
            "use task.replace=false",
        ),
        (
            {"ways": 2, "support_split": "few", "replace": True, "transform": unchanged},
            "task.replace=true needs 2 examples per class but class 'c0' of toy has 1 in split 'few': "
            "leave that class out",
        ),
        (
            {"ways": 3, "support_split": "train", "query_split": "few"},
            "task.ways=3 but toy has 2 classes common to splits 'train' and 'few': use task.ways<=2",
        ),
        (
            {"ways": 2, "support_split": "train", "query_split": "few"},
            "task.queries=15 but class 'c0' of toy has 1 in split 'few': use task.queries<=1",
        ),
        ({"support_split": "tset"}, "toy has no split 'tset': use one of train, few, none"),
    ],
)
def test_errors_name_the_setting_and_the_fix(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError) as error:
        Distribution(source(TOY), **settings)
    assert str(error.value) == message


def test_class_disjoint_splits_are_no_pair() -> None:
    toy = ArraySource(
        Card("toy", "", "", "", "", {}, (), ""),
        np.zeros((4, 1)),
        {"a": {"x": np.array([0, 1])}, "b": {"y": np.array([2, 3])}},
    )
    with pytest.raises(TaskError, match="no class in both split 'a' and split 'b'"):
        Distribution(toy, 2, 1, 1, support_split="a", query_split="b")


def test_splits_that_share_an_example_are_no_pair() -> None:
    both = {"x": np.array([0, 1]), "y": np.array([2, 3])}
    toy = ArraySource(Card("toy", "", "", "", "", {}, (), ""), np.zeros((4, 1)), {"a": both, "b": both})
    with pytest.raises(TaskError, match="4 examples in both split 'a' and split 'b'"):
        Distribution(toy, 2, 1, 1, support_split="a", query_split="b")


def test_negative_index() -> None:
    with pytest.raises(TaskError, match="episode index -1 is negative"):
        Distribution(source({"train": [30] * 5})).episode(-1)


def test_digits() -> None:
    digits = Digits()
    with pytest.raises(TaskError) as error:
        Distribution(digits, ways=11, **SPLITS)
    assert str(error.value) == (
        "task.ways=11 but digits has 10 classes in split 'support': use task.ways<=10"
    )
    tasks = Distribution(digits, ways=10, shots=100, queries=60, **SPLITS)
    episode = tasks.episode(0)
    assert episode.support_x.shape == (1000, 1, 32, 32)
    assert not set(episode.meta.support_indices) & set(episode.meta.query_indices)
