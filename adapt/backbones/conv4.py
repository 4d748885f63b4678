"""The four-block convolutional network of the few-shot literature.

    block: conv 3×3 (C) → norm → max-pool 2 → ReLU;   features = flatten(block⁴(x))

Vinyals et al. (2016), *Matching Networks*, section 4.1; Snell et al. (2017), *Prototypical Networks*, section
3. Here the maximum is taken before the ReLU: the values are the same, as both are monotone, and the ReLU
touches a quarter of the numbers.
"""

from itertools import pairwise

from torch import Tensor, nn

from adapt.backbones.frozen_norm import FrozenBatchNorm
from adapt.checks import WIDTH, check_setting, least

__all__ = ["Conv4"]


class Conv4(nn.Module):
    """``[n, channels, H, W] → [n, width·⌊H/16⌋·⌊W/16⌋]``.

    Args:
        channels: input channels.
        width: channels of every block (64 in the papers).
        frozen: frozen normalisation statistics (adapting, the default) or batch statistics (training from
            scratch).

    Example:
        >>> import torch
        >>> Conv4()(torch.zeros(2, 1, 32, 32)).shape
        torch.Size([2, 256])
    """

    def __init__(self, channels: int = 1, width: int = 64, frozen: bool = True) -> None:
        super().__init__()
        for name, value in (("channels", channels), ("width", width)):
            check_setting(f"conv4: {name}", value, least(1, ceiling=WIDTH))
        norm = FrozenBatchNorm if frozen else nn.BatchNorm2d
        widths = [channels, width, width, width, width]
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(i, o, 3, padding=1, bias=False), norm(o), nn.MaxPool2d(2), nn.ReLU())
                for i, o in pairwise(widths)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features ``[n, D]`` of images ``x [n, channels, H, W]``."""
        return self.blocks(x).flatten(1)
