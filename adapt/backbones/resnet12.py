"""The twelve-layer residual network of the few-shot literature.

    block: y = conv 3×3 (norm, σ) → conv 3×3 (norm, σ) → conv 3×3 (norm) + conv 1×1 (norm) of the input
           x ↦ σ(max-pool 2 (y)) ,   σ = LeakyReLU with slope 0.1
    features = global average pool(block⁴(x)) ,   channels C, 5C/2, 5C, 10C with C = 64

Oreshkin, Rodríguez López, Lacoste (2018), *TADAM*, section 4; with these widths Lee, Maji, Ravichandran,
Soatto (2019), *Meta-Learning with Differentiable Convex Optimization* (MetaOptNet), section 4.1. Differences:
there is no DropBlock, which regularises training only, and the maximum is taken before the last LeakyReLU of
a block: the values are the same, as both are monotone, and it touches a quarter of the numbers. Norms may be
those of groups of channels of each example, which know no statistics of other examples: Wu and He (2018),
*Group Normalization*.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from adapt.backbones.frozen_norm import FrozenBatchNorm
from adapt.checks import WIDTH, check_setting, least
from adapt.errors import AdaptError

__all__ = ["ResNet12"]

SLOPE, GROUPS = 0.1, 8


class ResNet12(nn.Module):
    """``[n, channels, H, W] → [n, 10·width]``; H and W at least 16, 84 in the papers.

    Args:
        channels: input channels.
        width: channels of the first block, even (64 in the papers).
        frozen: frozen normalisation statistics (adapting, the default) or batch statistics (training from
            scratch).
        norm: ``batch``, or ``group``: of eight groups, for which ``width`` is a multiple of 16.

    Example:
        >>> import torch
        >>> ResNet12(width=4)(torch.zeros(2, 3, 84, 84)).shape
        torch.Size([2, 40])
    """

    def __init__(self, channels: int = 3, width: int = 64, frozen: bool = True, norm: str = "batch") -> None:
        super().__init__()
        for name, value in (("channels", channels), ("width", width)):
            check_setting(f"resnet12: {name}", value, least(1, ceiling=WIDTH))
        if norm not in ("batch", "group"):
            raise AdaptError(f"resnet12: norm={norm}: choose batch or group")
        if norm == "group" and width % (2 * GROUPS):
            raise AdaptError(f"resnet12: width={width}: groups of channels need a multiple of {2 * GROUPS}")
        of = (
            partial(nn.GroupNorm, GROUPS)
            if norm == "group"
            else FrozenBatchNorm
            if frozen
            else nn.BatchNorm2d
        )
        widths = [channels, width, 5 * width // 2, 5 * width, 10 * width]
        self.blocks = nn.Sequential(*(_Block(i, o, of) for i, o in pairwise(widths)))

    def forward(self, x: Tensor) -> Tensor:
        """Features ``[n, D]`` of images ``x [n, channels, H, W]``."""
        return self.blocks(x).mean((2, 3))


class _Block(nn.Module):
    """``[n, inputs, H, W] → [n, outputs, ⌊H/2⌋, ⌊W/2⌋]``."""

    def __init__(self, inputs: int, outputs: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, o in pairwise([inputs, outputs, outputs, outputs]):
            layers += [nn.Conv2d(i, o, 3, padding=1, bias=False), norm(o), nn.LeakyReLU(SLOPE)]
        self.residual = nn.Sequential(*layers[:-1])  # the last LeakyReLU comes after the sum
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), norm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(F.max_pool2d(self.residual(x) + self.shortcut(x), 2), SLOPE)
