"""Networks of ``bench/gpu.py``, in torch operations alone."""

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapt.backbones import ResNet12, load_backbone

__all__ = ["SmallViT", "deep_network", "tangent_networks"]


class SmallViT(nn.Module):
    """A pre-norm vision transformer (Dosovitskiy et al. 2021) without class token: ``[n, 3, H, W] → [n,
    dim]``."""

    def __init__(
        self, side: int = 32, patch: int = 4, dim: int = 192, depth: int = 6, heads: int = 3
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, dim, patch, stride=patch)
        self.positions = nn.Parameter(0.02 * torch.randn((side // patch) ** 2, dim))
        self.blocks = nn.Sequential(*(_Layer(dim, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        return self.norm(self.blocks(tokens)).mean(1)


class _Layer(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        n, length, dim = x.shape
        parts = self.qkv(self.norm1(x)).view(n, length, 3, self.heads, dim // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)  # each [n, heads, length, dim / heads]
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, length, dim)
        x = x + self.out(mixed)
        return x + self.mlp(self.norm2(x))


def tangent_networks(quick: bool) -> dict[str, tuple[nn.Module, Tensor]]:
    """Backbones, each with 25 examples (5 in the miniature)."""
    torch.manual_seed(0)
    n = 5 if quick else 25
    conv4, info = load_backbone("conv4_glyphs")
    resnet12 = ResNet12(width=4 if quick else 64).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    vit = SmallViT(depth=1) if quick else SmallViT()
    return {
        "conv4": (conv4, torch.rand(n, *info.input_shape)),
        "resnet12": (resnet12, torch.randn(n, 3, 32, 32) if quick else torch.randn(n, 3, 84, 84)),
        "vit": (vit, torch.randn(n, 3, 32, 32)),
    }


def deep_network(
    kind: str, depth: int, n: int, device: torch.device
) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """``(network, φ₀)``: ``depth`` equal layers relu(γ ⊙ (W x) + β) on n examples as a function of φ = (γ, β)
    of all layers; ``kind`` "mlp" (width 512) or "conv" (3×3, 32 channels, 32×32 images)."""
    generator = torch.Generator().manual_seed(0)
    channels = 512 if kind == "mlp" else 32
    spatial, kernel = ((), ()) if kind == "mlp" else ((32, 32), (3, 3))
    fan_in = channels * prod(kernel)
    x = torch.randn(n, channels, *spatial, generator=generator).to(device)
    weights = [
        (torch.randn(channels, channels, *kernel, generator=generator) * (2 / fan_in) ** 0.5).to(device)
        for _ in range(depth)
    ]
    per_channel = (1, -1, *(1 for _ in spatial))

    def network(phi: Tensor) -> Tensor:
        y = x
        for weight, film in zip(weights, phi.view(depth, 2, channels), strict=True):
            y = F.linear(y, weight) if kind == "mlp" else F.conv2d(y, weight, padding=1)
            y = F.relu(y * film[0].view(per_channel) + film[1].view(per_channel))
        return y

    initial = torch.cat([torch.ones(channels), torch.zeros(channels)]).repeat(depth)
    return network, initial.to(device)
