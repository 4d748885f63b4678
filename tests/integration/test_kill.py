"""Comparisons and sweeps that are killed, and go on: the same scores, the same MLflow runs, nothing twice."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapt.compare import Comparison
from adapt.files import read_json
from adapt.tracking import prepare_store
from tests.command_line import call
from tests.processes import Process

mlflow = pytest.importorskip("mlflow")

pytestmark = pytest.mark.slow

TASKS = 30
SMALL = (
    "method=[head,forward]",
    "task.ways=2",
    "task.queries=3",
    "energy=none",
    "figures=false",
    "memory=false",
)


def stop_when(
    there: Callable[[], bool], number: signal.Signals, folder: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Start ``python -m adapt`` in ``folder``, and send it ``number`` as soon as ``there()``."""
    process = Process(["-m", "adapt", *arguments], folder)
    try:
        deadline = time.monotonic() + 300
        while not there():
            assert process.poll(0.01) is None, f"ended before it could be killed: {process.said}"
            assert time.monotonic() < deadline, "has not got far enough"
        process.send(number)
        return process.wait(120)
    finally:
        process.kill()


def lines(path: Path) -> int:
    """Whole lines: the tasks that are done, and one at the head."""
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def statuses(root: Path, experiment: str) -> dict[str, dict[str, Any]]:
    """By MLflow id: name, status, parent; read from the store by a client of its own."""
    client = mlflow.MlflowClient(tracking_uri=prepare_store(root))
    runs = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return {
        run.info.run_id: {
            "name": run.info.run_name,
            "status": run.info.status,
            "parent": run.data.tags.get("mlflow.parentRunId"),
        }
        for run in runs
    }


def scores(path: Path) -> dict[str, tuple[float, ...]]:
    found = Comparison.from_dict(read_json(path / "comparison.json"))
    return {name: method.score for name, method in found.methods.items()}


def test_a_comparison_goes_on_after_sigterm_and_sigkill(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = [*SMALL, f"task.tasks={TASKS}"]
    tracked = [*typed, "name=killed", f"tracking.root={root}"]
    progress = tmp_path / "run" / "progress.jsonl"

    ended = stop_when(lambda: lines(progress) >= 3, signal.SIGTERM, tmp_path, *tracked, "hydra.run.dir=run")
    assert (ended.returncode, ended.stderr) == (143, "terminated\n")
    ((run_id, noted),) = statuses(root, "killed").items()
    assert noted["status"] == "KILLED"
    done = lines(progress)
    assert 3 <= done < TASKS and not (tmp_path / "run" / "comparison.json").exists()

    stop_when(lambda: lines(progress) >= done + 2, signal.SIGKILL, tmp_path, "resume", "run")
    assert {run: noted["status"] for run, noted in statuses(root, "killed").items()} == {run_id: "RUNNING"}
    assert done + 2 <= lines(progress) < TASKS

    assert call(["resume", "run"], tmp_path) == 0
    runs = statuses(root, "killed")
    assert all(noted["status"] == "FINISHED" for noted in runs.values())
    assert runs.pop(run_id)["parent"] is None
    assert sorted(noted["name"].rpartition(" · ")[2] for noted in runs.values()) == [
        "forward",
        "logistic",
        "prototype",
        "ridge",
    ]
    assert {noted["parent"] for noted in runs.values()} == {run_id}
    assert lines(progress) == TASKS + 1

    assert call([*typed, "tracking=none", "hydra.run.dir=whole"], tmp_path) == 0
    assert scores(tmp_path / "run") == scores(tmp_path / "whole")
    resumed = Comparison.from_dict(read_json(tmp_path / "run" / "comparison.json"))
    assert "of an earlier process" in resumed.environment["resumed"]

    capsys.readouterr()
    assert call(["resume", "run"], tmp_path) == 0
    assert "is finished: there is nothing to do" in capsys.readouterr().out
    assert len(statuses(root, "killed")) == 5


def test_a_sweep_goes_on_with_what_is_left(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    typed = [*SMALL, "task.tasks=2", "seed=0,1,2", "name=swept", f"tracking.root={root}"]

    def finished(number: int) -> bool:
        path = folder / str(number) / "run.json"
        return path.is_file() and read_json(path)["status"] == "finished"

    stop_when(lambda: finished(0), signal.SIGKILL, tmp_path, "-m", *typed, "hydra.sweep.dir=sweep")
    (parent,) = [key for key, run in statuses(root, "swept").items() if run["parent"] is None]
    assert statuses(root, "swept")[parent]["status"] == "RUNNING"
    assert read_json(folder / "sweep.json")["run_id"] == parent
    before = (folder / "0" / "comparison.json").stat()

    ended = stop_when(lambda: finished(1), signal.SIGTERM, tmp_path, "resume", "sweep")
    assert ended.returncode == 143, ended.stderr
    assert f"{folder / '0'} is finished: not run again" in ended.stdout
    assert statuses(root, "swept")[parent]["status"] == "KILLED"
    assert read_json(folder / "sweep.json")["status"] == "killed"

    assert call(["resume", "sweep"], tmp_path) == 0
    runs = statuses(root, "swept")
    assert all(run["status"] == "FINISHED" for run in runs.values())
    assert [key for key, run in runs.items() if run["parent"] is None] == [parent]
    jobs = [key for key, run in runs.items() if run["parent"] == parent]
    assert len(jobs) == 3 and len(runs) == 1 + 3 + 3 * 4
    assert (folder / "0" / "comparison.json").stat() == before
    assert read_json(folder / "sweep.json")["status"] == "finished"
