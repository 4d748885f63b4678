"""Tasks that share examples: intervals against closed forms, and how often they hold the truth."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import scipy.stats

from adapt.compare.examples import Examples
from adapt.compare.statistics import estimate, mean_interval
from adapt.errors import AdaptError
from tasks import Distribution, FunctionTasks, Gridworld, GroupedTasks, Mixture, Sinusoid
from tests.helpers import make_source


def examples(support: Any, query: Any, groups: Any = None) -> Examples:
    support, query = ([tuple(map(int, task)) for task in side] for side in (support, query))
    return Examples(tuple(support), tuple(query), tuple(groups or [None] * len(support)))


def student(values: Any) -> tuple[float, float]:
    low, high = scipy.stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    return (low + high) / 2, (high - low) / 2


# ---------------------------------------------------------------------------------------------- closed forms


@pytest.mark.parametrize("n", [2, 5, 20, 600])
def test_tasks_that_share_nothing_have_the_ordinary_interval(n: int) -> None:
    values = np.random.default_rng(0).random(n)
    own = np.random.default_rng(1).permutation(6 * n).reshape(n, 6)
    found = estimate(values, examples(own[:, :2], own[:, 2:]))
    assert found.interval[:2] == pytest.approx(student(values), rel=1e-9)
    assert (found.effective, found.n) == (pytest.approx(n), n)
    made = examples([()] * n, [()] * n)  # functions
    assert estimate(values, made).interval == estimate(values).interval


@pytest.mark.parametrize("copies", [2, 4, 30])
def test_the_same_tasks_again_are_no_further_evidence(copies: int) -> None:
    values = np.array([0.5, 0.7, 0.4, 0.9, 0.6])
    own = np.arange(30).reshape(5, 6)
    repeated = examples(np.tile(own[:, :2], (copies, 1)), np.tile(own[:, 2:], (copies, 1)))
    found = estimate(np.tile(values, copies), repeated)
    assert found.interval[:2] == pytest.approx(student(values), rel=1e-6)
    assert found.effective == pytest.approx(5)
    assert repeated.counts == (5 * copies, 5, 5, 10, 20, 30, 0)


def test_tasks_of_few_groups_are_as_much_evidence_as_the_groups() -> None:
    values = np.array([0.5, 0.7, 0.4, 0.9, 0.6])
    names = [f"patient {i}" for i in range(5)]
    rows = np.arange(100).reshape(20, 5)  # nobody's rows are used twice
    found = estimate(np.repeat(values, 4), examples(rows[:, :1], rows[:, 1:], np.repeat(names, 4).tolist()))
    assert found.interval[:2] == pytest.approx(student(values), rel=1e-6)
    alone = examples(rows[:, :1], rows[:, 1:], [f"patient {i}" for i in range(20)])
    many = np.random.default_rng(0).random(20)
    assert estimate(many, alone).interval[:2] == pytest.approx(student(many), rel=1e-9)


@pytest.mark.parametrize(("pool", "queries"), [(7, 2), (7, 3), (9, 4)])
def test_all_tasks_of_a_pool_know_its_mean_as_well_as_its_examples_do(pool: int, queries: int) -> None:
    """With scores that are means of one value per query, and every possible task drawn once, the mean over
    tasks is that over the pool, whose standard error is s/√M with M − 1 degrees of freedom."""
    difficulty = np.random.default_rng(0).normal(0.8, 0.1, pool)
    drawn = list(combinations(range(pool), queries))
    found = estimate([difficulty[list(task)].mean() for task in drawn], examples([()] * len(drawn), drawn))
    assert found.interval[:2] == pytest.approx(student(difficulty), rel=1e-6)
    assert found.freedom == pytest.approx(pool - 1)


def test_what_drawing_the_queries_adds_is_known_of_accuracies() -> None:
    """Of m queries that are right with p each it is p(1 − p)/m, however supports differ; of a difference at
    most what they are both wrong on, or right on, adds."""
    rng, m, tasks = np.random.default_rng(0), 8, 4000
    own = np.arange(tasks * (m + 1)).reshape(tasks, m + 1)
    drawn = examples(own[:, :1], own[:, 1:])
    p = rng.uniform(0.6, 1.0, tasks)
    scores = rng.binomial(m, p) / m
    expected = float((p * (1 - p)).mean()) / m
    assert drawn.within(scores * (1 - scores)) == pytest.approx(expected, rel=0.05)
    assert drawn.first(1).within(scores[:1]) is not None
    one_query = examples(own[:, :1], own[:, 1:2])
    assert one_query.within(scores * (1 - scores)) is None


def test_a_pool_that_every_task_takes_whole_is_one_task() -> None:
    drawn = examples([(0, 1)] * 20, [(2, 3, 4, 5)] * 20)
    found = estimate(np.random.default_rng(0).random(20), drawn)
    assert (found.interval.ci95, found.p, drawn.exhausted) == (None, 1.0, True)
    assert found.effective == pytest.approx(1.0)
    assert drawn.counts == (20, 1, 1, 2, 4, 6, 0)


def test_equal_scores_of_tasks_that_share_examples_have_no_interval_of_width_zero() -> None:
    rows = np.array([[i, j, *(k for k in range(4) if k not in (i, j))] for i in range(4) for j in range(i)])
    shared = examples(100 + np.arange(24).reshape(6, 4), np.concatenate([rows, 10 + rows], 1)[:, :2])
    found = estimate([0.8] * 6, shared)
    assert not shared.exhausted and 2 < found.effective < 6
    assert found.interval.ci95 is None and found.p > 0.05
    assert estimate([0.8] * 6).interval.ci95 == 0.0


def test_two_tasks_that_share_a_little_have_an_interval() -> None:
    """It is their number that is small, not the pool."""
    drawn = examples([(0, 1), (2, 3)], [(4, 5, 6, 7), (7, 8, 9, 10)])
    found = estimate([0.5, 0.75], drawn)
    assert not drawn.exhausted and drawn.effective_tasks == pytest.approx(1 / (1 / 2 + 1 / 8))
    # R = 5/8, and with the mean square S² = 0.125² of the deviations S² R/(1 − R) is the variance of the mean
    half = scipy.stats.t.isf(0.025, 1) * np.sqrt(0.125**2 * (5 / 8) / (3 / 8))
    assert found.interval.ci95 == pytest.approx(half)
    mostly = examples([(0, 1), (2, 3)], [(4, 5, 6, 7), (5, 6, 7, 8)])
    assert mostly.exhausted and estimate([0.5, 0.75], mostly).interval.ci95 is None


# ------------------------------------------------------------------------------------------------ simulation


def pools(rng: np.random.Generator, size: int, shots: int, queries: int, tasks: int, *, apart: bool) -> Any:
    """Tasks of two classes with ``size / 2`` examples each; supports come from another half if ``apart``."""
    support, query = [], []
    for _ in range(tasks):
        drawn = []
        for first in (0, size // 2):
            half = first + np.arange(size // 2)
            supports, rest = np.split(
                half if apart else rng.permutation(half), [size // 4 if apart else shots]
            )
            drawn.append((rng.permutation(supports)[:shots], rng.permutation(rest)[:queries]))
        support.append(np.concatenate([supports for supports, _ in drawn]))
        query.append(np.concatenate([queries for _, queries in drawn]))
    return np.array(support), np.array(query)


def accuracy(rng: np.random.Generator, size: int, support: Any, query: Any, together: float) -> Any:
    """Of new examples: some are hard as queries, some are poor supports, ``together`` the same ones."""
    hard, other = rng.normal(size=(2, size))
    poor = together * hard + np.sqrt(1 - together**2) * other
    quality = poor[support].sum(1) / np.sqrt(support.shape[1]) + 0.3 * rng.normal(size=len(support))
    logit = 2 + 1.5 * hard[query] + quality[:, None]
    return (rng.random(query.shape) < 1 / (1 + np.exp(-logit))).mean(1)


def truth() -> float:
    a, b = np.random.default_rng(9).normal(size=(2, 2_000_000))
    return float((1 / (1 + np.exp(-2 - 1.5 * a - np.sqrt(1.09) * b))).mean())


TRUTH = truth()


@pytest.mark.parametrize("together", [0.0, 0.8])
@pytest.mark.parametrize(
    ("size", "tasks", "apart"),
    [
        *((20, 100, False), (40, 20, False), (40, 100, True), (40, 600, False)),
        *((200, 100, False), (200, 600, True), (2000, 100, False), (2000, 600, True)),
    ],
)
def test_intervals_hold_the_accuracy_on_other_examples(
    size: int, tasks: int, apart: bool, together: float
) -> None:
    rng = np.random.default_rng(size + tasks)
    held, known, widths, narrower, means = [], [], [], [], []
    for repeat in range(240):
        if repeat % 60 == 0:
            support, query = pools(rng, size, 1, 3, tasks, apart=apart)
            drawn = examples(support, query)
        scores = accuracy(rng, size, support, query, 0.0 if apart else together)
        mean, half, _ = estimate(scores, drawn).interval
        assert half is not None
        held.append(abs(mean - TRUTH) <= half)
        widths.append(half)
        # the same, told that scores are shares of right queries
        _, shorter, _ = mean_interval(scores, drawn, shares=True)
        assert shorter is not None and shorter <= half + 1e-12
        known.append(abs(mean - TRUTH) <= shorter)
        narrower.append(shorter)
        means.append(mean)
    # 0.93, and what 240 repetitions may deviate by chance
    assert np.mean(held) >= 0.93 - 0.01 and np.mean(known) >= 0.93 - 0.015
    assert np.median(widths) <= 2.5 * 1.96 * np.std(means), "wider than it has to be"
    assert np.median(narrower) <= 2.0 * 1.96 * np.std(means), "wider than it has to be"


def test_nothing_is_said_of_tasks_that_six_photographs_were_drawn_into() -> None:
    rng = np.random.default_rng(0)
    support, query = pools(rng, 6, 1, 2, 20, apart=False)
    found = [estimate(accuracy(rng, 6, support, query, 0.0), examples(support, query)) for _ in range(50)]
    assert all(one.interval.ci95 is None and one.p == 1.0 for one in found)


def test_equal_methods_are_called_so_where_tasks_share_examples() -> None:
    rng = np.random.default_rng(3)
    alarms, plain = [], []
    for repeat in range(300):
        if repeat % 60 == 0:
            support, query = pools(rng, 60, 1, 3, 300, apart=False)
            drawn = examples(support, query)
        one, other = (accuracy(rng, 60, support, query, 0.0) for _ in range(2))
        alarms.append(estimate(one - other, drawn).p <= 0.05)
        plain.append(estimate(one - other).p <= 0.05)
    assert np.mean(alarms) <= 0.07 and np.mean(plain) > 0.4


@pytest.mark.parametrize(("groups", "between"), [(3, 1.0), (10, 1.0), (10, 0.3), (30, 0.0)])
def test_intervals_hold_the_mean_of_other_groups(groups: int, between: float) -> None:
    rng, held = np.random.default_rng(groups), []
    for repeat in range(600):
        if repeat % 60 == 0:
            member = rng.integers(groups, size=100)
            drawn = examples([()] * 100, [()] * 100, [f"g{i}" for i in member])
        scores = between * rng.normal(size=groups)[member] + 0.5 * rng.normal(size=100)
        mean, half, _ = estimate(scores, drawn).interval
        assert half is not None
        held.append(abs(mean) <= half)
    assert np.mean(held) >= 0.925


# ---------------------------------------------------------------------------------------------- what is kept


def test_episodes_say_what_they_were_drawn_from() -> None:
    source = make_source()
    tasks = Distribution(source, ways=2, shots=2, queries=4)
    found = Examples.of(episode.meta for episode in tasks.episodes(0, 3))
    assert found.support[1] == tuple(tasks.episode(1).meta.support_indices.tolist())
    assert len(found.query[2]) == 8 and found.groups == (None,) * 3
    mixed = Mixture({"a": tasks, "b": Distribution(source, ways=2, shots=2, queries=4, seed=1)})
    both = Examples.of(episode.meta for episode in mixed.episodes(0, 20))
    assert both.counts.examples > Examples.of(e.meta for e in tasks.episodes(0, 20)).counts.examples
    functions = Examples.of(e.meta for e in FunctionTasks(Sinusoid()).episodes(0, 4))
    assert functions.counts == (4, 4, 4, 0, 0, 0, 0) and functions.effective_tasks == 4
    grouped = GroupedTasks(Gridworld(), shots=2, queries=1)
    names = Examples.of(e.meta for e in grouped.episodes(0, 6)).groups
    assert {*names} <= {*grouped.names} and None not in names


def test_what_is_kept_is_read_back_and_put_together() -> None:
    one = examples([(0, 1), (2,)], [(5,), (6, 7)], ["a", "b"])
    assert Examples.from_dict(one.to_dict()) == one
    assert one.to_dict()["support"] == ["0 1", "2"]
    other = examples([(8,), (9,)], [(3,), (4,)])
    turn = Examples.joined([one, other], in_turn=True)
    assert turn is not None and turn.support == ((0, 1), (8,), (2,), (9,))
    after = Examples.joined([one, other])
    assert after is not None and after.query == ((5,), (6, 7), (3,), (4,))
    assert Examples.joined([one, None]) is None and Examples.joined([]) is None
    assert one.first(1) == examples([(0, 1)], [(5,)], ["a"])
    with pytest.raises(AdaptError, match="3 tasks with the examples of 2 only"):
        one.first(3)
    with pytest.raises(AdaptError, match="different numbers of tasks"):
        Examples(((0,),), (), (None,))
