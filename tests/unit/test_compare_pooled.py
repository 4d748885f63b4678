"""Comparisons of several seeds as one: tasks stay paired, and what has no common mean is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from adapt.adapter import Role
from adapt.compare import MSE, Comparison, Curve, MethodResult, pool
from adapt.errors import AdaptError

#: Of a machine and its threads.
WHERE = {"device": "a CPU", "threads": 2, "versions": {"torch": "2"}, "resumed": "no"}


def method(name: str, role: Role, first: float, n: int, **more: Any) -> MethodResult:
    """Scores first, first + 1, …: each task is told by its score; it takes ten times as many seconds."""
    score = tuple(first + task for task in range(n))
    return MethodResult(name, role, score, tuple(10 * value for value in score), 2.0, 3.0, **more)


def run(seed: int, **more: Any) -> Comparison:
    """Ours on three tasks and a costly one on the first two; seed 1's scores begin at 101."""
    start = 100 * seed + 1
    curves = tuple(Curve((1.0, 2.0), (0.0, float(start + task))) for task in range(2))
    ours = method("forward", "forward", start, 3, energy_wh=1.0 + seed, co2_g=2.0, process_mb=5.0 - seed)
    costly = method("retrain", "retrain", start + 0.5, 2, curves=curves)
    task = {"source": "toy", "ways": 5, "shots": 1, "tasks": 3}
    methods = {found.name: found for found in (ours, costly)}
    settings = {"environment": WHERE, "meta_seconds": 60.0, "energy_source": "estimated", **more}
    return Comparison("toy", task, seed, "cpu", methods, **settings)


def test_tasks_of_all_seeds_come_in_turn_and_stay_paired() -> None:
    pooled = pool([run(0), run(1)])
    ours, costly = pooled.methods["forward"], pooled.methods["retrain"]
    assert ours.score == (1, 101, 2, 102, 3, 103)
    assert costly.score == (1.5, 101.5, 2.5, 102.5)
    assert [curve.score[-1] for curve in costly.curves] == [1, 101, 2, 102]
    assert pooled.difference(costly, ours)[:] == (0.5, 0.0, 4)
    assert pooled.p(costly, ours) > 0.1  # equal differences of four tasks show little
    assert ours.seconds == tuple(10 * value for value in ours.score)
    assert pooled.speedup(costly, ours).never == 0
    assert (pooled.seed, pooled.task["tasks"], pooled.task["seeds"]) == (0, 6, [0, 1])


def test_costs_are_means_and_memory_is_the_most() -> None:
    one, other = run(0), run(1)
    dear = replace(other.methods["forward"], forward_equivalents=4.0, peak_mb=9.0)
    pooled = pool([one, replace(other, methods={**other.methods, "forward": dear})]).methods["forward"]
    assert (pooled.forward_equivalents, pooled.peak_mb) == (3.0, 9.0)
    assert (pooled.energy_wh, pooled.co2_g, pooled.process_mb) == (1.5, 2.0, 5.0)
    assert pooled.usd is None, "one that is not known leaves the mean unknown"


def test_the_pooled_one_is_a_comparison_like_any_other() -> None:
    pooled = pool([run(seed) for seed in (3, 4, 5)])
    assert Comparison.from_dict(pooled.to_dict()) == pooled
    assert pool([run(2)]).methods == run(2).methods


def test_of_the_environment_only_what_all_share_is_left() -> None:
    pooled = pool([run(0), run(1, environment={**WHERE, "resumed": "yes"})])
    assert pooled.environment == {"device": "a CPU", "threads": 2, "versions": {"torch": "2"}}


def shorter(comparison: Comparison) -> Comparison:
    return replace(comparison, methods={**comparison.methods, "forward": method("forward", "forward", 0, 2)})


def unwatched(comparison: Comparison) -> Comparison:
    quiet = replace(comparison.methods["retrain"], curves=())
    return replace(comparison, methods={**comparison.methods, "retrain": quiet})


@pytest.mark.parametrize(
    ("other", "fault"),
    [
        (run(0), r"of the seeds \[0, 0\]"),
        (replace(run(1), experiment="other"), r"differ in experiment \(toy, other\)"),
        (replace(run(1), task={**run(1).task, "shots": 5}), r"seeds 0 and 1 differ in task.shots \(1, 5\)"),
        (replace(run(1), task={**run(1).task, "outside": 2}), r"task.outside \(None, 2\)"),
        (replace(run(1), metric=MSE), r"metric \(accuracy, MSE\)"),
        (replace(run(1), device="cuda"), r"device \(cpu, cuda\)"),
        (run(1, environment={**WHERE, "threads": 8}), r"environment.threads \(2, 8\)"),
        (run(1, meta_seconds=61.0), r"seconds of meta-training \(60.0, 61.0\)"),
        (run(1, energy_source="measured"), r"energy_source \(estimated, measured\)"),
        (replace(run(1), methods={"forward": run(1).methods["forward"]}), r"differ in methods"),
        (shorter(run(1)), r"number of tasks of forward \(3, 2\)"),
        (unwatched(run(1)), r"number of curves of retrain \(2, 0\)"),
    ],
)
def test_what_has_no_common_mean_is_refused_by_name(other: Comparison, fault: str) -> None:
    with pytest.raises(AdaptError, match=fault):
        pool([run(0), other])


def test_nothing_is_no_comparison() -> None:
    with pytest.raises(AdaptError, match="no comparison to pool"):
        pool([])
