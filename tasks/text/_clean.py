"""Which rows of one's own data can be used, and what is said of the others."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tasks.source import TaskError
from tasks.text._read import Row
from tasks.text.source import same

__all__ = ["Notes", "cleaned"]

#: Who keeps a text that is in two splits: the side that is measured.
_KEEPS = ("test", "validation", "train", "")


class Notes:
    """What is wrong with the data but does not stop us, one sentence each, in `said`."""

    def __init__(self) -> None:
        self.said: tuple[str, ...] = ()

    def rows(self, lines: Sequence[int], one: str, several: str, rest: str) -> None:
        """Of rows that begin in `lines`; nothing is said of none."""
        if lines:
            self.count(len(lines), one, several, f"{rest} (the first in line {min(lines)})")

    def count(self, number: int, one: str, several: str, rest: str) -> None:
        """Of so many; nothing is said of none."""
        if number:
            self.said += (f"{number} {one if number == 1 else several} {rest}.",)


def cleaned(rows: Sequence[Row], path: Path, notes: Notes, *, merge_case: bool, least: int) -> list[Row]:
    """Rows with a text that is nobody else's, in classes of at least `least`, in the order of the file.

    Raises:
        TaskError: fewer than two classes are left.
    """
    full = [row for row in rows if not (_blank(row.text) or _blank(row.label))]
    lost = sorted({row.line for row in rows} - {row.line for row in full})
    notes.rows(lost, "row was", "rows were", "left out for having no text or no label")
    full = _spelt(full, notes, merge_case)

    labels: dict[str, set[str]] = {}
    for row in full:
        labels.setdefault(same(row.text), set()).add(row.label)
    clear = [row for row in full if len(labels[same(row.text)]) == 1]
    lost = sorted({row.line for row in full} - {row.line for row in clear})
    notes.rows(lost, "row was", "rows were", "left out for having a text that other rows label otherwise")

    first: dict[str, Row] = {}
    for row in sorted(clear, key=lambda row: _KEEPS.index(row.split)):  # stable: the first row of a split
        first.setdefault(same(row.text), row)
    lost = sorted({row.line for row in clear} - {row.line for row in first.values()})
    notes.rows(lost, "row was", "rows were", "left out for repeating the text and label of another")

    sizes = Counter(row.label for row in first.values())
    small = sorted(label for label, size in sizes.items() if size < least)
    names = ", ".join(map(repr, small[:3])) + (", ..." if len(small) > 3 else "")
    notes.count(
        len(small), "class was", "classes were", f"left out for having fewer than {least} texts: {names}"
    )
    left = sizes.keys() - small
    if len(left) < 2:
        only = f"only the class {min(left)!r}" if left else "no class"
        because = f" ({' '.join(notes.said)})" if notes.said else ""
        raise TaskError(
            f"{path} has {only} of at least {least} different texts{because}: add texts until there are two "
            "such classes, or check which column task.source.label_column names"
        )
    return sorted((row for row in first.values() if row.label in left), key=lambda row: row.line)


def _blank(cell: str) -> bool:
    """A cell with nothing in it, or with what pandas writes for that."""
    return cell.strip() in ("", "nan", "NaN")


def _spelt(rows: list[Row], notes: Notes, merge: bool) -> list[Row]:
    """Rows whose labels differ in case and white space only: counted, and made one if `merge`."""
    spellings: dict[str, Counter[str]] = {}
    for row in rows:
        spellings.setdefault(same(unicodedata.normalize("NFKC", row.label)), Counter())[row.label] += 1
    alike = [[*found] for found in spellings.values() if len(found) > 1]
    if not alike:
        return rows
    done = "made one" if merge else "kept apart (task.source.merge_case=true makes them one)"
    notes.count(
        len(alike),
        "label is",
        "labels are",
        f"spelt in several ways, such as {alike[0][0]!r} and {alike[0][1]!r}: {done}",
    )
    if not merge:
        return rows
    usual = {label: found.most_common(1)[0][0] for found in spellings.values() for label in found}
    return [replace(row, label=usual[row.label]) for row in rows]
