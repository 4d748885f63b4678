"""Whole runs: what the terminal says, what is on disk, and what the MLflow store holds afterwards."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adapt.compare import Comparison
from adapt.compare.verdict import verdict
from adapt.files import read_json
from adapt.tracking import prepare_store
from tests import processes
from tests.command_line import TINY, call, output_folder

mlflow = pytest.importorskip("mlflow")

OVERRIDES = (
    "experiment=quickstart",
    "task.tasks=2",
    "task.shots=5",
    "task.ways=3",
    "task.queries=5",
    "method.retrain.epochs=1",
    "method.retrain.max_tasks=1",
    "method.finetune.steps=2",
)
METHODS = ("prototype", "ridge", "logistic", "forward", "backprop", "finetune", "retrain")


@dataclass(frozen=True)
class Tracked:
    """A finished process, and what its store holds."""

    ended: subprocess.CompletedProcess[str]
    folder: Path
    parent: Any
    children: dict[str, Any]
    client: Any


@pytest.fixture(scope="module")
def tracked(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Tracked:
    folder = tmp_path_factory.mktemp("quickstart")
    (folder / "store").mkdir()
    shutil.copy(empty_store / "mlflow.db", folder / "store")
    author = ["-c", "user.name=tests", "-c", "user.email=tests@localhost"]
    for git in (["init", "--quiet"], [*author, "commit", "--quiet", "--allow-empty", "--message=start"]):
        subprocess.run(["git", *git], cwd=folder, check=True)
    ended = processes.run(["-m", "adapt", *OVERRIDES, f"tracking.root={folder / 'store'}"], folder)
    assert ended.returncode == 0, ended.stderr
    client = mlflow.MlflowClient(tracking_uri=prepare_store(folder / "store"))
    experiment = client.get_experiment_by_name("quickstart")
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 1
    children = {run.data.tags["method"]: run for run in runs if run is not parents[0]}
    assert len(children) == len(runs) - 1
    return Tracked(ended, folder, parents[0], children, client)


def comparison(folder: Path) -> Comparison:
    return Comparison.from_dict(read_json(output_folder(folder) / "comparison.json"))


def test_terminal_shows_table_and_verdict(tracked: Tracked) -> None:
    said, words = tracked.ended.stdout, " ".join(tracked.ended.stdout.split())

    assert "quickstart: digits, 3-way 5-shot, 2 tasks, seed 0, cpu" in said
    assert [name for name in METHODS if f"│ {name} " not in said] == []
    assert verdict(comparison(tracked.folder)) in words
    assert tracked.ended.stderr == ""


def test_terminal_says_where_to_look(tracked: Tracked) -> None:
    lines = [line.split(maxsplit=1) for line in tracked.ended.stdout.splitlines()]
    places = {line[0]: line[1] for line in lines if len(line) == 2}

    assert (tracked.folder / places["figure"]).is_file()
    assert (tracked.folder / places["results"] / "comparison.md").is_file()
    assert places["MLflow"] == "mlflow ui --backend-store-uri sqlite:///store/mlflow.db"


def test_comparison_survives_the_disk(tracked: Tracked) -> None:
    written = read_json(output_folder(tracked.folder) / "comparison.json")
    result = Comparison.from_dict(written)

    assert Comparison.from_dict(result.to_dict()) == result
    assert tuple(result.methods) == METHODS
    assert result.methods["forward"].n == 2 and result.methods["retrain"].n == 1
    assert result.methods["retrain"].curves


def test_store_parent(tracked: Tracked) -> None:
    data, result = tracked.parent.data, comparison(tracked.folder)

    assert tracked.parent.info.status == "FINISHED"
    for name in ("speedup_vs_retrain", "speedup_vs_finetune", "speedup_vs_backprop", "accuracy_vs_backprop"):
        assert f"compare/{name}" in data.metrics
    own = {name: value for name, value in data.metrics.items() if not name.startswith("system/")}
    assert own == pytest.approx(result.metrics())
    assert result.ours is not None and result.best_head is not None
    assert data.metrics["compare/accuracy_vs_head"] == pytest.approx(
        result.difference(result.ours, result.best_head).mean
    )
    assert data.tags["mlflow.note.content"] == verdict(result)
    assert data.params["task.shots"] == "5" and data.params["inner._target_"] == "adapt.inner.GaussNewton"


def test_store_children(tracked: Tracked) -> None:
    result = comparison(tracked.folder)

    assert set(tracked.children) == set(METHODS)
    for name, child in tracked.children.items():
        assert child.info.status == "FINISHED"
        assert child.data.tags["mlflow.parentRunId"] == tracked.parent.info.run_id
        metrics = child.data.metrics
        assert metrics["eval/accuracy"] == pytest.approx(result.methods[name].mean_score.mean)
        for key in ("time/adapt_seconds", "cost/forward_equivalents", "memory/peak_mb"):
            assert metrics[key] > 0, (name, key)
        if result.methods[name].n > 1:
            assert metrics["eval/accuracy_ci95"] >= 0


@pytest.mark.parametrize("tag", ["experiment", "backbone", "task", "device", "git_sha", "git_dirty"])
def test_store_tags(tag: str, tracked: Tracked) -> None:
    expected = {"experiment": "quickstart", "backbone": "conv4_glyphs", "task": "digits", "device": "cpu"}
    for run in (tracked.parent, *tracked.children.values()):
        if tag in expected:
            assert run.data.tags[tag] == expected[tag]
        else:
            assert re.fullmatch(r"[0-9a-f]{40}|true|false", run.data.tags[tag])


def test_store_dataset(tracked: Tracked) -> None:
    (found,) = tracked.parent.inputs.dataset_inputs

    assert found.dataset.name == "digits" and found.dataset.digest
    assert {tag.key: tag.value for tag in found.tags}["mlflow.data.context"] == "evaluation"


def test_store_artifacts(tracked: Tracked, tmp_path: Path) -> None:
    def text(name: str) -> str:
        path = tracked.client.download_artifacts(tracked.parent.info.run_id, name, str(tmp_path))
        return Path(path).read_text(encoding="utf-8")

    found = tracked.client.list_artifacts(tracked.parent.info.run_id)
    names = {artifact.path for artifact in found}
    assert {"comparison.json", "comparison.md", "config.yaml", "overrides.txt", "figures"} <= names
    assert text("overrides.txt").splitlines()[: len(OVERRIDES)] == [*OVERRIDES]
    assert "ways: 3" in text("config.yaml")
    assert text("comparison.json") == (output_folder(tracked.folder) / "comparison.json").read_text()


def test_overrides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed = ["seed=1", "task.shots=1", "method=forward", "inner.steps=2", "backbone=conv4"]

    assert call([*TINY, *typed], tmp_path) == 0

    result = comparison(tmp_path)
    assert result.methods["forward"].peak_mb is None  # TINY asks for none
    assert (result.seed, result.task["shots"], [*result.methods]) == (1, 1, ["forward"])
    assert "forward" in capsys.readouterr().out
    assert read_json(tmp_path / "run" / "comparison.json")["seed"] == 1


def test_more_steps_cost_more(tmp_path: Path) -> None:
    costs = []
    for steps in (0, 1, 2):
        folder = tmp_path / str(steps)
        folder.mkdir()
        assert call([*TINY, "method=forward", "task.tasks=1", f"inner.steps={steps}"], folder) == 0
        costs.append(comparison(folder).methods["forward"].forward_equivalents)

    assert costs == sorted(costs) and costs[0] < costs[2]


def test_neither_store_nor_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call([*TINY], tmp_path) == 0

    assert {path.name for path in tmp_path.iterdir()} == {"run"}
    assert not {path.suffix for path in tmp_path.rglob("*")} & {".svg", ".png", ".html"}
    said = capsys.readouterr().out
    assert "MLflow" not in said and "figure" not in said and "results  run" in said


@pytest.mark.slow
def test_seed_decides_everything(tmp_path: Path) -> None:
    accuracies = []
    for name, seed in (("first", 3), ("again", 3), ("other", 4)):
        folder = tmp_path / name
        folder.mkdir()
        methods = "method=[head,forward,backprop,finetune,retrain]"
        small = [
            "method.retrain.epochs=1",
            "method.finetune.steps=1",
            "task.shots=1",
            "task.queries=25",
            "task.tasks=1",
        ]
        assert call([*TINY, methods, *small, f"seed={seed}", "method.backprop.solver.steps=2"], folder) == 0
        accuracies.append({n: method.score for n, method in comparison(folder).methods.items()})

    assert accuracies[0] == accuracies[1] != accuracies[2]


@pytest.mark.parametrize("uri", ["nonsense://store", "sqlite:////proc/nowhere/mlflow.db"])
def test_trouble_with_tracking_is_not_trouble_with_the_run(
    uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = call([*TINY, "tracking=mlflow", f"tracking.uri={uri}"], tmp_path)

    said = capsys.readouterr()
    assert code == 0
    (line,) = [line for line in said.err.splitlines() if line.startswith("warning: ")]
    assert "writes its results to its folder as always" in line
    assert comparison(tmp_path).methods["forward"].n == 2
    assert "MLflow  " not in said.out
