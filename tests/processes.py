"""Processes that have nothing left to import: forked from one that has torch, MLflow and Hydra loaded.

Most of the seconds that a ``python -m adapt`` takes in a test are imports. Where a test needs a process, to
kill it, say, or since what it runs is a script, but not the imports, it starts one here. All else is as in a
new interpreter: directory, environment, arguments, output, signals, and how it ends. On Linux only.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import pytest

from tasks.places import STARTED

__all__ = ["Process", "run"]

ROOT = Path(__file__).parents[1]
LOADED = (
    "adapt.app.main",
    "adapt.app.stages.run",
    "adapt.tracking.store",
    "hydra._internal.hydra",
    "matplotlib.backends.backend_agg",
    "rich.live",
    "scipy.stats",
    "sklearn.datasets",
    "sklearn.linear_model",
    "torch._decomp.decompositions_for_jvp",  # by the first forward derivative
    "torch._dynamo",  # by the first function that a network is called through
)


class Process:
    """``python ARGUMENTS`` in ``folder``: ``-m MODULE …``, ``-c CODE …`` or ``FILE …``, behind ``-W error``
    if warnings are to be errors. One thread. What it says is kept in files: it never waits for a reader.
    ``site`` is where adapt is installed, if it is not the checkout that is to run."""

    def __init__(self, arguments: Sequence[str], folder: Path, site: Path | None = None) -> None:
        if sys.platform != "linux":
            pytest.skip("forks processes with what they import, which needs Linux")
        self.arguments, self.returncode = list(arguments), None
        self._written = os.memfd_create("stdout"), os.memfd_create("stderr")
        # In packets: a process may have ended before anybody has read what its number is.
        self._state, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {**_environment(site), "COLUMNS": "120"}
        job = {"arguments": self.arguments, "folder": str(folder), "environment": environment}
        given = [theirs.fileno(), *self._written]
        with theirs:
            socket.send_fds(_server(site), [json.dumps(job).encode()], given)
        self.pid = int(self._state.recv(64))

    returncode: int | None

    @property
    def said(self) -> tuple[str, str]:
        """What it has written so far, to stdout and to stderr."""
        if self.returncode is None:
            out, err = (os.pread(number, 1 << 24, 0).decode() for number in self._written)
            self._said = out, err
        return self._said

    def poll(self, seconds: float = 0) -> int | None:
        """Within ``seconds``: the exit code, or minus the signal that ended it; None if it still runs."""
        if self.returncode is None and select.select([self._state], [], [], seconds)[0]:
            code = int(self._state.recv(64))
            _ = self.said
            self.returncode = code
            self._state.close()
            for number in self._written:
                os.close(number)
        return self.returncode

    def wait(self, seconds: float = 300) -> subprocess.CompletedProcess[str]:
        """Till it has ended; it is killed after ``seconds``."""
        code = self.poll(seconds)
        if code is None:
            self.kill()
            raise subprocess.TimeoutExpired(self.arguments, seconds, *self.said)
        return subprocess.CompletedProcess(self.arguments, code, *self.said)

    def send(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self.poll(60)


def run(
    arguments: Sequence[str], folder: Path, seconds: float = 300, site: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """A ``Process`` from start to end."""
    return Process(arguments, folder, site).wait(seconds)


# -------------------------------------------------------------------------------- what they are forked from


def _environment(site: Path | None) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **({} if site is None else {"PYTHONPATH": str(site)})}


@cache
def _server(site: Path | None) -> socket.socket:
    """Where jobs are sent to."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    this = ["-m", "tests.processes"] if site is None else [__file__]
    command = [sys.executable, *this, str(theirs.fileno())]
    with theirs:
        process = subprocess.Popen(
            command, cwd=site or ROOT, env=_environment(site), pass_fds=[theirs.fileno()]
        )
    atexit.register(process.wait)
    atexit.register(ours.close)  # called before the other: the server ends when nobody can send it jobs
    return ours


def _serve(jobs: socket.socket) -> dict[str, Any]:
    """Fork for every job; returns in the forked process, with its job, and ends with the socket."""
    for name in LOADED:
        importlib.import_module(name)
    sys.modules["adapt.tracking.store"].load_mlflow()
    gc.freeze()  # or the first collection in each process would copy all that it shares
    waiting = set[int]()
    while True:
        message, given, *_ = socket.recv_fds(jobs, 1 << 20, 3)
        if not message:
            for pid in waiting:
                os.waitpid(pid, 0)
            os._exit(0)
        waiting = {pid for pid in waiting if os.waitpid(pid, os.WNOHANG)[0] == 0}
        if pid := os.fork():
            waiting.add(pid)
            for number in given:
                os.close(number)
            continue
        state, out, err = given
        if pid := os.fork():  # here is who waits for it and tells how it ended
            os.write(state, str(pid).encode())
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            os.write(state, str(code).encode())
            os._exit(0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        for number in (*given, jobs.detach()):
            os.close(number)
        return json.loads(message)  # type: ignore[no-any-return]


def _become(arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    """What the interpreter does before it runs a module or code."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0] = folder
    if arguments[:2] == ["-W", "error"]:
        warnings.simplefilter("error")
        del arguments[:2]
    kind, *rest = arguments
    if kind == "-m":
        if rest[0].partition(".")[0] in STARTED:
            del sys.path[0]  # as they do themselves when they are imported, which they were
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        sys.modules["__main__"] = main = ModuleType("__main__")
        exec(rest[0], main.__dict__)
    else:
        sys.argv, sys.path[0] = arguments, str(Path(kind).parent)
        runpy.run_path(kind, run_name="__main__")


def _end(error: BaseException | None) -> NoReturn:
    """What the interpreter does at its end, but for taking apart all that was loaded, which takes seconds."""
    code: object = 0
    if isinstance(error, SystemExit):
        code = error.code
        if code is not None and not isinstance(code, int):
            print(code, file=sys.stderr)
    elif error is not None:
        code = 1
        sys.excepthook(type(error), error, error.__traceback__)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    sys.path[0] = os.getcwd()  # that of this file, if it was started as one, holds modules of tests
    job = _serve(socket.socket(fileno=int(sys.argv[1])))
    try:
        _become(**job)
    except (SystemExit, Exception) as ended:
        _end(ended)
    _end(None)
