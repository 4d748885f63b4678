"""Tables in CSV files, with the lines that their rows stand on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path

from tasks._files import check_width, csv_rows, few, read_text
from tasks.source import TaskError

__all__ = ["Table", "columns_of", "read_csv"]

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
        files: the file of each row, where they are of several.
    """

    path: Path
    header: list[str]
    rows: list[list[str]]
    lines: list[int]
    files: tuple[Path, ...] = ()

    def column(self, name: str, setting: str) -> list[str]:
        """The cells [n] of a column that `setting` asks for; `TaskError` if there is none."""
        position = self.position(name, setting)
        return [row[position] for row in self.rows]

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: position for position, name in enumerate(self.header)}

    def position(self, name: str, setting: str) -> int:
        """The number of a column."""
        if name not in self._positions:
            close = get_close_matches(name, self.header[:1000], n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {few(self.header)}"
            raise TaskError(f"{self.path} has no column {name!r} ({setting}): {hint}")
        return self._positions[name]

    def at(self, row: int) -> str:
        """Where a row is, for messages."""
        return f"{self.files[row] if self.files else self.path}, line {self.lines[row]}"


def read_csv(file: str, encoding: str = "utf-8", delimiter: str = ",", unnamed: bool = False) -> Table:
    """The table in `file`, whose first line names the columns. Empty lines are passed over.

    Args:
        unnamed: columns without a name are called "column 1" and so on, by their place: the first, where
            pandas writes its index, or the last, where lines end with a delimiter.

    Raises:
        TaskError: it cannot be read: it does not exist, is empty or in another encoding, names a column
            twice, or a row has too many or too few cells.
    """
    path = Path(file).expanduser()
    rows, lines = [], []
    for line, cells in csv_rows(path, read_text(path, encoding, "task.source.file"), delimiter):
        if any(cell.strip() for cell in cells):
            stripped = [cell.strip() for cell in cells]
            rows.append(["" if cell.lower() in MISSING else cell for cell in stripped])
            lines.append(line)
    if len(rows) < 2:
        raise TaskError(f"{path} holds no rows: the first line names the columns, the others are data")
    header = rows[0]
    if unnamed:
        header[:] = [name or f"column {place}" for place, name in enumerate(header, start=1)]
    times = Counter(header)
    for position, name in enumerate(header):
        if not name:
            raise TaskError(f"{path}, line {lines[0]}: column {position + 1} has no name: give it one")
        if times[name] > 1:
            raise TaskError(f"{path}, line {lines[0]}: two columns are called {name!r}: rename one")
    for cells, line in zip(rows, lines, strict=True):
        check_width(path, line, cells, header, delimiter, ", or set delimiter")
    return Table(path, header, rows[1:], lines[1:])


def columns_of(names: Sequence[str], table: Table, setting: str) -> set[str]:
    """`names`, each of them a column of `table`."""
    if isinstance(names, str):
        raise TaskError(f"{setting}={names!r} is one name and no list: give {setting}=[{names}]")
    for name in names:
        table.position(name, setting)
    return {*names}
