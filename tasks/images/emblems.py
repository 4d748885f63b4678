"""Classes without a download, and without anybody's rights: coloured shapes with a texture and a symbol."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from tasks._settings import SEED, check_setting, least
from tasks.images._pictures import check_size
from tasks.source import ArraySource, Card

__all__ = ["Emblems"]

#: Of 100 classes; what is left is for tests.
TRAIN, VALIDATION = 70, 15
#: Rows and columns of a pixel that are averaged.
FINER = 2
COLOURS = np.array(
    [
        *((0.85, 0.1, 0.1), (0.1, 0.25, 0.75), (0.95, 0.8, 0.1), (0.1, 0.55, 0.2), (0.95, 0.95, 0.95)),
        *((0.08, 0.08, 0.08), (0.9, 0.45, 0.1), (0.5, 0.2, 0.6), (0.55, 0.35, 0.2), (0.5, 0.5, 0.5)),
    ],
    np.float32,
)


class _Outline(NamedTuple):
    """A star or polygon of ``corners`` (0: an ellipse), how deep its sides are notched, and its aspect."""

    corners: int
    notch: float
    aspect: float
    turn: float


class _Emblem(NamedTuple):
    """What all examples of a class have in common."""

    outer: _Outline
    rim: float
    symbol: _Outline
    symbol_size: float
    place: np.ndarray  # of the symbol [2]
    colours: np.ndarray  # of rim, field, texture and symbol [4, 3]
    waves: float  # of the texture over the field; 0: none
    along: float  # its direction


class Emblems(ArraySource):
    """Drawn signs, [3, size, size] in [0, 1]: a shape with a rim, a field with or without stripes, a symbol.

    A class is a choice of these and of their colours; its examples differ in place, size, turn, light, colour
    of the light, sharpness and noise, and in what is behind. Splits are disjoint in classes: 70 % `train`,
    15 % `validation`, 15 % `test`. All of them take some seconds to draw.

    Args:
        size: side of an image in pixels.
        classes: how many, at least 20.
        per_class: examples of each.
        seed: decides all that is drawn.

    Raises:
        TaskError: a setting makes no sense.

    Example:
        >>> emblems = Emblems(classes=20, per_class=2)
        >>> emblems.shape, len(emblems.classes("train"))
        ((3, 32, 32), 14)
    """

    def __init__(self, size: int = 32, classes: int = 400, per_class: int = 20, seed: int = 0) -> None:
        check_size("emblems", size)
        check_setting("emblems: classes", classes, least(20, most=10_000))
        check_setting("emblems: per_class", per_class, least(2, most=1000))
        check_setting("emblems: seed", seed, SEED)
        self._seed, self._per_class = seed, per_class
        self._there = np.zeros(classes, bool)
        ends = {"train": TRAIN * classes // 100, "validation": (TRAIN + VALIDATION) * classes // 100}
        members: dict[str, dict[str, np.ndarray]] = {}
        for split, (start, stop) in {
            "train": (0, ends["train"]),
            "validation": (ends["train"], ends["validation"]),
            "test": (ends["validation"], classes),
        }.items():
            members[split] = {
                f"{number:04d}": np.arange(number * per_class, (number + 1) * per_class)
                for number in range(start, stop)
            }
        images = np.empty((classes * per_class, 3, size, size), np.uint8)
        super().__init__(_card(classes, per_class), images, members)

    def load(self, indices: np.ndarray) -> torch.Tensor:
        """See `ArraySource.load`; classes are drawn when they are first asked for."""
        for number in np.unique(np.asarray(indices, np.int64) // self._per_class):
            self._draw(int(number))
        return super().load(indices)

    def digest(self) -> str:
        """See `ArraySource.digest`; draws what has not been drawn."""
        for number in range(len(self._there)):
            self._draw(number)
        return super().digest()

    def _draw(self, number: int) -> None:
        """All examples of a class."""
        if self._there[number]:
            return
        rng = np.random.default_rng([self._seed, number])
        emblem, first = _drawn(rng), number * self._per_class
        for row in range(first, first + self._per_class):
            self._examples[row] = np.round(255 * _pictured(emblem, self.shape[-1], rng))
        self._there[number] = True


def _drawn(rng: np.random.Generator) -> _Emblem:
    """A class."""
    colours = COLOURS[rng.permutation(len(COLOURS))[:4]]
    return _Emblem(
        _outline(rng),
        rng.choice([0.0, 0.12, 0.25]),
        _outline(rng),
        rng.uniform(0.25, 0.6),
        rng.uniform(-0.25, 0.25, 2),
        np.clip(colours + rng.normal(0, 0.06, colours.shape), 0, 1).astype(np.float32),
        rng.choice([0.0, 0.0, 1.5, 3.0]),
        rng.uniform(0, np.pi),
    )


def _outline(rng: np.random.Generator) -> _Outline:
    corners = int(rng.choice([0, 0, 3, 4, 4, 5, 6, 8]))
    notch = rng.choice([0.0, 0.0, 0.45]) if corners else 0.0
    return _Outline(corners, notch, rng.choice([0.6, 1.0, 1.0, 1.6]), rng.choice([0.0, 0.5]))


def _pictured(emblem: _Emblem, size: int, rng: np.random.Generator) -> np.ndarray:
    """An example of a class, ``[3, size, size]`` in [0, 1]."""
    side = FINER * size
    axis = (np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1
    x, y = np.meshgrid(axis, axis)
    turn, scale, stretch = rng.normal(0, 0.15), rng.uniform(0.6, 0.95), np.exp(rng.normal(0, 0.08))
    right, down = rng.uniform(-0.12, 0.12, 2)
    x, y = (x - right) / scale * stretch, (y - down) / scale / stretch
    x, y = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    rim, field, texture, symbol = emblem.colours[:, :, None, None]
    behind = np.kron(rng.uniform(0, 1, (3, 2, 2)), np.ones((side // 2, side // 2)))
    picture = np.where(_inside(emblem.outer, x, y, 1.0), rim, 0.7 * _smooth(behind) + 0.15)
    inner = _inside(emblem.outer, x, y, 1 - emblem.rim)
    stripes = np.sin(2 * np.pi * emblem.waves * (np.cos(emblem.along) * x + np.sin(emblem.along) * y)) > 0.2
    picture = np.where(inner, np.where(stripes, texture, field), picture)
    shifted = x - emblem.place[0], y - emblem.place[1]
    picture = np.where(inner & _inside(emblem.symbol, *shifted, emblem.symbol_size), symbol, picture)
    picture = picture.reshape(3, size, FINER, size, FINER).mean((2, 4))
    for _ in range(rng.integers(0, 3)):
        picture = _smooth(picture)
    light = np.exp(rng.normal(-0.25, 0.35)) * np.exp(rng.normal(0, 0.12, (3, 1, 1)))
    noise = rng.normal(0, rng.uniform(0, 0.06), picture.shape)
    return np.clip(light * picture + noise, 0, 1)


def _inside(outline: _Outline, x: np.ndarray, y: np.ndarray, size: float) -> np.ndarray:
    """Which points ``[side, side]`` are inside an outline of a radius."""
    x, y = x * outline.aspect**0.5, y / outline.aspect**0.5
    radius = np.hypot(x, y)
    if not outline.corners:
        return radius < size
    step = 2 * np.pi / outline.corners
    angle = np.mod(np.arctan2(x, -y) / step + outline.turn, 1) - 0.5  # of its side, ±½ at the corners
    edge = np.cos(step / 2) / np.cos(angle * step)
    return radius < size * edge * (1 - outline.notch * (1 - 2 * np.abs(angle)))


def _smooth(picture: np.ndarray) -> np.ndarray:
    """Means of a pixel and its neighbours ``[c, h, w]``, the border repeated."""
    for axis in (1, 2):
        padded = np.pad(picture, [(1, 1) if it == axis else (0, 0) for it in range(3)], mode="edge")
        length = picture.shape[axis]
        before, after = (padded.take(range(start, start + length), axis) for start in (0, 2))
        picture = (before + 2 * picture + after) / 4
    return picture


def _card(classes: int, per_class: int) -> Card:
    return Card(
        name="emblems",
        description="Coloured shapes with a rim, stripes and a symbol, in varying light, before colours.",
        origin="Drawn by tasks/images/emblems.py.",
        licence="none needed",
        terms="Drawn from random numbers; use for any purpose.",
        counts={"examples": classes * per_class, "classes": classes},
        known_issues=("Two classes may look alike by chance: nothing keeps them apart.",),
        personal_data="None.",
        domain="vision",
        commercial=True,
    )
