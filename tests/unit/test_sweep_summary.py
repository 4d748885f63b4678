"""What a sweep says of its runs: settings with their seeds pooled, the best one, failures; in closed form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import t

pytest.importorskip("hydra")
pytest.importorskip("matplotlib")

from adapt.app.stages.state import State
from adapt.app.sweeps.summary import Summary, read_jobs
from adapt.compare import ACCURACY, MSE, Comparison, MethodResult
from adapt.compare.metric import Metric
from adapt.files import read_json, write_json

SWEEP = "0123"
TASKS = 4


def comparison(
    mean: float, seed: int = 0, *, metric: Metric = ACCURACY, shots: int = 5, slower: float = 10.0
) -> Comparison:
    """Ours around ``mean``, in one second; backprop equally good, in ``slower`` seconds."""
    score = tuple(mean + 0.1 * (-1) ** task for task in range(TASKS))
    methods = {
        "forward": MethodResult("forward", "forward", score, (1.0,) * TASKS, 2.0, 1.0),
        "backprop": MethodResult("backprop", "backprop", score, (slower,) * TASKS, 8.0, 1.0),
    }
    task = {"source": "toy", "ways": 2, "shots": shots, "queries": 3, "tasks": TASKS}
    return Comparison("toy", task, seed, "cpu", methods, metric=metric)


def job(folder: Path, number: int, *overrides: str, found: Comparison | None = None, **state: Any) -> None:
    """What a run leaves: finished with the comparison ``found``, or as ``state`` says."""
    noted = State("finished", ["experiment=toy", *overrides], sweep=SWEEP, number=number, stage="compare")
    if found is not None:
        assert found.ours is not None
        noted = replace(
            noted, score=found.ours.mean_score.mean, metric=found.metric.name, run_id=f"id{number}"
        )
        write_json(folder / str(number) / "comparison.json", found.to_dict())
    replace(noted, **state).write(folder / str(number))


def summary(folder: Path) -> Summary:
    return Summary("toy", read_jobs(folder, SWEEP))


def seeds_and_k(folder: Path, metric: Metric = ACCURACY) -> Summary:
    """k = 4 is best over both seeds together (0.75 to 0.7), although the best single run (0.8) has k = 2."""
    means = {(0, 2): 0.6, (0, 4): 0.75, (1, 2): 0.8, (1, 4): 0.75}
    for number, ((seed, k), mean) in enumerate(means.items()):
        job(
            folder,
            number,
            f"seed={seed}",
            f"method.forward.k={k}",
            found=comparison(mean, seed, metric=metric),
        )
    return summary(folder)


def test_seeds_are_pooled_before_anything_is_chosen(tmp_path: Path) -> None:
    found = seeds_and_k(tmp_path)

    assert [setting.name for setting in found.settings] == ["method.forward.k=2", "method.forward.k=4"]
    assert [[one.number for one in setting.jobs] for setting in found.settings] == [[0, 2], [1, 3]]
    best = found.best
    assert best is not None and best.name == "method.forward.k=4" and best.score is not None
    assert best.score.mean == pytest.approx(0.75) and best.score.n == 2 * TASKS
    scores = [0.75 + 0.1 * (-1) ** task for task in range(TASKS)] * 2
    assert best.score.ci95 == pytest.approx(
        t.ppf(0.975, 2 * TASKS - 1) * np.std(scores, ddof=1) / np.sqrt(2 * TASKS)
    )


def test_what_the_mlflow_run_of_a_sweep_is_told(tmp_path: Path) -> None:
    found = seeds_and_k(tmp_path)

    tags, metrics = found.tags(), found.metrics()
    assert tags["best_run"] == "id1" and tags["best_runs"] == "id1 id3"
    assert tags["best_overrides"] == "method.forward.k=4"
    assert "failed_runs" not in tags
    note = tags["mlflow.note.content"]
    assert note.startswith(
        "4 runs over seed, method.forward.k. Best of 2 settings: method.forward.k=4 (75.0 ±"
    )
    assert "2 seeds together" in note and "which favours it" in note and "Use forward" in note
    assert metrics["sweep/best"] == pytest.approx(0.75)
    assert (metrics["sweep/runs"], metrics["sweep/failed"]) == (4, 0)
    assert metrics["compare/speedup_vs_backprop"] == 10


def test_of_errors_the_smaller_is_the_better(tmp_path: Path) -> None:
    best = seeds_and_k(tmp_path, MSE).best

    assert best is not None and best.name == "method.forward.k=2"


def test_failures_are_counted_and_named_and_do_not_hide_the_rest(tmp_path: Path) -> None:
    job(tmp_path, 0, "task.shots=1", found=comparison(0.5))
    job(tmp_path, 1, "task.shots=5", status="failed", error="task.shots=5: too many")
    job(tmp_path, 2, "task.shots=9", status="running")

    found = summary(tmp_path)
    assert [one.number for one in found.failed] == [1]
    assert found.failures == "1 of 3 runs of the sweep failed: run 1 (task.shots=5): task.shots=5: too many"
    assert found.tags()["failed_runs"] == "1" and found.failures in found.tags()["mlflow.note.content"]
    assert found.metrics()["sweep/failed"] == 1
    assert found.best is not None and found.best.name == "task.shots=1"
    _, rows = found.rows()
    assert [(row[0], row[1], row[2]) for row in rows] == [
        ("task.shots=1", "0", "50.0 ± 18.4"),
        ("task.shots=5", "1", "failed"),
        ("task.shots=9", "2", "running"),
    ]


def test_nothing_finished(tmp_path: Path) -> None:
    job(tmp_path, 0, status="failed", error="no")

    found = summary(tmp_path)
    assert found.best is None and found.settings == []
    assert found.tags()["mlflow.note.content"] == "1 run. 1 of 1 runs of the sweep failed: run 0: no."
    assert found.write(tmp_path) == [tmp_path / "sweep.md"]


@pytest.mark.parametrize(("metric", "best"), [("accuracy", "seed=1"), ("mse", "seed=0")])
def test_training_runs_have_scores_only(metric: str, best: str, tmp_path: Path) -> None:
    for number, score in enumerate((0.1, 0.3)):
        job(
            tmp_path, number, f"meta.k={number}", stage="meta", score=score, metric=metric, run_id=str(number)
        )

    found = summary(tmp_path)
    assert found.best is not None and found.best.name == best.replace("seed", "meta.k")
    assert found.metrics() == {
        "sweep/runs": 2,
        "sweep/failed": 0,
        "sweep/best": 0.3 if metric == "accuracy" else 0.1,
    }
    assert found.rows()[0] == ("setting", "runs", "accuracy %" if metric == "accuracy" else "MSE")


def test_scores_of_two_kinds_have_no_best(tmp_path: Path) -> None:
    for number, metric in enumerate((ACCURACY, MSE)):
        job(tmp_path, number, f"task={metric.name}", found=comparison(0.5, metric=metric))

    assert summary(tmp_path).best is None


def test_runs_that_cannot_be_pooled_count_as_runs(tmp_path: Path) -> None:
    """On two kinds of machines, seconds have no common mean, but scores do."""
    for seed, device in enumerate(("cpu", "cuda")):
        found = replace(comparison(0.5 + 0.2 * seed, seed), device=device)
        job(tmp_path, seed, f"seed={seed}", found=found)

    (setting,) = summary(tmp_path).settings
    assert setting.comparison is None
    assert setting.score is not None and (setting.score.mean, setting.score.n) == (pytest.approx(0.6), 2)


def test_files(tmp_path: Path) -> None:
    found = seeds_and_k(tmp_path)

    written = {path.relative_to(tmp_path).as_posix() for path in found.write(tmp_path)}
    assert {"sweep.md", "comparison.json", "comparison.md", "accuracy_against_seconds.svg"} <= written
    assert not any("against_shots" in name for name in written)
    pooled = Comparison.from_dict(read_json(tmp_path / "comparison.json"))
    assert pooled.ours is not None and pooled.ours.n == 2 * TASKS and pooled.task["seeds"] == [0, 1]
    page = (tmp_path / "sweep.md").read_text(encoding="utf-8")
    assert "| method.forward.k=4 | 1, 3 | 75.0 ± 8.9 | 10× |" in page
    assert "| 2 | seed=1 method.forward.k=2 | finished | 80.0 ± 18.4 | – |" in page
    told = found.to_dict(tmp_path)
    assert told["best"]["overrides"] == "method.forward.k=4" and told["best"]["runs"] == [1, 3]
    assert told["jobs"][2]["folder"] == "2" and told["jobs"][2]["run_id"] == "id2"


def test_score_against_shots(tmp_path: Path) -> None:
    for number, (shots, seed) in enumerate(((1, 0), (1, 1), (5, 0), (5, 1))):
        overrides = (f"task.shots={shots}", f"seed={seed}")
        job(tmp_path, number, *overrides, found=comparison(0.5 + shots / 20, seed, shots=shots))

    written = {path.name for path in summary(tmp_path).write(tmp_path)}
    assert {"accuracy_against_shots.svg", "accuracy_against_shots.png"} <= written


def test_what_an_earlier_sweep_left_in_the_folder_is_not_counted(tmp_path: Path) -> None:
    job(tmp_path, 0, found=comparison(0.5))
    job(tmp_path, 1, sweep="another")
    write_json(tmp_path / "2" / "comparison.json", comparison(0.9).to_dict())

    assert [one.number for one in read_jobs(tmp_path, SWEEP)] == [0]


def test_different_experiments_are_told_one_by_one_and_drawn_beside_each_other(tmp_path: Path) -> None:
    kinds = {"classes": comparison(0.9), "physics": comparison(0.2, metric=MSE)}
    for number, (name, found) in enumerate(kinds.items()):
        job(tmp_path, number, f"experiment={name}", found=replace(found, experiment=name))
    told = summary(tmp_path)
    assert told.best is None  # an accuracy is no better than an error
    assert "classes: Use forward" in told.text and "physics: Use forward" in told.text
    drawn = [path.name for path in told.write(tmp_path)]
    assert drawn == ["sweep.md", "error_against_seconds.svg", "error_against_seconds.png"]
    shown = (tmp_path / "error_against_seconds.svg").read_text(encoding="utf-8")
    assert shown.count("time to adapt to one task") >= 2 or "<path" in shown
