"""The encoders of images of transformers: their features, and what they expect of an image."""

import inspect
from typing import Any

from torch import Tensor, nn

from adapt.errors import AdaptError

__all__ = ["Vision", "normalisation"]

POOLINGS = ("cls", "mean")


class Vision(nn.Module):
    """``[n, C, size, size]`` to features ``[n, D]``: of tokens the first (``cls``, the default) or the mean;
    of a map ``[n, D, h, w]`` the mean.

    ``size``: of the images, if it is another than the positions of ``model`` were learned for: they are
    interpolated.
    """

    def __init__(self, model: nn.Module, pooling: str | None, size: int | None) -> None:
        super().__init__()
        if pooling is not None and pooling not in POOLINGS:
            raise AdaptError(f"pooling={pooling}: of images choose {', '.join(POOLINGS)}")
        self.model, self.pooling = model, pooling
        self.settings = (
            {"interpolate_pos_encoding": True} if size is not None and _interpolates(model) else {}
        )

    def forward(self, x: Tensor) -> Tensor:
        states = self.model(pixel_values=x, **self.settings).last_hidden_state
        if states.ndim == 4:
            return states.mean((2, 3))
        return states.mean(1) if self.pooling == "mean" else states[:, 0]


def _interpolates(model: nn.Module) -> bool:
    return any(
        "interpolate_pos_encoding" in inspect.signature(module.forward).parameters
        for module in model.modules()
    )


def normalisation(
    transformers: Any, source: str, config: Any, random: bool
) -> tuple[int | None, tuple[Any, Any]]:
    """Side of the images and (mean, std), from the files of the model; None: they do not say.

    Networks that are drawn at random expect nothing: a half of both, which is [-1, 1].
    """
    try:
        found, _ = transformers.ImageProcessingMixin.get_image_processor_dict(source)
    except OSError:
        found = {}
    size = found.get("crop_size") or found.get("size") or {}
    side = size if isinstance(size, int) else size.get("height", size.get("shortest_edge"))
    side = getattr(config, "image_size", None) or side
    side = side[0] if isinstance(side, list | tuple) else side
    half = [0.5] if random else None
    if found.get("do_normalize") is False:
        return side, ([0.0], [1.0])
    return side, (found.get("image_mean", half), found.get("image_std", half))
