"""Noise: of the sensor, of few photons, of dead pixels. Every number of every image has its own.

Each function takes images ``x [n, C, H, W]`` in [0, 1], a strength, the length of one published pixel in
pixels of `x`, and a generator; what it gives may leave [0, 1].
"""

from __future__ import annotations

import torch

__all__ = ["gaussian_noise", "impulse_noise", "shot_noise", "speckle_noise"]


def gaussian_noise(x: torch.Tensor, sigma: float, pixel: float, generator: torch.Generator) -> torch.Tensor:
    """x + σ ε, ε ~ N(0, 1)."""
    return x + sigma * torch.randn(x.shape, generator=generator).to(x)


def speckle_noise(x: torch.Tensor, sigma: float, pixel: float, generator: torch.Generator) -> torch.Tensor:
    """x + x σ ε, ε ~ N(0, 1)."""
    return x + x * sigma * torch.randn(x.shape, generator=generator).to(x)


def shot_noise(x: torch.Tensor, photons: float, pixel: float, generator: torch.Generator) -> torch.Tensor:
    """Poisson(c x) / c: c photons of a white pixel."""
    return torch.poisson(x.clamp(min=0) * photons, generator=generator) / photons


def impulse_noise(x: torch.Tensor, share: float, pixel: float, generator: torch.Generator) -> torch.Tensor:
    """A share of all numbers becomes 0 or 1, each as likely."""
    hit, white = (torch.rand(x.shape, generator=generator).to(x.device) for _ in range(2))
    return torch.where(hit < share, (white < 0.5).to(x), x)
