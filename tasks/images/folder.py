"""Images of one's own: a folder, or a zip file, with one folder of images per class."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tasks import _cache
from tasks._own_splits import Divided, Words, check, divide
from tasks.images import _listing, _pictures
from tasks.images._listing import Entry
from tasks.readers import pictures
from tasks.source import ArraySource, Card, TaskError, TaskWarning

__all__ = ["ImageFolder"]

WORTH_KEEPING = 500  # images: fewer are decoded in the time that it takes to look for them


class ImageFolder(ArraySource):
    """Images in class folders, as [channels, size, size] in [0, 1].

    `root/class/**/image` or `root/{train,validation,test}/class/**/image`; png, jpg, webp, bmp, gif, tiff,
    ppm and their relatives. Images are turned as their EXIF says, scaled whole (proportions are not kept),
    and laid on white where they are transparent; 16-bit grey values are divided by 257; of an animation the
    first frame counts. Files are only read. What was decoded of 500 images or more is kept in `$ADAPT_CACHE`
    (else the data root), and decoded again when the path, size or time of any file changes.

    Splits: `support` and `query` are always there, pools of the same test classes, 60 : 40. In which classes:

    - `split_by="classes"`: a fifth of them (by `seed`); `train` holds three fifths and `validation` a fifth.
    - `split_by="examples"`: all; there is no `train`.
    - `split_by="auto"`: classes if there are 25 or more, else examples.

    Where the folders name splits, they decide. If no class is in two of them, they are splits of classes:
    `train`, `validation`, and the test classes in two pools. If every class of test is in train too, their
    images are the pools `query` and `support`, and those of validation are `validation`.

    Nothing is passed over silently: what is left out or doubtful (empty classes, files that cannot be read,
    repeats, …) is counted in one :class:`~tasks.TaskWarning`, and in `card.known_issues`.

    Args:
        root: the folder or the zip file; `~` is the home folder, and relative paths start where Python does.
        size: side of an image in pixels.
        channels: 3 for colour, 1 for grey.
        split_by: "auto", "classes" or "examples".
        seed: decides which class, or which image, goes where.
        licence: of the images, for the card.

    Raises:
        TaskError: there is nothing to read, it cannot be read, or no task could be drawn from it.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for label in ("cat", "dog"):
        ...         Path(root, label).mkdir()
        ...         for shade in range(5):
        ...             image = Image.new("RGB", (9, 9), (shade, ord(label[0]), 0))
        ...             image.save(f"{root}/{label}/{shade}.png")
        ...     source = ImageFolder(root, size=9)
        >>> source.shape, {split: len(source.classes(split)["cat"]) for split in source.splits}
        ((3, 9, 9), {'support': 3, 'query': 2})
    """

    def __init__(
        self,
        root: str | None,
        size: int = 84,
        channels: int = 3,
        split_by: str = "auto",
        seed: int = 0,
        licence: str = "not stated",
    ) -> None:
        if not root or root == "???":
            raise TaskError("image_folder needs the folder of the images: set task.root (root= in Python)")
        _pictures.check_size("image_folder", size)
        if channels not in (1, 3) or isinstance(channels, bool | float):
            raise TaskError(f"image_folder: channels={channels} is unknown: use 3 for colour or 1 for grey")
        check(split_by, seed)
        image = _pictures.pillow()
        path = Path(os.path.expanduser(root))  # leaves the ~ of a user who does not exist
        listing = _listing.list_images(path)
        entries = listing.entries
        code = (_cache.file_sha256(Path(str(file))) for file in (__file__, pictures.__file__))
        key = _cache.key(str(path.resolve()), entries, channels, image.__version__, *code)
        if len(entries) < WORTH_KEEPING:
            data: _cache.Arrays = _read(path, entries, size, channels)
        else:
            folder = _cache.cache_folder() / f"image_folder-{size}-{key}"
            data = _cache.memory_mapped(folder, lambda: _read(path, entries, size, channels))
        if not len(data["images"]):
            raise TaskError(f"{path}: no file can be read as an image, {data['failed'][0]}: check the files")

        read = [entries[index] for index in data["entries"]]
        issues = listing.issues + _listing.issue(
            "files that cannot be read, left out", data["failed"].tolist()
        )
        issues += _listing.issue(
            "animated images, of which the first frame is used", data["animated"].tolist()
        )
        issues += _sizes(data["sizes"], size)
        rows, repeats = _distinct(read, data["digests"].tolist())
        issues += repeats
        if lost := {entry.split for entry in read} - {read[row].split for row in rows}:
            raise TaskError(
                f"{path}: all images of {min(lost)} are in test, too: a query must be of another image"
            )
        divided = _divided(read, rows, split_by, seed, path)
        issues += _listing.issue("classes with a single image, left out", divided.singles)
        if issues:
            warnings.warn(f"{path}: {'; '.join(issues)}", TaskWarning, stacklevel=2)
        super().__init__(_card(path, licence, divided, tuple(issues)), data["images"], divided.members)


def _divided(entries: Sequence[Entry], rows: Sequence[int], split_by: str, seed: int, root: Path) -> Divided:
    given: dict[str, dict[str, list[int]]] = {}
    for row in rows:
        given.setdefault(entries[row].split, {}).setdefault(entries[row].label, []).append(row)
    words = Words(
        place=str(root),
        one="image",
        many="images",
        move="move its folder",
        test="add a folder test",
        anew=f"put the class folders directly into {root.name}",
        alone="name the folder of the class folders if that is another",
    )
    return divide(given, split_by, seed, words)


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
                array, original, moves = _decoded(content, size, channels)
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


def _decoded(content: bytes, size: int, channels: int) -> tuple[np.ndarray, tuple[int, int], bool]:
    """Pixels uint8 [channels, size, size], original width and height, and whether there are more frames."""
    Image = _pictures.pillow()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged metadata, say
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(content)) as opened:
            animated = bool(
                getattr(opened, "is_animated", False)
            )  # to count frames takes as long as there are
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


def _card(root: Path, licence: str, divided: Divided, issues: tuple[str, ...]) -> Card:
    members = divided.members
    counts = {f"{split} examples": sum(map(len, classes.values())) for split, classes in members.items()}
    classes = {label for of_split in members.values() for label in of_split}
    return Card(
        name=(root.stem if root.suffix.lower() == ".zip" else root.resolve().name) or "image_folder",
        description=f"Images in class folders. {divided.how}",
        origin="A folder of the user's own.",
        licence=licence,
        terms="Ask whoever made the images.",
        counts={"examples": sum(counts.values()), "classes": len(classes), **counts},
        known_issues=issues,
        personal_data="Not known: look at the images.",
        domain="vision",
        commercial=None,
    )
