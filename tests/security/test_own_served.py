"""``adapt serve`` and those who mean it harm: pages of other sites, and clients that wait or flood."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

import adapt
from adapt.own_data import Answer

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("fastapi")

from adapt.app.serving import http, patience  # noqa: E402
from adapt.app.serving.door import Door, door_for  # noqa: E402
from adapt.app.serving.service import Service  # noqa: E402

ROW = json.dumps({"z": 1}).encode()


# ------------------------------------------------------------------------------------------ the door

NEAR, FAR = door_for("127.0.0.1"), door_for("0.0.0.0", ["Model.example"])


@pytest.mark.parametrize(
    ("door", "host", "let_in"),
    [
        *((NEAR, host, True) for host in ("127.0.0.1:80", "localhost", "LOCALHOST:8000", "[::1]:80")),
        *((NEAR, host, False) for host in ("evil.example", "10.0.0.1", "", "localhost.evil.example", "[::1")),
        *((NEAR, host, False) for host in ("localhost@evil", "localhost:evil", "localhost/evil", "x:1:2")),
        *(
            (FAR, host, True)
            for host in ("10.0.0.1:80", "[fe80::1]", "model.example:80", "localhost", "0.0.0.0")
        ),
        *(
            (FAR, host, False)
            for host in ("evil.example", "model.example.evil", "", "1.2.3", "10.0.0.1.evil")
        ),
    ],
)
def test_who_addresses_this_server(door: Door, host: str, let_in: bool) -> None:
    """A name that was made to point here (DNS rebinding) is one that nobody typed."""
    refused = door.refusal("GET", {"host": host})
    assert (refused is None) == let_in and (let_in or refused[0] == 400)  # type: ignore[index]


@pytest.mark.parametrize(
    ("door", "host", "origin", "let_in"),
    [
        (NEAR, "localhost:8000", None, True),
        (NEAR, "localhost:8000", "http://localhost:8000", True),
        (NEAR, "localhost:8000", "http://LOCALHOST:8000", True),
        (NEAR, "localhost:8000", "http://localhost:3000", False),  # another program of this machine
        (NEAR, "localhost:8000", "http://127.0.0.1:8000", False),
        *(
            (NEAR, "localhost:8000", origin, False)
            for origin in (
                "null",
                "",
                "file://",
                "http://evil.example",
                "http://[",
                "http://]",
                "http://a@localhost:8000",
            )
        ),
        (FAR, "10.0.0.1", "https://model.example", True),  # a proxy in between
        (FAR, "10.0.0.1", "http://evil.example", False),
        (FAR, "10.0.0.1", "http://localhost", False),
    ],
)
def test_pages_that_send_something(door: Door, host: str, origin: str | None, let_in: bool) -> None:
    headers = {"host": host} | ({} if origin is None else {"origin": origin})
    refused = door.refusal("POST", headers)
    assert (refused is None) == let_in and (let_in or refused[0] == 403)  # type: ignore[index]
    assert door.refusal("GET", headers) is None, "what is shown can be read by nobody else"


# ------------------------------------------------------------------------------------------ a server


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> Answer:
    rng = np.random.default_rng(0)
    rows = [f"{rng.normal(3 * (row % 2)):.3f},{'ab'[row % 2]}" for row in range(30)]
    path = tmp_path_factory.mktemp("served") / "t.csv"
    path.write_text("\n".join(["z,label", *rows]), encoding="utf-8")
    return adapt.fit_table(path, method="head")


@contextmanager
def serving(answer: Answer, folder: Path) -> Iterator[tuple[str, int]]:
    """The address of a server in a thread, with room for six, that sends little at a time."""
    answer.save(folder)
    settings = uvicorn.Config(
        http.application(Service(answer, folder), NEAR),
        *("127.0.0.1", 0),
        log_level="critical",
        http=patience.Patient,
        limit_concurrency=6,
        lifespan="off",
    )
    bound = settings.bind_socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    bound.listen()
    running = uvicorn.Server(settings)
    thread = threading.Thread(target=lambda: asyncio.run(running.serve([bound])))
    thread.start()
    try:
        yield bound.getsockname()
    finally:
        running.should_exit = True
        thread.join()
        bound.close()


@pytest.fixture(scope="module")
def server(answer: Answer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    with serving(answer, tmp_path_factory.mktemp("server") / "model") as address:
        yield address


@pytest.fixture
def impatient(answer: Answer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    monkeypatch.setattr(patience, "PATIENCE", 1.0)
    with serving(answer, tmp_path / "model") as address:
        yield address


def ask(
    address: tuple[str, int],
    content: bytes,
    path: str = "/predict",
    kind: str = "application/json",
    more: str = "",
) -> tuple[int, str]:
    with socket.create_connection(address, 60) as client:
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {kind}\r\n{more}"
        )
        client.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        said = b""
        while part := client.recv(1 << 16):
            said += part
    return int(said.split()[1]), said.partition(b"\r\n\r\n")[2].decode()


def wait(address: tuple[str, int]) -> int:
    """The status once there is room again."""
    for _ in range(200):
        if (status := ask(address, ROW)[0]) != 503:
            return status
        time.sleep(0.05)
    return 503


@pytest.mark.parametrize(
    "begun", [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: "], ids=["silent", "slow"]
)
def test_connections_that_ask_nothing_take_no_place(impatient: tuple[str, int], begun: bytes) -> None:
    clients = [socket.create_connection(impatient, 60) for _ in range(8)]
    for client in clients:
        client.sendall(begun)
    assert ask(impatient, ROW)[0] == 503, "it is full"
    assert wait(impatient) == 200
    for client in clients:
        client.close()


def test_a_client_that_does_not_read(impatient: tuple[str, int]) -> None:
    rows = b"[" + b",".join([ROW] * 5000) + b"]"
    whole = len(ask(impatient, rows)[1])
    came = 0
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.settimeout(60)
        client.connect(impatient)
        head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        client.sendall(f"{head}Content-Length: {len(rows)}\r\n\r\n".encode() + rows)
        time.sleep(2.5)
        with suppress(ConnectionResetError):
            while part := client.recv(1 << 16):
                came += len(part)
    assert came < whole


def test_a_body_that_does_not_come(server: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "PATIENCE", 0.2)
    with socket.create_connection(server, 60) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        client.sendall(b"Content-Length: 10\r\n\r\n{")
        assert b" 408 " in client.recv(1 << 16)


def test_a_connection_that_asks_now_and_then_stays(impatient: tuple[str, int]) -> None:
    with socket.create_connection(impatient, 60) as client:
        for _ in range(6):
            client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            said = b""
            while b'"ok"' not in said:
                part = client.recv(1 << 16)
                assert part, "it was closed"
                said += part
            time.sleep(0.3)


@pytest.mark.parametrize(
    ("content", "kind", "status", "said"),
    [
        (b"z\n" + b"1\n" * 10_001, "text/csv", 400, "more than 10000 rows at once"),
        (b"z\n" + b"1\n" * 10_000, "text/csv", 200, "predictions"),
        (b"z\r" + b"1\r" * 1_000_000, "text/csv", 400, "more than 10000 rows at once"),
        (b"z", "text/csv", 400, '"the request holds no rows'),
        (b"y\n1\n", "text/csv", 400, '"the request has no column'),
        (b'z\n"', "text/csv", 400, '"the request, line 2'),
        (b'{"z": 1e300}', "application/json", 400, "too far"),
        (json.dumps({"a" * 1_000_000: 1}).encode(), "application/json", 400, "no column"),
    ],
)
def test_requests_that_are_much_and_say_little(
    server: tuple[str, int], content: bytes, kind: str, status: int, said: str
) -> None:
    found, text = ask(server, content, kind=kind)
    assert found == status and said in text and len(text) < 2_000_000


def test_corrections(impatient: tuple[str, int], tmp_path: Path) -> None:
    server = impatient
    path = "/correct?label=a"
    assert ask(server, ROW, path, more="Origin: http://evil.example\r\n")[0] == 403
    assert ask(server, ROW, path, more="Origin: http://[\r\n")[0] == 403
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        assert ask(server, ROW, path, kind)[0] == 415, "what a page of another site may send unasked"
    assert ask(server, b"[" + ROW + b"," + ROW + b"]", path)[0] == 400
    assert ask(server, ROW, "/correct?label=%00")[0] == 400 and ask(server, ROW, "/correct")[0] == 422
    assert ask(server, ROW, path, more="Origin: http://localhost\r\n") == (200, '{"corrections": 1}')
    assert len(Answer.load(tmp_path / "model").support.positions) == 31  # type: ignore[union-attr]


def test_few_are_worked_on_at_a_time(impatient: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """One picture of many pixels takes a gigabyte."""
    lock, inside, most = threading.Lock(), 0, 0

    def predict(_: Service, value: object) -> list[object]:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.1)
        with lock:
            inside -= 1
        return []

    monkeypatch.setattr(Service, "predict", predict)
    threads = [threading.Thread(target=ask, args=(impatient, ROW)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == http.TURNS


def test_a_long_error_is_shortened(server: tuple[str, int]) -> None:
    status, said = ask(server, json.dumps({"z": "9" * 1_000_000}).encode())
    assert status == 400 and len(said) < 2000
