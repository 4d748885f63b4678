"""Texts of one's own: a CSV, TSV or JSON-lines file with a column of texts and one of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from tasks._headers import Header, wrong_column
from tasks._numbers import number
from tasks.own.examples import Labelled, Learned, OwnExamples
from tasks.source import TaskError
from tasks.text._clean import Notes, cleaned
from tasks.text._read import LONGEST, Columns, Row, read_rows

__all__ = ["Texts"]

#: Texts of one request.
MOST_AT_ONCE = 4096
#: Numbers as labels of which there are more, and hardly two alike, are values.
MANY = 20


@dataclass(frozen=True)
class Texts:
    """Texts, as they stand in the file.

    Args:
        text: name of the column of texts.
        label: name of the column of labels.
        encoding: of files.
    """

    text: str = "text"
    label: str = "label"
    encoding: str = "utf-8"

    kind: ClassVar[str] = "texts"
    one: ClassVar[str] = "text"
    many: ClassVar[str] = "texts"
    at_once: ClassVar[int] = MOST_AT_ONCE
    regression: ClassVar[bool] = False
    shape: ClassVar[None] = None

    def __post_init__(self) -> None:
        if not all(isinstance(value, str) for value in asdict(self).values()):
            raise TaskError("texts: names of columns and of the encoding are strings")

    @classmethod
    def learn(cls, path: Path, text: str, label: str, encoding: str) -> Learned:
        """All texts of a file but repeats, and those that have two labels.

        Raises:
            TaskError: the file cannot be used; names the line.
        """
        reader, notes = cls(text, label, encoding), Notes()
        rows = cleaned(reader._rows(path), path, notes, merge_case=False, least=1)
        labels = {row.label for row in rows}
        if len(labels) > MANY and 2 * len(labels) > len(rows) and None not in map(number, labels):
            raise TaskError(
                f"{path}: column {label!r} holds {len(labels)} different numbers, and from texts classes are "
                "predicted: make classes of them, such as low and high, or name another target"
            )
        return Learned(reader, reader._labelled(rows, notes.said))

    def labelled(self, path: Path) -> Labelled:
        """See :class:`tasks.own.Reader`."""
        rows = [row for row in self._rows(path) if row.text.strip() and row.label.strip()]
        if not rows:
            raise TaskError(f"{path} holds no texts with labels: add a line for each")
        return self._labelled(rows)

    def unlabelled(self, paths: Sequence[Path]) -> OwnExamples:
        """See :class:`tasks.own.Reader`. A file without header or columns (.txt) has a text in every line."""
        texts: list[str] = []
        names: list[str] = []
        for path in paths:
            header = Header.of(path, self.encoding)
            if path.suffix.lower() == ".txt":
                found = [(n, line) for n, line in enumerate(header.content.splitlines(), 1) if line.strip()]
            elif self.text in header.names:
                # Which column the labels are in does not matter, nor whether there is one.
                other = next((name for name in header.names if name != self.text), None)
                if other is None:
                    found = [
                        (n, line) for n, line in enumerate(header.content.splitlines()[1:], 2) if line.strip()
                    ]
                else:
                    found = [(row.line, row.text) for row in self._rows(path, other)]
            else:
                raise wrong_column(path, self.text, header.names, "the column of texts")
            texts += [text for _, text in found]
            names += [f"{path.name}, line {line}" for line, _ in found]
        if not texts:
            raise TaskError(
                f"{', '.join(map(str, paths)) or 'no file is given'}: there are no texts: add a line for each"
            )
        return OwnExamples(texts, names, texts)

    def request(self, value: Any) -> OwnExamples:
        """See :class:`tasks.own.Reader`."""
        texts = value if isinstance(value, list) else [value]
        texts = [text.get(self.text) if isinstance(text, dict) else text for text in texts]
        if not texts or not all(isinstance(text, str) for text in texts):
            raise TaskError(f'send a text, a list of texts, or {{"{self.text}": "..."}}')
        if len(texts) > MOST_AT_ONCE:
            raise TaskError(f"{len(texts)} texts at once, and at most {MOST_AT_ONCE} are taken: send fewer")
        if any(len(text) > LONGEST for text in texts):
            raise TaskError(f"a text of more than {LONGEST:,} characters: shorten it")
        return OwnExamples(texts, [f"text {row + 1}" for row in range(len(texts))], texts)

    def column(self, path: Path, name: str) -> dict[str, str]:
        """See :class:`tasks.own.Reader`."""
        names = Header.of(path, self.encoding).names
        if name not in names:
            raise wrong_column(path, name, names, "a column of groups")
        return {f"line {row.line}": row.label for row in self._rows(path, name)}

    def to_dict(self) -> dict[str, Any]:
        """See :class:`tasks.own.Reader`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Texts:
        """See :class:`tasks.own.Reader`."""
        try:
            return cls(**kept)
        except TypeError as error:
            raise TaskError(f"how texts are read is not kept as expected ({error})") from None

    def _rows(self, path: Path, label: str | None = None) -> list[Row]:
        header = Header.of(path, self.encoding)
        wanted = {"the column of texts": self.text, "the column of labels": label or self.label}
        for what, name in wanted.items():
            if name not in header.names:
                raise wrong_column(path, name, header.names, what)
        columns = Columns(self.text, label or self.label, None)
        try:
            return read_rows(path, columns, encoding=self.encoding)
        except TaskError as strict:
            try:  # quotation marks may be part of the texts
                return read_rows(path, columns, encoding=self.encoding, quotes=False)
            except TaskError:
                raise strict from None

    @staticmethod
    def _labelled(rows: Sequence[Row], notes: tuple[str, ...] = ()) -> Labelled:
        texts = [row.text for row in rows]
        return Labelled(
            OwnExamples(texts, [f"line {row.line}" for row in rows], texts, notes),
            [row.label.strip() for row in rows],
        )
