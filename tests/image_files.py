"""Small image files for tests: what they hold, and trees and zip files of them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from PIL import Image

__all__ = ["SHORT", "plain", "png", "tree", "write", "write_zip"]

SHORT = 8  # pixels, the smallest size that sources take


def png(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    """A Pillow image as the bytes of a file."""
    content = io.BytesIO()
    image.save(content, form, **options)
    return content.getvalue()


def plain(number: int) -> bytes:
    """An image of one colour, another one for each number below 2^24."""
    return png(Image.new("RGB", (SHORT, SHORT), (number & 255, number >> 8 & 255, number >> 16)))


def tree(classes: Mapping[str, int], start: int = 0) -> dict[str, bytes]:
    """Files `class/i.png`, as many as asked for, all different."""
    names = [f"{label}/{i}.png" for label, count in classes.items() for i in range(count)]
    return {name: plain(start + number) for number, name in enumerate(names)}


def write(root: Path, files: Mapping[str, bytes], empty: Iterable[str] = ()) -> str:
    """Write `files`, and the folders `empty`, below `root`."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    for name in empty:
        (root / name).mkdir(parents=True)
    return str(root)


def write_zip(path: Path, files: Mapping[str, bytes], wrapper: str = "") -> str:
    """The same as a zip file, below a folder `wrapper`."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(wrapper + name, content)
    return str(path)
