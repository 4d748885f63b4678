"""Real handwritten digits (scikit-learn's copy of a UCI dataset): the small new domain to adapt to."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from tasks._settings import check_setting, least
from tasks.source import ArraySource, Card, TaskError

__all__ = ["Digits"]

SUPPORT_SHARE = 0.6
SPLIT_SEED = 0  # fixed: the pools belong to the dataset, not to an experiment


class Digits(ArraySource):
    """1,797 scans of handwritten digits, white ink on black, as [1, size, size] in [0, 1].

    The 8x8 originals (0..16) are divided by 16, scaled bilinearly to 7/8 of `size` and padded with black to
    `size` (28 + 2 + 2 at the default). Images, not classes, are split: "support" is the pool for supports and
    for retraining, "query" the pool for queries, 60 : 40 within each class, by a fixed seed.

    Args:
        size: side of an image in pixels, at least 8.

    Example:
        >>> digits = Digits()
        >>> digits.shape, list(digits.classes("query"))[:3]
        ((1, 32, 32), ['0', '1', '2'])
    """

    def __init__(self, size: int = 32) -> None:
        check_setting("digits: size", size, least(8, most=1024))
        pixels, labels = _shipped()
        inner = round(size * 7 / 8)
        before = (size - inner) // 2
        after = size - inner - before
        scans = torch.from_numpy(pixels).float().div_(16)[:, None]  # [1797, 1, 8, 8]
        scans = F.interpolate(scans, size=(inner, inner), mode="bilinear", align_corners=False)
        images = F.pad(scans, (before, after, before, after)).numpy()

        rng = np.random.default_rng(SPLIT_SEED)
        members: dict[str, dict[str, np.ndarray]] = {"support": {}, "query": {}}
        for digit in range(10):
            shuffled = rng.permutation(np.flatnonzero(labels == digit))
            cut = round(SUPPORT_SHARE * len(shuffled))
            members["support"][str(digit)] = np.sort(shuffled[:cut])
            members["query"][str(digit)] = np.sort(shuffled[cut:])
        pools = {f"{split} examples": sum(map(len, by.values())) for split, by in members.items()}
        super().__init__(_card({"examples": len(images), "classes": 10, **pools}), images, members)


def _shipped() -> tuple[np.ndarray, np.ndarray]:
    """Pixels ``[1797, 8, 8]`` and labels ``[1797]``, as ``sklearn.datasets.load_digits`` reads them;
    importing that takes longer than adapting to them."""
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise TaskError("digits come with scikit-learn: pip install scikit-learn")
    rows = np.loadtxt(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].astype(np.int64)


def _card(counts: dict[str, int]) -> Card:
    return Card(
        name="digits",
        description="8x8 grey-scale scans of handwritten digits 0-9, scaled up bilinearly, white on black.",
        origin=(
            "E. Alpaydin, C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI Machine Learning "
            "Repository, https://archive.ics.uci.edu/dataset/80; the test part, as shipped with scikit-learn."
        ),
        licence="CC BY 4.0",
        terms="Share and adapt for any purpose, with credit to the authors.",
        counts=counts,
        known_issues=(
            "13 writers; which of them wrote what is not recorded: the same writer can be in both pools.",
            "The originals have 8x8 pixels: fine strokes are lost, and larger sizes add no detail.",
        ),
        personal_data="None beyond the handwriting of anonymous volunteers.",
        domain="vision",
        commercial=True,
    )
