"""Random changes of style: what differs between two images of one thing, and between two domains."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Protocol

import torch
import torch.nn.functional as F

from ._settings import MOST, Number, check_settings
from .source import TaskError

__all__ = ["Style", "Transform"]

SHARES = ("translation", "thickness", "contrast", "consistency", "flip", "invert")
LARGEST = {"rotation": 180, **dict.fromkeys(SHARES, 1)}
FIELD = 4  # control points per side of the elastic displacement field: low, so that strokes bend, not shake


class Transform(Protocol):
    """A pure function of its input and the generator's state."""

    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """x [n, C, H, W] -> [n, C, H, W]."""
        ...


@dataclass(frozen=True)
class Style:
    """Draws a style per image, or one per task, and applies it.

    Every parameter of every image starts as a standard normal number

        p_i = sqrt(c) * shared + sqrt(1 - c) * own_i,        c = consistency,

    which is then mapped by the normal distribution function to a uniform number. So what a single image may
    look like does not depend on c; c says how much the images of one call look alike. c = 1: one style for
    all (a shift of domain, task by task). c = 0: a style for each (pretraining).

    Strengths are the largest change; 0 leaves that change out. Turning one on or off does not alter what is
    drawn for the others, except for those that draw only when they are on: noise, flip, colour, invert.
    Images are expected in [0, 1], ink bright.

    Args:
        rotation: degrees, either way.
        scale: log-scale of width and height, drawn apart; 0.2 means 0.82 to 1.22.
        shear: horizontal shear, either way, as a slope.
        translation: shift as a fraction of the side, horizontally and vertically.
        elastic: typical displacement of a smooth random field, as a fraction of the side.
        thickness: in [0, 1]; blend towards the 3x3 dilation (thicker) or erosion (thinner).
        resolution_min: 0: off. Else images are averaged down to r pixels of height, r uniform between this
            and H, and scaled back up bilinearly.
        contrast: in [0, 1]; largest loss of contrast: bright becomes 1 - contrast.
        noise: largest standard deviation of Gaussian pixel noise. Its level is a parameter like the others;
            the noise itself is always each pixel's own.
        consistency: c above, in [0, 1].
        padding: what lies outside the image, "zeros" (ink on black) or "border" (photographs).
        flip: probability that an image is mirrored left to right.
        colour: largest change of the logarithm of a channel's brightness, each channel for itself.
        invert: probability that bright and dark are exchanged.

    Raises:
        TaskError: if a strength is out of its range.

    Example:
        >>> style = Style(rotation=15, thickness=0.5, consistency=1.0)
        >>> style(torch.ones(3, 1, 8, 8), torch.Generator().manual_seed(0)).shape
        torch.Size([3, 1, 8, 8])
    """

    rotation: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    translation: float = 0.0
    elastic: float = 0.0
    thickness: float = 0.0
    resolution_min: int = 0
    contrast: float = 0.0
    noise: float = 0.0
    consistency: float = 0.0
    padding: str = "zeros"
    flip: float = 0.0
    colour: float = 0.0
    invert: float = 0.0

    def __post_init__(self) -> None:
        for f in fields(self):
            if f.name == "padding":
                continue
            whole, most = f.name == "resolution_min", LARGEST.get(f.name)
            check_settings(self, "style", **{f.name: Number(whole, least=0, most=most, ceiling=MOST)})
        if self.padding not in ("zeros", "border"):
            raise TaskError(f"style.padding={self.padding!r} is unknown: use 'zeros' or 'border'")

    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Restyle x [n, C, H, W]; leaves x as it is and advances the generator."""
        if x.ndim != 4:
            raise TaskError(
                f"style needs images [n, C, H, W] but got shape {list(x.shape)}: add the missing axes"
            )
        n, _, height, _ = x.shape
        # [n, 10] uniform in (-1, 1) and [n, 2, FIELD, FIELD] normal; always drawn, see the docstring.
        u = self._uniform((n, 10), generator).to(x)
        bend = self._draws((n, 2, FIELD, FIELD), generator).to(x)
        angle, scale_x, scale_y, shear, right, down, thick, coarse, fade, level = u.unbind(1)

        if self.thickness:
            x = _thicken(x, self.thickness * thick)
        if self.rotation or self.scale or self.shear or self.translation or self.elastic:
            matrix = _affine(
                angle * math.radians(self.rotation),
                torch.exp(self.scale * torch.stack([scale_x, scale_y], 1)),
                self.shear * shear,
                # Normalised coordinates run from -1 to 1: a side is 2 long.
                2 * self.translation * torch.stack([right, down], 1),
            )
            x = _warp(x, matrix, 2 * self.elastic * bend, self.padding)
        if self.resolution_min:
            lowest = min(self.resolution_min, height)
            x = _coarsen(x, (lowest + (height - lowest) * (coarse + 1) / 2).round().long())
        if self.contrast:
            x = x * (1 - self.contrast * (fade + 1) / 2)[:, None, None, None]
        if self.noise:
            own = torch.randn(x.shape, generator=generator, device=generator.device).to(x)
            x = (x + own * (self.noise * (level + 1) / 2)[:, None, None, None]).clamp(0, 1)
        if self.flip:
            x = torch.where(self._chosen(self.flip, n, generator).to(x.device), x.flip(-1), x)
        if self.colour:
            change = self.colour * self._uniform((n, x.shape[1]), generator).to(x)
            x = (x * change.exp()[:, :, None, None]).clamp(0, 1)
        if self.invert:
            x = torch.where(self._chosen(self.invert, n, generator).to(x.device), 1 - x, x)
        return x

    def _chosen(self, probability: float, n: int, generator: torch.Generator) -> torch.Tensor:
        """Which of n images, [n, 1, 1, 1]."""
        return (self._uniform((n,), generator)[:, None, None, None] + 1) / 2 < probability

    def _draws(self, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
        """Standard normal numbers [n, ...], correlated by `consistency` along n."""
        shared = torch.randn((1, *shape[1:]), generator=generator, device=generator.device)
        own = torch.randn(shape, generator=generator, device=generator.device)
        return math.sqrt(self.consistency) * shared + math.sqrt(1 - self.consistency) * own

    def _uniform(self, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
        """The same mapped to uniform numbers in (-1, 1)."""
        return torch.erf(self._draws(shape, generator) / math.sqrt(2))


def _affine(
    angle: torch.Tensor, scale: torch.Tensor, shear: torch.Tensor, shift: torch.Tensor
) -> torch.Tensor:
    """Maps output to input coordinates: [n, 2, 3] for angle [n], scale [n, 2], shear [n], shift [n, 2].

    The image is sheared, scaled, rotated, then shifted, so the inverse undoes these in reverse order:
    A = Shear^-1 Scale^-1 Rotation^-1 and the offset is -A shift.
    """
    cos, sin = angle.cos(), angle.sin()
    first = torch.stack([cos, sin], 1) / scale[:, :1]
    second = torch.stack([-sin, cos], 1) / scale[:, 1:]
    inverse = torch.stack([first - shear[:, None] * second, second], 1)  # [n, 2, 2]
    return torch.cat([inverse, -inverse @ shift[:, :, None]], 2)


def _warp(x: torch.Tensor, matrix: torch.Tensor, bend: torch.Tensor, padding: str) -> torch.Tensor:
    """One bilinear lookup for the affine map [n, 2, 3] and the coarse displacement field [n, 2, g, g]."""
    grid = F.affine_grid(matrix, list(x.shape), align_corners=False)  # [n, H, W, 2]
    smooth = F.interpolate(bend, size=x.shape[-2:], mode="bicubic", align_corners=True)
    grid = grid + smooth.permute(0, 2, 3, 1)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode=padding, align_corners=False)


def _thicken(x: torch.Tensor, amount: torch.Tensor) -> torch.Tensor:
    """Blend towards the 3x3 dilation where amount [n] > 0, towards the erosion where it is < 0."""
    thicker = F.max_pool2d(x, 3, stride=1, padding=1)
    thinner = -F.max_pool2d(-x, 3, stride=1, padding=1)
    amount = amount[:, None, None, None]
    return x + amount.clamp(min=0) * (thicker - x) + (-amount).clamp(min=0) * (thinner - x)


def _coarsen(x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Area-average each image to rows[i] pixels of height (width in proportion) and scale back bilinearly.

    Both steps are linear and separable, so each image is two small matrix products: M x M^T.
    """
    height, width = x.shape[-2:]
    unique, which = torch.unique(rows, return_inverse=True)
    left = torch.stack([_down_up(height, r) for r in unique.tolist()]).to(x)[which]  # [n, H, H]
    columns = [max(1, round(r * width / height)) for r in unique.tolist()]
    right = torch.stack([_down_up(width, c) for c in columns]).to(x)[which]  # [n, W, W]
    return left[:, None] @ x @ right[:, None].transpose(-1, -2)


@lru_cache(maxsize=1024)
def _down_up(size: int, coarse: int) -> torch.Tensor:
    """The matrix [size, size] that averages a row of `size` down to `coarse` and interpolates back."""
    basis = torch.eye(size)[:, None]  # each unit vector through the pipeline gives a column
    low = F.interpolate(basis, size=coarse, mode="area")
    return F.interpolate(low, size=size, mode="linear", align_corners=False)[:, 0].T.contiguous()
