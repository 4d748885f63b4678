"""What images a folder or a zip file of class folders holds, before any of them is read."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tasks.images import _archives
from tasks.readers.regular import read_regular, regular_file
from tasks.source import TaskError

__all__ = ["Entry", "Listing", "issue", "list_images", "pictures_in", "reader"]

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"),
    *(".pbm", ".pnm", ".avif", ".jp2", ".tga"),
)
#: Names of folders that stand for a split, and the order in which repeats are kept.
SPLITS = {
    "test": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "train": "train",
}
ORDER = ("test", "validation", "train", "")
#: Links to folders that are followed: a few that lead to each other make more ways than anybody can go.
MOST_LINKS = 20_000
IGNORED = ("__MACOSX", "Thumbs.db", "desktop.ini")

Read = Callable[[str], bytes]


class Entry(NamedTuple):
    """An image file: its split ("" where the layout has none), its class, its path in the root, its stamp."""

    split: str
    label: str
    path: str
    stamp: tuple[int, ...]


@dataclass
class Listing:
    """All images of a root, in a fixed order; `issues` are sentences about what was passed over."""

    entries: list[Entry] = field(default_factory=list)
    issues: list[str] = field(default_factory=list)


def issue(what: str, found: Sequence[str]) -> list[str]:
    """One sentence with a count and the first example, or none."""
    return [f"{what}: {len(found)} (first: {found[0]})"] if found else []


def list_images(root: Path) -> Listing:
    """Images below `root`/class or `root`/split/class, `root` a folder or a zip file of one.

    Raises:
        TaskError: `root` is not there, cannot be read, or holds no class folders.
    """
    try:
        if root.is_dir():
            files, folders = _of_folder(root)
        else:
            files, folders = _of_zip(regular_file(root))
    except FileNotFoundError as error:
        if root.exists():
            raise TaskError(f"{error.filename} went away while {root} was listed: try again") from None
        raise TaskError(
            f"{root.absolute()} does not exist: give the folder, or the zip file, that holds one folder of "
            "images per class"
        ) from None
    except OSError as error:
        raise TaskError(
            f"{error.filename} cannot be read ({error.strerror}): check what it is, and its permissions"
        ) from None
    return _sorted_out(root, files, folders)


@contextmanager
def reader(root: Path) -> Iterator[Read]:
    """A function from the path of an entry to its bytes."""
    if root.is_dir():
        yield lambda path: read_regular(root / path)
        return
    with _archives.open_zip(root) as archive:
        prefix = _wrapper(archive.namelist())
        yield lambda path: _archives.read_member(archive, prefix + path)


def _of_folder(root: Path) -> tuple[dict[str, tuple[int, ...]], set[str]]:
    """Files with their size and time, and folders, as paths below `root` with slashes."""

    def fail(error: OSError) -> None:
        raise error

    files: dict[str, tuple[int, ...]] = {}
    folders: set[str] = set()
    links = 0
    for where, inside, names in os.walk(root, onerror=fail, followlinks=True):
        inside[:] = [name for name in inside if not _ignored(name) and not _is_ring(root, Path(where, name))]
        links += sum(os.path.islink(os.path.join(where, name)) for name in inside)
        if links > MOST_LINKS:
            raise TaskError(
                f"{root} has more than {MOST_LINKS:,} links to folders, each counted as often as one comes "
                "to it: put the folders themselves there"
            )
        place = PurePosixPath(Path(where).relative_to(root).as_posix())
        folders.update(str(place / name) for name in inside)
        for name in names:
            path = Path(where, name)
            if _ignored(name):
                continue
            if path.is_file():
                found = path.stat()
                files[str(place / name)] = (found.st_size, found.st_mtime_ns)
            else:  # a link to nowhere, a pipe, a device: reading it will say so
                files[str(place / name)] = ()
    return files, folders


def _is_ring(root: Path, folder: Path) -> bool:
    """Whether this is a link to a folder that it is in, also if one comes to it by other links."""
    if not folder.is_symlink():
        return False
    target = folder.resolve()
    above = (place for place in folder.parents if place == root or place.is_relative_to(root))
    return any(place.resolve().is_relative_to(target) for place in above)


def _of_zip(root: Path) -> tuple[dict[str, tuple[int, ...]], set[str]]:
    stamp = root.stat()
    files: dict[str, tuple[int, ...]] = {}
    folders: set[str] = set()
    with _archives.open_zip(root) as archive:
        prefix = _wrapper(archive.namelist())
        for member in archive.infolist():
            path = PurePosixPath(member.filename.removeprefix(prefix))
            if any(map(_ignored, path.parts)) or not path.parts:
                continue
            folders.update(map(str, path.parents[:-1]))
            if member.is_dir():
                folders.add(str(path))
            else:
                files[str(path)] = (member.file_size, member.CRC, stamp.st_mtime_ns)
    return files, folders


def _wrapper(names: Iterable[str]) -> str:
    """The one folder that programs like to put around all of a zip file, with its slash, or nothing."""
    paths = [PurePosixPath(name) for name in names if not any(map(_ignored, PurePosixPath(name).parts))]
    files = [path for path in paths if _is_image(path.name)]
    tops = {path.parts[0] for path in paths}
    wrapped = len(tops) == 1 and files and all(len(path.parts) >= 3 for path in files)
    top = tops.pop() if wrapped else ""
    return f"{top}/" if top and top.lower() not in SPLITS else ""


def _ignored(name: str) -> bool:
    return name.startswith(".") or name in IGNORED


def _sorted_out(root: Path, files: dict[str, tuple[int, ...]], folders: set[str]) -> Listing:
    given = _names_splits(root, files)
    depth = 2 if given else 1
    listing, strangers, homeless = Listing(), [], []
    for path in sorted(files):
        parts = path.split("/")
        if not _is_image(path):
            strangers.append(path)
        elif len(parts) <= depth:
            homeless.append(path)
        else:
            split = SPLITS[parts[0].lower()] if given else ""
            listing.entries.append(Entry(split, parts[depth - 1], path, files[path]))
    listing.entries.sort(key=lambda entry: (ORDER.index(entry.split), entry.path))

    classes = {path.rsplit("/", 1)[-1] for path in folders if path.count("/") == depth - 1}
    labels = {entry.label for entry in listing.entries}
    if not listing.entries:
        hint = f", such as {homeless[0]} which is in no class folder" if homeless else ""
        raise TaskError(f"{root} has no images in class folders{hint}: make one folder of images per class")
    listing.issues += issue("class folders without images, left out", sorted(classes - labels))
    listing.issues += issue("images outside of class folders, ignored", homeless)
    listing.issues += issue("files that are no images, ignored", strangers)
    listing.issues += issue("class names that differ only by case, kept apart", _twins(labels))
    return listing


def pictures_in(folder: Path) -> list[Path]:
    """All pictures in and below a folder, but those of no interest to people (hidden, of the system)."""
    found = (path for path in folder.rglob("*") if _is_image(path.name) and path.is_file())
    return sorted(path for path in found if not any(map(_ignored, path.relative_to(folder).parts)))


def _names_splits(root: Path, files: Iterable[str]) -> bool:
    """Whether the folders in `root` are splits; otherwise they are classes."""
    tops = {path.split("/")[0] for path in files if "/" in path and _is_image(path)}
    splits = {name for name in tops if name.lower() in SPLITS}
    others = sorted(tops - splits)
    if len(splits) >= 2 and others:
        raise TaskError(
            f"{root}: {' and '.join(sorted(splits))} look like splits, but {others[0]} with its images is "
            "beside them: move it away, or into one of them"
        )
    return bool(splits) and not others


def _is_image(path: str) -> bool:
    return path.lower().endswith(SUFFIXES)


def _twins(labels: Iterable[str]) -> list[str]:
    """Pairs of names that a person may have meant to be one."""
    first: dict[str, str] = {}
    twins = []
    for label in sorted(labels):
        other = first.setdefault(unicodedata.normalize("NFC", label).casefold(), label)
        if other != label:
            twins.append(f"{other!r} and {label!r}")
    return twins
