"""Locks between processes that end with their process, however it ends."""

from __future__ import annotations

import sqlite3
from pathlib import Path

__all__ = ["exclusive"]


def exclusive(path: Path, seconds: float) -> sqlite3.Connection | None:
    """The lock on ``path``, an empty file, held until the connection is closed; None: somebody else has it.

    It is SQLite's own lock, which works on all systems that SQLite works on, within a process as well. A
    process that is forked does not have it, but takes it for held for as long as it does not start a program
    of its own.

    Args:
        path: created if need be; its folder exists.
        seconds: to wait for it.

    Raises:
        sqlite3.Error: the file cannot be locked at all.
    """
    # Whoever closes it may be another thread than the one that asked.
    connection = sqlite3.connect(path, timeout=seconds, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        connection.close()
        if "locked" in str(error):
            return None
        raise
    except BaseException:
        connection.close()
        raise
    return connection
