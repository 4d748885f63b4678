"""`mlflow models serve` and `mlflow models predict` on an adapter, as other programs use them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adapt
from adapt.files import PRETRAINED
from adapt.tracking import prepare_store
from adapt.tracking.model import load_pyfunc, log_model
from adapt.tracking.store import silent
from tests.command_line import start

mlflow = pytest.importorskip("mlflow")
load_pyfunc()

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "serve_request.py"
SHIPPED = PRETRAINED / "conv4_glyphs_film"
URI = "models:/digits@champion"
#: A whole process with torch and MLflow has to start, on a machine that may be busy.
STARTS_WITHIN = 200.0


@pytest.fixture(scope="module")
def registered(root: Path) -> Path:
    """A store with version 1 of digits."""
    client = mlflow.MlflowClient(tracking_uri=prepare_store(root))
    experiment = client.create_experiment("serving", (root / "mlruns" / "serving").as_uri())
    with silent():
        log_model(client, client.create_run(experiment).info.run_id, SHIPPED, "digits")
    return root


def environment(root: Path) -> dict[str, str]:
    return {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{root}/mlflow.db",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "OMP_NUM_THREADS": "1",
        "ADAPT_SERVE_MB": "4",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # where uvicorn is
    }


@pytest.fixture(scope="module")
def server(registered: Path) -> Iterator[str]:
    """The address of a server on loopback, which ends with the tests."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", URI, "--env-manager", "local"]
    with (registered / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=registered,
            env=environment(registered),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # the server is a child of the command: both are ended together
        )
    try:
        deadline = time.monotonic() + STARTS_WITHIN
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5):
                    break
            except OSError:
                said = (registered / "server.log").read_text()
                assert process.poll() is None and time.monotonic() < deadline, said
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def post(address: str, body: Any, kind: str = "application/json") -> tuple[int, dict[str, Any]]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"{address}/invocations", data, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def task(labels: list[Any], seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    x = rng.random((len(labels), 1, 32, 32), dtype=np.float32).round(3)
    queries = rng.random((3, 1, 32, 32), dtype=np.float32).round(3)
    return {"support_x": x, "support_y": labels, "query_x": queries}


def body(request: dict[str, Any]) -> dict[str, Any]:
    return {"inputs": {key: np.asarray(value).tolist() for key, value in request.items()}}


def expected(request: dict[str, Any]) -> np.ndarray:
    found = adapt.load(SHIPPED).fit(request["support_x"], request["support_y"])
    return found.predict_proba(request["query_x"])


@pytest.mark.slow
def test_a_request_is_adapted_to(server: str) -> None:
    for labels in (["b", "a"] * 3, [3, 1, 2] * 2):
        request = task(labels)
        status, answer = post(server, body(request))
        assert status == 200, answer
        assert answer["predictions"]["classes"] == sorted({*labels})
        found = np.array(answer["predictions"]["probabilities"])
        assert np.abs(found - expected(request)).max() < 1e-6
        best = [sorted({*labels})[column] for column in found.argmax(1)]
        assert answer["predictions"]["labels"] == best


@pytest.mark.slow
def test_requests_at_the_same_time_do_not_disturb_each_other(server: str) -> None:
    requests = [task(["a", "b", "c"] * 2, seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = [*pool.map(lambda request: post(server, body(request))[1], requests)]
    for request, answer in zip(requests, answers, strict=True):
        assert np.abs(np.array(answer["predictions"]["probabilities"]) - expected(request)).max() < 1e-6


@pytest.mark.slow
def test_mistakes_are_told_without_a_traceback(server: str) -> None:
    good = body(task(["a", "b"]))["inputs"]
    mistakes = [
        ({"inputs": {**good, "support_y": ["a", "a"]}}, "y holds only the class"),
        ({"inputs": {**good, "support_y": ["a", 1]}}, "use strings, or numbers, not a mixture"),
        ({"inputs": {key: good[key] for key in ("support_x", "support_y")}}, "missing inputs ['query_x']"),
        ({"inputs": {**good, "query_x": [[0.0, 1.0]]}}, "does not match expected shape"),
        ({"task": good}, "The input must be a JSON dictionary with exactly one of the input fields"),
        (b"not json", "valid JSON formatted string"),
    ]
    for wrong, message in mistakes:
        status, answer = post(server, wrong)
        assert status == 400 and message in answer["message"], answer
        assert "Traceback" not in json.dumps(answer)


@pytest.mark.slow
def test_no_body_breaks_the_server(server: str) -> None:
    """Nor does one that is too large to parse take it down."""
    good = body(task(["a", "b"] * 2))["inputs"]
    bodies = [
        (b"[" * 10**5, "application/json"),
        (b'{"inputs": ' + b"[" * 10**5, "application/json"),
        (b'{"inputs": ' + b"9" * 5000 + b"}", "application/json"),
        (json.dumps({"inputs": {**good, "support_x": [[1.0], [2.0, 3.0]]}}).encode(), "application/json"),
        (json.dumps({"inputs": {**good, "query_x": None}}).encode(), "application/json"),
        (json.dumps({"inputs": {**good, "support_y": {"a": 1}}}).encode(), "application/json"),
        (json.dumps({"inputs": [1, 2]}).encode(), "application/json"),
        (json.dumps({"inputs": good}).replace("0.", "NaN, 0.", 1).encode(), "application/json"),
        (b"\xff\xfe", "application/json"),
        (b"a,b\n1", "text/csv"),
        (b"PAR1", "application/vnd.apache.parquet"),
        (b"{}", ""),
        (b" " * (5 << 20), "application/json"),
    ]
    for wrong, kind in bodies:
        status, answer = post(server, wrong, kind)
        assert 400 <= status < 500, (wrong[:50], kind, status, answer)
    assert "5,242,880 bytes, and 4,194,304 are served at most" in answer["message"]
    assert post(server, {"inputs": good})[0] == 200


@pytest.mark.slow
def test_example_client(server: str, tmp_path: Path) -> None:
    done = start([sys.executable, str(EXAMPLE), server], tmp_path)
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    assert len(lines) == 12 and all(line.startswith("a ") for line in lines)
    right, _, total = last.split()[:3]
    assert int(right) >= 11 and total == "12"


@pytest.mark.slow
def test_predict_on_the_command_line(registered: Path) -> None:
    request = task(["a", "b"] * 2)
    (registered / "request.json").write_text(json.dumps(body(request)))
    command = [sys.executable, "-m", "mlflow", "models", "predict", "-m", URI, "--env-manager", "local"]
    files = ["-i", "request.json", "-o", "answer.json", "-t", "json"]
    done = subprocess.run(
        [*command, *files],
        cwd=registered,
        env=environment(registered),
        capture_output=True,
        text=True,
        timeout=STARTS_WITHIN,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads((registered / "answer.json").read_text())["predictions"]
    assert np.abs(np.array(answer["probabilities"]) - expected(request)).max() < 1e-6
