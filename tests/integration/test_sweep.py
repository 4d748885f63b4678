"""Sweeps: one tree in MLflow, whatever starts the runs; failures that do not end the others; resume."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from adapt.compare import Comparison
from adapt.files import read_json, shipped
from adapt.tracking import prepare_store
from tests.command_line import call
from tests.processes import run

mlflow = pytest.importorskip("mlflow")

SMALL = (
    "method=forward",
    "task.tasks=1",
    "task.ways=2",
    "task.queries=2",
    "energy=none",
    "figures=false",
    "memory=false",
    "hydra.sweep.dir=sweep",
)


TRACKED = (*SMALL, "tracking.system_metrics_seconds=null")


def tree(root: Path, experiment: str) -> tuple[Any, dict[str, Any], dict[str, list[Any]]]:
    """The only sweep of ``experiment``; its runs by id; theirs by their id."""
    client = mlflow.MlflowClient(tracking_uri=prepare_store(root))
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    (parent,) = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    above = {run.info.run_id: run.data.tags.get("mlflow.parentRunId") for run in found}
    runs = {run.info.run_id: run for run in found if above[run.info.run_id] == parent.info.run_id}
    methods = {key: [run for run in found if above[run.info.run_id] == key] for key in runs}
    assert 1 + len(runs) + sum(map(len, methods.values())) == len(found)
    return parent, runs, methods


def not_to_be_imported(*names: str, folder: Path) -> None:
    """Files in the working directory that are called as what workers import."""
    for name in names:
        (folder / f"{name}.py").write_text("raise SystemExit('imported from the working directory')\n")


@pytest.mark.slow
def test_four_runs_of_joblib_are_one_tree(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    not_to_be_imported("tasks", "torch", "joblib", folder=tmp_path)
    typed = [
        "seed=0,1",
        "method.forward.k=2,8",
        "launcher=joblib",
        "hydra.launcher.n_jobs=2",
        "name=four",
    ]
    command = ["-m", "adapt", "-m", "experiment=quickstart", *TRACKED, *typed]
    ended = run([*command, f"tracking.root={root}"], tmp_path)
    assert ended.returncode == 0, ended.stderr

    parent, runs, methods = tree(root, "four")
    assert parent.info.status == "FINISHED" and parent.data.tags["sweep"] == "true"
    asked = {(str(seed), str(k)) for seed in (0, 1) for k in (2, 8)}
    assert {(run.data.params["seed"], run.data.params["method.forward.k"]) for run in runs.values()} == asked
    assert len(runs) == 4 and all(run.info.status == "FINISHED" for run in runs.values())
    for children in methods.values():
        assert [(run.data.tags["method"], run.info.status) for run in children] == [("forward", "FINISHED")]

    scores = {run_id: methods[run_id][0].data.metrics["eval/accuracy"] for run_id in runs}
    by_k = {
        k: sum(scores[one] for one, run in runs.items() if run.data.params["method.forward.k"] == k) / 2
        for k in ("2", "8")
    }
    best = parent.data.tags["best_overrides"].removeprefix("method.forward.k=")
    assert by_k[best] == max(by_k.values()) == pytest.approx(parent.data.metrics["sweep/best"])
    assert runs[parent.data.tags["best_run"]].data.params["method.forward.k"] == best
    assert len(parent.data.tags["best_runs"].split()) == 2
    assert (parent.data.params["seed"], parent.data.params["method.forward.k"]) == ("0,1", "2,8")
    assert parent.data.params["task.ways"] == "2" and parent.info.run_name == "four sweep"
    names = {run.info.run_name for run in runs.values()}
    assert names == {f"four seed={seed} method.forward.k={k}" for seed, k in asked}
    assert "4 runs over seed, method.forward.k" in parent.data.tags["mlflow.note.content"]

    told = read_json(tmp_path / "sweep" / "sweep.json")
    assert told["status"] == "finished" and told["run_id"] == parent.info.run_id
    assert {job["run_id"] for job in told["jobs"]} == {*runs}
    threads = {read_json(path)["environment"]["threads"] for path in tmp_path.glob("sweep/*/comparison.json")}
    assert threads == {1}
    assert "four: sweep of 4 runs" in ended.stdout


@pytest.mark.slow
def test_submitit_runs_them_in_processes_of_their_own(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    not_to_be_imported("tasks", "torch", "submitit", folder=tmp_path)
    typed = ["seed=0,1", "launcher=submitit_local", "name=local", f"tracking.root={root}"]
    ended = run(["-m", "adapt", "-m", *TRACKED, *typed], tmp_path)
    assert ended.returncode == 0, ended.stderr

    parent, runs, methods = tree(root, "local")
    assert parent.info.status == "FINISHED" and len(runs) == 2
    assert all(len(children) == 1 for children in methods.values())
    assert [*(tmp_path / "sweep" / ".submitit").glob("*/*_result.pkl")]
    found = [
        Comparison.from_dict(read_json(tmp_path / "sweep" / str(job) / "comparison.json")) for job in (0, 1)
    ]
    assert [one.seed for one in found] == [0, 1]


@pytest.mark.slow
def test_a_run_that_fails_does_not_end_the_others_and_is_run_again_by_a_resume(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["name=mended", f"tracking.root={root}", "adapter=mine,conv4_glyphs_film"]

    assert call(["-m", *TRACKED, *typed], tmp_path) == 2
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert line.startswith("error: 1 of 2 runs of the sweep failed: run 0 (adapter=mine): 'mine' is neither")
    assert "run 0 of the sweep failed: 'mine' is neither" in said.out
    parent, runs, _ = tree(root, "mended")
    assert parent.info.status == "FAILED" and parent.data.tags["failed_runs"] == "0"
    assert read_json(tmp_path / "sweep" / "sweep.json")["status"] == "failed"
    (finished,) = [run_id for run_id, run in runs.items() if run.info.status == "FINISHED"]
    assert parent.data.tags["best_run"] == finished
    before = (tmp_path / "sweep" / "1" / "comparison.json").stat()

    shutil.copytree(shipped("conv4_glyphs_film"), tmp_path / "mine")
    assert call(["resume", "sweep"], tmp_path) == 0
    said = capsys.readouterr()
    assert f"{tmp_path / 'sweep' / '1'} is finished: not run again" in said.out and not said.err
    assert (tmp_path / "sweep" / "1" / "comparison.json").stat() == before
    again, runs, methods = tree(root, "mended")
    assert again.info.run_id == parent.info.run_id and again.info.status == "FINISHED"
    assert len(runs) == 2 and all(run.info.status == "FINISHED" for run in runs.values())
    assert all(len(children) == 1 for children in methods.values())
    assert again.data.metrics["sweep/failed"] == 0 and again.data.tags["failed_runs"] == ""

    assert call(["resume", "sweep"], tmp_path) == 0
    assert "is finished: there is nothing to do" in capsys.readouterr().out


@pytest.mark.slow
def test_a_sweep_into_a_used_folder_is_a_new_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seeds in ("0,1", "2"):
        assert call(["-m", *SMALL, "tracking=none", f"seed={seeds}"], tmp_path) == 0

    told = read_json(tmp_path / "sweep" / "sweep.json")
    assert [(job["number"], job["status"]) for job in told["jobs"]] == [(0, "finished")]
    assert Comparison.from_dict(read_json(tmp_path / "sweep" / "0" / "comparison.json")).seed == 2
