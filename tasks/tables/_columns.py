"""From columns of text to numbers: standardised, or one number per category.

What is learned from the data (means, deviations, categories) is learned from the training rows alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tasks._csv import Table
from tasks._numbers import number, written_otherwise
from tasks.source import TaskError

__all__ = ["Encoded", "encode"]

MOSTLY = 0.5  # a column in which more of the cells than this are numbers is one of numbers


@dataclass
class Encoded:
    """Inputs float32 [n, D], the name of each of the D columns, and what a reader must know."""

    inputs: np.ndarray
    names: list[str]
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
    parts: list[np.ndarray] = []
    names: list[str] = []
    constant, filled = [], 0
    for column in columns:
        cells = table.column(column, "a column of inputs")
        values = None if column in categorical else _numbers(table, column, cells, decimal)
        if values is None:
            part, its = _one_hot(table, column, cells, training, most_categories)
            varies = len(its) > 2  # two categories and the column for others
        else:
            filled += int(np.isnan(values).sum())
            part, its = _standardised(column, values, training)
            varies = bool(part[training].any())
        if varies:
            parts.append(part)
            names += its
        else:
            constant.append(column)
    if not parts:
        raise TaskError(f"{table.path}: no column of inputs varies: there is nothing to learn from")
    notes = []
    if constant:
        notes.append(f"{len(constant)} columns are constant in training and left out: {', '.join(constant)}.")
    if filled:
        notes.append(f"{filled} missing numbers were replaced by the mean of the training rows, and marked.")
    return Encoded(np.concatenate(parts, 1).astype(np.float32), names, notes)


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


def _standardised(column: str, values: np.ndarray, training: np.ndarray) -> tuple[np.ndarray, list[str]]:
    missing = np.isnan(values)
    known = values[training][~missing[training]]
    mean, deviation = (known.mean(), known.std()) if len(known) else (0.0, 0.0)
    # A rounding error of the mean is no variation.
    scale = deviation if deviation > 1e-12 * max(abs(mean), 1e-300) else np.inf
    part = np.where(missing, 0, (values - mean) / scale)[:, None]
    if not missing.any():
        return part, [column]
    return np.hstack([part, missing[:, None]]), [column, f"{column} is missing"]


def _one_hot(
    table: Table, column: str, cells: list[str], training: np.ndarray, most: int
) -> tuple[np.ndarray, list[str]]:
    known = sorted({cells[row] for row in training})
    if len(known) > most:
        raise TaskError(
            f"{table.path}: column {column!r} has {len(known)} categories in the training rows: list it in "
            f"ignore if it only names the rows, or set most_categories={len(known)}"
        )
    position = {category: i for i, category in enumerate(known)}
    part = np.zeros((len(cells), len(known) + 1))
    part[np.arange(len(cells)), [position.get(cell, len(known)) for cell in cells]] = 1
    return part, [*(f"{column} = {category or 'missing'}" for category in known), f"{column} is unseen"]
