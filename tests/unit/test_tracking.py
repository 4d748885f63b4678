"""Runs in a real MLflow store, read back; and what happens when MLflow cannot record them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from adapt.compare import MSE, Comparison, Curve, MethodResult
from adapt.compare.verdict import verdict
from adapt.tracking import (
    DatasetInput,
    TrackingSettings,
    TrackingWarning,
    git_state,
    log,
    prepare_store,
    track,
)
from adapt.tracking.params import clean_key, flatten, method_config, plain
from tasks import Digits

mlflow = pytest.importorskip("mlflow")

CARD = {"name": "digits", "licence": "CC BY 4.0", "counts": {"examples": 1797, "classes": 10}}
DATA = DatasetInput("digits", "5" * 64, CARD, "evaluation")
CONFIG = {
    "name": "toy",
    "seed": 3,
    "task": {"ways": 5, "source": {"_target_": "tasks.Digits", "size": 32}, "transform": None},
    "method": {"forward": {"k": 4}, "retrain": {"lr": 0.003, "batch": 32}},
}


def comparison() -> Comparison:
    curves = (Curve((0.5, 2.0), (0.2, 0.9)), Curve((0.7, 3.0), (0.4, 1.0)))
    methods = {
        "head": MethodResult("head", "head", (0.7, 0.8), (0.01, 0.01), 1.0, 2.0),
        "forward": MethodResult("forward", "forward", (0.8, 0.95), (0.1, 0.1), 9.0, 4.0),
        "retrain": MethodResult("retrain", "retrain", (0.9, 1.0), (2.0, 3.0), 900.0, 8.0, curves),
    }
    return Comparison("toy", {"source": "digits", "ways": 5, "shots": 1}, 3, "cpu", methods)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that the tests of this module share: making one takes seconds."""
    folder = tmp_path_factory.mktemp("tracking")
    prepare_store(folder)
    return folder


@pytest.fixture(scope="module")
def client(root: Path) -> Any:
    return mlflow.MlflowClient(tracking_uri=prepare_store(root))


@pytest.fixture(scope="module")
def tree(root: Path, client: Any) -> tuple[Any, dict[str, Any]]:
    """A tracked comparison: the parent run, and its children by name."""
    files = [root / name for name in ("comparison.json", "comparison.md", "accuracy_against_seconds.png")]
    for path in files:
        path.write_text("{}")
    settings = TrackingSettings(root=str(root))
    arguments: dict[str, Any] = {
        "config": CONFIG,
        "overrides": ["task.shots=1", "seed=3"],
        "datasets": [DATA],
    }
    with track(settings, "toy", tags={"backbone": "conv4", "task": "digits"}, **arguments) as run:
        run.log_comparison(comparison(), files=files)
    parent = client.get_run(run.run_id)
    found = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run.run_id}'")
    return parent, {child.info.run_name: child for child in found}


def paths(client: Any, run_id: str, folder: str | None = None) -> set[str]:
    return {entry.path for entry in client.list_artifacts(run_id, folder)}


def fresh(root: Path, client: Any, experiment: str) -> Any:
    """The one run of an experiment."""
    (run,) = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return run


# ------------------------------------------------------------------------------------------ what is recorded


def test_one_finished_parent_with_one_finished_child_per_method(tree: tuple[Any, dict[str, Any]]) -> None:
    parent, children = tree
    assert set(children) == {"head", "forward", "retrain"}
    assert {run.info.status for run in (parent, *children.values())} == {"FINISHED"}
    assert parent.info.run_name == "toy"


def test_tags(tree: tuple[Any, dict[str, Any]]) -> None:
    parent, children = tree
    shared = {"experiment": "toy", "backbone": "conv4", "task": "digits", "device": "cpu", "seed": "3"}
    state = git_state()
    if state is not None:
        shared |= {"git_sha": state[0]}
    for run in (parent, *children.values()):
        assert shared.items() <= run.data.tags.items()
        assert "energy_source" not in run.data.tags
        assert ("git_dirty" in run.data.tags) == (state is not None)
    assert {name: child.data.tags["method"] for name, child in children.items()} == {
        name: name for name in children
    }
    assert "method" not in parent.data.tags
    assert parent.data.tags["overrides"] == "task.shots=1 seed=3"
    assert parent.data.tags["mlflow.note.content"] == verdict(comparison())


def test_params_are_the_config_and_a_child_has_its_own_method_only(tree: tuple[Any, dict[str, Any]]) -> None:
    parent, children = tree
    assert parent.data.params == flatten(CONFIG)
    assert parent.data.params["task.transform"] == "null"
    assert children["forward"].data.params["method.forward.k"] == "4"
    assert children["forward"].data.params["task.ways"] == "5"
    assert not [key for key in children["forward"].data.params if "retrain" in key]


def test_metrics(tree: tuple[Any, dict[str, Any]]) -> None:
    parent, children = tree
    assert parent.data.metrics == pytest.approx(comparison().metrics())
    assert "compare/speedup_vs_retrain" in parent.data.metrics
    for name, child in children.items():
        expected = comparison().method_metrics(comparison().methods[name])
        assert {key: child.data.metrics[key] for key in expected} == pytest.approx(expected)


def test_curve_of_a_watched_method_against_step_and_elapsed_time(client: Any, tree: Any) -> None:
    child = tree[1]["retrain"]
    history = client.get_metric_history(child.info.run_id, "curve/accuracy")
    assert [(point.step, point.value) for point in history] == [
        (0, pytest.approx(0.3)),
        (1, pytest.approx(0.95)),
    ]
    assert [point.timestamp - child.info.start_time for point in history] == [
        600,
        2500,
    ]  # ms, median of tasks
    seconds = client.get_metric_history(child.info.run_id, "curve/seconds")
    assert [point.value for point in seconds] == pytest.approx([0.6, 2.5])
    assert "curve/accuracy" not in tree[1]["forward"].data.metrics


def test_a_regression_is_recorded_by_its_error(client: Any, root: Path) -> None:
    errors = replace(comparison(), metric=MSE)
    with track(TrackingSettings(root=str(root)), "regression") as run:
        run.log_comparison(errors)
    parent = client.get_run(run.run_id)
    assert parent.data.metrics == pytest.approx(errors.metrics())
    assert {"compare/mse_vs_head", "compare/mse_vs_head_ci95"} < set(parent.data.metrics)
    found = client.search_runs([parent.info.experiment_id], "tags.method = 'retrain'")
    assert {"eval/mse", "eval/mse_ci95", "curve/mse", "curve/seconds"} < set(found[0].data.metrics)
    everything = {**parent.data.metrics, **found[0].data.metrics}
    assert not [name for name in everything if "accuracy" in name]


def test_data_inputs_with_their_cards(tree: tuple[Any, dict[str, Any]]) -> None:
    for run in (tree[0], *tree[1].values()):
        (entry,) = run.inputs.dataset_inputs
        assert (entry.dataset.name, entry.dataset.digest) == ("digits", "5" * 36)  # MLflow's limit
        assert {tag.key: tag.value for tag in entry.tags} == {
            "mlflow.data.context": "evaluation",
            "sha256": "5" * 64,
            "licence": "CC BY 4.0",
        }
        source = json.loads(entry.dataset.source)["tags"]
        assert source == {"name": "digits", "sha256": "5" * 64, "card": CARD}
        assert json.loads(entry.dataset.profile) == {"num_rows": 1797, "examples": 1797, "classes": 10}
        assert mlflow.data.get_source(entry).to_dict()["tags"] == source


def test_a_whole_card_is_recorded_and_one_beyond_the_limits_of_mlflow_is_cut(client: Any, root: Path) -> None:
    whole = {
        **Digits().card.to_dict(),
        "domain": "vision",
        "commercial": False,
        "personal_data": "Faces. " * 200,
        "counts": {"functions": 3},
    }
    endless = {**whole, "known_issues": ["é" * 40_000], "description": "long " * 20_000}
    sources = [DatasetInput("d", "6" * 64, card, "training") for card in (whole, endless)]
    sources[1] = replace(sources[1], name="n" * 600)
    with track(TrackingSettings(root=str(root)), "cards", datasets=sources) as run:
        pass
    assert run.problem is None
    first, second = sorted(
        client.get_run(run.run_id).inputs.dataset_inputs, key=lambda e: len(e.dataset.name)
    )
    tags = {tag.key: tag.value for tag in first.tags}
    assert (tags["commercial"], tags["domain"], tags["licence"]) == ("false", "vision", "CC BY 4.0")
    assert 400 < len(tags["personal_data"]) <= 500 and tags["personal_data"].endswith(" …")
    assert json.loads(first.dataset.source)["tags"]["card"] == whole
    assert json.loads(first.dataset.profile) == {"functions": 3}
    cut = json.loads(second.dataset.source)["tags"]["card"]
    assert cut == {**whole, "known_issues": log.CUT, "description": log.CUT}


def test_artifacts(client: Any, root: Path, tree: tuple[Any, dict[str, Any]]) -> None:
    run_id = tree[0].info.run_id
    documents = {"comparison.json", "comparison.md", "config.yaml", "overrides.txt", "packages.txt"}
    assert paths(client, run_id) == documents | {"figures"}
    assert paths(client, run_id, "figures") == {"figures/accuracy_against_seconds.png"}
    folder = root / "mlruns" / "toy" / run_id / "artifacts"
    assert (folder / "overrides.txt").read_text() == "task.shots=1\nseed=3\n"
    assert "size: 32" in (folder / "config.yaml").read_text()
    assert f"mlflow=={mlflow.__version__}" in (folder / "packages.txt").read_text().splitlines()


def test_the_store_is_where_plain_mlflow_ui_looks(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    with track(TrackingSettings(), "here") as run:
        pass
    assert run.ui_hint == "mlflow ui --backend-store-uri sqlite:///mlflow.db"
    monkeypatch.chdir(root.parent)
    assert run.ui_hint == "mlflow ui --backend-store-uri sqlite:///mlflow.db"  # root "." was given, "." it is
    monkeypatch.chdir(root / "mlruns")
    with track(TrackingSettings(root=str(root)), "here") as run:
        pass
    assert run.ui_hint == f"mlflow ui --backend-store-uri sqlite:///{root.resolve()}/mlflow.db"
    assert not (root / "mlruns" / "mlruns").exists()


def test_metric_histories_are_buffered_and_complete(client: Any, root: Path) -> None:
    with track(TrackingSettings(root=str(root)), "training") as run:
        for step in range(1234):
            run.log_metrics({"train/loss": 1 / (step + 1), "odd key!": step}, step=step)
    history = client.get_metric_history(run.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [
        (step, 1 / (step + 1)) for step in range(1234)
    ]
    assert client.get_run(run.run_id).data.metrics["odd key_"] == 1233


def test_an_experiment_can_be_named_and_a_deleted_one_comes_back(client: Any, root: Path) -> None:
    settings = TrackingSettings(root=str(root), experiment="my experiments/a & b")
    with track(settings, "first"):
        pass
    found = client.get_experiment_by_name("my experiments/a & b")
    client.delete_experiment(found.experiment_id)
    with track(settings, "second") as run:
        run.log_files([])
    assert client.get_run(run.run_id).info.experiment_id == found.experiment_id
    assert (root / "mlruns" / "my_experiments_a_b").is_dir()


# --------------------------------------------------------------------------------------------- when it fails


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError("no such task"), "FAILED"), (KeyboardInterrupt(), "KILLED")], ids=str
)
def test_work_that_raises_leaves_its_status_traceback_and_metrics(
    client: Any, root: Path, error: BaseException, status: str
) -> None:
    experiment = f"raises {status}"
    with (
        pytest.raises(type(error)),
        track(TrackingSettings(root=str(root)), experiment, config=CONFIG) as run,
    ):
        run.log_metrics({"train/loss": 0.5}, step=7)
        raise error
    found = fresh(root, client, experiment)
    assert found.info.status == status
    assert found.data.metrics == {"train/loss": 0.5}
    assert {"config.yaml", "traceback.txt"} <= paths(client, found.info.run_id)


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def unusable(tmp_path: Path) -> Iterator[TrackingSettings]:
    (tmp_path / "file").write_text("")
    yield TrackingSettings(root=str(tmp_path / "file"))
    (tmp_path / "folder" / "mlflow.db").mkdir(parents=True)
    yield TrackingSettings(root=str(tmp_path / "folder"))
    (tmp_path / "mlflow.db").write_text("not a database")
    yield TrackingSettings(root=str(tmp_path))


def test_a_store_that_cannot_be_used_costs_one_warning_and_not_the_work(tmp_path: Path) -> None:
    for settings in unusable(tmp_path):
        done, started = False, time.monotonic()
        with (
            pytest.warns(TrackingWarning, match="set tracking.root to .* The run itself goes on") as caught,
            track(settings, "toy") as run,
        ):
            run.log_metrics({"loss": 1.0})
            run.log_comparison(comparison())
            done = True
        assert done
        assert time.monotonic() - started < 30  # left alone, MLflow tries for more than a minute
        assert len(caught) == 1
        assert run.problem is not None
        assert run.ui_hint is None


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_costs_one_warning_and_not_the_work(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.warns(TrackingWarning), track(TrackingSettings(root=str(tmp_path)), "toy"):
        pass


def test_a_dead_server_is_given_up_within_seconds() -> None:
    started = time.monotonic()
    uri = f"http://127.0.0.1:{closed_port()}"
    with (
        pytest.warns(TrackingWarning, match=uri.removeprefix("http://")),
        track(TrackingSettings(uri=uri), "toy"),
    ):
        pass
    assert time.monotonic() - started < 60


def test_trouble_half_way_ends_the_tracking_and_closes_the_run(
    client: Any, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(log, "log_files", full)
    with (
        pytest.warns(TrackingWarning, match="no space left"),
        track(TrackingSettings(root=str(root)), "disk") as run,
    ):
        run.log_comparison(comparison(), files=[root / "comparison.json"])
        run.log_metrics({"late": 1.0})
        run.log_files([root / "comparison.md"])
    found = fresh(root, client, "disk")
    assert found.info.status == "FINISHED"  # the work did finish
    assert found.data.tags["tracking_problem"] == run.problem == "OSError: no space left on device"
    assert "late" not in found.data.metrics


def test_a_child_that_cannot_be_written_is_not_left_running(
    client: Any, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("broken")

    with pytest.warns(TrackingWarning), track(TrackingSettings(root=str(root)), "child") as run:
        monkeypatch.setattr(log, "log_inputs", broken)
        run.log_comparison(comparison())
    experiment = client.get_experiment_by_name("child").experiment_id
    statuses = {found.info.run_name: found.info.status for found in client.search_runs([experiment])}
    assert statuses == {"child": "FINISHED", "head": "FAILED"}


def test_without_mlflow_there_is_a_warning_and_the_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.warns(TrackingWarning, match="mlflow"), track(TrackingSettings(root=str(tmp_path)), "toy"):
        pass


def test_warnings_as_errors_do_not_turn_tracking_trouble_into_a_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error")
        with track(TrackingSettings(root=str(tmp_path / "file")), "toy"):
            pass
    assert [warning.category for warning in caught] == [TrackingWarning]


def test_tracking_switched_off_touches_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.chdir(tmp_path)
    with track(TrackingSettings(enabled=False), "toy", config=CONFIG) as run:
        run.log_metrics({"loss": 1.0})
        run.log_comparison(comparison())
    assert (run.run_id, run.problem, run.ui_hint) == (None, None, None)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_two_processes_may_start_on_one_fresh_store(tmp_path: Path) -> None:
    program = """
import sys
from adapt.tracking import TrackingSettings, track
with track(TrackingSettings(root=sys.argv[1]), "race") as run:
    pass
sys.exit(run.problem)
"""
    command = [sys.executable, "-W", "error", "-c", program, str(tmp_path / "new")]
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in "ab"
    ]
    spoken = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert spoken == ["", ""]  # nor does MLflow talk on the terminal
    client = mlflow.MlflowClient(tracking_uri=prepare_store(tmp_path / "new"))
    assert len(client.search_runs([client.get_experiment_by_name("race").experiment_id])) == 2


# ------------------------------------------------------------------------------------------------- the parts


class Stage(Enum):
    META = 1


def test_flatten_writes_what_the_config_language_would() -> None:
    config = {
        "a": {"b": 0.003, "c": [1, 2], "d": {}},
        "on": True,
        "none": None,
        "s": "x",
        "stage": Stage.META,
    }
    assert flatten(config) == {
        "a.b": "0.003",
        "a.c": "[1, 2]",
        "a.d": "{}",
        "on": "true",
        "none": "null",
        "s": "x",
        "stage": "META",
    }
    assert flatten({}) == {}
    assert plain({"path": Path("a/b"), 1: (2,)}) == {"path": "a/b", "1": [2]}


def test_limits_of_mlflow_are_kept_with_a_note(client: Any, root: Path) -> None:
    long = "k" * 300
    config = {long + "1": 1, long + "2": 2, "text": "v" * 7000, **{f"p{i}": i for i in range(250)}}
    params = flatten(config)
    assert len(params) == 253
    assert max(map(len, params)) == 250
    assert len(params["text"]) == 6000
    assert params["text"].endswith("… (cut; whole in config.yaml)")
    with track(TrackingSettings(root=str(root)), "limits", config=config, overrides=["o" * 9000]) as run:
        pass
    assert run.problem is None
    assert client.get_run(run.run_id).data.params == params


def test_clean_key_keeps_what_mlflow_accepts() -> None:
    assert clean_key("eval/accuracy_ci95 x.y-z") == "eval/accuracy_ci95 x.y-z"
    assert clean_key("+a@b:c") == "_a_b_c"


def test_method_config_without_methods_is_the_config() -> None:
    assert method_config({"seed": 1}, "forward") == {"seed": 1}
    assert method_config(CONFIG, "forward")["method"] == {"forward": {"k": 4}}


def test_git_state(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    assert git_state(tmp_path) is None
    git("init")
    assert git_state(tmp_path) is None  # no commit yet
    (tmp_path / "file").write_text("1")
    git("add", ".")
    git("commit", "-m", "first")
    clean = git_state(tmp_path)
    assert clean is not None
    assert (len(clean[0]), clean[1]) == (40, False)
    (tmp_path / "file").write_text("2")
    assert git_state(tmp_path) == (clean[0], True)
    assert git_state(tmp_path / "missing") is None
