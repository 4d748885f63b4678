"""A real MLflow server: healthy, dead, dying half-way, slow, and silent."""

from __future__ import annotations

import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from adapt.tracking import Run, TrackingWarning, prepare_store, track
from adapt.tracking.sync import main, sync
from tests.tracked import CONFIG, DATA, SPARING, comparison, content, free_port, fresh, runs, settings

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.slow


class Server:
    """``mlflow server`` on loopback, which can be killed and started again."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.store = prepare_store(root)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = ["server", "--backend-store-uri", self.store, "--workers", "1", "--port", str(self.port)]
        command += ["--host", "127.0.0.1", "--artifacts-destination", str(self.folder / "artifacts")]
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", *command],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
                env={**os.environ, **SPARING},
            )
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=5).close()
                return
            except OSError:
                assert self.process.poll() is None and time.monotonic() < deadline, "it did not start"
                time.sleep(0.2)

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture(scope="module")
def server(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"), root)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def client(server: Server) -> Any:
    """Of the server's store, so that a test can look while no server is there."""
    return mlflow.MlflowClient(tracking_uri=server.store)


@pytest.fixture
def remote(server: Server) -> Any:
    """Of the server: only it knows where the artifacts are."""
    return mlflow.MlflowClient(tracking_uri=server.uri)


class Gate(socketserver.ThreadingTCPServer):
    """Passes requests on to the server at once, but answers only while it is open, and not those it loses."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, target: int, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), self.pass_on)  # type: ignore[arg-type]
        self.target, self.lost = target, b"\0"
        self.open, self.held = threading.Event(), threading.Event()
        self.uri = f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Gate:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.open.set()
        self.shutdown()
        self.server_close()

    def pass_on(self, request: socket.socket, _address: Any, _server: Any) -> None:
        losing = threading.Event()
        with socket.create_connection(("127.0.0.1", self.target)) as target:
            answers = threading.Thread(target=self.answer, args=(target, request, losing), daemon=True)
            answers.start()
            try:
                while data := request.recv(65536):
                    if self.lost in data:
                        losing.set()
                    target.sendall(data)
                target.shutdown(socket.SHUT_WR)
            except OSError:  # the client gave up, or its answer was lost
                return
            answers.join()

    def answer(self, target: socket.socket, request: socket.socket, losing: threading.Event) -> None:
        try:
            while data := target.recv(65536):
                if not self.open.is_set():
                    self.held.set()
                    self.open.wait()
                if losing.is_set():
                    request.shutdown(socket.SHUT_RDWR)
                    return
                request.sendall(data)
        except OSError:
            return


def first_half(run: Run) -> None:
    for step in range(5):
        run.log_metrics({"train/loss": 1.0 / (step + 1)}, step=step)


def second_half(run: Run, folder: Path) -> None:
    for step in range(5, 10):
        run.log_metrics({"train/loss": 1.0 / (step + 1)}, step=step)
    (folder / "comparison.json").write_text("{}")
    run.log_comparison(comparison(), files=[folder / "comparison.json"])


ARGUMENTS: dict[str, Any] = {"config": CONFIG, "datasets": [DATA], "overrides": ["seed=3"]}


@pytest.fixture(scope="module")
def undisturbed(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run leaves when nothing goes wrong."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with track(settings(uri=server.uri, experiment="calm"), "run", folder=folder, **ARGUMENTS) as run:
        first_half(run)
        second_half(run, folder)
    assert run.problem is None
    assert not (folder / "tracking").exists()
    return content(mlflow.MlflowClient(tracking_uri=server.uri), "calm")


def test_a_run_on_a_server(server: Server, client: Any, undisturbed: dict[str, Any]) -> None:
    assert {name: run["status"] for name, run in undisturbed.items()} == dict.fromkeys(
        ("run", "head", "forward", "retrain"), "FINISHED"
    )
    parent = undisturbed["run"]
    assert parent["metrics"]["train/loss"] == [(step, 1.0 / (step + 1)) for step in range(10)]
    assert {"comparison.json", "config.yaml", "packages.txt"} <= set(parent["artifacts"])
    assert [run["child"] for run in undisturbed.values()].count(True) == 3
    run_id = fresh(client, "calm").info.run_id
    assert [path.name for path in (server.folder / "artifacts").glob(f"*/{run_id}/artifacts/config.yaml")]
    with track(settings(uri=server.uri, experiment="calm"), "hint") as run:
        experiment = client.get_experiment_by_name("calm").experiment_id
        assert run.ui_hint == f"{server.uri}/#/experiments/{experiment}/runs/{run.run_id}"
    client.delete_run(run.run_id)


def test_a_server_that_dies_half_way_gets_everything_later(
    server: Server, client: Any, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    where = settings(uri=server.uri, experiment="dies")
    with (
        pytest.warns(TrackingWarning, match="sync") as caught,
        track(where, "run", folder=tmp_path, **ARGUMENTS) as run,
    ):
        assert run.run_id is not None
        first_half(run)
        server.kill()
        second_half(run, tmp_path)
    (ended,) = [
        operation["time"]
        for line in (tmp_path / "tracking" / "journal.jsonl").read_text().splitlines()
        if (operation := json.loads(line))["do"] == "end" and operation["run"] == ""
    ]
    assert len(caught) == 1
    assert fresh(client, "dies").info.status == "RUNNING", "nobody could tell the store"
    assert main([str(tmp_path)]) == 1, "the server is still down"
    server.start()
    assert main([str(tmp_path)]) == 0
    assert content(mlflow.MlflowClient(tracking_uri=server.uri), "dies") == undisturbed
    assert fresh(client, "dies").info.end_time == ended, "when the work ended, not when it was sent"
    assert sync([tmp_path]).sent == ()
    assert not (tmp_path / "tracking").exists()


def test_a_server_that_comes_late_gets_everything_without_further_ado(
    server: Server, remote: Any, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    port = free_port()
    where = settings(uri=f"http://127.0.0.1:{port}", experiment="late")
    with ExitStack() as stack:
        with track(where, "run", folder=tmp_path, **ARGUMENTS) as run:
            assert run.run_id is None
            first_half(run)
            stack.enter_context(Gate(server.port, port)).open.set()
            second_half(run, tmp_path)
        assert run.problem is None
    assert content(remote, "late") == undisturbed


def test_a_slow_server_slows_nothing(
    server: Server, remote: Any, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    with Gate(server.port) as gate:
        where = settings(uri=gate.uri, experiment="slow")
        with track(where, "run", folder=tmp_path, **ARGUMENTS) as run:
            assert gate.held.wait(60)
            first_half(run)
            second_half(run, tmp_path)
            assert not gate.open.is_set(), "all of it returned while the server had answered nothing"
            gate.open.set()
        assert run.problem is None
    assert content(remote, "slow") == undisturbed


def test_an_answer_that_is_lost_does_not_make_a_second_run(
    server: Server, remote: Any, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    with Gate(server.port) as gate:
        gate.open.set()
        gate.lost = b"runs/create"
        with track(settings(uri=gate.uri, experiment="lost"), "run", folder=tmp_path, **ARGUMENTS) as run:
            assert run.run_id is None, "the server has made it, and we have not heard of it"
            gate.lost = b"\0"
            first_half(run)
            second_half(run, tmp_path)
        assert run.problem is None
    assert content(remote, "lost") == undisturbed
    assert len(runs(remote, "lost")) == 4


def test_a_silent_server_is_given_up(
    server: Server, remote: Any, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    with Gate(server.port) as gate:
        where = settings(uri=gate.uri, experiment="silent", wait_seconds=0.5)
        with pytest.warns(TrackingWarning, match="too slow") as caught:
            with track(where, "run", folder=tmp_path, **ARGUMENTS) as run:
                first_half(run)
                second_half(run, tmp_path)
            assert not gate.open.is_set()
        assert len(caught) == 1
        assert len(sync([tmp_path]).running) == 1, "a call of MLflow still keeps the journal"
        gate.open.set()
        deadline = time.monotonic() + 60
        while not sync([tmp_path]).sent:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    assert content(remote, "silent") == undisturbed
