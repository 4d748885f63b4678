"""Light and colour: contrast, brightness, saturation. Arguments as in `noise.py`."""

from __future__ import annotations

from collections.abc import Sequence

import torch

__all__ = ["brightness", "contrast", "saturate"]


def contrast(x: torch.Tensor, kept: float, pixel: float, generator: torch.Generator) -> torch.Tensor:
    """mean(x) + c (x − mean(x)), per channel."""
    mean = x.mean((2, 3), keepdim=True)
    return mean + kept * (x - mean)


def brightness(x: torch.Tensor, more: float, pixel: float, generator: torch.Generator) -> torch.Tensor:
    """The value V of hue, saturation and value becomes min(V + c, 1), which multiplies all channels alike."""
    value = x.amax(1, keepdim=True)
    brighter = (value + more).clamp(0, 1)
    return torch.where(value > 0, x * (brighter / value.clamp(min=1e-12)), brighter)


def saturate(
    x: torch.Tensor, strength: Sequence[float], pixel: float, generator: torch.Generator
) -> torch.Tensor:
    """The saturation S of hue, saturation, value becomes S a + b, in [0, 1]: (a, b). Grey counts as red."""
    times, more = strength
    value, least = x.amax(1, keepdim=True), x.amin(1, keepdim=True)
    spread = value - least
    red = x.new_tensor([0, 1, 1])[:, None, None]
    # How far below the value each channel is: 0 for the largest, 1 for the smallest.
    below = torch.where(spread > 0, (value - x) / spread.clamp(min=1e-12), red)
    saturation = torch.where(value > 0, spread / value.clamp(min=1e-12), 0)
    return value * (1 - (saturation * times + more).clamp(0, 1) * below)
