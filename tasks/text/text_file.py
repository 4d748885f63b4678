"""Texts of one's own, from a CSV, TSV or JSON-lines file."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from tasks._found_columns import text_columns
from tasks._own_splits import Divided, Words, check, divide
from tasks._published import Places, called, names_of, places_of, tested
from tasks._settings import check_setting
from tasks._settings import least as at_least
from tasks.source import Card, TaskError, TaskWarning
from tasks.text._clean import Notes, cleaned
from tasks.text._read import Columns, Row, read_rows
from tasks.text.source import TextSource, same

__all__ = ["TextFile"]

#: What the cells of a split column may say, in any case.
_SPLITS = {
    **dict.fromkeys(("train", "training", "support"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "query"), "test"),
}


class TextFile(TextSource):
    """Labelled texts of a file with a line (a JSON object) for each.

    The splits `support` and `query` are always there; they share classes, not texts.

    - The file says which: cells of `split_column` are train, validation or test. If these share no class,
      `train` and `validation` are splits, and `support` and `query` are 60 and 40 of 100 texts of each class
      of test. If every class of test is in train too, `support` is train, `query` is test (or
      validation, if there is no test), and `validation` stays what it is.
    - It does not: `split_by="classes"` gives 60, 20 and 20 of 100 classes to `train`, `validation` and test,
      and divides test as above; `"examples"` divides all classes as above, and there is neither `train` nor
      `validation`; `"auto"` is classes where there are 25 or more.

    Training sets and a test set may also be files of their own: `train_file` (or `file`) and `test_file`.
    They are then taken whole (`tasks.FixedTasks`): `support` is the training file (`support 1`, `support 2`,
    … are several), and `query` the test file, of which only texts without label, or of other classes, are
    left out. Training texts that are in the test file are left out, too.

    Texts are the same if they differ in case and white space only. What is left out or looks wrong is counted
    in one `TaskWarning` and on the card: blank cells, texts that are there twice (one stays, that of the
    split which is measured on), texts with two labels (none stays), classes of too few texts, and labels
    that look like others. The file is only read.

    Args:
        file: path of the file; `~` is the home folder. None is an error that says so.
        text_column: name of the column of texts; None: found by its name, or by what stands in it.
        label_column: name of the column of labels, likewise; numbers become strings.
        split_column: name of the column of splits; the column "split" need not be there; None: ignore it.
        split_by: see above.
        encoding: of the file.
        quotes: cells may stand between quotation marks.
        merge_case: labels that differ in case and white space only are one class, named as most of them are.
        least: texts that a class needs; those with fewer are left out.
        seed: of the divisions.
        licence: for the card.
        domain: field of use, for the card.
        train_file: path of a training file, or of several; see above.
        test_file: path of the test file.

    Raises:
        TaskError: the file cannot be used as it is; the message says where, why, and what to do.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "mood.csv"
        ...     lines = [f"it is a {word} day,{mood}" for word, mood in zip("abcd", ["up", "down"] * 2)]
        ...     _ = path.write_text("\\n".join(["text,label", *lines]), encoding="utf-8")
        ...     source = TextFile(path)
        >>> source.splits, [*source.classes("query")]
        (('support', 'query'), ['down', 'up'])
    """

    def __init__(
        self,
        file: str | os.PathLike[str] | None = None,
        text_column: str | None = "text",
        label_column: str | None = "label",
        split_column: str | None = "split",
        split_by: str = "auto",
        encoding: str = "utf-8",
        quotes: bool = True,
        merge_case: bool = False,
        least: int = 2,
        seed: int = 0,
        licence: str = "not stated",
        domain: str = "",
        train_file: str | Sequence[str] | None = None,
        test_file: str | os.PathLike[str] | None = None,
    ) -> None:
        places = places_of("file", file, train_file, test_file)
        if not places.training:
            raise TaskError("task.file is not set: give the path of a CSV, TSV or JSON-lines file")
        check(split_by, seed)
        two = at_least(2, "a class needs one text to learn and one to ask: least>=2")
        check_setting("task.source.least", least, two)
        path = Path(places.training[0]).expanduser()
        text, label, meant = text_columns(path, text_column, label_column, encoding)
        columns = Columns(text, label, split_column, meant)
        notes = Notes()

        def read(place: Path) -> list[Row]:
            return _read(place, columns, encoding, quotes)

        if places.test is None:
            rows = read(path)
            named = any(row.split for row in rows)
            rows = [replace(row, split=_split(row, path, columns) if named else "") for row in rows]
            rows = cleaned(rows, path, notes, merge_case=merge_case, least=least)
            divided, name = _divided(rows, split_by, seed, path), path.stem
        else:
            rows, divided = _of_files(places, read, notes, merge_case)
            name = called(path)
        members, texts = divided.members, [row.text for row in rows]
        card = Card(
            name=name,
            description=f"Texts of the file {path.name}, by label. {divided.how}",
            origin=f"The user's file {path.name}.",
            licence=licence,
            terms="Those of the file.",
            counts={
                "examples": len(texts),
                "classes": len({row.label for row in rows}),
                **{f"{s} examples": sum(map(len, classes.values())) for s, classes in members.items()},
                **{f"{s} classes": len(classes) for s, classes in members.items()},
            },
            known_issues=notes.said,
            personal_data="Not known: whatever the file holds.",
            domain=domain,
        )
        super().__init__(card, texts, members)
        self.published = divided.published
        if notes.said:
            warnings.warn(f"{path}: {' '.join(notes.said)}", TaskWarning, stacklevel=2)


def _read(path: Path, columns: Columns, encoding: str, quotes: bool) -> list[Row]:
    rows = read_rows(path, columns, encoding=encoding, quotes=quotes)
    if not rows:
        raise TaskError(f"{path} holds no texts, only the names of columns: add a line for each text")
    return rows


def _of_files(
    places: Places, read: Callable[[Path], list[Row]], notes: Notes, merge_case: bool
) -> tuple[list[Row], Divided]:
    """Rows of all files, and which of them are which training set and the test set."""
    asked_of = Path(str(places.test)).expanduser()
    test = [row for row in read(asked_of) if row.text.strip() and row.label.strip()]
    if not test:
        raise TaskError(f"{asked_of} holds no texts with labels: add a line for each")
    asked = {same(row.text) for row in test}
    rows, parts = [*test], []
    for place in places.training:
        path = Path(place).expanduser()
        found = [replace(row, split="") for row in read(path)]
        others = [row for row in found if same(row.text) not in asked]
        lost = len(found) - len(others)
        notes.count(lost, "text", "texts", f"of {path.name} left out for being in the test file, too")
        kept = cleaned(others, path, notes, merge_case=merge_case, least=1)
        parts.append(_numbers(kept, len(rows)))
        rows += kept
    members, said = tested(parts, _numbers(test, 0), asked_of)
    notes.said += tuple(said)
    return rows, Divided(members, "Training and test are files of their own.", published=names_of(len(parts)))


def _numbers(rows: Sequence[Row], start: int) -> dict[str, list[int]]:
    """Label -> numbers of its rows, of which the first is `start`."""
    found: dict[str, list[int]] = {}
    for number, row in enumerate(rows, start):
        found.setdefault(row.label.strip(), []).append(number)
    return found


def _split(row: Row, path: Path, columns: Columns) -> str:
    found = _SPLITS.get(row.split.strip().lower())
    if found is None:
        raise TaskError(
            f"{path}, line {row.line}, column {columns.split!r}: {row.split!r} is no split: write train, "
            "validation or test, or set task.source.split_column=null to divide the texts anew"
        )
    return found


def _divided(rows: Sequence[Row], split_by: str, seed: int, path: Path) -> Divided:
    """The numbers of the rows, by split and label."""
    given: dict[str, dict[str, list[int]]] = {}
    for index, row in enumerate(rows):
        given.setdefault(row.split, {}).setdefault(row.label, []).append(index)
    words = Words(
        place=str(path),
        one="text",
        many="texts",
        move="move its rows",
        test="write test",
        anew="set task.source.split_column=null",
        alone="check which column task.source.label_column names",
    )
    return divide(given, split_by, seed, words)
