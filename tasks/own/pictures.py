"""Pictures of one's own: a folder, or a zip file, of one folder of pictures per class."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tasks._files import few
from tasks._settings import check_setting, least
from tasks.images import _pictures
from tasks.images._listing import issue, pictures_in
from tasks.images.decoded import Decoded, decoded, read_folder, read_images
from tasks.own.examples import Labelled, Learned, OwnExamples
from tasks.readers.shown import writable
from tasks.source import TaskError

__all__ = ["Pictures"]

#: Pictures of one request.
MOST_AT_ONCE = 256


@dataclass(frozen=True)
class Pictures:
    """Pictures as uint8 `[channels, size, size]`, scaled whole.

    Args:
        size: side in pixels, 8 … 1024.
        channels: 3 for colour, 1 for grey.
    """

    size: int
    channels: int = 3

    kind: ClassVar[str] = "pictures"
    one: ClassVar[str] = "picture"
    many: ClassVar[str] = "pictures"
    at_once: ClassVar[int] = MOST_AT_ONCE
    regression: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_setting("pictures: size", self.size, least(8, most=1024))
        if isinstance(self.channels, bool) or self.channels not in (1, 3):
            raise TaskError(f"pictures: channels={self.channels}: use 3 for colour or 1 for grey")

    @classmethod
    def learn(cls, path: Path, size: int, channels: int) -> Learned:
        """The pictures of a folder; those in a folder `test` (or `validation`, where there is no test) beside
        `train` are held back.

        Raises:
            TaskError: there is nothing to read.
        """
        reader = cls(size, channels)
        found = read_folder(path, size, channels)
        _check_depth(path, found)
        splits = {found.entries[row].split for row in found.rows}
        held = next((split for split in ("test", "validation") if split in splits and len(splits) > 1), None)
        train = reader._of(found, [r for r in found.rows if found.entries[r].split != held], found.issues)
        if held is None:
            return Learned(reader, train)
        return Learned(
            reader, train, reader._of(found, [r for r in found.rows if found.entries[r].split == held])
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """See :class:`tasks.own.Reader`."""
        return (self.channels, self.size, self.size)

    def labelled(self, path: Path) -> Labelled:
        """See :class:`tasks.own.Reader`."""
        found = read_folder(path, self.size, self.channels)
        return self._of(found, range(len(found.entries)), found.issues)

    def unlabelled(self, paths: Sequence[Path]) -> OwnExamples:
        """See :class:`tasks.own.Reader`."""
        files: list[Path] = []
        named: list[bool] = []  # rather than found in a folder
        for path in paths:
            inside = pictures_in(path) if path.is_dir() else [path]
            if not inside:
                raise TaskError(f"{path} holds no pictures: give pictures, or a folder of them")
            files += inside
            named += [not path.is_dir()] * len(inside)
        if not files:
            raise TaskError("there are no pictures: give files, or a folder of them")
        images, kept, failed = read_images(files, self.size, self.channels, named)
        if not kept:
            raise TaskError(f"no file can be read as a picture, {failed[0]}: check the files")
        names = [writable(str(files[row])) for row in kept]
        notes = tuple(issue("files that cannot be read, left out", failed))
        return OwnExamples(images, names, names, notes)

    def request(self, value: Any) -> OwnExamples:
        """See :class:`tasks.own.Reader`."""
        pictures = value if isinstance(value, list) else [value]
        if not pictures or not all(isinstance(picture, bytes) for picture in pictures):
            raise TaskError("send the bytes of a picture (PNG, JPEG, …)")
        if len(pictures) > MOST_AT_ONCE:
            raise TaskError(
                f"{len(pictures)} pictures at once, and at most {MOST_AT_ONCE} are taken: send fewer"
            )
        _pictures.pillow()
        images = np.empty((len(pictures), self.channels, self.size, self.size), np.uint8)
        for row, content in enumerate(pictures):
            try:
                images[row] = decoded(content, self.size, self.channels)[0]
            except Exception:  # decoders of damaged files raise whatever they meet
                raise TaskError(f"picture {row + 1} cannot be read: send PNG, JPEG or WebP") from None
        names = [f"picture {row + 1}" for row in range(len(pictures))]
        return OwnExamples(images, names, names)

    def column(self, path: Path, name: str) -> dict[str, str]:
        """See :class:`tasks.own.Reader`."""
        raise TaskError(f"pictures have no columns, and so no {name!r}: groups are of tables and texts")

    def to_dict(self) -> dict[str, Any]:
        """See :class:`tasks.own.Reader`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Pictures:
        """See :class:`tasks.own.Reader`."""
        try:
            return cls(**kept)
        except TypeError as error:
            raise TaskError(f"how pictures are read is not kept as expected ({error})") from None

    @staticmethod
    def _of(found: Decoded, rows: Sequence[int], notes: Sequence[str] = ()) -> Labelled:
        names = [writable(found.entries[row].path) for row in rows]
        examples = OwnExamples(found.images[list(rows)], names, names, tuple(notes))
        return Labelled(examples, [found.entries[row].label for row in rows])


def _check_depth(path: Path, found: Decoded) -> None:
    """Refuse the folder above the one that holds the classes.

    Raises:
        TaskError: names the one below.
    """
    tops = {entry.path.split("/")[0] for entry in found.entries}
    below = {parts[1] for entry in found.entries if len(parts := entry.path.split("/")) > 2}
    if len({entry.label for entry in found.entries}) == len(tops) == 1 and len(below) > 1:
        top = tops.pop()
        raise TaskError(
            f"all pictures of {path} are in one folder, {top}: name {path / top}, if its folders "
            f"({few(sorted(below))}) are the classes"
        )


def thumbnail(picture: np.ndarray, side: int = 96) -> bytes:
    """A small PNG of uint8 `[channels, H, W]`."""
    image = _pictures.pillow()
    pixels = picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0)
    small = image.fromarray(np.ascontiguousarray(pixels))
    small.thumbnail((side, side))
    file = io.BytesIO()
    small.save(file, "PNG", optimize=True)
    return file.getvalue()
