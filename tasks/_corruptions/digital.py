"""What computers do to images: coarse pixels, JPEG, elastic changes. Arguments as in `noise.py`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from io import BytesIO

import numpy as np
import torch
import torch.nn.functional as F

from tasks.images._pictures import pillow

__all__ = ["elastic_transform", "jpeg_compression", "pixelate", "pixelate_cells"]


def pixelate(x: torch.Tensor, share: float, pixel: float, generator: torch.Generator) -> torch.Tensor:
    """Down to a share of each side, and back, by Pillow's box filter: to the mean of the pixels whose centres
    a coarse one covers, and to the coarse one that covers the centre."""
    down, across = (_there_and_back(size, max(int(size * share), 1)) for size in x.shape[-2:])
    return torch.from_numpy(down).to(x) @ x @ torch.from_numpy(across).to(x).T


@cache
def _there_and_back(size: int, coarse: int) -> np.ndarray:
    """The two resizings of a row of `size` pixels as one matrix [size, size]."""
    return _box(coarse, size) @ _box(size, coarse)


def _box(before: int, after: int) -> np.ndarray:
    """One resizing by the box filter: [after, before]."""
    scale = before / after
    centres = (np.arange(after)[:, None] + 0.5) * scale
    away = (np.arange(before) + 0.5 - centres) / max(scale, 1)
    covered = ((away > -0.5) & (away <= 0.5)).astype(np.float64)
    return covered / covered.sum(1, keepdims=True)


def pixelate_cells(x: torch.Tensor, share: float, pixel: float, generator: torch.Generator) -> torch.Tensor:
    """As `pixelate`, by the mean over the area: a pixel on the edge of two coarse ones counts for both."""
    height, width = x.shape[-2:]
    coarse = F.interpolate(x, size=(max(int(height * share), 1), max(int(width * share), 1)), mode="area")
    return F.interpolate(coarse, size=(height, width), mode="nearest")


def jpeg_compression(
    x: torch.Tensor, quality: float, pixel: float, generator: torch.Generator
) -> torch.Tensor:
    """Through Pillow's JPEG of that quality, and so through bytes. Blocks have eight pixels at any size."""
    image = pillow()
    found = []
    for picture in (x.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy():
        file = BytesIO()
        image.fromarray(picture.squeeze(2) if picture.shape[2] == 1 else picture).save(
            file, "JPEG", quality=int(quality)
        )
        with image.open(file) as opened:
            found.append(np.asarray(opened).reshape(picture.shape))
    if not found:
        return x.clone()
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).to(x) / 255


def elastic_transform(
    x: torch.Tensor, strength: Sequence[float], pixel: float, generator: torch.Generator
) -> torch.Tensor:
    """A random affine map, then a smooth field of displacements: (a, σ, d), shares of the side.

    The map takes three corners of a square in the middle to places up to d away along each axis; the border
    is mirrored at its pixels' centres. The field is a (u ∗ N(0, σ²)), u ~ U(−1, 1), cut at 3σ; the border is
    mirrored between pixels.
    """
    height, width = x.shape[-2:]
    alpha, sigma, away = (share * height for share in strength)
    x = _sampled(x, *_affine(len(x), height, width, away, generator), centres=True)
    field = 2 * torch.rand(2, len(x), height, width, generator=generator, dtype=torch.float64) - 1
    if not alpha:
        return x
    down, right = alpha * _smooth_field(field, sigma)
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    return _sampled(x, rows + down, columns + right, centres=False)


def _affine(
    count: int, height: int, width: int, away: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where each pixel of the mapped image comes from: rows and columns, [count, height, width]."""
    middle = torch.tensor([width // 2, height // 2], dtype=torch.float64)
    square = max(min(height, width) // 3, 1)
    corners = middle + square * torch.tensor([[1, 1], [1, -1], [-1, -1]], dtype=torch.float64)
    drawn = 2 * torch.rand(count, 3, 2, generator=generator, dtype=torch.float64) - 1
    ones = torch.ones(count, 3, 1, dtype=torch.float64)
    # [count, 3, 2]: (column, row, 1) after the map @ back = (column, row) before it.
    back = torch.linalg.solve(torch.cat([corners + away * drawn, ones], 2), corners.expand(count, -1, -1))
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([columns, rows, torch.ones_like(rows)], -1).double() @ back[:, None]
    return places[..., 1], places[..., 0]


def _smooth_field(field: torch.Tensor, sigma: float) -> torch.Tensor:
    """field [2, n, H, W] ∗ N(0, σ²), cut at 3σ and mirrored between pixels."""
    for size, side in ((field.shape[2], 2), (field.shape[3], 3)):
        kernel = torch.from_numpy(_mirror_kernel(size, sigma))
        field = torch.tensordot(field, kernel, dims=([side], [1])).movedim(-1, side)
    return field


@cache
def _mirror_kernel(size: int, sigma: float) -> np.ndarray:
    """A Gaussian of a row of `size` values as a matrix [size, size], … b a | a b … at the ends."""
    reach = int(3 * sigma + 0.5)
    at = np.arange(-reach, reach + 1)
    bell = np.exp(-0.5 * (at / sigma) ** 2)
    folded = (np.arange(size)[:, None] + at) % (2 * size)
    folded = np.minimum(folded, 2 * size - 1 - folded)
    matrix = np.zeros((size, size))
    np.add.at(matrix, (np.arange(size)[:, None], folded), bell / bell.sum())
    return matrix


def _sampled(x: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, *, centres: bool) -> torch.Tensor:
    """x [n, C, H, W] bilinearly at rows and columns [n, H, W]; mirrored at pixels' centres or edges."""
    places = []
    for at, size in ((columns, x.shape[3]), (rows, x.shape[2])):
        places.append(2 * at / max(size - 1, 1) - 1 if centres else (2 * at + 1) / size - 1)
    grid = torch.stack(places, -1).to(x)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=centres)
