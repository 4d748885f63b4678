"""Kinds and strengths of CIFAR-10-C, CIFAR-100-C and ImageNet-C, by severity 1 … 5.

The strengths are those of the code that made the data sets, `make_cifar_c.py` and `make_imagenet_c.py` of
https://github.com/hendrycks/robustness; what the numbers of a strength mean is said at each kind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from tasks._corruptions import blur, colour, digital, noise, weather

__all__ = ["CIFAR", "IMAGENET", "LEFT_OUT", "SETS", "Kind"]

Change = Callable[[torch.Tensor, Any, float, torch.Generator], torch.Tensor]
ANY: tuple[int, ...] = ()
PICTURES = (1, 3)


class Kind(NamedTuple):
    """One kind: what it does, its five strengths, and of how many channels images may be (empty: any)."""

    change: Change
    strengths: tuple[Any, ...]
    channels: tuple[int, ...] = ANY


#: Published pixels are pixels of 32.
CIFAR: dict[str, Kind] = {
    "gaussian_noise": Kind(noise.gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot_noise": Kind(noise.shot_noise, (500, 250, 100, 75, 50)),
    "impulse_noise": Kind(noise.impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07)),
    "defocus_blur": Kind(blur.defocus_blur, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))),
    "glass_blur": Kind(blur.glass_blur, ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))),
    "motion_blur": Kind(blur.motion_blur, ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))),
    "zoom_blur": Kind(blur.zoom_blur, ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01))),
    "snow": Kind(
        weather.snow,
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        PICTURES,
    ),
    "fog": Kind(weather.fog, ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))),
    "brightness": Kind(colour.brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": Kind(colour.contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "elastic_transform": Kind(
        digital.elastic_transform,
        ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
    ),
    "pixelate": Kind(digital.pixelate, (0.95, 0.9, 0.85, 0.75, 0.65)),
    "jpeg_compression": Kind(digital.jpeg_compression, (80, 65, 58, 50, 40), PICTURES),
    "speckle_noise": Kind(noise.speckle_noise, (0.06, 0.1, 0.12, 0.16, 0.2)),
    "gaussian_blur": Kind(blur.gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1)),
    "saturate": Kind(colour.saturate, ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)), (3,)),
}

#: Published pixels are pixels of 224.
IMAGENET: dict[str, Kind] = {
    "gaussian_noise": Kind(noise.gaussian_noise, (0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot_noise": Kind(noise.shot_noise, (60, 25, 12, 5, 3)),
    "impulse_noise": Kind(noise.impulse_noise, (0.03, 0.06, 0.09, 0.17, 0.27)),
    "defocus_blur": Kind(blur.defocus_blur, ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))),
    "glass_blur": Kind(blur.glass_blur, ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))),
    "motion_blur": Kind(blur.motion_blur, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))),
    "zoom_blur": Kind(blur.zoom_blur, ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))),
    "snow": Kind(
        weather.snow,
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
        PICTURES,
    ),
    "fog": Kind(weather.fog, ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))),
    "brightness": Kind(colour.brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": Kind(colour.contrast, (0.4, 0.3, 0.2, 0.1, 0.05)),
    "elastic_transform": Kind(
        digital.elastic_transform,
        tuple(  # the code says 244 where it means 224
            tuple(244 / 224 * share for share in shares)
            for shares in (
                (2, 0.7, 0.1),
                (2, 0.08, 0.2),
                (0.05, 0.01, 0.02),
                (0.07, 0.01, 0.02),
                (0.12, 0.01, 0.02),
            )
        ),
    ),
    "pixelate": Kind(digital.pixelate_cells, (0.6, 0.5, 0.4, 0.3, 0.25)),
    "jpeg_compression": Kind(digital.jpeg_compression, (25, 18, 15, 10, 7), PICTURES),
    "speckle_noise": Kind(noise.speckle_noise, (0.15, 0.2, 0.35, 0.45, 0.6)),
    "gaussian_blur": Kind(blur.gaussian_blur, (1, 2, 3, 4, 6)),
    "saturate": Kind(colour.saturate, ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)), (3,)),
}

#: By name: the side of an image in published pixels, and the kinds.
SETS: dict[str, tuple[int, dict[str, Kind]]] = {"imagenet": (224, IMAGENET), "cifar": (32, CIFAR)}

#: Published kinds that are not here, and why.
LEFT_OUT = {
    "frost": "it needs six photographs of frost that are no part of this project",
    "spatter": "it is defined by procedures of OpenCV that no dependency of this project has",
}
