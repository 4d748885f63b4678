"""From columns of text to numbers: standardised, or one number per category.

What is learned from the data (means, deviations, categories) is learned from the training rows alone, and can
be kept (:class:`Encoding`) for rows that come later.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from tasks._csv import Table
from tasks._numbers import number, written_otherwise
from tasks.source import TaskError

__all__ = ["Column", "Encoded", "Encoding", "encode", "learn"]

MOSTLY = 0.5  # a column in which more of the cells than this are numbers is one of numbers


@dataclass(frozen=True)
class Column:
    """How the cells of one column become numbers.

    Args:
        name: of the column.
        categories: of a column of names, sorted; None: it is one of numbers.
        mean, deviation: of its numbers in the training rows.
        marked: whether there is a second number, 1 where the cell is empty.
    """

    name: str
    categories: tuple[str, ...] | None = None
    mean: float = 0.0
    deviation: float = 1.0
    marked: bool = False

    @property
    def names(self) -> list[str]:
        """Of the numbers that it becomes."""
        if self.categories is None:
            return [self.name, f"{self.name} is missing"] if self.marked else [self.name]
        known = (f"{self.name} = {category or 'missing'}" for category in self.categories)
        return [*known, f"{self.name} is unseen"]

    @property
    def varies(self) -> bool:
        """Whether the training rows differ in it."""
        if self.categories is None:
            return self.deviation > 0 or self.marked
        return len(self.categories) > 1

    def apply(self, table: Table, decimal: str) -> np.ndarray:
        """``[n, numbers]`` of the rows of a table.

        Raises:
            TaskError: no such column, or a cell that is no number where numbers are wanted.
        """
        cells = table.column(self.name, "a column of inputs")
        if self.categories is not None:
            position = {category: i for i, category in enumerate(self.categories)}
            part = np.zeros((len(cells), len(self.categories) + 1))
            others = len(self.categories)
            part[np.arange(len(cells)), [position.get(cell, others) for cell in cells]] = 1
            return part
        values = np.array([_value(table, self.name, row, cell, decimal) for row, cell in enumerate(cells)])
        missing = np.isnan(values)
        with np.errstate(over="ignore"):
            part = np.where(missing, 0, (values - self.mean) / (self.deviation or np.inf))[:, None]
        return np.hstack([part, missing[:, None]]) if self.marked else part


@dataclass(frozen=True)
class Encoding:
    """Columns, and the mark of decimals in their numbers."""

    columns: tuple[Column, ...]
    decimal: str = "."

    @property
    def names(self) -> list[str]:
        """Of the D numbers of a row."""
        return [name for column in self.columns for name in column.names]

    def apply(self, table: Table) -> np.ndarray:
        """The rows of a table as float32 ``[n, D]``.

        Raises:
            TaskError: a column is missing, or holds what is no number.
        """
        parts = [column.apply(table, self.decimal) for column in self.columns]
        with np.errstate(over="ignore"):
            numbers = np.concatenate(parts, 1).astype(np.float32)
        odd = np.argwhere(~np.isfinite(numbers))
        if len(odd):
            row, place = map(int, odd[0])
            raise TaskError(
                f"{table.at(row)}: the number in column {self.names[place]!r} is too far from those that "
                "were learned from: mend it, or leave the cell empty"
            )
        return numbers

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Encoding:
        """What :meth:`to_dict` gave.

        Raises:
            TaskError: it is something else.
        """
        try:
            columns = tuple(_column(**column) for column in kept["columns"])
            decimal = kept["decimal"]
        except (TypeError, KeyError, ValueError, OverflowError) as error:
            raise TaskError(f"how columns become numbers is not kept as expected ({error})") from None
        if not columns or decimal not in (".", ","):
            raise TaskError("how columns become numbers is not kept as expected: no columns, or no decimals")
        return cls(columns, decimal)


def _column(
    name: str, categories: Sequence[str] | None, mean: float, deviation: float, marked: bool
) -> Column:
    known = None if categories is None else tuple(map(str, categories))
    mean, deviation = float(mean), float(deviation)
    if not isinstance(name, str) or not math.isfinite(mean) or not 0 <= deviation < math.inf:
        raise ValueError(f"column {name!r}")
    return Column(name, known, mean, deviation, bool(marked))


@dataclass
class Encoded:
    """Inputs float32 [n, D], the name of each of the D columns, what a reader must know, and how it was
    done."""

    inputs: np.ndarray
    names: list[str]
    encoding: Encoding
    notes: list[str] = field(default_factory=list)


def encode(
    table: Table,
    columns: Sequence[str],
    training: np.ndarray,
    categorical: set[str],
    most_categories: int,
    decimal: str = ".",
) -> Encoded:
    """`columns` of `table` as numbers.

    A column of numbers becomes (value − mean) / standard deviation, with the mean where a value is missing,
    and then a second column that says so with a 1. Any other becomes one column of 0 and 1 for each category
    of the training rows (a missing cell is one), and one for categories that they do not have.

    Args:
        training: rows to learn from.
        categorical: columns whose numbers are names.
        most_categories: of a column; more are taken for a mistake.

    Raises:
        TaskError: text in a column of numbers, too many categories, or nothing left.
    """
    learned = [
        learn(table, name, training, name in categorical, most_categories, decimal) for name in columns
    ]
    encoding = Encoding(tuple(column for column in learned if column.varies), decimal)
    if not encoding.columns:
        raise TaskError(f"{table.path}: no column of inputs varies: there is nothing to learn from")
    constant = [column.name for column in learned if not column.varies]
    numeric = [column.name for column in learned if column.categories is None]
    filled = sum(table.column(name, "a column of inputs").count("") for name in numeric)
    notes = []
    if constant:
        notes.append(f"{len(constant)} columns are constant in training and left out: {', '.join(constant)}.")
    if filled:
        notes.append(f"{filled} missing numbers were replaced by the mean of the training rows, and marked.")
    return Encoded(encoding.apply(table), encoding.names, encoding, notes)


def learn(
    table: Table, name: str, training: np.ndarray, categorical: bool, most: int, decimal: str
) -> Column:
    """How a column becomes numbers, from the training rows.

    Raises:
        TaskError: text in a column of numbers, or too many categories.
    """
    cells = table.column(name, "a column of inputs")
    values = None if categorical else _numbers(table, name, cells, decimal)
    if values is None:
        known = sorted({cells[row] for row in training})
        if len(known) > most:
            raise TaskError(
                f"{table.path}: column {name!r} has {len(known)} categories in the training rows: list it "
                f"in ignore if it only names the rows, or set most_categories={len(known)}"
            )
        return Column(name, tuple(known))
    missing = np.isnan(values)
    known_values = values[training][~missing[training]]
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = (
            (float(known_values.mean()), float(known_values.std())) if len(known_values) else (0.0, 0.0)
        )
    if not math.isfinite(mean) or not math.isfinite(deviation):
        raise TaskError(
            f"{table.path}: the numbers in column {name!r} are too large to be calculated with: give them in "
            "another unit, or list the column in ignore"
        )
    # A rounding error of the mean is no variation.
    varies = deviation > 1e-12 * max(abs(mean), 1e-300)
    marked = bool(missing.any()) and (varies or bool(missing[training].any()))
    return Column(name, None, mean, deviation if varies else 0.0, marked)


def _numbers(table: Table, column: str, cells: list[str], decimal: str) -> np.ndarray | None:
    """The numbers of a column, NaN where missing; None if it is one of text."""
    found = [number(cell, decimal) for cell in cells]
    given = [value for value, cell in zip(found, cells, strict=True) if cell]
    odd = [row for row, value in enumerate(found) if value is None]
    if way := written_otherwise(cells, decimal):
        row, what, fix = way
        raise TaskError(
            f"{table.at(row)}: {cells[row]!r} in column {column!r} is {what}: {fix}, or list the column in "
            "categorical or ignore"
        )
    if not given or len(given) - len(odd) <= MOSTLY * len(given):
        return None
    if odd:
        raise TaskError(
            f"{table.at(odd[0])}: {cells[odd[0]]!r} in column {column!r} is no finite number, but "
            f"{len(given) - len(odd)} other cells are: mend it, leave the cell empty, or list the column in "
            "categorical"
        )
    return np.array(found, np.float64)


def _value(table: Table, column: str, row: int, cell: str, decimal: str) -> float:
    value = number(cell, decimal)
    if value is None:
        raise TaskError(
            f"{table.at(row)}: {cell!r} in column {column!r} is no finite number, and those that were "
            "learned from are: mend it, or leave the cell empty"
        )
    return value
