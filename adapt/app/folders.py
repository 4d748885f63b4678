"""A folder that a run, a sweep or a search writes into belongs to one process at a time.

The lock is SQLite's on the empty file ``lock`` in it: it ends with its process, however that ends, and a
process that was forked does not have it.
"""

import errno
import os
import shlex
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adapt.errors import AdaptError
from adapt.tracking.locks import exclusive

__all__ = ["Occupied", "alone", "hindrance", "hold", "occupied", "release"]

#: What keeps anything from being written, or read, that is no fault of the program.
HINDRANCES = (
    *(
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.EIO,
        errno.ESTALE,
    ),
    *(errno.ENOTCONN, errno.EMFILE, errno.ENFILE),
)

LOCK = "lock"
#: Between two attempts, during which a signal is heard.
PAUSE = 0.1

#: What this process holds until it calls :func:`release`; with its id, since who is forked holds nothing.
_held: dict[tuple[int, Path], sqlite3.Connection] = {}


class Occupied(AdaptError):
    """Another process is at work in a folder."""


@contextmanager
def alone(folder: Path, seconds: float = 0.0) -> Iterator[None]:
    """Hold ``folder``, which is made if need be, inside; nothing is done where this process holds it already.

    Args:
        folder: of a run, a sweep or a search.
        seconds: to wait for who holds it now.

    Raises:
        Occupied: another process holds it.
        AdaptError: it cannot be written.
    """
    if _key(folder) in _held:
        yield
        return
    connection = _lock(folder, seconds)
    try:
        yield
    finally:
        if connection is not None:
            connection.close()


def hold(folder: Path) -> None:
    """:func:`alone` until :func:`release`."""
    if _key(folder) not in _held and (connection := _lock(folder, 0.0)) is not None:
        _held[_key(folder)] = connection


def release() -> None:
    """Let go of what :func:`hold` holds."""
    for key in [key for key in _held if key[0] == os.getpid()]:
        _held.pop(key).close()


def occupied(folder: Path) -> bool:
    """Whether a process holds ``folder``, as far as that can be known."""
    if _key(folder) in _held:
        return True
    try:
        connection = exclusive(folder / LOCK, 0.0)
    except sqlite3.Error:
        return True
    if connection is not None:
        connection.close()
    return connection is None


def hindrance(error: BaseException, folder: Path | None = None) -> str | None:
    """What a full disk, say, is to the user: one line; None: ``error`` is something else.

    Args:
        error: of any kind.
        folder: of the run that it ended, which can go on.
    """
    if not isinstance(error, OSError) or error.errno not in HINDRANCES:
        return None
    where = error.filename or folder or "a file"
    then = "" if folder is None else f", then `python -m adapt resume {shlex.quote(str(folder))}` goes on"
    return f"{where} cannot be written or read ({error.strerror}): make room or mend it{then}"


def _key(folder: Path) -> tuple[int, Path]:
    return os.getpid(), folder.resolve()


def _lock(folder: Path, seconds: float) -> sqlite3.Connection | None:
    """The lock; None on a file system that has none."""
    deadline = time.monotonic() + seconds
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while (connection := exclusive(folder / LOCK, 0.0)) is None:
            if time.monotonic() >= deadline:
                raise Occupied(
                    f"another process is at work in {folder.absolute()}: wait until it has ended, or use "
                    "another folder"
                )
            time.sleep(PAUSE)
    except (OSError, sqlite3.Error) as error:
        if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_IOERR", "SQLITE_PROTOCOL")):
            print(
                f"warning: {folder} is on a file system without locks: nothing keeps other processes out",
                file=sys.stderr,
            )
            return None
        raise AdaptError(
            f"{folder} cannot be written, or '{LOCK}' in it is something else ({error}): use another folder"
        ) from error
    return connection
