"""The runs of a sweep on this machine end with the process that started them.

A process that is killed cannot end others, and launchers let theirs go on: in folders that the sweep's resume
starts its runs in again. Jobs of a cluster are its scheduler's, and go on.
"""

import os
import threading
import uuid
from collections.abc import Callable
from typing import Any

from adapt.app.folders import occupied
from adapt.app.stages.state import Sweep, read_sweep
from adapt.errors import AdaptError

__all__ = ["ORPHAN_SECONDS", "end_with_parent", "this_process"]

#: Between two looks at the parent.
PAUSE = 0.5
#: How long a run of a sweep waits for its folder: an orphan is gone by then.
ORPHAN_SECONDS = 20.0
#: Exit code of a process whose parent is gone; nobody is there to read it.
ORPHANED = 1

#: Whether the parent is gone, of the sweep that this process works for at present.
_gone: list[Callable[[], bool]] = []


def this_process() -> dict[str, Any]:
    """What a run finds in ``sweep.json`` of the process that started its sweep."""
    return {"pid": os.getpid(), "token": uuid.uuid4().hex}


def end_with_parent(sweep: Sweep, launcher: str) -> None:
    """End this process, a run of ``sweep``, as soon as the one that started the sweep is gone.

    Nothing is lost: the run goes on from what is on disk, as after a kill. Nothing happens in the process of
    the sweep itself, or on other machines.

    Args:
        sweep: that the run belongs to.
        launcher: ``_target_`` of the one that has started this process.
    """
    gone = _watch(sweep, launcher)
    if gone is None:
        return
    started, _gone[:] = bool(_gone), [gone]
    if gone():
        os._exit(ORPHANED)
    if not started:
        threading.Thread(target=_run, name="adapt-parent", daemon=True).start()


def _watch(sweep: Sweep, launcher: str) -> Callable[[], bool] | None:
    """Whether the parent is gone, as a function; None: this process is not to end with it."""
    pid, token = sweep.process.get("pid"), sweep.process.get("token")
    if pid == os.getpid() or token is None:
        return None
    if launcher.endswith("JoblibLauncher") and os.name == "posix":
        return lambda: os.getppid() != pid
    if launcher.endswith("LocalLauncher"):  # a child of a child, which its parent does not end either
        return lambda: not occupied(sweep.folder) or _token(sweep) != token
    return None


def _token(sweep: Sweep) -> str | None:
    try:
        process = read_sweep(sweep.folder).get("process") or {}
        found: str | None = process.get("token")
    except AdaptError:  # the folder was removed
        return None
    return found


def _run() -> None:
    waiting = threading.Event()
    while not _gone[0]():
        waiting.wait(PAUSE)
    os._exit(ORPHANED)
