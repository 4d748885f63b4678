"""Archives read in memory: nothing is extracted, and what was made to write elsewhere is refused."""

from __future__ import annotations

import stat
import tarfile
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from tasks.readers.regular import open_regular, regular_file
from tasks.source import TaskError

__all__ = ["open_zip", "read_member", "read_tar"]

LARGEST = 1 << 30  # bytes of one member, unpacked; what claims more was made to fill the memory


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a .zip file after looking at the name and the kind of each of its members.

    Raises:
        TaskError: it is no zip file or is damaged, or a member is a link, is encrypted, is too large, or has
            a name that leads out of the archive.
    """
    try:
        archive = zipfile.ZipFile(regular_file(path))
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise TaskError(f"{path} cannot be read as a zip file ({error}): get it again") from None
    for member in archive.infolist():
        wrong = _wrong_name(member.filename)
        if not wrong and stat.S_ISLNK(member.external_attr >> 16):
            wrong = "is a link"
        if not wrong and member.flag_bits & 1:
            wrong = "is encrypted"
        if not wrong and member.file_size > LARGEST:
            wrong = f"claims {member.file_size} bytes"
        if wrong:
            archive.close()
            raise TaskError(f"{path}: member {member.filename!r} {wrong}: make the archive again without it")
    return archive


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of one member of what :func:`open_zip` opened.

    Raises:
        TaskError: it is damaged.
    """
    try:
        return archive.read(name)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, RuntimeError) as error:
        raise TaskError(f"{archive.filename}: {name} cannot be read ({error}): get the file again") from None


def read_tar(path: Path, names: Collection[str]) -> dict[str, bytes]:
    """The bytes of the regular files `names` in a .tar archive, compressed or not; others are passed over.

    Raises:
        TaskError: it is damaged, one of `names` is missing or no regular file, or some member has a name that
            leads out of the archive.
    """
    found: dict[str, bytes] = {}
    try:
        with open_regular(path) as file, tarfile.open(fileobj=file, mode="r|*") as archive:
            # A stream: a compressed archive is unpacked only once.
            for member in archive:
                wrong = _wrong_name(member.name)
                if member.issym() or member.islnk() or member.isdev():
                    wrong = wrong or "is a link or a device"
                if member.size > LARGEST:
                    wrong = wrong or f"claims {member.size} bytes"
                if wrong:
                    raise TaskError(f"{path}: member {member.name!r} {wrong}: get the archive again")
                if member.isfile() and member.name in names:
                    content = archive.extractfile(member)
                    assert content is not None  # it is a regular file
                    found[member.name] = content.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise TaskError(f"{path} cannot be read as a tar archive ({error}): get it again") from None
    except Exception as error:  # lzma.LZMAError, where Python has lzma at all
        if isinstance(error, TaskError) or type(error).__name__ != "LZMAError":
            raise
        raise TaskError(f"{path} cannot be unpacked ({error}): get it again") from None
    if missing := sorted(set(names) - set(found)):
        raise TaskError(f"{path} has no {missing[0]}: get the archive again")
    return found


def _wrong_name(name: str) -> str:
    """What is wrong with a member's name, or nothing."""
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ":" in name.split("/")[0]:
        return "has an absolute path"
    return "has a path that leads out of the archive" if ".." in parts.parts else ""
