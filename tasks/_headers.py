"""Which column of a file is what: by its name, and by what stands in it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

from tasks._files import few, header_cells, read_text
from tasks._numbers import number
from tasks.source import TaskError

__all__ = ["Header", "Roles", "roles", "wrong_column"]

LABELS = (
    *("label", "labels", "class", "target", "category", "intent", "species", "sentiment", "outcome", "topic"),
    *("diagnosis", "y", "klass", "label_name", "class_name", "answer"),
)
#: Of these, the names that a column of inputs never has.
SURELY = ("label", "labels", "target")
TEXTS = (
    *("text", "texts", "sentence", "utterance", "query", "message", "question", "review", "comment", "tweet"),
    *("body", "content", "description", "title", "document"),
)
DELIMITERS = (",", ";", "\t", "|")
JSON_LINES = (".jsonl", ".ndjson", ".json")
#: Characters of a name in a message.
LONGEST = 200
#: Rows that are looked at.
SAMPLE = 200
#: Words, on average, from which on cells are texts.
WORDS = 2.5


@dataclass(frozen=True)
class Header:
    """The names of the columns of a file, what stands between them, and the cells of its first rows.

    Args:
        path: the file, for messages.
        content: all of it.
        names: of its columns, in order.
        delimiter: "" of JSON lines.
        sample: cells of up to 200 rows, by column.
    """

    path: Path
    content: str
    names: list[str]
    delimiter: str
    sample: dict[str, list[str]]

    @classmethod
    def of(cls, path: Path, encoding: str) -> Header:
        """Read a file.

        Raises:
            TaskError: it is not there, empty, or no text.
        """
        content = read_text(path, encoding, "")
        if not content.strip():
            raise TaskError(f"{path} is empty: it should have a line for each example")
        if path.suffix.lower() in JSON_LINES or content.lstrip()[0] in "{[":
            return cls._of_json(path, content)
        first = next(line for line in content.splitlines() if line.strip())
        found = [([name.strip() for name in header_cells(path, first, d)], d) for d in DELIMITERS]
        names, delimiter = max(found, key=lambda reading: len(reading[0]))
        # Tolerant: whoever reads the whole says what is wrong with a line.
        lines = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter)
        try:
            rows = [
                row for row in islice((row for row in lines if row), 1, 1 + SAMPLE) if len(row) == len(names)
            ]
        except csv.Error:
            rows = []
        sample = {name: [row[i].strip() for row in rows] for i, name in enumerate(names)}
        return cls(path, content, names, delimiter, sample)

    @classmethod
    def _of_json(cls, path: Path, content: str) -> Header:
        objects = []
        for line in islice((line for line in content.split("\n") if line.strip()), SAMPLE):
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                continue  # whoever reads the whole says which line
            if isinstance(value, dict):
                objects.append(value)
        if not objects:
            raise TaskError(
                f'{path}: its first lines are no JSON objects: write one per line, as {{"text": "...", '
                '"label": "..."}'
            )
        names = [*dict.fromkeys(key for value in objects for key in value)]
        sample = {name: [str(value.get(name, "")) for value in objects] for name in names}
        return cls(path, content, names, "", sample)


@dataclass(frozen=True)
class Roles:
    """What the columns of a file are: `text` is the column of texts, None in a table of other things."""

    label: str
    text: str | None
    notes: tuple[str, ...] = ()


def roles(header: Header, target: str | None, text: str | None) -> Roles:
    """Which column is to be predicted, and whether it is from one of texts or from all others.

    Args:
        target, text: what the user named.

    Raises:
        TaskError: no such column, or nothing tells which one is to be predicted.
    """
    for name, what in ((target, "target"), (text, "text")):
        if name is not None and name not in header.names:
            raise wrong_column(header.path, name, header.names, f"the column that {what} names")
    if len(header.names) < 2:
        raise TaskError(
            f"{header.path} has one column, {header.names[0]!r}: it should have one of labels beside those "
            "to learn from, and their names in its first line"
        )
    if all(number(name) is not None for name in header.names):
        raise TaskError(
            f"{header.path}: its first line holds numbers, where the names of the columns should be: put "
            "them into a line above"
        )
    texts = [text] if text else [name for name in header.names if name != target and _is_text(header, name)]
    label = target or _label(header, texts)
    texts = [name for name in texts if name != label]
    others = [name for name in header.names if name not in (label, *texts)]
    if text or (len(texts) == 1 and all(_names_rows(header, name) for name in others)):
        notes = (f"columns that are not read: {few(others)}.",) if others else ()
        return Roles(label, texts[0], (*notes, *_nameless(header, label)))
    if header.delimiter == "":
        raise TaskError(
            f"{header.path} is JSON lines, which are read for texts only: name the column of texts "
            f"(--text, of {few(header.names)}), or save the table as CSV"
        )
    return Roles(label, None, _nameless(header, label))


def _nameless(header: Header, label: str) -> tuple[str, ...]:
    """What to say where the first line may be an example."""
    if label not in header.sample[label]:
        return ()
    return (
        f"the first line was read as the names of the columns, though {label!r} is also one of the labels: "
        "if it is an example, put a line of names above it.",
    )


def wrong_column(path: Path, name: str, names: Sequence[str], what: str) -> TaskError:
    """The error of a column that is not there."""
    folded = {column.strip().casefold(): column for column in names}
    if len(name) > LONGEST:  # looking for one like it would take long
        name = f"{name[:LONGEST]} …"
    close = get_close_matches(name.casefold(), [*folded][:1000], n=1)
    hint = f"did you mean {folded[close[0]]!r}?" if close else f"it has {few([*map(repr, names)])}"
    return TaskError(f"{path} has no column {name!r} ({what}): {hint}")


def _label(header: Header, texts: Sequence[str]) -> str:
    """The column of labels, where the user named none."""
    named = [name for name in header.names if name.strip().casefold() in LABELS]
    surely = [name for name in named if name.strip().casefold() in SURELY]
    named = surely or named
    if len(named) == 1:
        return named[0]
    rest = [name for name in header.names if name not in texts]
    if not named and len(header.names) == 2 and len(rest) == 1:
        return rest[0]
    found = f"{few(named)} all look like it" if named else "no name says so"
    raise TaskError(
        f"{header.path}: which column is to be predicted? {found}: name it (--target, target= in Python), "
        f"one of {few(header.names)}"
    )


def _is_text(header: Header, name: str) -> bool:
    """Whether a column holds sentences rather than names."""
    cells = [cell for cell in header.sample[name] if cell]
    if not cells or any(number(cell) is not None for cell in cells[:20]):
        return False
    varied = len({*cells}) > 0.5 * len(cells)
    words = sum(len(cell.split()) for cell in cells) / len(cells)
    return varied and (words >= WORDS or name.strip().casefold() in TEXTS)


def _names_rows(header: Header, name: str) -> bool:
    """Whether a column only tells rows apart, or says which split they are in."""
    cells = header.sample[name]
    return len({*cells}) == len(cells) or name.strip().casefold() == "split" or not any(cells)
