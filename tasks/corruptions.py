"""What worsens images between training and use: noise, blur, weather, colour, coarse pixels.

Hendrycks and Dietterich (2019), *Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations*, section 3: 14 of its 15 kinds (`KINDS`) and 3 of its 4 extra ones (`EXTRA_KINDS`), each with
two sets of strengths, by severity 1 … 5, those of the authors' code: `strengths="cifar"` as in CIFAR-10-C
and CIFAR-100-C, `strengths="imagenet"` as in ImageNet-C. The formulas stand at the functions
(`tasks/_corruptions`), the strengths in `tasks/_corruptions/tables.py`.

Left out: `frost`, which adds photographs of frost that are no part of this project, and `spatter`, which is
defined by procedures of OpenCV.

What differs from the published code: images have any size, of which a length in pixels is taken to be a share
(of a height of 32 in CIFAR-C, 224 in ImageNet-C; JPEG's blocks stay as they are); values are not rounded to
bytes, except by JPEG; a Gaussian kernel is cut at the next whole pixel from 4σ on; frosted glass moves all
pixels at once; ImageNet-C's `pixelate` takes means over areas, where a pixel on the edge of two coarse ones
counts for both. Results are clipped to [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ._corruptions.tables import IMAGENET, LEFT_OUT, SETS
from ._settings import check_settings, least
from .distribution import Episode
from .source import TaskError
from .wrapped import Wrapped

__all__ = ["EXTRA_KINDS", "KINDS", "Corrupted", "Corruption"]

EXTRA_KINDS = ("speckle_noise", "gaussian_blur", "saturate")
KINDS = tuple(kind for kind in IMAGENET if kind not in EXTRA_KINDS)
PARTS = ("query", "support", "both")


@dataclass(frozen=True)
class Corruption:
    """A `Transform` of images in [0, 1].

    What is drawn (noise, the direction of a motion, where fog is thick) is drawn for each image.

    Args:
        kind: one of `KINDS` or `EXTRA_KINDS`. `snow` and `jpeg_compression` need images of 1 or 3 channels,
            `saturate` of 3.
        severity: 1 to 5.
        strengths: "imagenet", those of ImageNet-C, or "cifar", the weaker ones of CIFAR-10-C and CIFAR-100-C.

    Example:
        >>> x = torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2)
        >>> Corruption("contrast", severity=1)(x, torch.Generator()).flatten()
        tensor([0.3000, 0.7000])
        >>> Corruption("contrast", severity=1, strengths="cifar")(x, torch.Generator()).flatten()
        tensor([0.1250, 0.8750])
    """

    kind: str
    severity: int = 3
    strengths: str = "imagenet"

    def __post_init__(self) -> None:
        if self.kind in LEFT_OUT:
            raise TaskError(f"corruption.kind={self.kind!r} is left out: {LEFT_OUT[self.kind]}")
        if self.kind not in IMAGENET:
            known = ", ".join((*KINDS, *EXTRA_KINDS))
            raise TaskError(f"corruption.kind={self.kind!r} is unknown: use one of {known}")
        check_settings(self, "corruption", severity=least(1, most=5))
        if self.strengths not in SETS:
            raise TaskError(
                f"corruption.strengths={self.strengths!r} is unknown: use one of {', '.join(SETS)}"
            )

    def __str__(self) -> str:
        return f"{self.kind} {self.severity}" + (" (cifar)" if self.strengths == "cifar" else "")

    def takes(self, channels: int) -> bool:
        """Whether images may have so many channels."""
        known = SETS[self.strengths][1][self.kind].channels
        return not known or channels in known

    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """x [n, C, H, W] -> [n, C, H, W], a new tensor."""
        if x.ndim != 4 or not x.is_floating_point():
            raise TaskError(
                f"corruption {self.kind!r} needs images [n, C, H, W] but got {x.dtype} of shape "
                f"{list(x.shape)}: do not use Corrupted (task=corrupted)"
            )
        side, kinds = SETS[self.strengths]
        change, strengths, channels = kinds[self.kind]
        if not self.takes(x.shape[1]):
            asked = " or ".join(map(str, channels))
            raise TaskError(
                f"corruption {self.kind!r} needs images of {asked} channels but got {x.shape[1]}: use "
                "another kind"
            )
        return change(x, strengths[self.severity - 1], x.shape[2] / side, generator).clamp(0, 1)


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
        if self.part != "query" and (further := episode.meta.unlabelled_x) is not None:
            meta = replace(episode.meta, unlabelled_x=self.corruption(further, generator))
            episode = episode._replace(meta=meta)
        return episode
