"""Settings, checked for type and range (`tasks/readers/settings.py`), with the error of this library."""

from typing import Any

from adapt.errors import AdaptError
from tasks.readers.settings import SEED, Number, between, check, checked, least, list_of, optional, positive

__all__ = [
    "SEED",
    "Number",
    "between",
    "check_setting",
    "check_settings",
    "least",
    "list_of",
    "optional",
    "positive",
]


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
