"""`adapt tune` as a whole: what it leaves behind, what comes of an interruption, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import yaml

from adapt.app.sweeps.tuning import trials
from adapt.app.sweeps.tuning.study import MethodStudy, Trial
from adapt.errors import AdaptError
from adapt.files import read_json
from adapt.tracking import prepare_store
from tests.command_line import TINY, call
from tests.helpers import tensors_in

mlflow = pytest.importorskip("mlflow")
pytest.importorskip("optuna")

pytestmark = pytest.mark.slow  # importing MLflow and making a store takes seconds

METHODS = ("ridge", "forward")
ADD = MethodStudy.add
SMALL = (
    "experiment=quickstart",
    "method=[head,forward]",
    "task.ways=2",
    "task.shots=2",
    "task.queries=3",
    "hparams_search=methods",
    "hparams_search.methods=[ridge,forward]",
    "hparams_search.tasks=2",
)


@dataclass(frozen=True)
class Searched:
    """Two trials of two methods, interrupted while the third ran, and again when it had just been stored."""

    folder: Path
    result: dict[str, Any]
    said: str
    codes: list[int]
    begun: list[int]
    recorded: list[Any]
    parents: list[Any]
    children: dict[tuple[str, int], Any]


def counted(limit: int | None) -> tuple[Callable[..., Any], list[str]]:
    """:func:`compare`, interrupted on call number ``limit``; and the methods that it was called with."""
    real, called = trials.compare, list[str]()

    def compare(methods: Any, *arguments: Any, **more: Any) -> Any:
        called.extend(methods)
        if len(called) == limit:
            raise KeyboardInterrupt
        return real(methods, *arguments, **more)

    return compare, called


def add_and_stop(study: MethodStudy, trial: Trial) -> None:
    ADD(study, trial)
    raise KeyboardInterrupt


def tune(folder: Path, *arguments: str, interrupt: int | None = None, add: Any = ADD) -> tuple[int, int]:
    """Exit code, and how many trials were begun."""
    compare, called = counted(interrupt)
    with mock.patch.object(trials, "compare", compare), mock.patch.object(MethodStudy, "add", add):
        code = call(["tune", *arguments], folder)
    return code, len(called)


@pytest.fixture(scope="module")
def searched(root: Path) -> Searched:
    folder = root
    options = (*SMALL, "hparams_search.trials=2", "tracking.system_metrics_seconds=null")
    capture = pytest.MonkeyPatch()
    written: list[str] = []
    with capture.context() as patch:
        patch.setattr("adapt.app.progress.console.print", lambda *text, **_: written.extend(map(str, text)))
        runs = [
            tune(folder, "folder=search", *options, interrupt=3),
            tune(folder, "folder=search", add=add_and_stop),
            tune(folder, "folder=search"),
            tune(folder, "folder=search"),
        ]
    client = mlflow.MlflowClient(tracking_uri=prepare_store(folder))
    experiment = client.get_experiment_by_name("quickstart-tune")
    recorded = client.search_runs([experiment.experiment_id])
    return Searched(
        folder,
        read_json(folder / "search" / "tuning.json"),
        "\n".join(written),
        [code for code, _ in runs],
        [begun for _, begun in runs],
        recorded,
        [run for run in recorded if "mlflow.parentRunId" not in run.data.tags],
        {(r.data.tags["method"], int(r.data.tags["trial"])): r for r in recorded if "trial" in r.data.tags},
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same search, never interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    assert tune(folder, "folder=s", *SMALL, "hparams_search.trials=2", "tracking=none") == (0, 4)
    return read_json(folder / "s" / "tuning.json")


# ------------------------------------------------------------------------------------------ going on


def test_finished_trials_are_not_run_again(searched: Searched) -> None:
    assert searched.codes == [130, 130, 0, 0]
    assert searched.begun == [3, 1, 1, 0]
    assert "python -m adapt tune folder=search" in searched.said
    assert "search is finished: nothing is run again" in searched.said


def test_interruption_changes_nothing(searched: Searched, whole: dict[str, Any]) -> None:
    def found(result: dict[str, Any]) -> list[tuple[Any, ...]]:
        return [(t["method"], t["number"], t["params"], t["scores"], t["cost"]) for t in result["trials"]]

    assert found(searched.result) == found(whole)
    assert searched.result["data"] == whole["data"]


# ------------------------------------------------------------------------------------------ what is found


def test_every_method_gets_the_same_budget(searched: Searched) -> None:
    result = searched.result
    assert [(t["method"], t["number"]) for t in result["trials"]] == [(m, n) for m in METHODS for n in (0, 1)]
    assert {t["n"] for t in result["trials"]} == {2}
    assert [t["own"] for t in result["trials"]] == [True, False] * 2
    assert result["trials"][0]["params"] == {"method.ridge.head.l2": 0.3}
    assert result["budget"]["text"] == (
        "2 trials per method, each on 2 2-way 2-shot tasks from digits (split support, of which 20% are "
        "held out as queries)"
    )


def test_best_score_is_chosen_and_of_equals_the_cheaper(searched: Searched) -> None:
    for method in METHODS:
        own = [trial for trial in searched.result["trials"] if trial["method"] == method]
        best = max(own, key=lambda trial: (np.mean(trial["scores"]), -trial["cost"], -trial["number"]))
        assert searched.result["chosen"][method] == best


def test_chosen_config_can_be_used(searched: Searched, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["--config-dir", "search", "experiment=chosen", "--cfg", "job"], searched.folder) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    chosen = searched.result["chosen"]
    assert config["method"]["ridge"]["head"]["l2"] == chosen["ridge"]["params"]["method.ridge.head.l2"]
    assert config["method"]["forward"]["k"] == chosen["forward"]["params"]["method.forward.k"]
    assert config["inner"]["damping"] == chosen["forward"]["params"]["inner.damping"]
    assert {*config["method"]} == {"prototype", "ridge", "logistic", "forward"}
    assert (config["name"], config["task"]["shots"], config["hparams_search"]) == ("quickstart", 2, None)
    assert call(["--config-dir", "search", "experiment=chosen", *TINY[:1], *TINY[2:]], searched.folder) == 0
    made = read_json(searched.folder / "run" / "comparison.json")
    assert made["task"]["ways"] == 2 and {*made["methods"]} == {*config["method"]}


def test_page_and_figure_say_the_same(searched: Searched) -> None:
    page = (searched.folder / "search" / "tuning.md").read_text(encoding="utf-8")
    assert searched.result["budget"]["text"] in page
    for trial in searched.result["trials"]:
        assert f"{100 * np.mean(trial['scores']):.1f}" in page
    for suffix in ("svg", "png"):
        assert (searched.folder / "search" / f"accuracy_against_trial.{suffix}").stat().st_size > 1000


# ------------------------------------------------------------------------------------------------ MLflow


def test_one_parent_with_a_child_per_trial(searched: Searched) -> None:
    (parent,) = searched.parents
    assert parent.info.status == "FINISHED"
    assert {*searched.children} == {(method, number) for method in METHODS for number in (0, 1)}
    assert len(searched.recorded) == 5
    for run in searched.children.values():
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.tags["experiment"] == "quickstart"


def test_parent_says_what_was_chosen(searched: Searched) -> None:
    (parent,) = searched.parents
    for method, trial in searched.result["chosen"].items():
        assert parent.data.metrics[f"tune/{method}/accuracy"] == pytest.approx(np.mean(trial["scores"]))
        assert parent.data.metrics[f"tune/{method}/trials"] == 2
    assert parent.data.tags["trials"] == "2" and parent.data.tags["stage"] == "tune"
    assert searched.result["budget"]["text"] in parent.data.tags["mlflow.note.content"]
    client = mlflow.MlflowClient(tracking_uri=prepare_store(searched.folder))
    held = {item.path for item in client.list_artifacts(parent.info.run_id)}
    assert {"tuning.json", "tuning.md", "chosen.yaml", "config.yaml", "figures"} <= held


def test_children_hold_settings_and_scores(searched: Searched) -> None:
    for trial in searched.result["trials"]:
        run = searched.children[trial["method"], trial["number"]]
        assert run.info.run_id == trial["run_id"]
        assert run.data.metrics["eval/accuracy"] == pytest.approx(np.mean(trial["scores"]))
        assert run.data.metrics["eval/tasks"] == 2
        assert run.data.metrics["time/adapt_seconds"] == pytest.approx(trial["seconds"])
        for key, value in trial["params"].items():
            assert float(run.data.params[key]) == value
        other = METHODS[1 - METHODS.index(trial["method"])]
        assert not any(key.startswith(f"method.{other}.") for key in run.data.params)


# ---------------------------------------------------------------------------------------------- refused


def test_larger_budget_goes_on_and_another_search_is_refused(
    searched: Searched, capsys: pytest.CaptureFixture[str]
) -> None:
    more = (*SMALL, "hparams_search.trials=3", "tracking=none")
    assert tune(searched.folder, "folder=search", *more) == (0, 2)
    grown = read_json(searched.folder / "search" / "tuning.json")
    assert [t for t in grown["trials"] if t["number"] < 2] == searched.result["trials"]
    capsys.readouterr()
    assert tune(searched.folder, "folder=search", *more, "seed=7") == (2, 0)
    assert "was started with seed=0, not 7" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "hparams_search=None: there is nothing to search; choose what, as hparams_search=methods"),
        (("folder=nowhere",), "nowhere holds no search to go on with"),
        (("hparams_search=methods", "method=[head,forward]"), "method 'backprop' does not take part"),
        (
            (*SMALL, "hparams_search.held_out=null"),
            "task 'digits' has no split 'validation' (it has support, query): say what to choose on",
        ),
        (
            (*SMALL, "method=[head,forward,backprop]", "+hparams_search.space.forward.head={l2:[0.1,1.0]}"),
            "method 'backprop' too",
        ),
    ],
)
def test_mistakes_are_one_line(
    arguments: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune(tmp_path, *arguments) == (2, 0)
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not list(tmp_path.glob("outputs/*/*/study.db"))


def test_trial_that_diverges_is_noted_and_the_search_goes_on(tmp_path: Path) -> None:
    real, calls = trials.compare, list[int]()

    def compare(*arguments: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise AdaptError("ridge diverged on task 0")
        return real(*arguments, **more)

    options = (*SMALL, "hparams_search.methods=[ridge]", "hparams_search.trials=3", "tracking=none")
    with mock.patch.object(trials, "compare", compare):
        assert call(["tune", "folder=s", *options], tmp_path) == 0
    result = read_json(tmp_path / "s" / "tuning.json")
    assert [trial["problem"] for trial in result["trials"]] == [None, "ridge diverged on task 0", None]
    assert result["trials"][1]["score"] is None and result["chosen"]["ridge"]["number"] != 1
    assert "ridge diverged on task 0" in (tmp_path / "s" / "tuning.md").read_text(encoding="utf-8")


def test_config_that_does_not_work_ends_the_search(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def compare(*_: Any, **__: Any) -> Any:
        raise AdaptError("this never works")

    with mock.patch.object(trials, "compare", compare):
        assert call(["tune", "folder=s", *SMALL, "tracking=none"], tmp_path) == 2
    assert "error: this never works" in capsys.readouterr().err


def test_meta_training_can_be_searched(tmp_path: Path) -> None:
    options = (
        "experiment=meta_glyphs",
        "hparams_search=meta",
        "hparams_search.trials=2",
        "task.source.max_classes=40",
        *("task.ways=2", "task.shots=2", "task.queries=2", "meta.k=2", "meta.nested=[]", "meta.steps=1"),
        *("meta.basis_tasks=2", "meta.tasks_per_step=1", "meta.validation_tasks=2"),
        "tracking=none",
    )
    assert call(["tune", "folder=s", *options], tmp_path) == 0
    result = read_json(tmp_path / "s" / "tuning.json")
    assert [trial["number"] for trial in result["trials"]] == [0, 1]
    assert all(0 <= trial["score"] <= 1 for trial in result["trials"])
    for number in (0, 1):
        assert tensors_in(tmp_path / "s" / "trials" / f"meta-{number}" / "adapter").is_file()
    chosen = yaml.safe_load((tmp_path / "s" / "experiment" / "chosen.yaml").read_text(encoding="utf-8"))
    assert chosen["defaults"] == ["meta_glyphs", "_self_"]
