"""Other processes: killed, terminated, eight at once; and a store that is moved."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from adapt.tracking import prepare_store, track
from adapt.tracking.sync import main, sync
from tests.processes import Process
from tests.tracked import SPARING, comparison, free_port, fresh, runs, settings

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.slow

#: Records points and children, says so, and then waits to be stopped.
WORK = """
import signal, sys, time
from pathlib import Path
from adapt.app.main import _terminate
from adapt.tracking import TrackingSettings, track
from tests.tracked import comparison
signal.signal(signal.SIGTERM, _terminate)
root, folder, experiment = sys.argv[1:4]
settings = TrackingSettings(root=root, experiment=experiment, system_metrics_seconds=None)
with track(settings, "work", folder=Path(folder)) as run:
    for step in range(300):
        run.log_metrics({"loss": float(step)}, step=step)
    run.log_comparison(comparison())
    print(run.run_id, flush=True)
    for step in range(300, 400):
        run.log_metrics({"loss": float(step)}, step=step)
    print("ready", flush=True)
    if len(sys.argv) == 4:
        time.sleep(600)
sys.exit(run.problem)
"""
ROOT = Path(__file__).parents[2]


def start(*arguments: object) -> Process:
    return Process(["-W", "error", "-c", WORK, *map(str, arguments)], ROOT)


def stopped(number: signal.Signals, *arguments: object) -> tuple[str, int]:
    """MLflow's id of a run whose process was stopped in the middle, and the exit code."""
    process = start(*arguments)
    while "ready" not in process.said[0]:
        assert process.poll(0.01) is None, process.said
    process.send(number)
    ended = process.wait(120)
    return ended.stdout.split()[0], ended.returncode


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of eight processes that started at once on nothing; the other tests use it too."""
    root = tmp_path_factory.mktemp("processes")
    started = [start(root / "store", root / f"run{number}", "eight", "end") for number in range(8)]
    ended = [process.wait(500) for process in started]
    assert [process.returncode for process in ended] == [0] * 8, ended
    assert [process.stderr for process in ended] == [""] * 8, "nor does MLflow talk on the terminal"
    return root / "store"


@pytest.fixture
def client(root: Path) -> Any:
    return mlflow.MlflowClient(tracking_uri=prepare_store(root))


def losses(client: Any, run_id: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client.get_metric_history(run_id, "loss")]


def test_eight_processes_on_a_fresh_store_lose_nothing(client: Any) -> None:
    found = runs(client, "eight")
    parents = [run for run in found if run.info.run_name == "work"]
    assert (len(parents), len(found)) == (8, 8 * 4)
    assert {run.info.status for run in found} == {"FINISHED"}
    for run in parents:
        assert losses(client, run.info.run_id) == [(step, float(step)) for step in range(400)]
        children = [one for one in found if one.data.tags.get("mlflow.parentRunId") == run.info.run_id]
        assert sorted(one.info.run_name for one in children) == ["forward", "head", "retrain"]
    for run in found:
        if (method := run.data.tags.get("method")) is not None:
            expected = comparison().method_metrics(comparison().methods[method])
            assert {key: run.data.metrics[key] for key in expected} == pytest.approx(expected)


def test_a_killed_process_leaves_a_store_that_opens_and_a_run_that_goes_on(
    root: Path, client: Any, tmp_path: Path
) -> None:
    run_id, code = stopped(signal.SIGKILL, root, tmp_path, "killed")
    assert code == -signal.SIGKILL
    assert client.get_run(run_id).info.status == "RUNNING"
    assert (tmp_path / "tracking" / "journal.jsonl").exists()
    assert main([str(tmp_path)]) == 0
    assert fresh(client, "killed").info.status == "KILLED", "nobody goes on with it so far"
    complete = [(step, float(step)) for step in range(400)]
    assert losses(client, run_id) == complete
    assert sync([tmp_path]).sent == ()
    with track(settings(root=str(root), experiment="killed"), "work", folder=tmp_path) as run:
        run.log_metrics({"loss": 400.0}, step=400)
        run.log_comparison(comparison())
    assert run.run_id == run_id
    assert fresh(client, "killed").info.status == "FINISHED"
    assert losses(client, run_id) == [*complete, (400, 400.0)]
    assert len(runs(client, "killed")) == 4
    assert not (tmp_path / "tracking").exists()


def test_a_terminated_process_has_sent_everything(root: Path, client: Any, tmp_path: Path) -> None:
    run_id, code = stopped(signal.SIGTERM, root, tmp_path, "terminated")
    assert code != 0
    assert fresh(client, "terminated").info.status == "KILLED"
    assert losses(client, run_id) == [(step, float(step)) for step in range(400)]
    assert sync([tmp_path]).sent == ()


def test_a_store_that_was_moved_works_where_it_is_now(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new, elsewhere = tmp_path / "old", tmp_path / "new place", tmp_path / "elsewhere"
    old.mkdir()
    elsewhere.mkdir()
    shutil.copy(root / "mlflow.db", old)
    (tmp_path / "comparison.json").write_text('{"before": "the move"}')
    with track(settings(root=str(old)), "moved") as before:
        before.log_files([tmp_path / "comparison.json"])
    old.rename(new)
    monkeypatch.chdir(elsewhere)
    with track(settings(root=str(new)), "moved") as after:
        after.log_files([tmp_path / "comparison.json"])
    assert before.problem is after.problem is None
    assert not old.exists()
    assert list(elsewhere.iterdir()) == []
    assert len(list((new / "mlruns" / "moved").glob("*/artifacts/comparison.json"))) == 2
    port = free_port()
    with open(tmp_path / "log", "ab") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "ui", "--workers", "1", "--port", str(port)],
            stdout=log,
            stderr=log,
            cwd=new,
            start_new_session=True,
            env={**os.environ, **SPARING},
        )
    try:
        for run in (before, after):
            address = f"http://127.0.0.1:{port}/get-artifact?path=comparison.json&run_uuid={run.run_id}"
            assert fetched(address) == b'{"before": "the move"}'
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def fetched(address: str) -> bytes:
    """What a server that is about to start answers."""
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError:
            raise
        except OSError:
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.2)
