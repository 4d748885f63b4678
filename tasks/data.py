"""Files of public data sets: where they lie, whether they are the right ones, and how to get them.

    path = fetch(DataFile("omniglot/images_background.zip", (sha256,), url), download=True)

A file is known by its sha256. It is computed once, and remembered with the size and the times of the file, so
that a large archive is not read at each start.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import json
import logging
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tasks._cache import cache_folder, data_root, file_sha256, write_json
from tasks.readers.regular import read_regular
from tasks.source import TaskError

__all__ = ["DataFile", "data_root", "fetch", "fetch_any", "remembered_sha256"]

BLOCK = 1 << 20  # bytes
WORTH_REMEMBERING = 4 << 20  # bytes: less is read in the time that it takes to look it up
TIMEOUT = 30  # seconds without an answer
ATTEMPTS = 5  # connections for one file, as long as each of them brings some of it

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataFile:
    """One file of a data set.

    Args:
        path: below the data root, e.g. `omniglot/images_background.zip`.
        sha256: of each version that is known to hold the same data, hex; the official one first. Empty where
            none is published: whoever reads the file then has to check what is in it.
        url: official address, for `download=true`; None if there is none to download from without a form.
    """

    path: str
    sha256: tuple[str, ...]
    url: str | None = None


def fetch(file: DataFile, *, root: str | os.PathLike[str] | None = None, download: bool = False) -> Path:
    """The path of `file` below `root` (None: :func:`data_root`), verified by its sha256.

    Args:
        download: get it from its address if it is not there. A download that broke off goes on where it
            stopped; until it is complete and verified it is called `<name>.part`.

    Raises:
        TaskError: it is not there (or cannot be downloaded), or is another file than it should be.
    """
    return fetch_any([file], root=root, download=download)


def fetch_any(
    files: Sequence[DataFile], *, root: str | os.PathLike[str] | None = None, download: bool = False
) -> Path:
    """The first of `files` that is there, each a version of the same data set; see :func:`fetch`."""
    folder = Path(root).expanduser() if root else data_root()
    for file in files:
        path = folder / file.path
        if _is_file(path):
            return _verified(file, path)
    names = " or ".join(file.path for file in files)
    official = next((file for file in files if file.url), None)
    if download and official is not None:
        path = folder / official.path
        _download(official, path)
        return path
    offer = ", or set task.source.download=true (download=True in Python)" if official else ""
    if download:
        offer = "; it has no address to download it from"
    raise TaskError(
        f"{folder / files[0].path} does not exist: set ADAPT_DATA to the folder that holds {names}{offer}"
    )


def remembered_sha256(path: Path) -> str:
    """sha256 (hex) of a file, from memory if its size and times are those of when it was computed."""
    found = path.stat()
    if found.st_size < WORTH_REMEMBERING:
        return file_sha256(path)
    where = str(path.resolve())
    state = {
        "path": where,
        "bytes": found.st_size,
        "mtime_ns": found.st_mtime_ns,
        "ctime_ns": found.st_ctime_ns,  # changes even where the time of modification is set back
    }
    name = hashlib.sha256(where.encode()).hexdigest()[:32]
    note = cache_folder() / "checked" / f"{name}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        stored = json.loads(read_regular(note))
        if {name: stored[name] for name in state} == state and len(stored["sha256"]) == 64:
            return str(stored["sha256"])
    sha256 = file_sha256(path)
    with contextlib.suppress(OSError):  # computed anew the next time
        write_json(note, {**state, "sha256": sha256})
    return sha256


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except PermissionError as error:
        raise TaskError(f"{path} cannot be read ({error.strerror}): check its permissions") from None


def _verified(file: DataFile, path: Path) -> Path:
    try:
        found = remembered_sha256(path)
    except OSError as error:
        raise TaskError(f"{path} cannot be read ({error.strerror}): check its permissions") from None
    if file.sha256 and found not in file.sha256:
        raise TaskError(f"{path} is not the file it should be (sha256 {found}): remove it and get it again")
    return path


# ------------------------------------------------------------------------------------------ download


def _download(file: DataFile, path: Path) -> None:
    """Get `file` from its address and put it at `path`, verified."""
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = part.open("ab")
    except OSError as error:
        raise _unwritable(path, error) from None
    with handle:
        _lock(handle, part)
        _log.info("downloading %s to %s", file.url, path)
        resumed = handle.tell() > 0
        _receive_all(file, handle)
        sha256 = _check(file, part)
        if sha256 and resumed:  # what was there may have been of another file: once more, from the start
            handle.truncate(0)
            _receive_all(file, handle)
            sha256 = _check(file, part)
        if sha256:
            part.unlink()
            raise TaskError(
                f"{file.url} answered with something else than {path.name} (sha256 {sha256}): get the file "
                f"by hand and put it at {path}"
            )
        handle.flush()
        os.fsync(handle.fileno())  # its hash is remembered by size and time
        os.replace(part, path)


def _check(file: DataFile, part: Path) -> str:
    """The sha256 of `part` if it is not one that `file` has, else nothing."""
    found = file_sha256(part)
    return "" if found in file.sha256 or not file.sha256 else found


def _receive_all(file: DataFile, part: BinaryIO) -> None:
    """Append what is missing of `file`; a connection that breaks is taken up again while it makes headway."""
    for attempt in range(1, ATTEMPTS + 1):
        before = part.seek(0, os.SEEK_END)
        try:
            _receive(str(file.url), part)
            return
        except urllib.error.HTTPError as error:
            reason = f"{file.url} answered {error.code} {error.reason}"
            error.close()
            raise TaskError(f"{reason}: get the file by hand and put it at {_target(part)}") from None
        except (OSError, http.client.HTTPException) as error:
            have = part.seek(0, os.SEEK_END)
            if attempt == ATTEMPTS or have <= before:
                cause = getattr(error, "reason", None) or error
                raise TaskError(
                    f"cannot download {file.url} ({cause}); {have} bytes are kept: check the connection and "
                    f"start again, or put the file at {_target(part)} by hand"
                ) from None


def _receive(url: str, part: BinaryIO) -> None:
    """One connection. Raises OSError if it ends before everything has arrived."""
    have = part.seek(0, os.SEEK_END)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing beyond what we have: the sha256 decides what that is
            error.close()
            return
        raise
    with answer:
        partial = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(
            f"bytes {have}-"
        )
        if have and not partial:  # the server does not resume, and sends all of it
            part.truncate(0)
        expected = answer.headers.get("Content-Length")
        received = 0
        while block := answer.read(BLOCK):
            try:
                part.write(block)
                part.flush()
            except OSError as error:
                raise _unwritable(_target(part), error) from None
            received += len(block)
    if expected is not None and received < int(expected):
        raise ConnectionError(f"the connection broke after {received} of {expected} bytes")


def _lock(part: BinaryIO, path: Path) -> None:
    """Two processes that append to one file would spoil it."""
    try:
        import fcntl
    except ImportError:  # Windows: the sha256 finds out
        return
    try:
        fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise TaskError(f"another process is downloading {path}: wait until it is done") from None
        # A file system without locks: the sha256 finds out.


def _target(part: BinaryIO) -> Path:
    return Path(part.name).with_suffix("")


def _unwritable(path: Path, error: OSError) -> TaskError:
    return TaskError(
        f"cannot write {path} ({error.strerror}): set ADAPT_DATA to a folder that can be written and has room"
    )
