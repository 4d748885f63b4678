"""Sizes that vary: what is drawn, how often, how it prints, and that episodes keep their promises."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import Choice, Digits, Distribution, Episode, MetaDataset, TaskError, Uniform, auroc
from tasks.sizes import Size, draw_size, fewest, most, summary
from tests.unit.test_tasks_distribution import same, source


def counts(labels: torch.Tensor) -> list[int]:
    """Rows of each class; fails unless they are class-major and no class is missing."""
    assert labels.dtype == torch.int64 and labels.tolist() == sorted(labels.tolist())
    found = torch.bincount(labels).tolist()
    assert 0 not in found
    return found


def check(tasks: Any, index: int) -> Episode:
    """What holds of any episode over `source`, whatever its size."""
    episode = tasks.episode(index)
    meta = episode.meta
    support, query = counts(episode.support_y), counts(episode.query_y)
    assert len(support) == len(query) == len(meta.classes) == len(set(meta.classes))
    assert len(set(query)) == 1
    assert episode.support_x[:, 0, 0, 0].tolist() == meta.support_indices.tolist()
    assert episode.query_x[:, 0, 0, 0].tolist() == meta.query_indices.tolist()
    for x, y in ((episode.support_x, episode.support_y), (episode.query_x, episode.query_y)):
        assert [f"c{int(label)}" for label in x[:, 0, 0, 1]] == [meta.classes[i] for i in y.tolist()]
    drawn = [*meta.support_indices, *meta.query_indices, *(meta.outside_indices or [])]
    assert len(drawn) == len(set(drawn))
    assert same(episode, tasks.episode(index))
    return episode


SIZES: st.SearchStrategy[Size] = st.one_of(
    st.integers(2, 4),
    st.tuples(st.integers(2, 3), st.integers(0, 2)).map(lambda pair: Uniform(pair[0], sum(pair))),
    st.lists(st.integers(2, 5), min_size=1, max_size=3).map(Choice),
)


@settings(max_examples=60, deadline=None)
@given(
    ways=SIZES,
    shots=SIZES,
    queries=SIZES,
    imbalanced=st.booleans(),
    index=st.integers(0, 2**40),
    seed=st.integers(0, 2**40),
)
def test_any_sizes(ways: Size, shots: Size, queries: Size, imbalanced: bool, index: int, seed: int) -> None:
    toy = source({"train": [most(shots) + most(queries)] * 5})
    tasks = Distribution(toy, ways, shots, queries, seed=seed, imbalanced=imbalanced)
    episode = check(tasks, index)
    support, query = counts(episode.support_y), counts(episode.query_y)
    for size, drawn in ((ways, [len(support)]), (shots, support), (queries, query)):
        assert fewest(size) <= min(drawn) and max(drawn) <= most(size)
    assert imbalanced or len(set(support)) == 1


def test_every_size_comes_as_often_as_it_should() -> None:
    rng = np.random.default_rng(0)
    uniform = Counter(Uniform(3, 7).draw(rng) for _ in range(2000))
    assert [*sorted(uniform)] == [3, 4, 5, 6, 7]
    assert scipy.stats.chisquare([*uniform.values()]).pvalue > 1e-3
    chosen = Counter(Choice([1, 9], weights=[1, 3]).draw(rng) for _ in range(2000))
    assert scipy.stats.chisquare([chosen[1], chosen[9]], [500, 1500]).pvalue > 1e-3
    tasks = Distribution(source({"train": [9] * 6}), Uniform(2, 6), Choice([1, 4]), 2)
    ways = Counter(len(tasks.episode(i).meta.classes) for i in range(300))
    shots = Counter(counts(tasks.episode(i).support_y)[0] for i in range(300))
    assert scipy.stats.chisquare([ways[n] for n in range(2, 7)]).pvalue > 1e-3
    assert scipy.stats.chisquare([shots[1], shots[4]]).pvalue > 1e-3


def test_classes_of_one_task_draw_their_own_shots() -> None:
    tasks = Distribution(source({"train": [9] * 6}), 6, Uniform(1, 6), 2, imbalanced=True)
    drawn = [counts(tasks.episode(i).support_y) for i in range(100)]
    assert scipy.stats.chisquare(np.bincount(np.ravel(drawn))[1:]).pvalue > 1e-3
    assert sum(len(set(row)) > 2 for row in drawn) > 90


def test_sizes_print_and_compare() -> None:
    assert [str(Uniform(1, 10)), str(Choice([5, 1])), f"{Uniform(2, 2)}"] == ["1–10", "5|1", "2–2"]
    assert (Uniform(1, 3) < 2, Uniform(2, 3) < 2, Choice([4, 1]) < 2, Choice([4, 1]) > 3) == (
        True, False, True, True,
    )  # fmt: skip
    assert Choice([1, 2], [1, 1]) == Choice((1, 2), (1, 1)) and len({Choice([1]), Choice([1])}) == 1
    assert [summary([3, 3]), summary([Uniform(1, 2)] * 2), str(summary([Uniform(1, 2), 5]))] == [
        3, Uniform(1, 2), "1|2|5",
    ]  # fmt: skip
    assert draw_size(4, None) == 4  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Uniform(3, 2), r"Uniform\(low=3, high=2\): give whole numbers with low<=high"),
        (lambda: Uniform(1.0, 2), "give whole numbers"),  # type: ignore[arg-type]
        (lambda: Choice([]), "give at least one whole number"),
        (lambda: Choice([1, 2], [1]), "give a positive weight for each value"),
        (lambda: Choice([1, 2], [1, 0]), "give a positive weight for each value"),
        (lambda: Distribution(TOY, Uniform(1, 3)), "task.ways=1–3 is too small: use task.ways>=2"),
        (lambda: Distribution(TOY, 2, Uniform(0, 3)), "task.shots=0–3 is too small"),
        (lambda: Distribution(TOY, Uniform(2, 9)), "task.ways=2–9 but toy has 3 classes .* task.ways<=3"),
        (
            lambda: Distribution(TOY, 2, Choice([1, 30]), Uniform(1, 15)),
            "task.shots=1|30 and task.queries=1–15 need 45 examples per class .* use at most 40 together",
        ),
        (lambda: Distribution(TOY, 2, outside=-1), "task.outside=-1 is too small"),
        (lambda: Distribution(TOY, 2, outside=41), "task.outside=41 .* have 40 examples only"),
        (lambda: Distribution(TOY, 3, outside=1), "have 0 examples only"),
        (lambda: auroc(torch.ones(3), torch.ones(0)), "finite scores"),
    ],
)
def test_mistakes_are_named(make: Any, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        make()


TOY = source({"train": [40, 50, 60]})


# ---------------------------------------------------------------------------------------- Meta-Dataset


@settings(max_examples=60, deadline=None)
@given(
    pools=st.lists(st.integers(3, 60), min_size=5, max_size=9),
    least=st.integers(1, 2),
    two=st.booleans(),
    index=st.integers(0, 10**6),
)
def test_meta_dataset_keeps_to_its_rules(pools: list[int], least: int, two: bool, index: int) -> None:
    rules = MetaDataset(most_ways=7, most_support=50, most_per_class=20, least_shots=least)
    toy = source({"train": pools, "test": pools[::-1]})
    tasks = Distribution(toy, sizes=rules, query_split="test" if two else None)
    episode = check(tasks, index)
    support, query = counts(episode.support_y), counts(episode.query_y)
    sizes = [pools[int(name[1:])] for name in episode.meta.classes]
    others = [pools[::-1][int(name[1:])] for name in episode.meta.classes] if two else sizes
    assert 5 <= len(support) <= min(7, len(pools))
    assert query[0] == min(10, min(others) if two else min(size // 2 for size in sizes))
    room = [size if two else size - query[0] for size in sizes]
    assert all(least <= k <= most for k, most in zip(support, room, strict=True))
    assert sum(support) <= 50 or least > 1
    for size, drawn in ((tasks.ways, [len(support)]), (tasks.shots, support), (tasks.queries, query)):
        assert fewest(size) <= min(drawn) and max(drawn) <= most(size)


def test_meta_dataset_by_its_formula() -> None:
    """The same random numbers, in plain arithmetic."""
    pools, rules = np.array([100, 40, 300, 25, 60, 1000]), MetaDataset()
    for seed in range(20):
        chosen, shots, queries = rules.draw(np.random.default_rng(seed), pools, pools, shared=True)
        rng = np.random.default_rng(seed)
        ways = int(rng.integers(5, 6, endpoint=True))
        assert chosen.tolist() == rng.choice(6, ways, replace=False).tolist()
        have = [int(pools[c]) for c in chosen]
        assert queries == min(10, *(n // 2 for n in have))
        beta = 1 - rng.random()
        s = min(500, sum(math.ceil(beta * min(100, n - queries)) for n in have))
        alpha = rng.uniform(math.log(0.5), math.log(2), ways)
        total = sum(math.exp(a) * n for a, n in zip(alpha, have, strict=True))
        for k, a, n in zip(shots, alpha, have, strict=True):
            assert k == min(math.floor(math.exp(a) * n / total * (s - ways)) + 1, n - queries)


def test_meta_dataset_weighs_classes_by_their_size() -> None:
    tasks = Distribution(source({"train": [200] + [20] * 4}), sizes=MetaDataset())
    shares = []
    for i in range(100):
        episode = tasks.episode(i)
        found = dict(zip(episode.meta.classes, counts(episode.support_y), strict=True))
        shares.append(found["c0"] / (sum(found.values()) / 5))
    assert np.mean(shares) > 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MetaDataset(least_ways=1), "use 2<=least_ways<=most_ways"),
        (lambda: MetaDataset(least_shots=0), "MetaDataset.least_shots=0 is too small"),
        (lambda: MetaDataset(most_support=40), "use most_support>=50"),
        (lambda: Distribution(TOY, sizes=MetaDataset()), "there are 3 classes: use least_ways<=3"),
        (
            lambda: Distribution(source({"train": [2] * 6}), sizes=MetaDataset(least_shots=2)),
            "has 2 examples for supports and least_shots=2 needs 3",
        ),
    ],
)
def test_meta_dataset_names_what_is_wrong(make: Any, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        make()


# ------------------------------------------------------------------------------- queries from outside


@settings(max_examples=30, deadline=None)
@given(outside=st.integers(1, 10), index=st.integers(0, 1000), two=st.booleans())
def test_outside_examples_are_of_other_classes(outside: int, index: int, two: bool) -> None:
    toy = source({"train": [9] * 5, "test": [9] * 5})
    arguments: dict[str, Any] = {"ways": 3, "shots": 2, "queries": 3, "query_split": "test" if two else None}
    tasks = Distribution(toy, **arguments, outside=outside)
    episode, without = tasks.episode(index), Distribution(toy, **arguments).episode(index)
    meta = episode.meta
    assert meta.outside_x is not None and meta.outside_indices is not None
    assert meta.outside_x[:, 0, 0, 0].tolist() == meta.outside_indices.tolist()
    assert len(set(meta.outside_indices.tolist())) == outside
    assert not {f"c{int(label)}" for label in meta.outside_x[:, 0, 0, 1]} & {*meta.classes}
    pools = toy.classes("test" if two else "train")
    assert {*meta.outside_indices} <= {*np.concatenate([*pools.values()])}
    assert same(episode, without) and without.meta.outside_x is None


def test_auroc_is_the_share_of_pairs_in_order() -> None:
    rng = np.random.default_rng(0)
    inside, outside = rng.integers(0, 6, 30) / 5, rng.integers(0, 5, 20) / 5
    pairs = [(a > b) + 0.5 * (a == b) for a in inside for b in outside]
    assert auroc(inside, torch.from_numpy(outside)) == pytest.approx(np.mean(pairs))


def test_digits_of_any_size() -> None:
    tasks = Distribution(Digits(size=8), sizes=MetaDataset(), support_split="support", query_split="query")
    sizes = {(len(e.meta.classes), len(e.support_y)) for e in tasks.episodes(0, 20)}
    assert len(sizes) > 15
