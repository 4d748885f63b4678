"""CSV files as people have them: every mistake is one error that names the line and the fix."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from tasks.source import TaskError

__all__ = ["Table", "columns_of", "number", "read_csv"]

#: Cells that say that there is no value, in any case.
MISSING = {"", "na", "n/a", "nan", "null", "none", "?"}


@dataclass(frozen=True)
class Table:
    """The cells of a file as text, stripped; a missing one is "".

    Args:
        path: the file, for messages.
        header: names of the columns.
        rows: n rows of cells.
        lines: the line of the file that each row begins on.
    """

    path: Path
    header: list[str]
    rows: list[list[str]]
    lines: list[int]

    def column(self, name: str, setting: str) -> list[str]:
        """The cells [n] of a column that `setting` asks for; `TaskError` if there is none."""
        return [row[self.position(name, setting)] for row in self.rows]

    def position(self, name: str, setting: str) -> int:
        """The number of a column."""
        if name not in self.header:
            close = get_close_matches(name, self.header, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(self.header)}"
            raise TaskError(f"{self.path} has no column {name!r} ({setting}): {hint}")
        return self.header.index(name)

    def at(self, row: int) -> str:
        """Where a row is, for messages."""
        return f"{self.path}, line {self.lines[row]}"


def read_csv(file: str, encoding: str = "utf-8", delimiter: str = ",") -> Table:
    """The table in `file`, whose first line names the columns. Empty lines are passed over.

    Raises:
        TaskError: it cannot be read: it does not exist, is empty or in another encoding, names a column
            twice, or a row has too many or too few cells.
    """
    path = Path(file).expanduser()
    text = _text(path, encoding)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows, lines, begin = [], [], 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                stripped = [cell.strip() for cell in cells]
                rows.append(["" if cell.lower() in MISSING else cell for cell in stripped])
                lines.append(begin)
            begin = reader.line_num + 1
    except csv.Error as error:
        raise TaskError(
            f"{path}, line {begin}: {error}: look for a quote that is never closed, or for a huge cell"
        ) from None
    if len(rows) < 2:
        raise TaskError(f"{path} holds no rows: the first line names the columns, the others are data")
    header = rows[0]
    for position, name in enumerate(header):
        if not name:
            raise TaskError(f"{path}, line {lines[0]}: column {position + 1} has no name: give it one")
        if header.count(name) > 1:
            raise TaskError(f"{path}, line {lines[0]}: two columns are called {name!r}: rename one")
    for cells, line in zip(rows, lines, strict=True):
        if len(cells) != len(header):
            raise TaskError(
                f"{path}, line {line} has {len(cells)} cells, but the header has {len(header)}: quote cells "
                f"that hold a {delimiter!r}, or set delimiter"
            )
    return Table(path, header, rows[1:], lines[1:])


def number(cell: str) -> float | None:
    """The finite number in a cell, NaN for a missing one, None for anything else."""
    if not cell:
        return math.nan
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def columns_of(names: Sequence[str], table: Table, setting: str) -> set[str]:
    """`names`, each of them a column of `table`."""
    for name in names:
        table.position(name, setting)
    return {*names}


def _text(path: Path, encoding: str) -> str:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise TaskError(f"{path} does not exist: set file to the path of a CSV file") from None
    except OSError as error:
        raise TaskError(f"{path} cannot be read ({error.strerror}): check the path and its rights") from None
    try:
        return raw.decode("utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise TaskError(
            f"{path}, line {line}: byte {raw[error.start]:#04x} is not {encoding}: set encoding, for "
            "instance encoding=latin-1"
        ) from None
    except LookupError:
        raise TaskError(f"encoding={encoding} is unknown: use for instance utf-8 or latin-1") from None
