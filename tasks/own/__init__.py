"""Data of one's own as they are, without a config: what kind they are, which column is what, and how more of
them are read later. Nothing is drawn from them: all examples are used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from tasks._headers import Header, roles
from tasks.images._listing import SUFFIXES
from tasks.own.examples import Labelled, Learned, OwnExamples, Reader
from tasks.own.pictures import Pictures
from tasks.own.table import Table
from tasks.own.texts import Texts
from tasks.source import TaskError

__all__ = ["READERS", "Labelled", "Learned", "OwnExamples", "Reader", "kind_of", "learn", "reader_of"]

#: By their kind.
READERS: dict[str, type[Pictures] | type[Table] | type[Texts]] = {
    reader.kind: reader for reader in (Pictures, Texts, Table)
}
#: Files that are neither, and what to do about them.
OTHERS = {
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "save the sheet as CSV"),
    **dict.fromkeys((".parquet", ".feather", ".pkl", ".npy", ".npz"), "save it as CSV"),
    **dict.fromkeys((".tar", ".gz", ".rar", ".7z"), "unpack it, and name the folder"),
}


def kind_of(path: Path, target: str | None = None, text: str | None = None, encoding: str = "utf-8") -> str:
    """ "pictures", "texts" or "table".

    Raises:
        TaskError: there is nothing, or something else.
    """
    if path.is_dir() or path.suffix.lower() == ".zip":
        return "pictures"
    if not path.exists():
        beside = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
        close = get_close_matches(path.name, beside, n=1)
        hint = (
            f"did you mean {path.parent / close[0]}?" if close else "name a folder of pictures or a CSV file"
        )
        raise TaskError(f"{path} does not exist: {hint}")
    if path.suffix.lower() in SUFFIXES:
        raise TaskError(f"{path} is one picture: name a folder that holds one folder of pictures per class")
    if fix := OTHERS.get(path.suffix.lower()):
        raise TaskError(f"{path} is no folder of pictures and no CSV file: {fix}")
    return "table" if roles(Header.of(path, encoding), target, text).text is None else "texts"


def learn(
    path: Path,
    *,
    target: str | None = None,
    text: str | None = None,
    size: int = 128,
    channels: int = 3,
    kind: str = "auto",
    ignore: Sequence[str] = (),
    categorical: Sequence[str] = (),
    encoding: str = "utf-8",
    decimal: str = ".",
) -> Learned:
    """Read the data at `path`, and learn from them how to read more.

    Args:
        path: a folder or zip file of pictures, a file of texts, or a table.
        target, text: columns of what is to be predicted, and of texts; None: found out.
        size, channels: of pictures.
        kind: of what is to be predicted from a table: "classes", "values" or "auto".
        ignore, categorical: columns of a table that are no inputs, and whose numbers are names.
        encoding, decimal: of files.

    Raises:
        TaskError: they cannot be used; says what to do.
    """
    if kind_of(path, target, text, encoding) == "pictures":
        return Pictures.learn(path, size, channels)
    found = roles(Header.of(path, encoding), target, text)
    if found.text is not None:
        return _noted(Texts.learn(path, found.text, found.label, encoding), found.notes)
    learned = Table.learn(
        path,
        found.label,
        kind=kind,
        ignore=ignore,
        categorical=categorical,
        encoding=encoding,
        decimal=decimal,
    )
    return _noted(learned, found.notes)


def reader_of(kept: Mapping[str, Any]) -> Reader:
    """The reader that `{"kind": …, **reader.to_dict()}` describes; anybody may have written it.

    Raises:
        TaskError: it describes none.
    """
    rest = dict(kept)
    kind = rest.pop("kind", None)
    if not isinstance(kind, str) or kind not in READERS:
        raise TaskError(f"data of kind {kind!r} are not known: there are {', '.join(READERS)}")
    return READERS[kind].from_dict(rest)


def _noted(learned: Learned, notes: tuple[str, ...]) -> Learned:
    """With more notes."""
    examples = replace(learned.train.examples, notes=(*notes, *learned.train.examples.notes))
    return replace(learned, train=replace(learned.train, examples=examples))
