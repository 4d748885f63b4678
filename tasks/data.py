"""Files of public data sets: where they lie, whether they are the right ones, and how to get them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from tasks.source import TaskError

__all__ = ["DataFile", "data_root", "fetch"]


@dataclass(frozen=True)
class DataFile:
    """One file of a data set.

    Args:
        path: below the data root, e.g. `omniglot/images_background.zip`.
        sha256: of each version that is known to hold the same data, hex; the official one first.
        url: official address, for `download=true`; None if there is none to download from without a form.
    """

    path: str
    sha256: tuple[str, ...]
    url: str | None = None


def data_root() -> Path:
    """`$ADAPT_DATA`, or `~/.cache/adapt`: the folder of the data sets that are not ours."""
    return Path(os.environ.get("ADAPT_DATA") or Path.home() / ".cache" / "adapt")


def fetch(file: DataFile, *, root: str | os.PathLike[str] | None = None, download: bool = False) -> Path:
    """The path of `file` below `root` (None: :func:`data_root`), verified by its sha256.

    Raises:
        TaskError: it is not there (or cannot be downloaded), or is another file than it should be.
    """
    path = Path(root or data_root()) / file.path
    if not path.is_file():
        raise TaskError(f"{path} does not exist: set ADAPT_DATA to the folder that holds {file.path}")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found not in file.sha256:
        raise TaskError(f"{path} is not the file it should be (sha256 {found}): remove it and get it again")
    return path
