"""What is known of the pictures that a backbone takes: their shapes, and the range it was trained on."""

from typing import NamedTuple

from torch import nn

from adapt.backbones.images import Images
from adapt.backbones.info import info_of

__all__ = ["Pictures", "pictures_of"]


class Pictures(NamedTuple):
    """What a backbone wants of pictures.

    Attributes:
        range: the least and the greatest value that it was trained on; None: not known.
        shapes: (C, H, W) that it takes, None for any; None: not known.
        images: what scales pictures of any size, where it does so itself.
    """

    range: tuple[float, float] | None = None
    shapes: tuple[tuple[int | None, ...], ...] | None = None
    images: Images | None = None


def pictures_of(backbone: nn.Module, shape: tuple[int, ...] | None) -> Pictures:
    """What ``backbone`` wants; ``shape`` is that of one example, where it is known."""
    images = next((module for module in backbone.modules() if isinstance(module, Images)), None)
    shapes: tuple[tuple[int | None, ...], ...] | None = None
    if shape is not None:
        shapes = (shape,) if len(shape) == 3 else ()
    elif images is not None:
        shapes = ((1, None, None), (3, None, None))
    if images is not None:
        return Pictures(images.value_range, shapes, images)
    info = info_of(backbone)
    return Pictures(None if info is None else info.value_range, shapes)
