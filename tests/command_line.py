"""The command line as tests call it: in this process, which saves seconds, or in one of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

from hydra.core.global_hydra import GlobalHydra

from adapt.app.main import main

__all__ = ["TINY", "call", "output_folder", "start"]

#: A comparison in about a second, without a store or figures. Later overrides win over these.
TINY = (
    "tracking=none",
    "energy=none",
    "figures=false",
    "memory=false",
    "method=[head,forward]",
    "task.tasks=2",
    "task.ways=2",
    "task.queries=3",
    "hydra.run.dir=run",
)


def call(arguments: Sequence[str], folder: Path) -> int:
    """``adapt ARGUMENTS`` in this process and in ``folder``; the exit code. Output goes to sys.stdout."""
    GlobalHydra.instance().clear()
    with (
        contextlib.chdir(folder),
        mock.patch.dict(os.environ),
        mock.patch.object(sys, "argv", ["adapt", *arguments]),
    ):
        try:
            main()
        except SystemExit as ended:
            return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        finally:
            GlobalHydra.instance().clear()
    return 0


def start(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """A process of its own, in ``folder``, with one thread and this interpreter's packages."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def output_folder(folder: Path) -> Path:
    """Where the one run below ``folder`` wrote its comparison; copies of it in a store do not count."""
    (found,) = {*folder.glob("outputs/*/*/comparison.json"), *folder.glob("run/comparison.json")}
    return found.parent
