"""Regular files: the only ones that are opened, and read whole up to a limit.

A named pipe makes whoever opens it wait for a writer that may never come, a device such as `/dev/zero` never
ends, and a file with holes can be larger than any memory. Links are followed, and what they lead to counts.
What is refused is an `OSError` with `strerror` and `filename`, like that of a file that is not there.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

__all__ = ["LARGEST", "open_regular", "read_regular", "regular_file"]

#: Bytes of a file that is read into memory as a whole, unless the caller says otherwise.
LARGEST = 1 << 30

CHUNK = 1 << 16

KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
#: Opening waits for nobody; there is neither flag on Windows, nor are there such files.
FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)


def regular_file(path: str | os.PathLike[str]) -> Path:
    """`path`, if it is a regular file or a link to one; nothing is opened.

    For libraries that open a path themselves; :func:`open_regular` leaves no time in between.

    Raises:
        OSError: it is not there (`FileNotFoundError`), a folder (`IsADirectoryError`), or no regular file.

    Example:
        >>> regular_file("/dev/null")
        Traceback (most recent call last):
        OSError: [Errno 22] is a device, no regular file: '/dev/null'
    """
    try:
        found = os.stat(path)
    except ValueError:  # a NUL in its name
        raise OSError(errno.EINVAL, "is no name of a file", str(path)) from None
    _check(found, path)
    return Path(path)


def open_regular(path: str | os.PathLike[str]) -> BufferedReader:
    """A regular file, opened for reading bytes.

    Raises:
        OSError: what :func:`regular_file` refuses, or it may not be read.
    """
    regular_file(path)  # opening a device can do something already
    handle = os.open(path, FLAGS)
    try:
        _check(os.fstat(handle), path)  # it may be another by now
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_regular(path: str | os.PathLike[str], most: int = LARGEST) -> bytes:
    """The bytes of a regular file.

    Args:
        path: the file.
        most: bytes that it may have; what is larger is refused before it is read.

    Raises:
        OSError: what :func:`open_regular` refuses, or a file of more bytes (`errno.EFBIG`).
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise _too_large(f"{size:,} bytes", most, path)
        content = bytearray()
        # Files of the system say to have no bytes, and others grow meanwhile: what counts is what comes.
        while chunk := file.read(min(max(size + 1 - len(content), CHUNK), most + 1 - len(content))):
            content += chunk
            if len(content) > most:
                raise _too_large(f"more than {most:,} bytes", most, path)
    return bytes(content)


def _check(found: os.stat_result, path: str | os.PathLike[str]) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
    if not stat.S_ISREG(found.st_mode):
        what = KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        raise OSError(errno.EINVAL, f"is {what}, no regular file", str(path))


def _too_large(size: str, most: int, path: str | os.PathLike[str]) -> OSError:
    return OSError(errno.EFBIG, f"has {size}, and {most:,} are read into memory at most", str(path))
