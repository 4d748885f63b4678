"""Intervals over test examples: against the textbook, paired, and in everything that is written."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from adapt.adapter import Context
from adapt.baselines import HeadOnly
from adapt.compare import Comparison, MethodResult, compare
from adapt.compare.bootstrap import resampled, resampled_difference
from adapt.compare.evidence import comparison_evidence
from adapt.compare.markdown import comparison_markdown
from adapt.compare.queries import TOGETHER, predicted
from adapt.compare.verdict import verdict
from adapt.heads import Logistic, Prototype
from tasks import ArraySource, Card, FixedTasks
from tests.helpers import make_adapter, tiny_conv4

ONE = ((0, 1, 2),)


def right(n: int, share: float, seed: int) -> tuple[float, ...]:
    return tuple((np.random.default_rng(seed).random(n) < share).astype(float).tolist())


def test_of_one_training_set_it_is_the_textbooks_standard_error() -> None:
    scores = right(400, 0.8, 0)
    mean, ci95, n = resampled((scores,), ONE).interval
    assert mean == pytest.approx(np.mean(scores)) and n == 400
    assert ci95 == pytest.approx(1.96 * np.std(scores) / 20, rel=0.12)


def test_differences_are_paired() -> None:
    scores = right(400, 0.7, 1)
    better = tuple(1.0 if i < 12 else value for i, value in enumerate(scores))
    found = resampled_difference((better,), (scores,), ONE)
    apart = resampled((better,), ONE).interval.ci95
    assert found.mean > 0 and found.interval.ci95 is not None and apart is not None
    assert found.interval.ci95 < 0.5 * apart  # most of their errors are common
    alike = resampled_difference((scores,), (scores,), ONE)
    assert (alike.interval.ci95, alike.p) == (None, 1.0)


def test_equal_methods_are_seldom_called_different() -> None:
    rng = np.random.default_rng(0)
    alarms = []
    for _ in range(60):
        one, other = (tuple((rng.random(60) < 0.7).astype(float).tolist()) for _ in range(2))
        alarms.append(resampled_difference((one,), (other,), ONE).p <= 0.05)
    assert np.mean(alarms) <= 0.12
    few = resampled_difference(((1.0, 1.0, 1.0),), ((0.0, 0.0, 0.0),), ONE)
    assert few.p == 0.25  # three coins alike, whatever is drawn again


def test_several_training_sets_are_drawn_too() -> None:
    scores = right(300, 0.8, 3)
    worse = tuple(0.0 if i % 3 == 0 else value for i, value in enumerate(scores))
    one = resampled((scores,), ONE).interval.ci95
    several = resampled((scores, worse), ((0,), (1,))).interval
    again = resampled((scores, worse, scores, worse), ((0,), (1,), (0,), (1,))).interval  # two seeds
    assert one is not None and several.ci95 is not None and several.ci95 > 1.5 * one
    assert again == several


def test_many_queries_go_through_a_few_at_a_time_and_come_back_in_order() -> None:
    seen = []

    def predictor(x: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(x.shape))
        return x.sum(1, keepdim=True).float()

    ids = torch.zeros(2 * TOGETHER + 5, 9, dtype=torch.int64)
    lengths = torch.randint(1, 10, (len(ids),), generator=torch.Generator().manual_seed(0))
    for row, length in enumerate(lengths.tolist()):
        ids[row, :length] = row + 1
    assert torch.equal(predicted(predictor, ids, pad=0), ids.sum(1, keepdim=True).float())
    assert max(n for n, _ in seen) == TOGETHER and seen[0][1] < 9 == seen[-1][1]
    seen.clear()
    assert torch.equal(predicted(predictor, ids.float()), ids.sum(1, keepdim=True).float())
    assert [n for n, _ in seen] == [TOGETHER, TOGETHER, 5]


def fixed(n: int = 40) -> FixedTasks:
    """Two training sets and a test set of ``n`` small pictures."""
    rng = np.random.default_rng(0)
    labels = np.arange(8 + n) % 2
    x = (0.3 * labels[:, None, None, None] + 0.5 * rng.random((8 + n, 1, 16, 16))).astype(np.float32)
    card = Card("signs", "", "us", "CC0", "", {}, (), "None.")

    def split(start: int, stop: int) -> dict[str, np.ndarray]:
        rows = np.arange(start, stop)
        return {name: rows[labels[rows] == which] for which, name in enumerate("ab")}

    source = ArraySource(card, x, {"one": split(0, 4), "two": split(4, 8), "query": split(8, 8 + n)})
    source.published = ("one", "two")
    return FixedTasks(source)


def run(tasks: FixedTasks, **more: Any) -> Comparison:
    network = tiny_conv4()
    methods = {"ridge": HeadOnly(Logistic()), "prototype": HeadOnly(Prototype())}
    settings = {"source": "signs", "ways": 2, "shots": 2, "queries": 20, "tasks": 2, **tasks.described}
    context = Context(network, make_adapter(network))
    return compare(
        methods,
        tasks,
        context,
        experiment="signs",
        task=settings,
        tasks=20,
        device=torch.device("cpu"),
        **more,
    )


def test_a_comparison_says_so_everywhere(tmp_path: Any) -> None:
    found = run(fixed(), checkpoint=tmp_path / "progress.jsonl")
    method = found.methods["ridge"]
    assert method.n == 2 and [len(task) for task in method.queries] == [40, 40]
    assert method.score[0] == pytest.approx(np.mean(method.queries[0]))
    assert found.test_examples == 40 and not found.exhausted
    assert "bootstrap over 40 test examples" in found.interval
    page, line = comparison_markdown(found), comparison_evidence(found)
    assert "2 fixed tasks, one for each training set, from signs" in page and found.interval in page
    assert "Student" not in page and "2 training sets, drawn again, too, and 40 test examples" in line
    assert "hint" not in verdict(found)
    assert found.metrics()["compare/test_examples"] == 40 and "compare/effective_tasks" not in found.metrics()
    written = json.loads(json.dumps(found.to_dict()))
    assert written["interval"] == found.interval
    again = Comparison.from_dict(written)
    assert again == found and again.methods["ridge"].mean_score == method.mean_score
    resumed = run(fixed(), checkpoint=tmp_path / "progress.jsonl")
    assert resumed.methods["ridge"].queries == method.queries


def test_few_test_examples_are_a_hint() -> None:
    assert "With only 10 test examples this is a hint" in verdict(run(fixed(10)))


def test_drawn_tasks_keep_students_t() -> None:
    method = MethodResult("head", "head", (0.5, 0.7, 0.6), (1.0, 1.0, 1.0), 1.0, 1.0)
    found = Comparison("toy", {"tasks": 3, "ways": 2}, 0, "cpu", {"head": method})
    assert found.test_examples == 0 and found.interval == "Student's t over 3 tasks"
