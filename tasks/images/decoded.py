"""The images of a folder of class folders, or of a zip file of one, decoded."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tasks import _cache
from tasks.images import _listing, _pictures
from tasks.images._listing import Entry
from tasks.readers import pictures
from tasks.readers.regular import read_regular
from tasks.source import TaskError

__all__ = ["Decoded", "decoded", "read_folder", "read_images"]

WORTH_KEEPING = 500  # images: fewer are decoded in the time that it takes to look for them


class Decoded(NamedTuple):
    """What was found in a folder.

    Args:
        images: uint8 [n, channels, size, size], perhaps a memory map.
        entries: class, split and path of each.
        rows: of images that repeat no other of their class.
        issues: sentences about what was left out or looks doubtful.
    """

    images: np.ndarray
    entries: list[Entry]
    rows: list[int]
    issues: list[str]


def read_folder(root: Path, size: int, channels: int) -> Decoded:
    """All images in the class folders of `root`; what was decoded of 500 or more is kept in `$ADAPT_CACHE`.

    Raises:
        TaskError: there is nothing to read, or it cannot be read.
    """
    image = _pictures.pillow()
    listing = _listing.list_images(root)
    entries = listing.entries
    code = (_cache.file_sha256(Path(str(file))) for file in (__file__, pictures.__file__))
    key = _cache.key(str(root.resolve()), entries, channels, image.__version__, *code)
    if len(entries) < WORTH_KEEPING:
        data: _cache.Arrays = _read(root, entries, size, channels)
    else:
        folder = _cache.cache_folder() / f"image_folder-{size}-{key}"
        data = _cache.memory_mapped(folder, lambda: _read(root, entries, size, channels))
    if not len(data["images"]):
        raise TaskError(f"{root}: no file can be read as an image, {data['failed'][0]}: check the files")
    read = [entries[index] for index in data["entries"]]
    issues = listing.issues + _listing.issue("files that cannot be read, left out", data["failed"].tolist())
    issues += _listing.issue("animated images, of which the first frame is used", data["animated"].tolist())
    issues += _sizes(data["sizes"], size)
    rows, repeats = _distinct(read, data["digests"].tolist())
    return Decoded(data["images"], read, rows, issues + repeats)


def read_images(
    files: Sequence[Path], size: int, channels: int, wanted: Sequence[bool]
) -> tuple[np.ndarray, list[int], list[str]]:
    """Image files as uint8 [n, channels, size, size].

    Args:
        wanted: of each file, whether it has to be an image; others that are none are left out.

    Returns:
        The images, which of the files they are, and the others with the reasons.

    Raises:
        TaskError: names the first file that is no image and should be one.
    """
    _pictures.pillow()
    images = np.empty((len(files), channels, size, size), np.uint8)
    kept: list[int] = []
    failed: list[str] = []
    for row, path in enumerate(files):
        try:
            images[len(kept)] = decoded(read_regular(path), size, channels)[0]
        except FileNotFoundError:
            raise TaskError(f"{path} does not exist: give the path of an image") from None
        except Exception as error:  # decoders of damaged files raise whatever they meet
            if wanted[row]:
                raise TaskError(f"{path} cannot be read as an image: {_reason(error)}") from None
            failed.append(f"{path}: {_reason(error)}")
        else:
            kept.append(row)
    return images[: len(kept)], kept, failed


def _read(root: Path, entries: Sequence[Entry], size: int, channels: int) -> dict[str, np.ndarray]:
    """Decode all that can be.

    Returns:
        images: uint8 [n, channels, size, size]; entries: int64 [n], which entry each one is; sizes: int64 [n,
            2], width and height in the file; digests: [n], sha256 of the files; failed: paths and reasons;
            animated: paths.
    """
    images = np.empty((len(entries), channels, size, size), np.uint8)
    kept: list[int] = []
    sizes: list[tuple[int, int]] = []
    digests: list[str] = []
    failed: list[str] = []
    animated: list[str] = []
    with _listing.reader(root) as read:
        for index, entry in enumerate(entries):
            try:
                content = read(entry.path)
                array, original, moves = decoded(content, size, channels)
            except Exception as error:  # decoders of damaged files raise whatever they meet
                if isinstance(error, OSError) and error.errno is not None:  # not of a decoder
                    raise TaskError(
                        f"{root / entry.path} cannot be read ({error.strerror}): check the file and its "
                        "permissions"
                    ) from None
                failed.append(f"{entry.path}: {_reason(error)}")
                continue
            images[len(kept)] = array
            kept.append(index)
            sizes.append(original)
            digests.append(hashlib.sha256(content).hexdigest())
            if moves:
                animated.append(entry.path)
    return {
        "images": images[: len(kept)],
        "entries": np.array(kept, np.int64),
        "sizes": np.array(sizes, np.int64).reshape(-1, 2),
        "digests": np.array(digests, "U64"),
        "failed": np.array(failed, str),
        "animated": np.array(animated, str),
    }


def decoded(content: bytes, size: int, channels: int) -> tuple[np.ndarray, tuple[int, int], bool]:
    """Pixels uint8 [channels, size, size], original width and height, and whether there are more frames."""
    Image = _pictures.pillow()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged metadata, say
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(content), formats=_pictures.formats()) as opened:
            animated = bool(
                getattr(opened, "is_animated", False)
            )  # counting frames takes long if there are many
            image = pictures.upright(opened)
            return pictures.pixels(image, channels, (size, size)), image.size, animated


def _reason(error: Exception) -> str:
    """Why a file cannot be read. Pillow names the buffer, by its address, in which it found nothing."""
    if "cannot identify image file" in str(error):
        return "its content is no image"
    return str(error) or type(error).__name__


def _sizes(sizes: np.ndarray, size: int) -> list[str]:
    """A sentence about images of different sizes, or none."""
    different = np.unique(sizes, axis=0)
    if len(different) == 1:
        return []
    ordered = different[np.argsort(different.prod(1), kind="stable")]
    (w, h), (width, height) = ordered[0], ordered[-1]
    return [
        f"different sizes of images, all scaled to {size}x{size}: {len(different)} (from {w}x{h} to "
        f"{width}x{height})"
    ]


def _distinct(entries: Sequence[Entry], digests: Sequence[str]) -> tuple[list[int], list[str]]:
    """Rows without repeats within a class, and sentences about repeats."""
    first: dict[str, dict[str, int]] = {}  # digest -> class -> row
    rows, same, other = [], [], []
    for row, (entry, digest) in enumerate(zip(entries, digests, strict=True)):
        holders = first.setdefault(str(digest), {})
        if entry.label in holders:
            same.append(f"{entry.path} repeats {entries[holders[entry.label]].path}")
            continue
        if holders:
            other.append(f"{entries[next(iter(holders.values()))].path} and {entry.path}")
        holders[entry.label] = row
        rows.append(row)
    return rows, [
        *_listing.issue("files that repeat another of their class, left out", same),
        *_listing.issue("files with the content of a file of another class, kept", other),
    ]
