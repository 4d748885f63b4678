"""What sources of images need of Pillow; `tasks/readers/pictures.py` tells how one becomes an array."""

from __future__ import annotations

from types import ModuleType

from tasks._settings import check_setting, least
from tasks.source import TaskError

__all__ = ["check_size", "pillow"]


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


def check_size(source: str, size: int) -> None:
    """Raise TaskError unless `size` is a side that an image can be scaled to."""
    check_setting(f"{source}: size", size, least(8, most=1024))
