"""Processes that meet, as torchrun starts them; its own start is seen once, in ``test_torchrun.py``."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

from tests.processes import Process
from tests.tracked import free_port

__all__ = ["finished", "together"]


def together(arguments: Sequence[str], folder: Path, count: int) -> list[Process]:
    """``count`` processes that run ``python ARGUMENTS`` in ``folder``."""
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = []
    for rank in range(count):
        with mock.patch.dict(os.environ, {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}):
            processes.append(Process(arguments, folder))
    return processes


def finished(arguments: Sequence[str], folder: Path, count: int) -> list[subprocess.CompletedProcess[str]]:
    """How they ended, in the order of their numbers."""
    processes = together(arguments, folder, count)
    try:
        return [process.wait(120) for process in processes]
    finally:
        for process in processes:
            process.kill()
