"""What sources of images need of Pillow; `tasks/readers/pictures.py` tells how one becomes an array."""

from __future__ import annotations

from types import ModuleType

from tasks._settings import check_setting, least
from tasks.source import TaskError

__all__ = ["check_size", "formats", "pillow"]

#: Formats that are decoded, whatever a file is called: Pillow knows others, one of which (EPS) it hands to a
#: program that runs what stands in it.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000", "TGA")


def pillow() -> ModuleType:
    """The module `PIL.Image`.

    Raises:
        TaskError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise TaskError("reading images needs Pillow: pip install pillow") from error
    return Image


def formats() -> list[str]:
    """Those of :data:`FORMATS` that the installed Pillow can read."""
    image = pillow()
    image.init()
    return [name for name in FORMATS if name in image.OPEN]


def check_size(source: str, size: int) -> None:
    """Raise TaskError unless `size` is a side that an image can be scaled to."""
    check_setting(f"{source}: size", size, least(8, most=1024))
