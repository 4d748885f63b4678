"""Whether a folder can be written to, and has room, before the work whose result it is to take."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

__all__ = ["ROOM", "check_room"]

#: Bytes that reports, figures and journals take, where nobody knows better.
ROOM = 1 << 24


def check_room(folder: str | os.PathLike[str], what: str, error: type[ValueError], room: int = ROOM) -> None:
    """Refuse a folder that results cannot be written to, by writing something there, which leaves nothing.

    Args:
        folder: need not exist: what counts is then the nearest folder above that does.
        what: the setting or the role that it has, for messages.
        error: raised where it cannot be written to.
        room: bytes that it is to take.

    Raises:
        error: it is a file or lies below one, may not be written to, or the disk is full, or nearly so.
    """
    place = Path(folder).absolute()
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    try:
        if not place.is_dir():
            raise NotADirectoryError(20, f"{place} is no folder")
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(bytes(4096))
            file.flush()
        free = shutil.disk_usage(place).free
    except OSError as reason:
        raise error(
            f"{what}: {folder} cannot be written to ({reason.strerror}): choose another folder, or mend it"
        ) from None
    if free < room:
        raise error(
            f"{what}: {folder} has {free / 2**20:,.0f} MB left, and {room / 2**20:,.0f} MB are needed: make "
            "room, or choose another folder"
        )
