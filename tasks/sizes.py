"""How large a task is: ways, shots and queries, each a number or a distribution over numbers.

A distribution prints as what it may give (``1–10``), and compares with a number by its extremes: ``size < 2``
asks whether a draw may be smaller than two.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ._settings import check_setting, least, list_of, positive
from .source import TaskError

#: Examples of a class, or classes, that nobody has.
MOST = 10**9
#: Numbers in the examples of one task: four gigabytes.
LARGEST = 2**30

__all__ = [
    "Choice",
    "Size",
    "Uniform",
    "check_task",
    "checked_size",
    "copies_of",
    "draw_size",
    "fewest",
    "most",
    "positive_weights",
    "summary",
]


@dataclass(frozen=True)
class Uniform:
    """A whole number from ``low`` to ``high``, both included, each as likely.

    Example:
        >>> shots = Uniform(1, 10)
        >>> str(shots), shots < 2, shots > 10
        ('1–10', True, False)
    """

    low: int
    high: int

    def __post_init__(self) -> None:
        low, high = _plain(self.low), _plain(self.high)
        if not (_whole(low) and _whole(high) and low <= high):
            raise TaskError(f"Uniform(low={self.low}, high={self.high}): give whole numbers with low<=high")
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)

    @property
    def least(self) -> int:
        return self.low

    @property
    def most(self) -> int:
        return self.high

    def draw(self, rng: np.random.Generator) -> int:
        """One number."""
        return int(rng.integers(self.low, self.high, endpoint=True))

    def __lt__(self, other: int) -> bool:
        return self.least < other

    def __gt__(self, other: int) -> bool:
        return self.most > other

    def __str__(self) -> str:
        return f"{self.low}–{self.high}"


@dataclass(frozen=True)
class Choice:
    """One of ``values``, by ``weights`` (any positive scale; none: each as likely).

    Example:
        >>> str(Choice([1, 5, 10], weights=[1, 1, 2]))
        '1|5|10'
    """

    values: Sequence[int]
    weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        listed = isinstance(self.values, Sequence | np.ndarray) and not isinstance(self.values, str)
        values = tuple(map(_plain, self.values)) if listed else ()
        if not values or not all(map(_whole, values)):
            raise TaskError(f"Choice(values={self.values}): give at least one whole number")
        # Lists, as configs have them, would make the object unhashable.
        object.__setattr__(self, "values", values)
        if self.weights is not None:
            weights = positive_weights(self.weights)
            if weights is None or len(weights) != len(values):
                raise TaskError(f"Choice(weights={self.weights}): give a positive weight for each value")
            object.__setattr__(self, "weights", weights)

    @property
    def least(self) -> int:
        return min(self.values)

    @property
    def most(self) -> int:
        return max(self.values)

    def draw(self, rng: np.random.Generator) -> int:
        """One number."""
        weights = np.ones(len(self.values)) if self.weights is None else np.asarray(self.weights, float)
        return int(rng.choice(self.values, p=weights / weights.sum()))

    def __lt__(self, other: int) -> bool:
        return self.least < other

    def __gt__(self, other: int) -> bool:
        return self.most > other

    def __str__(self) -> str:
        return "|".join(map(str, self.values))


#: A number, or what it is drawn from.
Size = int | Uniform | Choice


def draw_size(size: Size, rng: np.random.Generator) -> int:
    """A number as it is, which takes nothing from ``rng``; of a distribution, one draw."""
    return size if isinstance(size, int) else size.draw(rng)


def fewest(size: Size) -> int:
    """The smallest number that may come."""
    return size if isinstance(size, int) else size.least


def most(size: Size) -> int:
    """The largest number that may come."""
    return size if isinstance(size, int) else size.most


def copies_of(parts: Iterable[Any]) -> int:
    """Support examples for each that was drawn, of those among ``parts`` (tasks) that draw the fewest."""
    all_of_them = list(parts)
    least_shots = min(fewest(tasks.shots) for tasks in all_of_them)
    return min(
        int(getattr(tasks, "copies", 1)) for tasks in all_of_them if fewest(tasks.shots) == least_shots
    )


def summary(sizes: Sequence[Size]) -> Size:
    """All that may come, as one size: for texts and checks, not to be drawn from."""
    ends = {end for size in sizes for end in (fewest(size), most(size))}
    if len(ends) == 1:
        return ends.pop()
    return sizes[0] if len(set(sizes)) == 1 else Choice(sorted(ends))


def checked_size(name: str, size: Size, fewest: int) -> Size:
    """A number of at least `fewest` as one of Python, or a distribution of such.

    Raises:
        TaskError: neither; the message gives name, value and range.
    """
    if isinstance(size, Uniform | Choice):
        if size < fewest:
            raise TaskError(f"{name}={size} is too small: use {name}>={fewest}")
        if size > MOST:
            raise TaskError(f"{name}={size} is too large: use {name}<={MOST:,}")
        return size
    return int(check_setting(name, size, least(fewest, most=MOST)))


def check_task(rows: int, shape: Sequence[int], asked: str) -> None:
    """Refuse a task whose examples would fill the memory.

    Args:
        rows: supports, queries and others that the largest task has.
        shape: of one example.
        asked: the settings that say so, for the message.

    Raises:
        TaskError: says how large it would be.
    """
    each = prod(shape)
    if rows * each > LARGEST:
        raise TaskError(
            f"{asked}: one task would hold {rows:,} examples of {each:,} numbers, {rows * each / 2**28:,.0f} "
            f"GiB, and the largest holds {LARGEST / 2**28:g}: use fewer"
        )


def positive_weights(weights: Sequence[float]) -> tuple[float, ...] | None:
    """Weights as numbers of Python; None if one of them is no positive, finite number."""
    try:
        return tuple(check_setting("weights", list(weights), list_of(positive())))
    except (TaskError, TypeError):
        return None


def _plain(value: object) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
