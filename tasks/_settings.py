"""Settings of sources and tasks, checked for type and range (`tasks/readers/settings.py`)."""

from __future__ import annotations

from typing import Any

from tasks.readers.settings import (
    MOST,
    SEED,
    Number,
    between,
    check,
    checked,
    least,
    list_of,
    optional,
    positive,
)
from tasks.source import TaskError

__all__ = [
    "MOST",
    "SEED",
    "SIZE",
    "Number",
    "between",
    "check_index",
    "check_setting",
    "check_settings",
    "least",
    "list_of",
    "optional",
    "positive",
]

#: Points, or examples of a class, in one task.
SIZE = least(1, most=10**9)
EPISODE = least(0, most=2**63 - 1)


def check_setting(name: str, value: Any, number: Number) -> Any:
    """`value`, a number that `number` allows, as one of Python.

    Raises:
        TaskError: it is none; the message gives name, value and range.
    """
    return checked(name, value, number, TaskError)


def check_settings(settings: Any, prefix: str, **rules: Number) -> None:
    """Check fields of a dataclass, frozen or not, by name; messages call them `prefix.name`.

    Raises:
        TaskError: a field that its rule does not allow.
    """
    check(settings, prefix, TaskError, rules)


def check_index(index: Any) -> int:
    """The number of an episode, as one of Python.

    Raises:
        TaskError: it is negative, or no whole number.
    """
    if isinstance(index, int) and not isinstance(index, bool) and index < 0:
        raise TaskError(f"episode index {index} is negative: use an index >= 0")
    return int(checked("episode index", index, EPISODE, TaskError))
