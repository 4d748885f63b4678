"""A small vision transformer.

    tokens = conv stem(x) + positions ;   tokens += attention(norm(tokens)) ,  tokens += mlp(norm(tokens))
    features = norm(mean over tokens)

Dosovitskiy et al. (2021), *An Image is Worth 16×16 Words*. Patches are embedded by strided convolutions: Xiao
et al. (2021), *Early Convolutions Help Transformers See Better*. Positions are fixed sines and cosines, and
there is no class token but a mean: Beyer, Zhai, Kolesnikov (2022), *Better plain ViT baselines for
ImageNet-1k*. So any image will do whose sides are multiples of a patch, or are cut to such.
"""

import math

import torch
from torch import Tensor, nn

from adapt.backbones.frozen_norm import FrozenBatchNorm
from adapt.checks import DEPTH, WIDTH, check_setting, least
from adapt.errors import AdaptError

__all__ = ["ViT"]

#: Longest wavelength of the positions, in patches, over 2π.
WAVE = 10_000


class ViT(nn.Module):
    """``[n, channels, H, W] → [n, width]``; H and W at least ``patch``.

    Args:
        channels: input channels.
        width: of the tokens, a multiple of 8 and of ``heads``.
        depth: blocks.
        heads: of the attention.
        patch: side of a patch, a power of two.
        frozen: frozen statistics in the stem's norms (adapting, the default) or batch statistics (training
            from scratch).

    Example:
        >>> ViT(width=32)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 32])
    """

    def __init__(
        self,
        channels: int = 3,
        width: int = 192,
        depth: int = 6,
        heads: int = 4,
        patch: int = 8,
        frozen: bool = True,
    ) -> None:
        super().__init__()
        for name, value, ceiling in (
            ("channels", channels, WIDTH),
            ("width", width, WIDTH),
            ("depth", depth, DEPTH),
            ("heads", heads, WIDTH),
            ("patch", patch, WIDTH),
        ):
            check_setting(f"vit: {name}", value, least(1, ceiling=ceiling))
        halvings = patch.bit_length() - 1
        if patch < 2 or patch != 2**halvings:
            raise AdaptError(f"vit: patch={patch}: a patch has 2, 4, 8, … pixels")
        if width < 8 or width % 8 or width % heads:
            raise AdaptError(f"vit: width={width}: a multiple of 8 and of heads={heads} is needed")
        norm = FrozenBatchNorm if frozen else nn.BatchNorm2d
        layers: list[nn.Module] = []
        for outputs in (max(width >> (halvings - i), 8) for i in range(halvings)):
            layers += [nn.Conv2d(channels, outputs, 3, 2, 1, bias=False), norm(outputs), nn.ReLU()]
            channels = outputs
        self.stem = nn.Sequential(*layers, nn.Conv2d(channels, width, 1))
        self.blocks = nn.Sequential(*(_Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Features ``[n, width]`` of images ``x [n, channels, H, W]``."""
        maps = self.stem(x)  # [n, width, h, w]
        tokens = maps.flatten(2).mT + _positions(*maps.shape[1:]).to(maps)  # [n, h·w, width]
        return self.norm(self.blocks(tokens).mean(1))


class _Block(nn.Module):
    """``[n, T, width] → [n, T, width]``."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self._attention(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))

    def _attention(self, tokens: Tensor) -> Tensor:
        n, t, d = tokens.shape
        # Each [n, heads, T, d/heads].
        q, k, v = self.qkv(tokens).view(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        # Written out: torch's fused attention has no forward derivative, and vmap does not know it.
        attention = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)  # [n, heads, T, T]
        return self.out((attention @ v).transpose(1, 2).reshape(n, t, d))


def _positions(width: int, h: int, w: int) -> Tensor:
    """``[h·w, width]``: sines and cosines of the row, then of the column, at ``width/4`` frequencies."""
    frequencies = torch.exp(-math.log(WAVE) * torch.arange(width // 4) / max(width // 4 - 1, 1))
    rows, columns = (torch.arange(side)[:, None] * frequencies for side in (h, w))  # [side, width/4]
    row, column = (torch.cat([angle.sin(), angle.cos()], 1) for angle in (rows, columns))  # [side, width/2]
    return torch.cat([row[:, None].expand(-1, w, -1), column[None].expand(h, -1, -1)], 2).flatten(0, 1)
