"""A table of one's own: a CSV file with a column of what is to be predicted from the others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tasks._csv import Table as Cells
from tasks._csv import columns_of, read_csv
from tasks._files import few
from tasks._headers import WORDS, Header, wrong_column
from tasks._numbers import DATE, PADDED, check_decimal, number, written_otherwise
from tasks.own.examples import Labelled, Learned, OwnExamples
from tasks.source import TaskError
from tasks.tables._columns import Encoding, encode
from tasks.tables.table_file import label_values

__all__ = ["Table"]

#: Categories of a column; one of more names its rows.
MOST_CATEGORIES = 50
#: Rows of one request.
MOST_AT_ONCE = 10_000


@dataclass(frozen=True)
class Table:
    """Rows of a table as numbers, standardised.

    Args:
        target: name of the column of what is to be predicted.
        columns: how the others become numbers.
        regression: whether numbers are predicted.
        encoding: of files.
    """

    target: str
    columns: Encoding
    regression: bool = False
    encoding: str = "utf-8"

    kind: ClassVar[str] = "table"
    one: ClassVar[str] = "row"
    many: ClassVar[str] = "rows"
    at_once: ClassVar[int] = MOST_AT_ONCE

    @classmethod
    def learn(
        cls,
        path: Path,
        target: str,
        *,
        kind: str = "auto",
        ignore: Sequence[str] = (),
        categorical: Sequence[str] = (),
        encoding: str = "utf-8",
        decimal: str = ".",
    ) -> Learned:
        """All rows of a file that have a label. Columns that only tell rows apart are left out, with a note.

        Args:
            kind: "classes", "values", or "auto": values if all are numbers, of more than 20.

        Raises:
            TaskError: the file cannot be used; names the line or the column.
        """
        check_decimal(decimal)
        table = _read(path, encoding)
        named = columns_of(categorical, table, "categorical")
        left = columns_of(ignore, table, "ignore")
        padded = [name for name in table.header if _is_padded(table, name, decimal)]
        named |= {*padded}
        labels = table.column(target, "target")
        rows = np.array([row for row, cell in enumerate(labels) if cell], np.int64)
        notes = []
        if len(rows) < len(labels):
            notes.append(f"{len(labels) - len(rows)} rows without {target} were left out.")
        if not len(rows):
            raise TaskError(f"{path}: no row has a value in column {target!r}: name another target")
        values = label_values(table, target, labels, rows, kind, decimal)
        inputs = []
        for name in table.header:
            if name == target or name in left:
                continue
            if reason := _useless(table, name, rows, name in named, decimal):
                notes.append(f"column {name!r} is left out: {reason}.")
            else:
                inputs.append(name)
        if not inputs:
            raise TaskError(
                f"{path}: no column is left to predict {target!r} from: {' '.join(notes) or 'add one'}"
            )
        if padded := [name for name in padded if name in inputs]:
            notes.append(f"columns of numbers that begin with a zero are read as names: {few(padded)}.")
        found = encode(table, inputs, rows, named, MOST_CATEGORIES, decimal)
        reader = cls(target, found.encoding, values is not None, encoding)
        y = [labels[row] for row in rows] if values is None else values[rows]
        return Learned(reader, Labelled(reader._examples(table, rows, (*notes, *found.notes)), y))

    @property
    def shape(self) -> tuple[int, ...]:
        """See :class:`tasks.own.Reader`."""
        return (len(self.columns.names),)

    def labelled(self, path: Path) -> Labelled:
        """See :class:`tasks.own.Reader`."""
        table = self._table(path)
        if self.target not in table.header:
            raise wrong_column(path, self.target, table.header, "what is to be predicted")
        labels = table.column(self.target, "target")
        rows = np.array([row for row, cell in enumerate(labels) if cell], np.int64)
        if not len(rows):
            raise TaskError(f"{path}: no row has a value in column {self.target!r}: add it, or use predict")
        if not self.regression:
            return Labelled(self._examples(table, rows), [labels[row] for row in rows])
        found = [number(labels[row], self.columns.decimal) for row in rows]
        if None in found:
            row = int(rows[found.index(None)])
            raise TaskError(f"{table.at(row)}: {labels[row]!r} in column {self.target!r} is no finite number")
        return Labelled(self._examples(table, rows), np.array(found, np.float64))

    def unlabelled(self, paths: Sequence[Path]) -> OwnExamples:
        """See :class:`tasks.own.Reader`."""
        parts = [self._examples(table, range(len(table.rows))) for table in map(self._table, paths)]
        if not sum(map(len, parts)):
            raise TaskError(f"{', '.join(map(str, paths)) or 'no file is given'}: there are no rows")
        several = len(parts) > 1
        names = [
            f"{path}, {name}" if several else name
            for path, p in zip(paths, parts, strict=True)
            for name in p.names
        ]
        return OwnExamples(np.concatenate([p.x for p in parts]), names, [s for p in parts for s in p.shown])

    def request(self, value: Any) -> OwnExamples:
        """See :class:`tasks.own.Reader`."""
        rows = value if isinstance(value, list) else [value]
        wanted = [column.name for column in self.columns.columns]
        if not rows or not all(isinstance(row, Mapping) for row in rows):
            raise TaskError(f"send the cells of a row by the names of columns: {', '.join(wanted)}")
        if len(rows) > MOST_AT_ONCE:
            raise TaskError(f"{len(rows)} rows at once, and at most {MOST_AT_ONCE} are taken: send fewer")
        if unknown := sorted({str(name) for row in rows for name in row} - {*wanted, self.target}):
            raise wrong_column(Path("the request"), unknown[0], wanted, "a cell of a row")
        cells = [[_cell(row.get(name)) for name in wanted] for row in rows]
        return self._examples(Cells(Path("row"), wanted, cells, [*range(1, len(rows) + 1)]), range(len(rows)))

    def column(self, path: Path, name: str) -> dict[str, str]:
        """See :class:`tasks.own.Reader`."""
        table = self._table(path)
        cells = table.column(name, "a column of groups")
        return {f"line {line}": cell for line, cell in zip(table.lines, cells, strict=True)}

    def to_dict(self) -> dict[str, Any]:
        """See :class:`tasks.own.Reader`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Table:
        """See :class:`tasks.own.Reader`."""
        try:
            columns = Encoding.from_dict(kept["columns"])
            target, encoding, regression = kept["target"], kept["encoding"], kept["regression"]
        except (TypeError, KeyError) as error:
            raise TaskError(f"how rows are read is not kept as expected ({error})") from None
        if not isinstance(target, str) or not isinstance(encoding, str) or not isinstance(regression, bool):
            raise TaskError("how rows are read is not kept as expected: target, encoding, regression")
        return cls(target, columns, regression, encoding)

    def _table(self, path: Path) -> Cells:
        return _read(path, self.encoding)

    def _examples(
        self, table: Cells, rows: Sequence[int] | np.ndarray, notes: tuple[str, ...] = ()
    ) -> OwnExamples:
        rows = [*map(int, rows)]
        part = Cells(
            table.path, table.header, [table.rows[row] for row in rows], [table.lines[row] for row in rows]
        )
        shown = [
            ", ".join(
                f"{name}={cell}" for name, cell in zip(table.header, row, strict=True) if name != self.target
            )
            for row in part.rows
        ]
        return OwnExamples(self.columns.apply(part), [f"line {line}" for line in part.lines], shown, notes)


def _read(path: Path, encoding: str) -> Cells:
    delimiter = Header.of(path, encoding).delimiter
    if not delimiter:
        raise TaskError(f"{path} is JSON lines, and a table is read from CSV: save it as that")
    return read_csv(str(path), encoding, delimiter, unnamed=True)


def _is_padded(table: Cells, name: str, decimal: str) -> bool:
    """Whether a column holds what postcodes are: numbers, some of which begin with a zero."""
    found = written_otherwise([row[table.position(name, "a column")] for row in table.rows], decimal)
    return found is not None and found[1] == PADDED


def _useless(table: Cells, name: str, rows: np.ndarray, categorical: bool, decimal: str) -> str:
    """Why a column is nothing to learn from, or nothing."""
    cells = [table.rows[row][table.position(name, "a column")] for row in rows]
    odd = None if categorical else written_otherwise(cells, decimal)
    if odd is not None and odd[1] == DATE:
        return f"it holds dates or times; {odd[2]}, to learn from them"
    if odd is not None and odd[1] != PADDED:
        return ""  # they are numbers, and whoever reads them says how they are to be written
    given = [cell for cell in cells if cell]
    values = [number(cell, decimal) for cell in given]
    if len(given) == len(cells) > 2 and not categorical and None not in values:
        with np.errstate(over="ignore"):
            steps = np.diff(np.array(values, np.float64))
        if (steps == 1).all() and values[0] in (0, 1) and len(table.header) > 2:
            return "it numbers the rows"
    elif len({*given}) > MOST_CATEGORIES and (
        categorical or sum(v is None for v in values) * 2 > len(values)
    ):
        texts = sum(len(cell.split()) for cell in given) >= WORDS * len(given)
        alone = f"; to predict from these texts alone: --text {name!r} (text= in Python)" if texts else ""
        return f"it has {len({*given})} different names{alone}"
    return ""


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TaskError(f"a cell that is a {type(value).__name__}: send a string or a number")
    return str(value).strip()
