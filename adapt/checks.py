"""Settings, checked for type and range (`tasks/readers/settings.py`), with the error of this library."""

from collections.abc import Sequence
from typing import Any

from adapt.errors import AdaptError
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

__all__ = [
    "DEPTH",
    "MOST",
    "SEED",
    "STEPS",
    "TASKS",
    "TRAINING",
    "WIDTH",
    "Number",
    "between",
    "check_setting",
    "check_settings",
    "check_shape",
    "least",
    "list_of",
    "optional",
    "positive",
]

#: Ceilings of what is counted, typed or declared by a file: far above what has a use, far below what would
#: never end, or fill the memory of any machine.
STEPS = 100_000  # of one fit of a head, or of a solver
TRAINING = 10_000_000  # steps of a training
TASKS = 1_000_000  # that are drawn, or kept
WIDTH = 65_536  # an axis of a matrix: channels, units, ranks, directions, folds
DEPTH = 1_000  # layers, prompts


def check_setting(name: str, value: Any, number: Number) -> Any:
    """``value``, a number that ``number`` allows, as one of Python.

    Raises:
        AdaptError: it is none; the message gives name, value and range.
    """
    return checked(name, value, number, AdaptError)


def check_settings(settings: Any, prefix: str, **rules: Number) -> None:
    """Check fields of a dataclass, frozen or not, by name; messages call them ``prefix.name``.

    Raises:
        AdaptError: a field that its rule does not allow.
    """
    check(settings, prefix, AdaptError, rules)


def check_shape(shape: Any) -> tuple[int, ...] | None:
    """The shape of one example, as it is compared with others; None if nothing is known of it.

    Raises:
        AdaptError: no sizes.
    """
    if shape is None:
        return None
    if not isinstance(shape, Sequence) or isinstance(shape, str):
        raise AdaptError(
            f"input_shape={shape!r}: give the sizes of one example, such as (3, 84, 84), or None"
        )
    return tuple(check_setting("input_shape", size, least(0)) for size in shape)
