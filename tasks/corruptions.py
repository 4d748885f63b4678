"""What worsens images between training and use: noise, blur, loss of contrast, coarse pixels.

Hendrycks and Dietterich (2019), *Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations*, section 3, with the strengths that their code gives ImageNet-C, by severity 1 … 5:

    gaussian_noise   x + σ ε ,  ε ~ N(0, 1)                       σ = 0.08, 0.12, 0.18, 0.26, 0.38
    gaussian_blur    x ∗ N(0, σ²)                                 σ = 1, 2, 3, 4, 6 pixels of 224
    contrast         mean(x) + c (x − mean(x)) ,  per channel     c = 0.4, 0.3, 0.2, 0.1, 0.05
    pixelate         down to a share r of each side, and back     r = 0.6, 0.5, 0.4, 0.3, 0.25

each clipped to [0, 1]. Differences: images have any size, of which σ of the blur is taken to be a share; its
kernel ends at 4σ and the border is repeated; a pixel on the edge of two coarse ones counts for both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ._settings import check_settings, least
from .distribution import Episode
from .source import TaskError
from .wrapped import Wrapped

__all__ = ["KINDS", "Corrupted", "Corruption"]

STRENGTHS = {
    "gaussian_noise": (0.08, 0.12, 0.18, 0.26, 0.38),
    "gaussian_blur": (1 / 224, 2 / 224, 3 / 224, 4 / 224, 6 / 224),
    "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
    "pixelate": (0.6, 0.5, 0.4, 0.3, 0.25),
}
KINDS = tuple(STRENGTHS)
PARTS = ("query", "support", "both")


@dataclass(frozen=True)
class Corruption:
    """A `Transform` of images in [0, 1].

    Args:
        kind: one of `KINDS`.
        severity: 1 to 5.

    Example:
        >>> x = torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2)
        >>> Corruption("contrast", severity=1)(x, torch.Generator()).flatten()
        tensor([0.3000, 0.7000])
    """

    kind: str
    severity: int = 3

    def __post_init__(self) -> None:
        if self.kind not in STRENGTHS:
            raise TaskError(f"corruption.kind={self.kind!r} is unknown: use one of {', '.join(KINDS)}")
        check_settings(self, "corruption", severity=least(1, most=5))

    def __str__(self) -> str:
        return f"{self.kind} {self.severity}"

    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """x [n, C, H, W] -> [n, C, H, W], a new tensor."""
        if x.ndim != 4 or not x.is_floating_point():
            raise TaskError(
                f"corruption {self.kind!r} needs images [n, C, H, W] but got {x.dtype} of shape "
                f"{list(x.shape)}: do not use Corrupted (task=corrupted)"
            )
        change = {
            "gaussian_noise": _noise,
            "gaussian_blur": _blur,
            "contrast": _contrast,
            "pixelate": _pixelate,
        }[self.kind]
        return change(x, STRENGTHS[self.kind][self.severity - 1], generator).clamp(0, 1)


@dataclass(frozen=True)
class Corrupted(Wrapped):
    """Tasks whose images are corrupted where one says: after adapting, before, or throughout.

    Args:
        base: tasks of images.
        corruption: what worsens them; any `Transform` will do.
        part: "query" (trained on clean images, used on bad ones), "support" or "both".

    Example:
        >>> from tasks import Digits, Distribution
        >>> clean = Distribution(Digits(), 3, 2, 2, support_split="support")
        >>> bad = Corrupted(clean, Corruption("gaussian_blur"))
        >>> a, b = clean.episode(0), bad.episode(0)
        >>> torch.equal(a.support_x, b.support_x), torch.equal(a.query_x, b.query_x)
        (True, False)
    """

    corruption: Callable[[torch.Tensor, torch.Generator], torch.Tensor] = Corruption("gaussian_noise")
    part: str = "query"

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise TaskError(f"task.part={self.part!r} is unknown: use one of {', '.join(PARTS)}")

    @property
    def described(self) -> dict[str, Any]:
        """With the corruption."""
        known = isinstance(self.corruption, Corruption)
        what = str(self.corruption) if known else type(self.corruption).__name__
        return {**self.base.described, "corruption": what}

    def change(self, episode: Episode, rng: np.random.Generator) -> Episode:
        """The episode with corrupted images."""
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        if self.part != "query":
            episode = episode._replace(support_x=self.corruption(episode.support_x, generator))
        if self.part != "support":
            episode = episode._replace(query_x=self.corruption(episode.query_x, generator))
        return episode


def _noise(x: torch.Tensor, sigma: float, generator: torch.Generator) -> torch.Tensor:
    return x + sigma * torch.randn(x.shape, generator=generator).to(x)


def _blur(x: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    channels, height = x.shape[1], x.shape[2]
    sigma = share * height
    radius = ceil(4 * sigma)
    at = torch.arange(-radius, radius + 1, dtype=x.dtype)
    kernel = (-0.5 * (at / sigma).square()).exp()
    kernel = (kernel / kernel.sum()).expand(channels, 1, 1, -1)
    x = F.pad(x, (radius, radius, radius, radius), mode="replicate")
    rows = F.conv2d(x, kernel, groups=channels)
    return F.conv2d(rows, kernel.transpose(2, 3), groups=channels)


def _contrast(x: torch.Tensor, kept: float, generator: torch.Generator) -> torch.Tensor:
    mean = x.mean((2, 3), keepdim=True)
    return mean + kept * (x - mean)


def _pixelate(x: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    height, width = x.shape[-2:]
    coarse = F.interpolate(x, size=(max(int(height * share), 1), max(int(width * share), 1)), mode="area")
    return F.interpolate(coarse, size=(height, width), mode="nearest")
