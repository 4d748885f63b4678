"""Weather: snow and fog. Arguments as in `noise.py`."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tasks._corruptions.blur import along, zoomed

__all__ = ["fog", "plasma", "snow"]

GREY = (0.299, 0.587, 0.114)  # of red, green and blue


def fog(x: torch.Tensor, strength: Sequence[float], pixel: float, generator: torch.Generator) -> torch.Tensor:
    """(x + c p) m / (m + c), with m the largest value of the image and p a :func:`plasma`: (c, decay)."""
    thick, decay = strength
    height, width = x.shape[-2:]
    side = 1 << (max(height, width) - 1).bit_length()
    cloud = plasma(len(x), side, decay, generator)[:, None, :height, :width].to(x)
    most = x.amax((1, 2, 3), keepdim=True)
    return (x + thick * cloud) * most / (most + thick)


def plasma(count: int, side: int, decay: float, generator: torch.Generator) -> torch.Tensor:
    """Heights [count, side, side] from 0 to 1 by the diamond-square algorithm, on a torus.

    At each of the log₂(side) scales a new point is the mean of its four neighbours plus U(−a², a²), where a
    is 100 at the first and divided by `decay` from scale to scale.
    """
    heights = torch.zeros(count, side, side, dtype=torch.float64)
    step, wibble = side, 100.0

    def disturbed(neighbours: torch.Tensor) -> torch.Tensor:
        drawn = 2 * torch.rand(neighbours.shape, generator=generator, dtype=torch.float64) - 1
        return neighbours / 4 + wibble**2 * drawn

    while step >= 2:
        half = step // 2
        corners = heights[:, ::step, ::step]
        beside = corners + corners.roll(-1, 1)
        heights[:, half::step, half::step] = disturbed(beside + beside.roll(-1, 2))
        centres = heights[:, half::step, half::step]
        between = centres + centres.roll(1, 1) + corners + corners.roll(-1, 2)
        heights[:, ::step, half::step] = disturbed(between)
        between = centres + centres.roll(1, 2) + corners + corners.roll(-1, 1)
        heights[:, half::step, ::step] = disturbed(between)
        step, wibble = half, wibble / decay
    heights -= heights.amin((1, 2), keepdim=True)
    return heights / heights.amax((1, 2), keepdim=True).clamp(min=1e-12)


def snow(
    x: torch.Tensor, strength: Sequence[float], pixel: float, generator: torch.Generator
) -> torch.Tensor:
    """Flakes and a whiter image: (mean, deviation, zoom, least, reach, σ, kept).

    Flakes are N(mean, deviation²), enlarged, 0 where below `least`, blurred along a line at −135° … −45°;
    they are added twice, once turned by 180°. Of the image a share `kept` stays, the rest becomes
    max(x, 1.5 grey + 0.5).
    """
    mean, deviation, zoom, least, reach, sigma, kept = strength
    flakes = mean + deviation * torch.randn(len(x), 1, *x.shape[-2:], generator=generator)
    flakes = zoomed(flakes, max(zoom * pixel, 1))
    flakes = torch.where(flakes < least, 0, flakes).clamp(0, 1)
    flakes = along(flakes, reach * pixel, sigma * pixel, (-135, -45), generator).to(x)
    grey = x if x.shape[1] == 1 else (x * x.new_tensor(GREY)[:, None, None]).sum(1, keepdim=True)
    x = kept * x + (1 - kept) * torch.maximum(x, 1.5 * grey + 0.5)
    return x + flakes + flakes.rot90(2, (2, 3))
