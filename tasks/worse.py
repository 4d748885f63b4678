"""Queries that are a little worse than those that a task learned from, of any kind."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .corruptions import Corruption

__all__ = ["WORSE", "shortened", "worsened"]

#: What is done, in words, for pages.
WORSE = (
    "images with Gaussian noise of severity 3 (CIFAR-C), texts without a tenth of their words, numbers with "
    "noise of 0.3 of their spread"
)
LOST, SPREAD = 0.1, 0.3
IMAGES = Corruption("gaussian_noise", 3, "cifar")


def worsened(x: torch.Tensor, generator: torch.Generator, pad: int | None = None) -> torch.Tensor:
    """Examples ``x [m, …]``: images in [0, 1], rows of token ids, or numbers.

    Args:
        generator: of what is drawn, on the CPU.
        pad: of token ids, what fills the rows of shorter texts; None: whole numbers are no texts, and stay.

    Example:
        >>> ids = torch.tensor([[101, 7, 8, 9, 102, 0]])
        >>> worsened(ids, torch.Generator().manual_seed(0), pad=0)
        tensor([[101,   7,   9, 102,   0,   0]])
    """
    if not x.is_floating_point():
        return x if pad is None or x.ndim != 2 else _without_words(x, generator, pad)
    if x.ndim == 4 and bool((x >= 0).all()) and bool((x <= 1).all()):
        return IMAGES(x.cpu().float(), generator).to(x)
    spread = x.std(0, correction=0) if len(x) > 1 else torch.zeros_like(x[0])
    return x + SPREAD * spread * torch.randn(x.shape, generator=generator).to(x)


def shortened(texts: Sequence[str], generator: torch.Generator) -> list[str]:
    """Texts without a tenth of their words; one stays.

    Example:
        >>> shortened(["a b c d e f g h"], torch.Generator().manual_seed(0))
        ['a b d e f g h']
    """
    found = []
    for text in texts:
        words = text.split()
        lost = torch.rand(len(words), generator=generator) < LOST
        left = [word for word, gone in zip(words, lost.tolist(), strict=True) if not gone]
        found.append(" ".join(left or words[:1]))
    return found


def _without_words(ids: torch.Tensor, generator: torch.Generator, pad: int) -> torch.Tensor:
    """The others move up; the first and the last of a text, which are no words, stay."""
    here = ids.cpu()
    used = here != pad
    last = torch.where(used, torch.arange(here.shape[1]), -1).amax(1, keepdim=True)
    place = torch.arange(here.shape[1])
    lost = used & (torch.rand(here.shape, generator=generator) < LOST) & (place > 0) & (place < last)
    order = lost.int().argsort(dim=1, stable=True)
    return here.masked_fill(lost, pad).gather(1, order).to(ids.device)
