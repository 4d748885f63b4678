"""Which characters look alike: similarity of rendered glyphs, and which classes to drop because of it."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

__all__ = ["DIGIT_THRESHOLD", "TWIN_THRESHOLD", "DigitFilter", "TwinFilter"]

# Cosine similarities of ink averaged down to GRID x GRID, chosen by looking at contact sheets of pairs.
# Twins: above, pairs are one shape (Latin and Cyrillic A), one shape in two weights, or differ in a mark of
# one or two pixels (õ ò), which is gone once a style lowers the resolution. Below, mostly two things.
TWIN_THRESHOLD = 0.965
# Digits: looser, because a class that only resembles a digit costs little to lose and would flatter every
# result on digits. Down to here there are still Z beside 2, b beside 6, turned L beside 7; below, few are.
DIGIT_THRESHOLD = 0.86
GRID = 16  # coarse enough that two hairlines one pixel apart have something in common
# Ink narrower than this, relative to its length, is not stretched: bars would all become one full block.
NARROWEST = 0.3


class DigitFilter:
    """Keeps the classes of which no rendering looks like an ASCII digit.

    Compared both as they are and with the ink stretched to a square: so O and o are a 0, as they would be
    after the anisotropic scaling of a style.

    Args:
        digits: uint8 [m, size, size], the ten digits in every font.
        threshold: largest similarity to a digit that a rendering may have.
    """

    def __init__(self, digits: np.ndarray, threshold: float = DIGIT_THRESHOLD) -> None:
        self._threshold = threshold
        self._plain, self._stretched = _fingerprints(digits), _fingerprints(_stretch(digits))

    def keep(self, classes: list[np.ndarray]) -> list[bool]:
        """Judge classes, each uint8 [renderings, size, size]."""
        if not classes:
            return []
        likeness = torch.split(self.similarity(np.concatenate(classes)), [len(c) for c in classes])
        return [bool(own.max() <= self._threshold) for own in likeness]

    def similarity(self, images: np.ndarray) -> torch.Tensor:
        """Largest similarity [n] of each image in uint8 [n, size, size] to any digit."""
        plain = (_fingerprints(images) @ self._plain.T).amax(1)
        return torch.maximum(plain, (_fingerprints(_stretch(images)) @ self._stretched.T).amax(1))


class TwinFilter:
    """Keeps, of classes that look alike, the one that comes first.

    A class is a twin if its first (reference) rendering nearly equals *any* rendering of a class kept before:
    so a heavy asterisk goes if the asterisk has a bold rendering.
    """

    def __init__(self, threshold: float = TWIN_THRESHOLD) -> None:
        self._threshold = threshold
        self._kept: list[torch.Tensor] = []

    def keep(self, classes: list[np.ndarray]) -> list[bool]:
        """Judge the next classes, each uint8 [renderings, size, size]; remembers those that it keeps."""
        if not classes:
            return []
        sizes = [len(renderings) for renderings in classes]
        starts = np.cumsum([0, *sizes[:-1]])
        prints = _fingerprints(np.concatenate(classes))  # [n, d]
        references = prints[starts]  # [b, d]
        dropped = np.zeros(len(classes), dtype=bool)
        for earlier in self._kept:
            dropped |= ((references @ earlier.T).amax(1) > self._threshold).numpy()
        # twin[i, j]: i's reference resembles some rendering of j.
        twin = np.maximum.reduceat((references @ prints.T).numpy(), starts, axis=1) > self._threshold
        for j in range(len(classes)):  # in order: each class that is kept rules out the twins that follow
            if not dropped[j]:
                dropped[j + 1 :] |= twin[j + 1 :, j]
        if not dropped.all():
            self._kept.append(prints[np.repeat(~dropped, sizes)])
        return (~dropped).tolist()


def _fingerprints(images: np.ndarray) -> torch.Tensor:
    """Unit vectors [n, GRID * GRID] of uint8 images [n, s, s], for cosine similarity."""
    return F.normalize(F.adaptive_avg_pool2d(torch.from_numpy(images).float(), GRID).flatten(1), dim=1)


def _stretch(images: np.ndarray) -> np.ndarray:
    """Images [n, s, s] with their ink stretched to fill the image, bars excepted."""
    from PIL import Image

    out = images.copy()
    for i, image in enumerate(images):
        picture = Image.fromarray(image)
        box = picture.getbbox()
        if box is not None:
            sides = box[2] - box[0], box[3] - box[1]
            if min(sides) >= NARROWEST * max(sides):
                out[i] = np.asarray(picture.resize(picture.size, Image.Resampling.BILINEAR, box=box))
    return out
