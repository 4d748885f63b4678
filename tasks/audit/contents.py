"""What examples hold: which are equal, which numbers are broken, and which nearly repeat another."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.source import Source, TaskError

from .similar import ImageMates, RoundedMates, TextMates

__all__ = ["Contents", "Mates", "normalised", "read"]

BATCH = 512
SIDE = 32  # of the thumbnails that near duplicates among images are found by
SCALE_ROWS = 1000  # examples that the spread of each number is estimated from
STEPS = 100  # to which part of its standard deviation a number is rounded


class Mates(Protocol):
    """Finds near duplicates."""

    method: str

    def mates(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """For each position in `other` a position in `one` that is nearly, not exactly, equal; else -1."""
        ...


@dataclass(frozen=True)
class Contents:
    """The examples that were read.

    Args:
        kind: "images", "texts" or "arrays".
        rows: [n] their indices, ascending.
        same: [n] equal numbers mean equal contents.
        broken: [n] whether a number of it is not finite.
        near: how near duplicates are found; None: they are not, `missing` says why.
        missing: why there is no `near`.
    """

    kind: str
    rows: np.ndarray
    same: np.ndarray
    broken: np.ndarray
    near: Mates | None
    missing: str = ""


def read(source: Source, rows: np.ndarray) -> Contents:
    """Read the examples of these indices, ascending, once.

    Raises:
        TaskError: `load` returns something else than it should.
    """
    if getattr(source, "text", False):
        return _texts([source.texts[row] for row in rows.tolist()], rows)  # type: ignore[attr-defined]
    return _arrays(source, rows)


def normalised(text: str) -> str:
    """A text without what does not change its meaning: case, width of characters, runs of white space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _texts(texts: Sequence[str], rows: np.ndarray) -> Contents:
    plain = [normalised(text) for text in texts]
    same = _numbered([text.encode() for text in plain])
    near, missing = _available(lambda: TextMates(plain, same), "datasketch")
    return Contents("texts", rows, same, np.zeros(len(plain), bool), near, missing)


def _arrays(source: Source, rows: np.ndarray) -> Contents:
    picture = len(source.shape) == 3 and source.shape[0] in (1, 3) and min(source.shape[1:]) >= 8
    spread = None if picture else _spread(source, rows)
    keys: list[bytes] = []
    broken: list[np.ndarray] = []
    views: list[np.ndarray] = []  # thumbnails, or hashes of rounded numbers
    for x in _batches(source, rows):
        broken.append(~torch.isfinite(x).flatten(1).all(1).numpy())
        keys += [_key(row) for row in x.numpy()]
        if picture:
            views.append(_thumbnails(x))
        elif spread is not None:
            rounded = (x.double() / spread * STEPS).round() + 0.0  # no negative zeros
            views.append(np.array([_key(row) for row in rounded.numpy()], "S16"))
    same = _numbered(keys)
    found = np.concatenate(broken) if broken else np.empty(0, bool)
    near: Mates | None = None
    missing = "token ids are equal or not" if spread is None and not picture else ""
    if picture and views:
        near, missing = _available(lambda: ImageMates(np.concatenate(views), same), "imagehash")
    elif views:
        near = RoundedMates(_numbered(np.concatenate(views).tolist()), same)
    return Contents("images" if picture else "arrays", rows, same, found, near, missing)


def _batches(source: Source, rows: np.ndarray) -> Iterator[Tensor]:
    for start in range(0, len(rows), BATCH):
        wanted = rows[start : start + BATCH]
        x = source.load(wanted)
        if x.shape != (len(wanted), *source.shape):
            raise TaskError(
                f"{source.name}: load returned shape {tuple(x.shape)} for {len(wanted)} examples of shape "
                f"{source.shape}: return one row for each index"
            )
        yield x


def _spread(source: Source, rows: np.ndarray) -> Tensor | None:
    """Standard deviation of each number over some examples; None for token ids."""
    step = max(len(rows) // SCALE_ROWS, 1)
    x = source.load(rows[::step][:SCALE_ROWS])
    if not x.is_floating_point():
        return None
    spread = torch.nan_to_num(x.double(), posinf=0, neginf=0).std(0, correction=0)
    return torch.where(spread > 0, spread, torch.ones_like(spread))


def _thumbnails(x: Tensor) -> np.ndarray:
    """Images [n, C, H, W] of any range as grey uint8 [n, 32, 32], each from its darkest to its brightest."""
    grey = torch.nan_to_num(x.float(), posinf=0, neginf=0).mean(1, keepdim=True)
    small = F.interpolate(grey, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
    flat = small.flatten(1)
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    scaled = (flat - low) / (high - low).clamp_min(1e-12) * 255
    return scaled.round().to(torch.uint8).reshape(-1, SIDE, SIDE).numpy()


def _key(row: np.ndarray) -> bytes:
    # Hexadecimal: numpy drops zero bytes at the end of a byte string.
    return hashlib.blake2b(np.ascontiguousarray(row).data, digest_size=8).hexdigest().encode()


def _numbered(keys: Sequence[bytes]) -> np.ndarray:
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def _available(make: Any, package: str) -> tuple[Mates | None, str]:
    try:
        return make(), ""
    except ImportError:
        return None, f"pip install {package}"
