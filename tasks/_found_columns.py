"""Which columns of one's own file are meant, where no setting names them."""

from __future__ import annotations

from pathlib import Path

from tasks.source import TaskError

__all__ = ["label_column", "text_columns"]

TEXT, LABEL = "text", "label"


def text_columns(path: Path, text: str | None, label: str | None, encoding: str) -> tuple[str, str]:
    """The columns of texts and of labels: those that are named, those called so, or those that look like it.
    Where nothing does, their usual names, of which whoever reads the file says that they are not there."""
    if text is not None and label is not None:
        return text, label
    from tasks.own.columns import Header, roles  # which imports readers that import this

    try:
        header = Header.of(path, encoding)
        text = text or (TEXT if TEXT in header.names else None)
        label = label or (LABEL if LABEL in header.names else None)
        if text is None or label is None:
            known = [name if name in header.names else None for name in (label, text)]
            found = roles(header, *known)  # of one that is misspelt whoever reads the file says so
            text, label = text or found.text, label or found.label
    except TaskError:
        pass
    return text or TEXT, label or LABEL


def label_column(path: Path, label: str | None, encoding: str) -> str:
    """The column of labels of a table, in the same way."""
    if label is not None:
        return label
    from tasks.own.columns import Header, roles

    try:
        header = Header.of(path, encoding)
        return LABEL if LABEL in header.names else roles(header, None, None).label
    except TaskError:
        return LABEL
