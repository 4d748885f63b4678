"""Tables of which nothing is held back: all rows in one split, or training sets with their test set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tasks._csv import Table
from tasks._published import names_of, tested
from tasks.source import ArraySource, Card, TaskError
from tasks.tables._columns import Encoded
from tasks.values import ValueArrays

__all__ = ["Columns", "joined", "of_files", "of_rows", "standardised"]


class Columns(NamedTuple):
    """A table as it is read: its rows with a label, their labels (`values` where these are numbers), and how
    its inputs become numbers given training rows, and what it is called on a card."""

    table: Table
    label: str
    labels: list[str]
    rows: np.ndarray
    values: np.ndarray | None
    encoded: Callable[[np.ndarray], Encoded]
    card: Callable[[Encoded, list[str], int], Card]


def joined(tables: Sequence[Table]) -> tuple[Table, list[np.ndarray]]:
    """One table of the rows of several, with the columns of the first, and which rows are whose.

    Raises:
        TaskError: one lacks a column that the first has.
    """
    first = tables[0]
    rows: list[list[str]] = []
    for table in tables:
        positions = [table.position(name, f"a column of {first.path.name}") for name in first.header]
        rows += [[row[position] for position in positions] for row in table.rows]
    lines = [line for table in tables for line in table.lines]
    files = [table.path for table in tables for _ in table.rows]
    ends = np.cumsum([0, *(len(table.rows) for table in tables)])
    parts = [np.arange(start, stop) for start, stop in pairwise(ends.tolist())]
    return Table(first.path, first.header, rows, lines, tuple(files)), parts


def of_files(columns: Columns, parts: Sequence[np.ndarray], test: Path) -> ArraySource | ValueArrays:
    """Training sets and, the last of `parts`, the test set."""
    *training, asked = (np.intersect1d(part, columns.rows) for part in parts)
    if not len(asked):
        raise TaskError(f"{test}: no row has a value in column {columns.label!r}: a test set has labels")
    found = columns.encoded(np.concatenate(training))
    notes: list[str] = []
    names = names_of(len(training))
    if columns.values is not None:
        values, note = standardised(*columns[:2], columns.values, np.concatenate(training))
        members = dict(zip((*names, "query"), (*training, asked), strict=True))
        return ValueArrays(columns.card(found, [note], 0), found.inputs, values, members, names)
    by_label = [_by_label(columns.labels, part) for part in (*training, asked)]
    splits, notes = tested(by_label[:-1], by_label[-1], test)
    source = ArraySource(columns.card(found, notes, len(splits[names[0]])), found.inputs, splits)
    source.published = names
    return source


def of_rows(columns: Columns) -> ArraySource | ValueArrays:
    """All rows as one split, `all`, from which tasks draw what they learn from and what they predict."""
    if columns.values is not None:
        found = columns.encoded(columns.rows)
        values, note = standardised(*columns[:2], columns.values, columns.rows)
        return ValueArrays(columns.card(found, [note], 0), found.inputs, values, {"all": columns.rows})
    members = {name: rows for name, rows in _by_label(columns.labels, columns.rows).items() if len(rows) > 1}
    alone = len({columns.labels[row] for row in columns.rows}) - len(members)
    if len(members) < 2:
        several = f" of two rows or more ({alone} with a single one)" if alone else ""
        raise TaskError(
            f"{columns.table.path}: column {columns.label!r} has {len(members)} labels{several}, and tasks "
            "need two: "
            "add rows, or name another column with task.source.label"
        )
    notes = [f"{alone} classes with a single row were left out."] if alone else []
    found = columns.encoded(np.concatenate([*members.values()]))
    return ArraySource(columns.card(found, notes, len(members)), found.inputs, {"all": members})


def standardised(
    table: Table, label: str, numbers: np.ndarray, training: np.ndarray
) -> tuple[np.ndarray, str]:
    """Targets float32 [n, 1] in units of their deviation in `training`, and a sentence that says so.

    Raises:
        TaskError: they do not differ there.
    """
    mean, deviation = numbers[training].mean(), numbers[training].std()
    if not deviation > 0:
        raise TaskError(f"{table.path}: the values of column {label!r} do not differ in training")
    values = ((numbers - mean) / deviation).astype(np.float32)[:, None]
    return values, f"Targets are (value − {mean:.6g}) / {deviation:.6g}."


def _by_label(labels: Sequence[str], rows: np.ndarray) -> dict[str, np.ndarray]:
    found: dict[str, list[int]] = {}
    for row in rows.tolist():
        found.setdefault(labels[row], []).append(row)
    return {label: np.array(found[label]) for label in sorted(found)}
