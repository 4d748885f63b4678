"""Images of one's own: a folder, or a zip file, with one folder of images per class."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

from tasks._own_splits import Divided, Words, check, divide
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
        path = Path(os.path.expanduser(root))  # leaves the ~ of a user who does not exist
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
        if issues:
            warnings.warn(f"{path}: {'; '.join(issues)}", TaskWarning, stacklevel=2)
        super().__init__(_card(path, licence, divided, tuple(issues)), found.images, divided.members)


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
