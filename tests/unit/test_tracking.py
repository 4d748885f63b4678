"""What a run records, in a real MLflow store, read back."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest

from adapt.compare import MSE
from adapt.compare.verdict import run_title, verdict
from adapt.tracking import DatasetInput, git_state, model, prepare_store, track
from adapt.tracking.database import file_of, uri_of
from adapt.tracking.params import flatten
from adapt.tracking.record import CUT
from adapt.tracking.view import view_address
from tasks import Digits
from tests.tracked import CARD, CONFIG, DATA, comparison, paths, settings

mlflow = pytest.importorskip("mlflow")


@pytest.fixture(scope="module")
def client(root: Path) -> Any:
    return mlflow.MlflowClient(tracking_uri=prepare_store(root))


@pytest.fixture(scope="module")
def tree(root: Path, client: Any) -> tuple[Any, dict[str, Any]]:
    """A tracked comparison: the parent run, and its children by name."""
    files = [root / name for name in ("comparison.json", "comparison.md", "accuracy_against_seconds.png")]
    for path in files:
        path.write_text("{}")
    arguments: dict[str, Any] = {
        "config": CONFIG,
        "overrides": ["task.shots=1", "seed=3"],
        "datasets": [DATA],
    }
    with track(
        settings(root=str(root)), "toy", tags={"backbone": "conv4", "task": "digits"}, **arguments
    ) as run:
        run.log_comparison(comparison(), files=files)
    parent = client.get_run(run.run_id)
    found = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run.run_id}'")
    return parent, {child.info.run_name: child for child in found}


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
        assert run.data.tags.get("energy_source") == comparison().energy_source
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
    errors = replace(comparison(), metric=MSE, energy_source="estimated")
    with track(settings(root=str(root)), "regression") as run:
        run.log_comparison(errors)
    parent = client.get_run(run.run_id)
    assert parent.data.metrics == pytest.approx(errors.metrics())
    assert {"compare/mse_vs_head", "compare/mse_vs_head_ci95"} < set(parent.data.metrics)
    found = client.search_runs([parent.info.experiment_id], "tags.method = 'retrain'")
    assert {"eval/mse", "eval/mse_ci95", "curve/mse", "curve/seconds"} < set(found[0].data.metrics)
    everything = {**parent.data.metrics, **found[0].data.metrics}
    assert not [name for name in everything if "accuracy" in name]
    assert {run.data.tags["energy_source"] for run in (parent, *found)} == {"estimated"}


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
    with track(settings(root=str(root)), "cards", datasets=sources) as run:
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
    assert cut == {**whole, "known_issues": CUT, "description": CUT}


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
    with track(settings(), "here") as run:
        pass
    assert run.ui_hint == "mlflow ui --backend-store-uri sqlite:///mlflow.db"
    monkeypatch.chdir(root.parent)
    assert run.ui_hint == "mlflow ui --backend-store-uri sqlite:///mlflow.db"  # root "." was given, "." it is
    monkeypatch.chdir(root / "mlruns")
    with track(settings(root=str(root)), "here") as run:
        pass
    assert run.ui_hint == f"mlflow ui --backend-store-uri sqlite:///{root.resolve()}/mlflow.db"
    assert not (root / "mlruns" / "mlruns").exists()


@pytest.mark.parametrize("name", ["plain", "a b", "100%", "a%20b", "what?", "a#b", "Größe", "a?b=c&d"])
def test_a_store_may_be_in_a_folder_of_any_name(name: str, empty_store: Path, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    shutil.copy(empty_store / "mlflow.db", folder)
    uri = prepare_store(folder)
    assert (file_of(uri), uri_of(folder / "mlflow.db")) == (folder / "mlflow.db", uri)
    with track(settings(root=str(folder)), "here") as run:
        run.log_tags({"colour": "red"})
    with closing(sqlite3.connect(folder / "mlflow.db")) as store:
        assert store.execute("SELECT value FROM tags WHERE key = 'colour'").fetchall() == [("red",)]
        (place,) = store.execute("SELECT artifact_uri FROM runs").fetchone()
    assert Path(url2pathname(urlsplit(place).path)).is_relative_to(folder)


def test_metric_histories_are_buffered_and_complete(client: Any, root: Path) -> None:
    with track(settings(root=str(root)), "training") as run:
        for step in range(1234):
            run.log_metrics({"train/loss": 1 / (step + 1), "odd key!": step}, step=step)
    history = client.get_metric_history(run.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [
        (step, 1 / (step + 1)) for step in range(1234)
    ]
    assert client.get_run(run.run_id).data.metrics["odd key_"] == 1233


def test_an_experiment_can_be_named_and_a_deleted_one_comes_back(client: Any, root: Path) -> None:
    where = settings(root=str(root), experiment="my experiments/a & b")
    with track(where, "first"):
        pass
    found = client.get_experiment_by_name("my experiments/a & b")
    client.delete_experiment(found.experiment_id)
    with track(where, "second") as run:
        run.log_files([])
    assert client.get_run(run.run_id).info.experiment_id == found.experiment_id
    assert (root / "mlruns" / "my_experiments_a_b").is_dir()


def test_a_part_of_a_sweep_with_tags_a_model_and_system_metrics(
    client: Any, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = []
    monkeypatch.setattr(model, "log_model", lambda *arguments: models.append(arguments[1:]))
    where = settings(root=str(root), experiment="sweep", system_metrics_seconds=0.05)
    with track(settings(root=str(root), experiment="sweep"), "above") as above:
        with track(where, "below", folder=tmp_path, parent=above.run_id) as below:
            below.log_tags({"best": "yes", "number": 3})  # type: ignore[dict-item]
            below.log_model(tmp_path, "digits")
            time.sleep(0.3)
        assert below.problem is None
        assert client.get_run(above.run_id).info.status == "RUNNING"
    found = client.get_run(below.run_id)
    assert found.data.tags["mlflow.parentRunId"] == above.run_id
    assert (found.data.tags["best"], found.data.tags["number"]) == ("yes", "3")
    assert models == [(below.run_id, tmp_path, "digits")]
    history = client.get_metric_history(below.run_id, "system/cpu_utilization_percentage")
    assert len(history) > 1
    assert not [name for name in client.get_run(above.run_id).data.metrics if name.startswith("system/")]
    assert not list(tmp_path.iterdir())


def test_limits_of_mlflow_are_kept_with_a_note(client: Any, root: Path) -> None:
    long = "k" * 300
    config = {long + "1": 1, long + "2": 2, "text": "v" * 7000, **{f"p{i}": i for i in range(250)}}
    params = flatten(config)
    assert len(params) == 253
    assert max(map(len, params)) == 250
    assert len(params["text"]) == 6000
    assert params["text"].endswith("… (cut; whole in config.yaml)")
    with track(settings(root=str(root)), "limits", config=config, overrides=["o" * 9000]) as run:
        pass
    assert run.problem is None
    assert client.get_run(run.run_id).data.params == params


def test_children_are_called_after_what_is_compared(root: Path, client: Any) -> None:
    found = comparison()
    title = run_title(found.task, 3)
    with track(settings(root=str(root)), "titled", config=CONFIG) as run:
        run.log_comparison(found, title=title)
    experiment = client.get_experiment_by_name("titled")
    names = {one.info.run_name for one in client.search_runs([experiment.experiment_id])}
    assert title.endswith("-shot · seed 3") and title.startswith("digits · ")
    assert names == {"titled", *(f"{title} · {method}" for method in found.methods)}


def test_the_link_opens_a_view_that_is_kept_with_the_experiment(root: Path, client: Any) -> None:
    with track(settings(root=str(root)), "seen", config=CONFIG):
        pass
    experiment = client.get_experiment_by_name("seen")
    address = view_address("http://here", experiment.experiment_id)
    key = address.partition("viewStateShareKey=")[2]
    kept = json.loads(experiment.tags[f"mlflow.sharedViewState.{key}"])
    assert isinstance(kept["name"], str) and isinstance(kept["createdAt"], int)  # or MLflow's page ignores it
    shown = json.loads(kept["state"])["selectedColumns"]
    assert {"metrics.`eval/accuracy`", "metrics.`compare/speedup_vs_retrain`"} <= {*shown}


@pytest.mark.parametrize("sorted_by", [None, "attributes.`Start Time`", "attributes.duration"])
def test_an_experiment_without_a_view_that_works_gets_one(
    root: Path, client: Any, sorted_by: str | None
) -> None:
    """One that somebody changed stays."""
    tag, name = "mlflow.sharedViewState.adapt", f"earlier {sorted_by}"
    earlier = {} if sorted_by is None else {tag: json.dumps({"state": json.dumps({"orderByKey": sorted_by})})}
    number = client.create_experiment(name, tags=earlier)
    with track(settings(root=str(root)), name, config=CONFIG):
        pass
    order = json.loads(json.loads(client.get_experiment(number).tags[tag])["state"])["orderByKey"]
    assert order == ("attributes.duration" if sorted_by == "attributes.duration" else "attributes.start_time")
