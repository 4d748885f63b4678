"""Kills between the end of the work and the note that it is finished: the same MLflow run goes on, nothing is
made twice."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from adapt.files import read_json, write_json
from adapt.tracking import prepare_store
from adapt.tracking.sync import sync
from tests.command_line import call
from tests.processes import Process
from tests.tracked import runs

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.slow

#: The command, killed at a point of the last steps of a run.
KILLED = """
import os, signal, sys
import adapt.app.main
import adapt.app.commands.tune, adapt.app.stages.compare, adapt.app.stages.run, adapt.app.sweeps.callback
from mlflow import MlflowClient
from adapt.app.stages.state import State
from adapt.tracking.journal import Journal

def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def after(owner, name, when=lambda *a, **k: True):
    own = getattr(owner, name)
    def patched(*a, **k):
        found = own(*a, **k)
        if when(*a, **k):
            kill()
        return found
    setattr(owner, name, patched)

def before(owner, name, when=lambda *a, **k: True):
    own = getattr(owner, name)
    setattr(owner, name, lambda *a, **k: kill() if when(*a, **k) else own(*a, **k))

match sys.argv.pop(1):
    case "the model is whole":
        after(MlflowClient, "finalize_logged_model")
    case "a version is made":
        after(MlflowClient, "create_model_version")
    case "the end is noted":
        after(Journal, "append", lambda _, o: o["do"] == "end" and not o["run"] and o["status"] == "FINISHED")
    case "MLflow has finished":
        before(State, "write", lambda *_, **changes: changes.get("status") == "finished")
    case "the run has finished":
        before(adapt.app.stages.run, "forget")
    case "the sweep has finished":
        before(adapt.app.sweeps.callback, "close", lambda error: error is None)
    case "the search has finished":
        after(adapt.app.commands.tune, "_write")
    case "a trial has finished":
        before(adapt.app.sweeps.tuning.trials, "forget")
sys.argv[0] = "adapt"
adapt.app.main.main()
"""
META = (
    "experiment=meta_glyphs", "task.source.max_classes=40", "task.ways=2", "task.shots=2", "task.queries=2",
    "meta.k=2", "meta.basis_tasks=2", "meta.tasks_per_step=1", "meta.validation_tasks=1", "meta.steps=2",
    "register=glyphs", "hydra.run.dir=run", "tracking.system_metrics_seconds=null",
)  # fmt: skip
SMALL = (
    "method=[head]", "task.tasks=1", "task.ways=2", "task.queries=2", "energy=none",
    "figures=false", "memory=false", "tracking.system_metrics_seconds=null",
)  # fmt: skip


def killed(point: str, folder: Path, *arguments: str) -> None:
    ended = Process(["-c", KILLED, point, *arguments], folder).wait(120)
    assert ended.returncode == -signal.SIGKILL, ended.stderr


def client(root: Path) -> Any:
    return mlflow.MlflowClient(tracking_uri=prepare_store(root))


def test_a_training_is_one_run_and_one_version(root: Path, tmp_path: Path) -> None:
    killed("the model is whole", tmp_path, *META, "name=trained", f"tracking.root={root}")
    (first,) = runs(client(root), "trained")
    killed("a version is made", tmp_path, "resume", "run")
    assert call(["resume", "run"], tmp_path) == 0

    (run,) = runs(client(root), "trained")
    assert (run.info.run_id, run.info.status) == (first.info.run_id, "FINISHED")
    assert read_json(tmp_path / "run" / "run.json")["run_id"] == run.info.run_id
    (version,) = client(root).search_model_versions("name = 'glyphs'")
    assert version.run_id == run.info.run_id
    for alias in ("challenger", "champion"):
        assert client(root).get_model_version_by_alias("glyphs", alias).version == version.version
    (output,) = run.outputs.model_outputs
    assert client(root).get_logged_model(output.model_id).status == "READY"
    assert not (tmp_path / "run" / "tracking").exists()


def test_what_had_finished_is_reopened_while_the_run_has_not(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also after `sync`, which sends the rest of what was killed."""
    typed = [*SMALL, "name=reopened", f"tracking.root={root}", "hydra.run.dir=run"]
    killed("the end is noted", tmp_path, *typed)
    assert len(sync([tmp_path]).sent) == 1
    before = {run.info.run_id for run in runs(client(root), "reopened")}
    assert len(before) == 4, "the run with its three heads"
    killed("MLflow has finished", tmp_path, "resume", "run")
    assert read_json(tmp_path / "run" / "run.json")["status"] == "running"
    killed("the run has finished", tmp_path, "resume", "run")
    assert read_json(tmp_path / "run" / "run.json")["status"] == "finished"

    assert call(["resume", "run"], tmp_path) == 0
    assert "is finished: there is nothing to do" in capsys.readouterr().out
    found = {run.info.run_id: run.info.status for run in runs(client(root), "reopened")}
    assert found == dict.fromkeys(before, "FINISHED")
    assert not (tmp_path / "run" / "tracking").exists()


def test_a_run_whose_journal_is_gone_is_found_by_its_id(root: Path, tmp_path: Path) -> None:
    typed = [*SMALL, "name=noted", f"tracking.root={root}", "hydra.run.dir=run"]
    assert call(typed, tmp_path) == 0
    path = tmp_path / "run" / "run.json"
    before = {run.info.run_id for run in runs(client(root), "noted")}
    write_json(path, {**read_json(path), "status": "running"})

    assert call(["resume", "run"], tmp_path) == 0
    assert {run.info.run_id: run.info.status for run in runs(client(root), "noted")} == dict.fromkeys(
        before, "FINISHED"
    )
    assert read_json(path)["status"] == "finished"


def test_a_sweep_that_had_noted_its_end_ends(root: Path, tmp_path: Path) -> None:
    typed = ["-m", *SMALL, "name=ended", f"tracking.root={root}", "hydra.sweep.dir=sweep"]
    killed("the sweep has finished", tmp_path, *typed)
    assert read_json(tmp_path / "sweep" / "sweep.json")["status"] == "finished"

    assert call(["resume", "sweep"], tmp_path) == 0
    found = runs(client(root), "ended")
    assert len(found) == 1 + 1 + 3 and {run.info.status for run in found} == {"FINISHED"}
    assert not (tmp_path / "sweep" / "tracking").exists()


def test_a_search_and_its_trials_end(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    typed = (
        "tune", "folder=search", "hparams_search=methods", "hparams_search.methods=[ridge]",
        "hparams_search.trials=1", "hparams_search.tasks=2", "task.ways=2", "task.queries=2", "energy=none",
        "name=searched", f"tracking.root={root}", "tracking.system_metrics_seconds=null",
    )  # fmt: skip
    killed("a trial has finished", tmp_path, *typed)
    killed("the search has finished", tmp_path, "tune", "folder=search")
    assert call(["tune", "folder=search"], tmp_path) == 0

    found = runs(client(root), "searched-tune")
    assert sorted(run.info.run_name for run in found) == ["ridge 0", "tune searched"]
    assert {run.info.status for run in found} == {"FINISHED"}
    assert not [*(tmp_path / "search").rglob("tracking")]
