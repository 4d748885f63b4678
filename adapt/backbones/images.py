"""Images as they come, for a network that wants them its own way.

    features(x) = network((resize(x) − mean) / std)

What a pretrained network expects of its inputs is as much a part of it as its weights, so it travels with
them. Nothing here moves while a task is adapted to: the frozen prefix computes it once per task.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapt.checks import WIDTH, Number, check_setting, least, list_of, optional, positive
from adapt.errors import AdaptError

__all__ = ["Images"]


class Images(nn.Module):
    """``[n, 1 or 3, H, W]`` in [0, 1], of any height and width, to the features ``[n, D]`` of ``network``.

    Args:
        network: takes ``[n, channels, size, size]``.
        size: side that images are scaled to, bilinearly, and smoothed where they shrink; None leaves them.
        mean, std: that the network was trained with: one number, or one per channel.
        channels: that the network takes. Grey images are repeated for 3, colours averaged for 1.

    Example:
        >>> net = Images(nn.Flatten(), size=2, mean=(0.5,), std=(0.5,))
        >>> net(torch.zeros(1, 1, 8, 6)).tolist()  # grey becomes three channels
        [[-1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0]]
    """

    mean: Tensor
    std: Tensor
    #: The least and the greatest value that a picture may hold.
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __init__(
        self,
        network: nn.Module,
        *,
        size: int | None,
        mean: Sequence[float],
        std: Sequence[float],
        channels: int = 3,
    ) -> None:
        super().__init__()
        size = check_setting("size", size, optional(least(1, "an image has at least one pixel", most=65_536)))
        channels = check_setting("channels", channels, least(1, ceiling=WIDTH))
        mean = check_setting("mean", list(mean), list_of(Number()))
        std = check_setting("std", list(std), list_of(positive("standard deviations are positive")))
        for name, values in (("mean", mean), ("std", std)):
            if len(values) not in (1, channels):
                raise AdaptError(
                    f"{name} has {len(values)} values, but this network takes images of {channels} channels: "
                    "give one value, or one per channel"
                )
        self.network, self.size, self.channels = network, size, channels
        self.register_buffer("mean", torch.tensor(list(mean)).view(-1, 1, 1).expand(channels, 1, 1).clone())
        self.register_buffer("std", torch.tensor(list(std)).view(-1, 1, 1).expand(channels, 1, 1).clone())

    def forward(self, x: Tensor) -> Tensor:
        """Features ``[n, D]`` of images ``x [n, 1 or 3, H, W]``.

        Raises:
            AdaptError: no such images.
        """
        return self.network(self.prepared(x))

    def prepared(self, x: Tensor) -> Tensor:
        """``[n, channels, size, size]``: what the network is given for ``x [n, 1 or 3, H, W]``."""
        if x.ndim != 4 or x.shape[1] not in (1, 3) or not x.is_floating_point():
            raise AdaptError(
                f"this backbone takes images [n, 1 or 3, H, W] of numbers in [0, 1], got {x.dtype} of shape "
                f"{tuple(x.shape)}: put the channels first, and divide bytes by 255"
            )
        x = self.scaled(x)
        if x.shape[1] > self.channels:
            x = x.mean(1, keepdim=True)
        return (x - self.mean) / self.std  # grey becomes colour by broadcasting

    def scaled(self, x: Tensor) -> Tensor:
        """Images ``x [n, C, H, W]`` of the size that the network takes."""
        if self.size is None or tuple(x.shape[2:]) == (self.size, self.size):
            return x
        shrinks = max(x.shape[2:]) > self.size  # where nothing shrinks there is nothing to smooth
        return F.interpolate(x, (self.size, self.size), mode="bilinear", antialias=shrinks)
