"""Arrays kept on disk between runs: written atomically, and made again when damaged."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import shutil
import tempfile
import time
import uuid
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from tasks.readers.regular import open_regular, read_regular, regular_file

__all__ = [
    "cache_folder",
    "cached_arrays",
    "data_root",
    "file_sha256",
    "key",
    "memory_mapped",
    "write_json",
    "write_text",
]

Arrays = Mapping[str, np.ndarray]
INDEX = "index.json"
#: What reading a file that is not as it was written may end in.
DAMAGE = (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, RecursionError, MemoryError)
#: Seconds after which what somebody was writing is what a killed process left.
ABANDONED = 86400


def data_root() -> Path:
    """`$ADAPT_DATA`, or `~/.cache/adapt`: the folder of the data sets that are not ours."""
    return Path(os.environ.get("ADAPT_DATA") or Path.home() / ".cache" / "adapt").expanduser()


def cache_folder() -> Path:
    """Where what was decoded is kept: `$ADAPT_CACHE`, else :func:`data_root` if that can be written, else
    `~/.cache/adapt`."""
    if chosen := os.environ.get("ADAPT_CACHE"):
        return Path(chosen).expanduser()
    root = data_root()
    return root if _writable(root) else Path.home() / ".cache" / "adapt"


def _writable(folder: Path) -> bool:
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    # The superuser may write anywhere; a folder that has no write bit is meant to stay as it is all the same.
    return folder.is_dir() and os.access(folder, os.W_OK) and bool(folder.stat().st_mode & 0o222)


def key(*parts: object) -> str:
    """16 hex digits that change with any of `parts`, for the name of what depends on them.

    Example:
        >>> key("a", 1) == key("a", 1) != key("a1")
        True
    """
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def file_sha256(path: Path) -> str:
    """sha256 (hex) of a file of any size."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cached_arrays(path: Path, make: Callable[[], Arrays]) -> Arrays:
    """The arrays in the .npz file `path`; where it is missing or damaged, `make()` them and write it.

    The file name must say everything that the arrays depend on. A folder that cannot be written is no error:
    the arrays are then made anew each time.
    """
    # A cut or altered file fails in the zip directory, in the checksum, or in the array header.
    damage = (*DAMAGE, zipfile.BadZipFile, zlib.error)
    with (
        contextlib.suppress(*damage),
        open_regular(path) as file,
        np.load(file, allow_pickle=False) as stored,
    ):
        return {name: stored[name] for name in stored.files}
    arrays = make()
    with contextlib.suppress(OSError):
        _write(path, arrays)
    return arrays


def memory_mapped(path: Path, make: Callable[[], Arrays]) -> Arrays:
    """The arrays in the folder `path`, read-only and not read until they are used; where it is missing or
    damaged, `make()` them and write it.

    The folder holds `<name>.npy` files and an index of their sizes and sha256. A file that has changed since
    it was written (by its size and time) is read once, to see whether its content has. The name of the folder
    must say everything that the arrays depend on. Where it cannot be written, the arrays are made anew each
    time, and are held in memory.
    """
    with contextlib.suppress(*DAMAGE):
        return _mapped(path)
    arrays = make()
    with contextlib.suppress(*DAMAGE):
        _write_folder(path, arrays)
        return _mapped(path)
    return arrays


def write_json(path: Path, value: object) -> None:
    """Write plain containers beside the target, then rename."""
    write_text(path, json.dumps(value, indent=1))


def write_text(path: Path, text: str) -> None:
    """Write a text beside the target, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _mapped(folder: Path) -> Arrays:
    index = json.loads(read_regular(folder / INDEX))
    arrays: dict[str, np.ndarray] = {}
    for name, entry in index.items():
        file = folder / f"{name}.npy"
        found = regular_file(file).stat()
        if found.st_size != entry["bytes"]:
            raise ValueError(f"{file} was cut")
        if found.st_mtime_ns != entry["mtime_ns"] and file_sha256(file) != entry["sha256"]:
            raise ValueError(f"{file} was changed")
        # An empty array has no bytes to map.
        empty = 0 in entry["shape"]
        arrays[name] = np.asarray(np.load(file, mmap_mode=None if empty else "r", allow_pickle=False))
    return arrays


def _write_folder(path: Path, arrays: Arrays) -> None:
    """Write a folder beside the target, then rename: a reader sees the whole of it or nothing."""
    _sweep(path)
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    partial.mkdir(parents=True)
    try:
        index = {}
        for name, array in arrays.items():
            file = partial / f"{name}.npy"
            with file.open("wb") as written:
                np.save(written, array, allow_pickle=False)
                written.flush()
                os.fsync(written.fileno())  # after a power cut, size and time alone would tell of no damage
            found = file.stat()
            index[name] = {
                "shape": list(array.shape),
                "bytes": found.st_size,
                "mtime_ns": found.st_mtime_ns,
                "sha256": file_sha256(file),
            }
        (partial / INDEX).write_text(json.dumps(index, indent=1), encoding="utf-8")
        try:
            os.rename(partial, path)
        except OSError:  # a damaged one is in the way, or another process was faster
            aside = path.with_name(f"{partial.name}.old")
            os.rename(path, aside)
            os.rename(partial, path)
            shutil.rmtree(aside, ignore_errors=True) if aside.is_dir() else aside.unlink()
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sweep(path: Path) -> None:
    """Remove what killed processes left beside `path`: arrays are large."""
    for left in path.parent.glob(f"{glob.escape(path.name)}.*.part*"):
        with contextlib.suppress(OSError):
            if left.stat().st_mtime < time.time() - ABANDONED:
                shutil.rmtree(left) if left.is_dir() else left.unlink()


def _write(path: Path, arrays: Arrays) -> None:
    """Write beside the target, then rename: a reader sees the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
        os.replace(partial, path)
    finally:
        Path(partial).unlink(missing_ok=True)
