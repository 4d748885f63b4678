"""Images of one's own: a folder, or a zip file, with one folder of images per class."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tasks._own_splits import Divided, Words, check, divide
from tasks._published import Places, called, names_of, places_of, tested
from tasks.images import _listing, _pictures
from tasks.images._listing import Entry
from tasks.images.decoded import read_folder
from tasks.source import ArraySource, Card, TaskError, TaskWarning

__all__ = ["ImageFolder"]


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

    Training sets and a test set may also be folders of their own, `train_root` (or `root`) and `test_root`:
    they are then taken whole (`tasks.FixedTasks`), as `support` (`support 1`, … of several) and `query`, but
    for training images that are in the test folder, too.

    Nothing is passed over silently: what is left out or doubtful (empty classes, files that cannot be read,
    repeats, …) is counted in one :class:`~tasks.TaskWarning`, and in `card.known_issues`.

    Args:
        root: the folder or the zip file; `~` is the home folder, and relative paths start where Python does.
        size: side of an image in pixels.
        channels: 3 for colour, 1 for grey.
        split_by: "auto", "classes", "examples", or "nothing": all images are then one split, `all`, or a
            training set and its test set where the folders name them; "pools" differs from that in dividing
            the images of folders that name none, as "examples" does.
        seed: decides which class, or which image, goes where.
        licence: of the images, for the card.
        train_root: the folder of a training set, or those of several; see above.
        test_root: the folder of the test set.

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
        root: str | None = None,
        size: int = 84,
        channels: int = 3,
        split_by: str = "auto",
        seed: int = 0,
        licence: str = "not stated",
        train_root: str | Sequence[str] | None = None,
        test_root: str | None = None,
    ) -> None:
        places = places_of("root", root if root and root != "???" else None, train_root, test_root)
        if not places.training:
            raise TaskError("image_folder needs the folder of the images: set task.root (root= in Python)")
        _pictures.check_size("image_folder", size)
        if channels not in (1, 3) or isinstance(channels, bool | float):
            raise TaskError(f"image_folder: channels={channels} is unknown: use 3 for colour or 1 for grey")
        check(split_by, seed)
        path = Path(os.path.expanduser(places.training[0]))  # leaves the ~ of a user who does not exist
        if places.test is not None:
            images, divided, issues = _of_folders(places, size, channels)
            _warn(path, issues)
            super().__init__(
                _card(path, licence, divided, tuple(issues), called(path)), images, divided.members
            )
            self.published = divided.published
            return
        found = read_folder(path, size, channels)
        issues = list(found.issues)
        if lost := {entry.split for entry in found.entries} - {
            found.entries[row].split for row in found.rows
        }:
            raise TaskError(
                f"{path}: all images of {min(lost)} are in test, too: a query must be of another image"
            )
        divided = _divided(found.entries, found.rows, split_by, seed, path)
        issues += _listing.issue("classes with a single image, left out", divided.singles)
        _warn(path, issues)
        super().__init__(_card(path, licence, divided, tuple(issues)), found.images, divided.members)
        self.published = divided.published


def _warn(path: Path, issues: Sequence[str]) -> None:
    if issues:
        warnings.warn(f"{path}: {'; '.join(issues)}", TaskWarning, stacklevel=3)


def _of_folders(places: Places, size: int, channels: int) -> tuple[np.ndarray, Divided, list[str]]:
    """Images of all folders, which of them are which training set and the test set, and what is said."""
    asked_of = Path(os.path.expanduser(str(places.test)))
    test = read_folder(asked_of, size, channels)
    asked = {*_digests(test.images)}
    arrays, parts, start = [test.images], [], len(test.images)
    issues = [f"{asked_of.name}: {line}" for line in test.issues]
    for place in places.training:
        path = Path(os.path.expanduser(place))
        found = read_folder(path, size, channels)
        digests = _digests(found.images)
        rows = [row for row in found.rows if digests[row] not in asked]
        lost = [found.entries[row].path for row in found.rows if digests[row] in asked]
        issues += [f"{path.name}: {line}" for line in found.issues]
        issues += _listing.issue(f"images of {path.name} that are in the test folder, too, left out", lost)
        parts.append(_by_label(found.entries, rows, start))
        arrays.append(found.images)
        start += len(found.images)
    members, said = tested(parts, _by_label(test.entries, range(len(test.entries)), 0), asked_of)
    how = "Training and test are folders of their own."
    divided = Divided(members, how, published=names_of(len(parts)))
    return np.concatenate(arrays), divided, [*issues, *said]


def _digests(images: np.ndarray) -> list[bytes]:
    """Of what images look like at the size that they are read in."""
    return [hashlib.sha256(np.ascontiguousarray(image).data).digest() for image in images]


def _by_label(entries: Sequence[Entry], rows: Sequence[int], start: int) -> dict[str, list[int]]:
    """Class -> rows, of which the first image is `start`."""
    found: dict[str, list[int]] = {}
    for row in rows:
        found.setdefault(entries[row].label, []).append(start + row)
    return found


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


def _card(root: Path, licence: str, divided: Divided, issues: tuple[str, ...], name: str = "") -> Card:
    members = divided.members
    counts = {f"{split} examples": sum(map(len, classes.values())) for split, classes in members.items()}
    classes = {label for of_split in members.values() for label in of_split}
    return Card(
        name=name or (root.stem if root.suffix.lower() == ".zip" else root.resolve().name) or "image_folder",
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
