"""Blur: out of focus, through frosted glass, of a camera that moves or zooms. Arguments as in `noise.py`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import ceil

import numpy as np
import torch
import torch.nn.functional as F

__all__ = [
    "along",
    "defocus_blur",
    "gaussian_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "zoomed",
]


def gaussian_blur(x: torch.Tensor, sigma: float, pixel: float, generator: torch.Generator) -> torch.Tensor:
    """x ∗ N(0, σ²); the kernel ends at 4σ and the border is repeated."""
    return smoothed(x, sigma * pixel)


def smoothed(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """x ∗ N(0, σ²), σ in pixels of x."""
    channels, radius = x.shape[1], ceil(4 * sigma)
    at = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    kernel = (-0.5 * (at / sigma).square()).exp()
    kernel = (kernel / kernel.sum()).expand(channels, 1, 1, -1)
    x = F.pad(x, (radius, radius, radius, radius), mode="replicate")
    rows = F.conv2d(x, kernel, groups=channels)
    return F.conv2d(rows, kernel.transpose(2, 3), groups=channels)


def defocus_blur(
    x: torch.Tensor, strength: Sequence[float], pixel: float, generator: torch.Generator
) -> torch.Tensor:
    """x ∗ a disk of radius r, smoothed by σ: (r, σ). The border is mirrored at its pixels' centres."""
    radius, sigma = strength
    kernel = torch.from_numpy(_disk(radius * pixel, sigma * pixel, max(1, round(pixel)))).to(x)
    reach, channels = len(kernel) // 2, x.shape[1]
    x = mirrored(x, reach)
    return F.conv2d(x, kernel.expand(channels, 1, -1, -1), groups=channels)


@cache
def _disk(radius: float, sigma: float, edge: int) -> np.ndarray:
    """The disk as a kernel [2r + 1, 2r + 1], smoothed by a kernel of 2 edge + 1 pixels on each side."""
    reach = int(radius) + edge
    at = np.arange(-reach, reach + 1)
    disk = (at[:, None] ** 2 + at**2 <= radius**2).astype(np.float64)
    bell = np.exp(-0.5 * (np.arange(-edge, edge + 1) / sigma) ** 2)
    for _ in range(2):  # the rows, then the columns
        disk = np.stack([np.convolve(row, bell / bell.sum(), mode="same") for row in disk]).T
    return disk / disk.sum()


def mirrored(x: torch.Tensor, reach: int) -> torch.Tensor:
    """x [n, C, H, W] with `reach` pixels more on each side, … c b | a b c …, also where that is all of it."""
    for side in (2, 3):
        size = x.shape[side]
        at = torch.arange(-reach, size + reach, device=x.device).abs()
        period = max(2 * (size - 1), 1)
        x = x.index_select(side, torch.minimum(at % period, period - at % period) if size > 1 else 0 * at)
    return x


def glass_blur(
    x: torch.Tensor, strength: Sequence[float], pixel: float, generator: torch.Generator
) -> torch.Tensor:
    """Smooth by σ, let each pixel take the place of a near one, several times, smooth again: (σ, d, times).

    As in the published code a pixel is a copy of one up to d above or left of it, or less than d below or
    right; those within d of the border stay. Here all change at once; there one after the other, which for
    d = 1 is the same.
    """
    sigma, far, times = strength
    count, _, height, width = x.shape
    far = max(1, round(far * pixel))
    x = smoothed(x, sigma * pixel)
    rows, columns = (torch.arange(size, device=x.device) for size in (height, width))
    inner = ((rows > far) & (rows <= height - far))[:, None] & (columns > far) & (columns <= width - far)
    for _ in range(int(times)):
        down, right = (
            torch.randint(-far, far, (count, height, width), generator=generator).to(x.device) * inner
            for _ in range(2)
        )
        source = (rows[:, None] + down) * width + columns + right
        x = _taken(x, source)
    return smoothed(x, sigma * pixel)


def _taken(x: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """Pixels by number: x [n, C, H, W], source [n, H, W] -> [n, C, H, W]."""
    at = source.flatten(1)[:, None].expand(-1, x.shape[1], -1)
    return x.flatten(2).gather(2, at).view_as(x)


def motion_blur(
    x: torch.Tensor, strength: Sequence[float], pixel: float, generator: torch.Generator
) -> torch.Tensor:
    """Every image along a line of its own, at −45° … 45°: (reach, σ)."""
    return along(x, strength[0] * pixel, strength[1] * pixel, (-45, 45), generator)


def along(
    x: torch.Tensor, radius: float, sigma: float, angles: tuple[float, float], generator: torch.Generator
) -> torch.Tensor:
    """ImageMagick's motion blur: the mean of the pixels at 0, 1, … 2⌈radius⌉ steps along a line, with weights
    exp(−i² / 2σ²), to the nearest pixel; the border is repeated. Each image has an angle of its own."""
    height, width = x.shape[-2:]
    steps = 2 * ceil(radius) + 1
    weights = torch.exp(-0.5 * (torch.arange(steps, dtype=torch.float64) / sigma).square())
    low, high = angles
    angle = torch.deg2rad(low + (high - low) * torch.rand(len(x), generator=generator, dtype=torch.float64))
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    blurred = torch.zeros_like(x)
    for step, weight in enumerate((weights / weights.sum()).tolist()):
        down, right = (torch.ceil(step * part(angle) - 0.5).long() for part in (torch.sin, torch.cos))
        at = (rows + down[:, None, None]).clamp(0, height - 1) * width
        at = at + (columns + right[:, None, None]).clamp(0, width - 1)
        blurred += weight * _taken(x, at.to(x.device))
    return blurred


def zoom_blur(
    x: torch.Tensor, strength: Sequence[float], pixel: float, generator: torch.Generator
) -> torch.Tensor:
    """The mean of the image and of itself enlarged by all factors of a range: (stop, step), from 1."""
    factors = np.arange(1, *strength).tolist()
    total = x.clone()
    for factor in factors:
        total += zoomed(x, factor)
    return total / (len(factors) + 1)


def zoomed(x: torch.Tensor, factor: float) -> torch.Tensor:
    """The middle of x [n, C, H, W], enlarged bilinearly by `factor` >= 1 and cut to the size of x."""
    sides = x.shape[-2:]
    cut = [ceil(side / factor) for side in sides]
    first = [(side - kept) // 2 for side, kept in zip(sides, cut, strict=True)]
    x = x[..., first[0] : first[0] + cut[0], first[1] : first[1] + cut[1]]
    size = [max(round(kept * factor), side) for kept, side in zip(cut, sides, strict=True)]
    x = F.interpolate(x, size=size, mode="bilinear", align_corners=True)
    first = [(large - side) // 2 for large, side in zip(size, sides, strict=True)]
    return x[..., first[0] : first[0] + sides[0], first[1] : first[1] + sides[1]]
