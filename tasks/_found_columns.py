"""Which columns of one's own file are meant, where no setting names them."""

from __future__ import annotations

from pathlib import Path

from tasks._headers import Header, roles
from tasks.source import TaskError

__all__ = ["label_column", "text_columns"]

TEXT, LABEL = "text", "label"


def text_columns(path: Path, text: str | None, label: str | None, encoding: str) -> tuple[str, str, str]:
    """The columns of texts and of labels: those that are named, those called so, or those that look like it.
    Where nothing does, their usual names, of which whoever reads the file says that they are not there.

    Returns:
        the two names; and where one that was named is not there, the settings that name what looks like it.
    """
    try:
        header = Header.of(path, encoding)
        known = [name if name in header.names else None for name in (label or LABEL, text or TEXT)]
        if all(known):
            return text or TEXT, label or LABEL, ""
        found = roles(header, *known)
    except TaskError:
        return text or TEXT, label or LABEL, ""
    looks = (
        f"task.source.text_column={found.text} task.source.label_column={found.label}" if found.text else ""
    )
    return text or found.text or TEXT, label or found.label, looks


def label_column(path: Path, label: str | None, encoding: str) -> str:
    """The column of labels of a table, in the same way."""
    if label is not None:
        return label
    try:
        header = Header.of(path, encoding)
        return LABEL if LABEL in header.names else roles(header, None, None).label
    except TaskError:
        return LABEL
