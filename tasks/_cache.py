"""Arrays kept on disk between runs: written atomically, and made again when damaged."""

from __future__ import annotations

import contextlib
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

__all__ = ["cache_folder", "cached_arrays"]

Arrays = Mapping[str, np.ndarray]


def cache_folder() -> Path:
    """`$ADAPT_DATA`, or `~/.cache/adapt`."""
    return Path(os.environ.get("ADAPT_DATA") or Path.home() / ".cache" / "adapt")


def cached_arrays(path: Path, make: Callable[[], Arrays]) -> Arrays:
    """The arrays in the .npz file `path`; where it is missing or damaged, `make()` them and write it.

    The file name must say everything that the arrays depend on. A folder that cannot be written is no error:
    the arrays are then made anew each time.
    """
    # A cut or altered file fails in the zip directory, in the checksum, or in the array header.
    damage = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)
    with contextlib.suppress(*damage), path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}
    arrays = make()
    with contextlib.suppress(OSError):
        _write(path, arrays)
    return arrays


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
