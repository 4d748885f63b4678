"""Text files and rows of CSV as people have them: a mistake is one error that names line and fix."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from tasks.readers.regular import read_regular
from tasks.source import TaskError

__all__ = ["check_width", "csv_rows", "few", "header_cells", "read_text"]

#: How compressed files and spreadsheets begin.
PACKED = (b"PK\x03\x04", b"\x1f\x8b", b"\xd0\xcf\x11\xe0")
#: Encodings of names in the Internet, which take a time that grows with the square of the length.
NAMES_OF_HOSTS = ("idna", "punycode")
CLOSE = "close its quotes"
#: Columns that a table may have: what is wider is no table, or stands on its side.
MOST_COLUMNS = 100_000
#: Names that a message lists.
SHOWN = 20


def read_text(path: Path, encoding: str, setting: str) -> str:
    """What stands in a file, without a mark of byte order.

    Args:
        path: the file.
        encoding: of its text.
        setting: that names the file, for messages; "": it is named by no setting.

    Raises:
        TaskError: there is no such file, it may not be read, or it is no text in that encoding.
    """
    data = _bytes(path, setting)
    if data.startswith(PACKED):
        raise TaskError(f"{path} is a compressed file or a spreadsheet: save it as CSV or JSON lines")
    try:
        plain = encoding.lower().replace("_", "-") in ("utf-8", "utf8")
        text = data.decode("utf-8-sig" if plain else _codec(encoding))
        if not plain:
            text.encode()  # some decode to half a character, which nothing can be written with
    except UnicodeEncodeError:
        raise TaskError(
            f"{path} holds half a character in the encoding {encoding}, so this is another: use utf-8"
        ) from None
    except LookupError:
        raise TaskError(f"task.source.encoding={encoding} is not known: use for instance latin-1") from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        wide = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "latin-1"
        raise TaskError(
            f"{path}, line {line}: byte {data[error.start]:#04x} at position {error.start} of the file is "
            f"not {encoding}: save the file as UTF-8, or set task.source.encoding={wide}"
        ) from None
    except UnicodeError as error:  # of encodings that are not for files
        raise TaskError(f"{path} cannot be read in the encoding {encoding} ({error}): use utf-8") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise TaskError(
            f"{path}, line {line}: there is a null character, so this is no text in {encoding}: save the "
            "file as UTF-8, or set task.source.encoding=utf-16 if that is what it is"
        )
    return text


def _codec(encoding: str) -> str:
    """The encoding by the name that Python gives it; `LookupError` if it has none that is for files."""
    try:
        name = codecs.lookup(encoding).name
    except ValueError:  # no name at all
        raise LookupError from None
    if name in NAMES_OF_HOSTS:
        raise LookupError
    return name


def csv_rows(
    path: Path, text: str, delimiter: str, quotes: bool = True, fix: str = ""
) -> Iterator[tuple[int, list[str]]]:
    """The line that each row begins on, and its cells; lines without a character are passed over.

    Args:
        quotes: whether cells may stand between quotation marks.
        fix: what else can be done about quotes that do not match, for the message.

    Raises:
        TaskError: quotes that are never closed, a cell of more than 131,072 characters, or more columns than
            a table has.
    """
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    lines = _narrow(path, text, delimiter)
    rows = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
    begins = 1
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            what = f"shorten its text, {CLOSE}" if "limit" in str(error) else CLOSE
            raise TaskError(
                f"{path}, line {begins}: the row that begins here cannot be read ({error}): {what}{fix}"
            ) from None
        if row is None:
            return
        if len(row) > MOST_COLUMNS:
            raise _too_wide(path, begins, len(row))
        if row:
            yield begins, row
        begins = rows.line_num + 1


def header_cells(path: Path, line: str, delimiter: str) -> list[str]:
    """The cells of a line, in which quotes need not match; to try what stands between names of columns.

    Raises:
        TaskError: a cell of more than 131,072 characters, or more columns than a table has.
    """
    try:
        row = next(csv.reader(_narrow(path, line, delimiter), delimiter=delimiter))
    except csv.Error as error:
        raise TaskError(
            f"{path}, line 1: the names of columns cannot be read ({error}): shorten them"
        ) from None
    if len(row) > MOST_COLUMNS:
        raise _too_wide(path, 1, len(row))
    return row


def _narrow(path: Path, text: str, delimiter: str) -> Iterator[str]:
    """The lines of a text, looked at before they become cells; delimiters may stand in texts, too."""
    for number, line in enumerate(io.StringIO(text, newline=""), start=1):
        if len(line) > 10 * MOST_COLUMNS and (cells := line.count(delimiter)) > 10 * MOST_COLUMNS:
            raise _too_wide(path, number, cells + 1)
        yield line


def _too_wide(path: Path, line: int, cells: int) -> TaskError:
    return TaskError(
        f"{path}, line {line} has {cells:,} cells, and a table has {MOST_COLUMNS:,} columns at most: leave "
        "columns out, or turn it on its side if its rows are columns"
    )


def few(names: Sequence[str]) -> str:
    """Names for a message: some of them, where there are many."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def check_width(
    path: Path, line: int, cells: Sequence[str], header: Sequence[str], delimiter: str, fix: str = ""
) -> None:
    """Refuse a row of more or fewer cells than the header has; `fix`: what else can be done.

    Raises:
        TaskError: names the line.
    """
    if len(cells) != len(header):
        raise TaskError(
            f"{path}, line {line} has {len(cells)} cells, but the header has {len(header)}: put cells that "
            f"hold {delimiter!r} between quotation marks{fix}"
        )


def _bytes(path: Path, setting: str) -> bytes:
    try:
        return read_regular(path)
    except FileNotFoundError:
        beside = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
        close = get_close_matches(path.name, beside, n=1)
        hint = (
            f"did you mean {close[0]}?"
            if close
            else f"give its path{f' as {setting}=...' if setting else ''}"
        )
        raise TaskError(f"{path.absolute()} does not exist: {hint}") from None
    except IsADirectoryError:
        named = f" as {setting}=..." if setting else ""
        raise TaskError(f"{path} is a folder: name one file of it{named}") from None
    except PermissionError:
        raise TaskError(f"{path} may not be read: give yourself permission (chmod +r)") from None
    except OSError as error:
        raise TaskError(f"{path} cannot be read ({error.strerror}): check {setting or 'it'}") from None
