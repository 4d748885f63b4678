"""What becomes of a run, and of the work, when one of them fails."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import closing
from math import nan
from pathlib import Path
from typing import Any

import pytest

from adapt.tracking import TrackingSettings, TrackingWarning, log, prepare_store, track
from adapt.tracking.journal import Journal
from adapt.tracking.record import description
from adapt.tracking.replay import Player
from adapt.tracking.sync import main, sync
from tests.tracked import CONFIG, DATA, comparison, free_port, fresh, paths, runs, settings

mlflow = pytest.importorskip("mlflow")


@pytest.fixture(scope="module")
def client(root: Path) -> Any:
    return mlflow.MlflowClient(tracking_uri=prepare_store(root))


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError("no such task"), "FAILED"), (KeyboardInterrupt(), "KILLED")], ids=str
)
def test_work_that_raises_leaves_its_status_traceback_and_metrics(
    client: Any, root: Path, error: BaseException, status: str
) -> None:
    experiment = f"raises {status}"
    with (
        pytest.raises(type(error)),
        track(settings(root=str(root)), experiment, config=CONFIG) as run,
    ):
        run.log_metrics({"train/loss": 0.5}, step=7)
        raise error
    found = fresh(client, experiment)
    assert found.info.status == status
    assert found.data.metrics == {"train/loss": 0.5}
    assert {"config.yaml", "traceback.txt"} <= paths(client, found.info.run_id)


def unusable(tmp_path: Path) -> Iterator[TrackingSettings]:
    (tmp_path / "file").write_text("")
    yield settings(root=str(tmp_path / "file"))
    (tmp_path / "folder" / "mlflow.db").mkdir(parents=True)
    yield settings(root=str(tmp_path / "folder"))
    (tmp_path / "mlflow.db").write_text("not a database")
    yield settings(root=str(tmp_path))


def test_a_store_that_cannot_be_used_costs_one_warning_and_not_the_work(tmp_path: Path) -> None:
    for number, where in enumerate(unusable(tmp_path)):
        done, started, folder = False, time.monotonic(), tmp_path / f"run{number}"
        with (
            pytest.warns(TrackingWarning, match="set tracking.root to .* The run itself goes on") as caught,
            track(where, "toy", folder=folder) as run,
        ):
            run.log_metrics({"loss": 1.0})
            run.log_comparison(comparison())
            done = True
        assert done
        assert time.monotonic() - started < 30  # left alone, MLflow tries for more than a minute
        assert len(caught) == 1
        assert f"`python -m adapt.tracking.sync {folder}` sends it" in str(caught[0].message)
        assert (folder / "tracking" / "journal.jsonl").exists()
        assert run.problem is not None
        assert run.ui_hint is None


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_costs_one_warning_and_not_the_work(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.warns(TrackingWarning), track(settings(root=str(tmp_path)), "toy", folder=tmp_path):
        pass


def test_a_dead_server_is_given_up_at_once_and_nothing_is_lost(tmp_path: Path) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    with (
        pytest.warns(TrackingWarning, match=uri.removeprefix("http://")) as caught,
        track(settings(uri=uri, wait_seconds=1e6), "toy", folder=tmp_path) as run,
    ):
        assert (run.run_id, run.ui_hint) == (None, None)
    assert len(caught) == 1
    assert sync([tmp_path]).remaining.keys() == {tmp_path / "tracking"}, "it is still dead"


def test_trouble_half_way_closes_the_run_and_what_is_missing_can_be_sent_later(
    client: Any, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    elsewhere = tmp_path / "elsewhere" / "comparison.json"
    elsewhere.parent.mkdir()
    elsewhere.write_text("{}")
    monkeypatch.setattr(log, "log_files", full)
    with (
        pytest.warns(TrackingWarning, match="no space left"),
        track(settings(root=str(root)), "disk", folder=tmp_path / "run") as run,
    ):
        run.log_comparison(comparison(), files=[elsewhere])
        run.log_metrics({"late": 1.0})
    found = fresh(client, "disk")
    assert found.info.status == "FINISHED"  # the work did finish
    assert found.data.tags["tracking_problem"] == run.problem == "OSError: no space left on device"
    assert "late" not in found.data.metrics

    monkeypatch.undo()
    elsewhere.unlink()  # a copy of it was kept
    assert sync([tmp_path]).sent == (tmp_path / "run" / "tracking",)
    whole = fresh(client, "disk")
    assert whole.info.run_id == found.info.run_id
    assert (whole.info.status, whole.info.end_time) == ("FINISHED", found.info.end_time)
    assert "tracking_problem" not in whole.data.tags
    assert whole.data.metrics["late"] == 1.0
    assert "comparison.json" in paths(client, whole.info.run_id)
    assert {run.info.run_name for run in runs(client, "disk")} == {"disk", "head", "forward", "retrain"}
    assert list((tmp_path / "run").iterdir()) == [], "nothing is left of the journal"
    assert sync([tmp_path]).sent == ()


def test_a_child_that_cannot_be_written_is_not_left_running(
    client: Any, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def broken(_client: Any, run_id: str, _datasets: list[Any]) -> None:
        calls.append(run_id)
        if len({*calls}) > 1:
            raise OSError("broken")

    monkeypatch.setattr(log, "log_inputs", broken)
    with pytest.warns(TrackingWarning), track(settings(root=str(root)), "child") as run:
        run.log_comparison(comparison())
    statuses = {found.info.run_name: found.info.status for found in runs(client, "child")}
    assert statuses == {"child": "FINISHED", "head": "FAILED"}


def test_what_mlflow_refuses_is_named_and_the_rest_is_recorded(
    client: Any, root: Path, tmp_path: Path
) -> None:
    with (
        pytest.warns(TrackingWarning, match="no_such_file") as caught,
        track(settings(root=str(root)), "refused", folder=tmp_path) as run,
    ):
        run.log_files([tmp_path / "no_such_file.json"])
        run.log_metrics({"after": 2.0})
    assert "sync" not in str(caught[0].message), "trying again is no use"
    found = fresh(client, "refused")
    assert found.data.metrics == {"after": 2.0}
    assert "no_such_file" in found.data.tags["tracking_problem"]
    assert not (tmp_path / "tracking").exists()


def test_an_interrupted_run_goes_on_in_the_same_folder(client: Any, root: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), track(settings(root=str(root)), "go on", folder=tmp_path) as first:
        first.log_metrics({"train/loss": 3.0}, step=0)
        first.log_comparison(comparison())
        raise KeyboardInterrupt
    assert fresh(client, "go on").info.status == "KILLED"
    with track(settings(root=str(root)), "go on", folder=tmp_path) as second:
        assert second.resumed
        assert second.run_id == first.run_id
        second.log_metrics({"train/loss": 2.0}, step=1)
        second.log_comparison(comparison())
    found = fresh(client, "go on")
    assert found.info.status == "FINISHED"
    history = client.get_metric_history(found.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(0, 3.0), (1, 2.0)]
    assert len(client.get_metric_history(found.info.run_id, "compare/speedup_vs_retrain")) == 1
    assert len(runs(client, "go on")) == 4, "the children are there once"
    assert not (tmp_path / "tracking").exists()
    with track(settings(root=str(root)), "go on", folder=tmp_path) as third:
        assert not third.resumed
    assert third.run_id != first.run_id, "a finished run does not go on"


def test_what_a_killed_process_had_written_is_sent_by_the_one_that_goes_on(
    client: Any, root: Path, tmp_path: Path
) -> None:
    header: dict[str, Any] = {
        "uri": None,
        "root": str(root),
        "experiment": "killed",
        "name": "killed",
        "time": 5,
        "tags": {},
    }
    with closing(Journal.start(tmp_path, header)) as journal:
        journal.append({"do": "metrics", "run": "", "points": [["loss", 3.0, 7, 0]]})
    with track(settings(root=str(root)), "killed", folder=tmp_path, config=CONFIG) as run:
        run.log_metrics({"loss": 2.0}, step=1)
    found = fresh(client, "killed")
    history = client.get_metric_history(found.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(0, 3.0), (1, 2.0)]
    assert (found.info.start_time, found.info.status) == (5, "FINISHED")
    assert found.data.params["task.ways"] == "5", "it had not got that far"


def test_what_was_sent_but_not_noted_is_sent_again_without_harm(
    client: Any, root: Path, tmp_path: Path
) -> None:
    header: dict[str, Any] = {
        "uri": None,
        "root": str(root),
        "experiment": "twice",
        "name": "twice",
        "time": 5,
    }
    with closing(Journal.start(tmp_path, {**header, "tags": {}})) as journal:
        for step in range(20):
            journal.append(
                {"do": "metrics", "run": "", "points": [["loss", 0.5, 7, step], ["nan", nan, 7, 0]]}
            )
        child = {"do": "child", "run": "method:head", "name": "head", "tags": {}, "time": 6}
        for operation in (*description(CONFIG, ["seed=3"], [DATA]), child):
            journal.append(operation)
        before = dict(journal.state)
        for crash in ("", "method:head"):  # where the process died that made the runs
            known = {"": fresh(client, "twice").info.run_id} if crash else {}
            journal.state.update({**before, "runs": known, "ended": [], "refused": [], "creating": crash})
            player = Player(journal)
            while player.step():
                pass
            assert player.refused is None
    found = fresh(client, "twice")
    assert len(runs(client, "twice")) == 2
    assert len(client.get_metric_history(found.info.run_id, "loss")) == 20
    assert len(client.get_metric_history(found.info.run_id, "nan")) == 1
    assert len(found.inputs.dataset_inputs) == 1


def test_another_run_in_the_folder_of_an_interrupted_one_is_another_run(
    client: Any, root: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt), track(settings(root=str(root)), "one", folder=tmp_path):
        raise KeyboardInterrupt
    with track(settings(root=str(root)), "two", folder=tmp_path) as run:
        pass
    assert fresh(client, "two").info.run_id == run.run_id
    assert fresh(client, "one").info.status == "KILLED"


def test_a_run_that_was_deleted_meanwhile_is_made_anew(client: Any, root: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), track(settings(root=str(root)), "gone", folder=tmp_path) as first:
        raise KeyboardInterrupt
    client.delete_run(first.run_id)
    with track(settings(root=str(root)), "gone", folder=tmp_path) as second:
        second.log_metrics({"loss": 1.0})
    assert second.problem is None
    assert fresh(client, "gone").data.metrics == {"loss": 1.0}
    assert second.run_id != first.run_id


def test_without_mlflow_there_is_a_warning_and_the_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.warns(TrackingWarning, match="mlflow"), track(settings(root=str(tmp_path)), "toy"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_config_that_cannot_be_recorded_costs_one_warning(tmp_path: Path) -> None:
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    with (
        pytest.warns(TrackingWarning),
        track(settings(root=str(tmp_path)), "t", config=loop, folder=tmp_path),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_warnings_as_errors_do_not_turn_tracking_trouble_into_a_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error")
        with track(settings(root=str(tmp_path / "file")), "toy", folder=tmp_path):
            pass
    assert [warning.category for warning in caught] == [TrackingWarning]


def test_tracking_switched_off_touches_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.chdir(tmp_path)
    with track(settings(enabled=False), "toy", config=CONFIG, folder=tmp_path / "run") as run:
        run.log_metrics({"loss": 1.0})
        run.log_comparison(comparison())
    assert (run.run_id, run.problem, run.ui_hint) == (None, None, None)
    assert not list(tmp_path.iterdir())


def test_sync_of_nothing_and_of_no_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([]) == 0
    assert capsys.readouterr().out == "0 sent, 0 still running, 0 not sent\n"
    with pytest.raises(SystemExit, match="2"):
        main(["nowhere"])
    assert "nowhere is not a folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_journal_can_be_sent_to_another_store(client: Any, root: Path, tmp_path: Path) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    with pytest.warns(TrackingWarning), track(settings(uri=uri), "elsewhere", folder=tmp_path) as run:
        run.log_metrics({"loss": 1.0})
        run.log_comparison(comparison())
    assert sync([tmp_path], prepare_store(root)).sent == (tmp_path / "tracking",)
    assert fresh(client, "elsewhere").data.metrics["loss"] == 1.0
    assert len(runs(client, "elsewhere")) == 4
