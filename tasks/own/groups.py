"""Groups of people, places or things, by a column of a file: whether a model does as well by all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks._numbers import number
from tasks.own.examples import Reader
from tasks.source import TaskError

__all__ = ["Grouping"]

#: Groups that a column may make.
MOST = 50
#: Different numbers in a column from which on somebody has to say where to divide it.
MANY = 10
#: Of an example whose cell is empty.
UNKNOWN = "not given"


@dataclass(frozen=True)
class Grouping:
    """A column, and for one of numbers where it is divided.

    Args:
        column: its name.
        limit: numbers up to it are one group, others another; None: every value is a group.

    Example:
        >>> Grouping.of("age<=25")
        Grouping(column='age', limit=25.0)
    """

    column: str
    limit: float | None = None

    @classmethod
    def of(cls, typed: str) -> Grouping:
        """Of what somebody typed: ``sex``, or ``age<=25``.

        Raises:
            TaskError: what follows ``<=`` is no number.
        """
        column, sign, limit = typed.partition("<=")
        if not sign:
            return cls(typed.strip())
        value = number(limit.strip())
        if value is None or not math.isfinite(value) or not column.strip():
            raise TaskError(f"group {typed!r}: write a column, or a column and a number as in 'age<=25'")
        return cls(column.strip(), value)

    def __str__(self) -> str:
        return self.column if self.limit is None else f"{self.column}<={self.limit:g}"

    def of_examples(self, reader: Reader, path: Path, names: Sequence[str]) -> list[str]:
        """The group of each of the examples of a file, by their ``names [n]``.

        Raises:
            TaskError: no such column, or one that makes no groups.
        """
        cells = reader.column(path, self.column)
        found = [cells.get(name, "").strip() for name in names]
        if self.limit is not None:
            return [self._side(cell, path) for cell in found]
        given = [cell for cell in found if cell]
        values = [number(cell) for cell in given]
        if len({*given}) > MANY and None not in values:
            middle = sorted(value for value in values if value is not None)[len(values) // 2]
            raise TaskError(
                f"{path}: column {self.column!r} holds {len({*given})} numbers: say where to divide it, as "
                f"in '{self.column}<={middle:g}'"
            )
        if len({*given}) > MOST:
            raise TaskError(
                f"{path}: column {self.column!r} makes {len({*given})} groups, and {MOST} are told apart: "
                "name another column"
            )
        return [cell or UNKNOWN for cell in found]

    def _side(self, cell: str, path: Path) -> str:
        if not cell:
            return UNKNOWN
        value = number(cell)
        if value is None or self.limit is None:
            raise TaskError(f"{path}: {cell!r} in column {self.column!r} is no number: leave <= out")
        return f"up to {self.limit:g}" if value <= self.limit else f"above {self.limit:g}"
