"""One process at a time in a folder of a run, a sweep or a search; the runs of a sweep end with it."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("hydra")

from adapt.app import folders
from adapt.app.folders import Occupied, alone, hold, occupied, release
from adapt.app.stages import run as run_module
from adapt.errors import AdaptError
from adapt.files import read_json
from tests.command_line import TINY, call
from tests.processes import Process

MANY = (
    "tracking=none",
    "energy=none",
    "figures=false",
    "memory=false",
    "method=[head,forward]",
    "task.ways=2",
    "task.queries=3",
    "task.tasks=400",
)
TUNE = ("tune", "folder=search", "hparams_search=methods", "hparams_search.methods=[ridge]", "tracking=none")


@contextmanager
def at_work(folder: Path) -> Iterator[None]:
    """As if another process were in ``folder``."""
    with alone(folder):
        yield


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def wait_for(there: Callable[[], bool], process: Process) -> None:
    deadline = time.monotonic() + 300
    while not there():
        assert process.poll(0.01) is None, process.said
        assert time.monotonic() < deadline


def refused(arguments: list[str], folder: Path, where: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert call(arguments, folder) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"error: another process is at work in {where}: wait until it has ended, or use another folder"
    )


# ------------------------------------------------------------------------------------------------ the lock


def test_a_lock_is_the_process_s_and_ends_with_it(tmp_path: Path) -> None:
    """Not a child's that it forks, either: it neither has the lock, nor loses it for its parent."""
    code = "import os, time; from pathlib import Path; from adapt.app.folders import hold\n"
    code += "hold(Path.cwd())\nprint(child := os.fork(), flush=True)\ntime.sleep(600 if child else 3)"
    process = Process(["-c", code], tmp_path)
    wait_for(lambda: process.said[0].count("\n") == 2, process)
    child = max(map(int, process.said[0].split()))
    assert occupied(tmp_path)
    with pytest.raises(Occupied), alone(tmp_path):
        pass
    process.send(signal.SIGKILL)
    process.wait(60)
    os.kill(child, 0)  # it is still there
    with alone(tmp_path):
        assert occupied(tmp_path)
    assert not occupied(tmp_path)


def test_what_this_process_holds_it_may_use(tmp_path: Path) -> None:
    hold(tmp_path / "a")
    hold(tmp_path / "b" / ".." / "a")
    try:
        with alone(tmp_path / "a"):
            assert occupied(tmp_path / "a")
        assert occupied(tmp_path / "a")
    finally:
        release()
    assert not occupied(tmp_path / "a")


def test_it_waits_as_long_as_it_is_told(tmp_path: Path) -> None:
    process = Process(["-c", "from pathlib import Path; from adapt.app.folders import *\nhold(Path.cwd())\n"
                       "print('held', flush=True); import time; time.sleep(1)"], tmp_path)  # fmt: skip
    wait_for(lambda: "held" in process.said[0], process)
    with alone(tmp_path, 60.0):
        assert process.wait(60).returncode == 0


@pytest.mark.parametrize("what", ["directory", "text", "fifo", "dangling"])
def test_what_cannot_be_locked_is_one_clear_error(what: str, tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    match what:
        case "directory":
            lock.mkdir()
        case "text":
            lock.write_text("something else")
        case "fifo":
            os.mkfifo(lock)
        case "dangling":
            lock.symlink_to(tmp_path / "gone" / "lock")
    if what == "fifo":  # which is no error of the file system's, and nothing hangs
        with alone(tmp_path):
            return
    with pytest.raises(AdaptError, match="'lock' in it is something else"), alone(tmp_path):
        pass


def test_a_file_system_without_locks_is_said_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorname = "SQLITE_IOERR_LOCK"
        raise error

    monkeypatch.setattr(folders, "exclusive", fail)
    with alone(tmp_path):
        assert "is on a file system without locks" in capsys.readouterr().err
    assert occupied(tmp_path), "as far as that can be known"


# ----------------------------------------------------------------------------------------------- two at once


def test_a_second_run_or_resume_in_a_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    process = Process(["-m", "adapt", *MANY, "hydra.run.dir=run"], tmp_path)
    try:
        wait_for(lambda: lines(folder / "progress.jsonl") > 2, process)
        process.send(signal.SIGSTOP)  # it holds what it holds
        typed = {path: path.read_bytes() for path in (folder / ".hydra").iterdir()}
        for arguments in (
            [*TINY, "seed=7"],
            ["resume", "run"],
            ["-m", *TINY, "hydra.sweep.dir=run"],
            [*TUNE[:1], "folder=run", *TUNE[2:]],
        ):
            refused(arguments, tmp_path, folder, capsys)
        assert {path: path.read_bytes() for path in (folder / ".hydra").iterdir()} == typed
        assert read_json(folder / "run.json")["config"]["seed"] == 0
    finally:
        process.kill()
    assert call([*TINY, "seed=7"], tmp_path) == 0, "a dead process holds nothing"


def test_a_second_process_in_the_folder_of_a_sweep_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "sweep"
    process = Process(["-m", "adapt", "-m", *MANY, "seed=0,1", "hydra.sweep.dir=sweep"], tmp_path)
    try:
        wait_for(lambda: lines(folder / "0" / "progress.jsonl") > 2, process)
        process.send(signal.SIGSTOP)
        before = (folder / "sweep.json").read_bytes(), (folder / "multirun.yaml").read_bytes()
        for arguments in (["resume", "sweep"], ["-m", *TINY, "seed=0,1", "hydra.sweep.dir=sweep"]):
            refused(arguments, tmp_path, folder, capsys)
        refused([*TINY, "hydra.run.dir=sweep/0"], tmp_path, folder / "0", capsys)
        assert before == ((folder / "sweep.json").read_bytes(), (folder / "multirun.yaml").read_bytes())
    finally:
        process.kill()


def test_a_run_of_a_sweep_whose_folder_is_taken_is_not_run_a_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run_module, "ORPHAN_SECONDS", 0.2)
    folder = tmp_path / "sweep"
    with at_work(folder / "1"):
        assert call(["-m", *TINY, "seed=0,1", "hydra.sweep.dir=sweep"], tmp_path) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(
            "error: 1 of 2 runs of the sweep failed: run 1 (seed=1): another process is at"
        )
        assert not (folder / "1" / "run.json").exists()
    assert read_json(folder / "0" / "run.json")["status"] == "finished"
    assert read_json(folder / "sweep.json")["status"] == "failed"
    assert call(["resume", "sweep"], tmp_path) == 0
    jobs = read_json(folder / "sweep.json")["jobs"]
    assert [(job["folder"], job["status"]) for job in jobs] == [("0", "finished"), ("1", "finished")]


def test_a_second_search_in_a_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("optuna")
    with at_work(tmp_path / "search"):
        refused([*TUNE], tmp_path, tmp_path / "search", capsys)
    assert {path.name for path in (tmp_path / "search").iterdir()} == {"lock"}


# --------------------------------------------------------------------------------------------------- orphans

#: A sweep's process, and the one that it started for a run, as joblib or submitit do.
PARENT = """
import os, sys, time
from pathlib import Path
from adapt.app.folders import hold
from adapt.app.stages.parent import end_with_parent, this_process
from adapt.app.stages.state import Sweep
from adapt.files import write_json
folder, process = Path.cwd(), this_process()
if os.fork():
    hold(folder)
    write_json(folder / "sweep.json", {"process": process})
    time.sleep(600)
while not (folder / "sweep.json").exists():
    time.sleep(0.01)
if sys.argv[1] == "LocalLauncher" and os.fork():
    time.sleep(600)
end_with_parent(Sweep(folder, "id", process=process), f"plugin.{sys.argv[1]}")
(folder / "worker").write_text(str(os.getpid()))
time.sleep(float(sys.argv[2]))
end_with_parent(Sweep(folder, "id", process=process), f"plugin.{sys.argv[1]}")
(folder / "went on").touch()
time.sleep(600)
"""


#: The command, whose workers are forked: they need not import everything again.
FORKING = """
import sys
from joblib.externals.loky.backend.context import set_start_method
from adapt.app.main import main
set_start_method("fork")
sys.argv[0] = "adapt"
main()
"""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("launcher", ["JoblibLauncher", "LocalLauncher"])
def test_a_run_of_a_sweep_ends_with_the_process_of_the_sweep(launcher: str, tmp_path: Path) -> None:
    process = Process(["-c", PARENT, launcher, "600"], tmp_path)
    wait_for(lambda: (tmp_path / "worker").exists(), process)
    worker = int((tmp_path / "worker").read_text())
    assert process.poll(1.2) is None and alive(worker), "while that is there, it goes on"
    process.send(signal.SIGKILL)
    process.wait(60)
    deadline = time.monotonic() + 60
    while alive(worker):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_jobs_scheduler_keeps_its_own(tmp_path: Path) -> None:
    process = Process(["-c", PARENT, "SlurmLauncher", "1"], tmp_path)
    wait_for(lambda: (tmp_path / "worker").exists(), process)
    process.send(signal.SIGKILL)
    process.wait(60)
    worker, deadline = int((tmp_path / "worker").read_text()), time.monotonic() + 60
    while not (tmp_path / "went on").exists():
        assert time.monotonic() < deadline and alive(worker)
    os.kill(worker, signal.SIGKILL)


@pytest.mark.slow
def test_workers_of_joblib_start_nothing_more_once_the_sweep_was_killed(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    typed = ["seed=0,1,2,3", "launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweep.dir=sweep"]
    process = Process(["-c", FORKING, "-m", *MANY, *typed], tmp_path)
    progress = tmp_path / "sweep"
    wait_for(lambda: any(lines(path) > 2 for path in progress.glob("*/progress.jsonl")), process)
    process.send(signal.SIGKILL)
    process.wait(60)
    deadline = time.monotonic() + 60
    while any(occupied(path.parent) for path in progress.glob("*/lock")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    done = {path: lines(path) for path in progress.glob("*/progress.jsonl")}
    assert 1 <= len(done) <= 2 and all(count < 401 for count in done.values())
    time.sleep(1.5)
    assert {path: lines(path) for path in progress.glob("*/progress.jsonl")} == done
