"""Rows of a file of texts: CSV, TSV or JSON lines, with an error that names the line for each mistake."""

from __future__ import annotations

import difflib
import io
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks._files import check_width, csv_rows, few, header_cells, read_text
from tasks.source import TaskError

__all__ = ["Columns", "Row", "read_rows"]

#: Characters of a cell, as in the csv module: more is a quote that is never closed, or no text to classify.
LONGEST = 131_072
_DELIMITERS = (",", ";", "\t", "|")
QUOTES = ", or set task.source.quotes=false if quotation marks are part of the texts"


@dataclass(frozen=True)
class Row:
    """Cells as they stand in the file, missing ones empty; `line` is where the row begins, from 1."""

    line: int
    text: str
    label: str
    split: str = ""


@dataclass(frozen=True)
class Columns:
    """Names of columns; `split` is read where the file has it, and has to be there unless it is "split"."""

    text: str = "text"
    label: str = "label"
    split: str | None = "split"
    #: What to set instead, for messages, where that is known.
    meant: str = ""

    def __post_init__(self) -> None:
        names = [name for name in (self.text, self.label, self.split) if name is not None]
        if len(set(names)) < len(names):
            raise TaskError(
                f"task.source: text_column={self.text}, label_column={self.label} and "
                f"split_column={self.split} should be different columns"
            )

    @property
    def needed(self) -> dict[str, str]:
        """Setting -> the column that it names, of those that have to be there."""
        needed = {"text_column": self.text, "label_column": self.label}
        return needed if self.split in (None, "split") else {**needed, "split_column": str(self.split)}

    def check(self, found: Sequence[str], place: str) -> None:
        """Raise if a needed column is not among `found`."""
        for setting, name in self.needed.items():
            if name in found:
                continue
            folded = {column.strip().casefold(): column for column in found}
            close = difflib.get_close_matches(name.casefold(), [*folded][:1000], n=1)
            alike = folded[close[0]] if close else ""
            sure = alike and (not self.meant or f"{setting}={alike}" in self.meant)
            hint = f", did you mean {alike!r}?" if sure else ""
            raise TaskError(
                f"{place}: there is no column {name!r} among {few([*map(repr, found)])}{hint}: name yours "
                f"with {self.meant or f'task.source.{setting}=...'}, or put the names of columns into the "
                "first line"
            )


def read_rows(path: Path, columns: Columns, *, encoding: str = "utf-8", quotes: bool = True) -> list[Row]:
    """All rows of a file with a header, or of JSON objects, one per line.

    Args:
        path: which of the three it is, is read from the suffix (.csv, .tsv, .jsonl) or, if it has another,
            from the first character; which of comma, semicolon, tab and bar stands between cells, from the
            header.
        columns: where the text and the label are.
        encoding: of the file; a byte order mark may begin it.
        quotes: cells may stand between quotation marks, as spreadsheets write them.

    Raises:
        TaskError: the file cannot be read, or not as such a table; the message names the line and the fix.
    """
    text = read_text(path, encoding, "task.file")
    if not text.strip():
        raise TaskError(f"{path} is empty: it should hold a line for each text")
    suffix = path.suffix.lower()
    tables, lines = (".csv", ".tsv", ".tab"), (".jsonl", ".ndjson", ".json")
    if suffix in lines or (suffix not in tables and text.lstrip()[0] in "{["):
        return list(_json_lines(path, text, columns))
    return list(_table(path, text, columns, quotes))


def _table(path: Path, text: str, columns: Columns, quotes: bool) -> Iterator[Row]:
    header, delimiter = _header(path, text, columns)
    twice = sorted(name for name, times in Counter(header).items() if name and times > 1)
    if twice:
        raise TaskError(f"{path}, line 1: column {twice[0]!r} is there twice: rename one of them")
    for number, (line, row) in enumerate(csv_rows(path, text, delimiter, quotes, QUOTES)):
        check_width(path, line, row, header, delimiter)
        if number:  # the first is the header
            named = dict(zip(header, row, strict=True))
            yield Row(line, named[columns.text], named[columns.label], named.get(columns.split or "", ""))


def _header(path: Path, text: str, columns: Columns) -> tuple[list[str], str]:
    """Names of columns, and the delimiter under which those that are needed are among them."""
    first = next(line for row in io.StringIO(text, newline=None) if (line := row.rstrip("\n")))
    tabs_first = path.suffix.lower() in (".tsv", ".tab")
    ordered = sorted(_DELIMITERS, key=lambda d: d != "\t") if tabs_first else _DELIMITERS
    readings = [([name.strip() for name in header_cells(path, first, d)], d) for d in ordered]
    for names, delimiter in readings:
        if set(columns.needed.values()) <= set(names):
            return names, delimiter
    names, delimiter = max(readings, key=lambda reading: len(reading[0]))  # the first of the longest
    columns.check(names, f"{path}, line 1")
    raise AssertionError("check raises")  # pragma: no cover


def _json_lines(path: Path, text: str, columns: Columns) -> Iterator[Row]:
    objects: list[tuple[int, dict[str, Any]]] = []
    for line, written in enumerate(text.split("\n"), start=1):  # not splitlines: U+2028 may stand in a text
        if not written.strip():
            continue
        try:
            value = json.loads(written)
        except json.JSONDecodeError as error:
            whole = written.lstrip()[0] == "[" or written.strip() == "{"
            fix = "write one object per line" if whole else "repair the line"
            raise TaskError(
                f"{path}, line {line}: not JSON at column {error.colno} ({error.msg}): {fix}"
            ) from None
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, say
            raise TaskError(f"{path}, line {line}: cannot be read ({error}): repair the line") from None
        if not isinstance(value, dict):
            raise TaskError(
                f"{path}, line {line}: a {type(value).__name__} where an object should be: write one object "
                f'per line, as {{"{columns.text}": "...", "{columns.label}": "..."}}'
            )
        objects.append((line, value))
    columns.check(list(dict.fromkeys(key for _, value in objects for key in value)), str(path))
    kinds: dict[str, tuple[bool, int]] = {}  # label -> whether it is a string, and the line that says so
    for line, value in objects:
        cells = [
            "" if name is None else _cell(value.get(name), f"{path}, line {line}, column {name!r}")
            for name in (columns.text, columns.label, columns.split)
        ]
        kind, first = kinds.setdefault(cells[1], (isinstance(value.get(columns.label), str), line))
        if cells[1] and kind != isinstance(value.get(columns.label), str):
            raise TaskError(
                f"{path}, line {line}, column {columns.label!r}: {cells[1]} is a string here or in line "
                f"{first}, and none in the other: write all labels as strings"
            )
        yield Row(line, *cells)


def _cell(value: Any, place: str) -> str:
    """What a CSV would hold: nothing for null and NaN, numbers as they are written, true and false."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, dict | list):
        raise TaskError(f"{place}: a {type(value).__name__} where a string should be: write one string")
    text = value if isinstance(value, str) else json.dumps(value)
    if len(text) > LONGEST:
        raise TaskError(f"{place}: {len(text):,} characters, and at most {LONGEST:,} are read: shorten it")
    return text
