"""Settings of named backbones that may be set: by name, type and range, whoever sets them.

Libraries take far more: addresses and files to load weights from, classes to build layers with, devices. A
saved adapter holds the settings of its backbone, so nothing is passed on that is not listed here.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from adapt.checks import (
    DEPTH,
    MOST,
    SEED,
    STEPS,
    Number,
    between,
    check_setting,
    least,
    list_of,
    optional,
    positive,
)
from adapt.errors import AdaptError

__all__ = ["COMMON", "SHARE", "SIZE", "Rule", "check_arguments", "either", "flag", "number", "word"]

#: Of the name of a setting and a value: raises AdaptError if the setting cannot be that.
Rule = Callable[[str, Any], None]
#: Characters of a text that precedes others.
LONGEST = 10**6
WORD = re.compile(r"[A-Za-z0-9_]{0,40}")


def number(rule: Number) -> Rule:
    """A number, or None where that is allowed."""

    def check(name: str, value: Any) -> None:
        check_setting(name, value, rule)

    return check


def either(rule: Number) -> Rule:
    """A number, or a list of such numbers, nested once at most."""

    def check(name: str, value: Any) -> None:
        rows = value if isinstance(value, list | tuple) else [value]
        if len(rows) > DEPTH:
            raise AdaptError(f"{name} is a list of {len(rows):,} numbers: give {DEPTH:,} at most")
        for row in rows:
            check_setting(name, row, list_of(rule) if isinstance(row, list | tuple) else rule)

    return check


def flag(name: str, value: Any) -> None:
    """True or false."""
    if not isinstance(value, bool):
        raise AdaptError(f"{name}={value!r} is neither true nor false")


def word(name: str, value: Any) -> None:
    """A name that the library knows: letters, digits and underscores, which no file and no address is."""
    if value is not None and (not isinstance(value, str) or WORD.fullmatch(value) is None):
        raise AdaptError(f"{name}={value!r} is no name of an option: use letters, digits and underscores")


def text(name: str, value: Any) -> None:
    """A string."""
    if not isinstance(value, str) or "\0" in value:
        raise AdaptError(f"{name}={value!r} is no text")


def passage(name: str, value: Any) -> None:
    """A string of bounded length that says something, or None."""
    if value is None:
        return
    text(name, value)
    if not value:
        raise AdaptError(f"{name} is empty: write a text, or leave it out")
    if len(value) > LONGEST:
        raise AdaptError(f"{name} has {len(value):,} characters: give {LONGEST:,} at most")


#: Side of an image, to which whatever comes is scaled.
SIZE = least(1, "an image has at least one pixel", ceiling=8192)
#: Of the functions that build a family, where they have a parameter of this name.
COMMON: Mapping[str, Rule] = {
    "weights": text,
    "seed": number(SEED),
    "size": number(optional(SIZE)),
    "mean": either(Number(none=True)),
    "std": either(replace(positive("standard deviations are positive"), none=True)),
    "pooling": word,
    "prompts": number(least(0, ceiling=DEPTH)),
    "preamble": passage,
    "max_tokens": number(least(1, "at least one token is needed", ceiling=10**6)),
    "waves": number(Number(least=0, whole=True, ceiling=MOST)),
    "length": number(positive("a length is positive")),
    "points": number(least(1, ceiling=STEPS)),
    "interval": number(positive("a time is positive")),
    "controls": number(least(0, ceiling=DEPTH)),
    "substeps": number(least(1, ceiling=DEPTH)),
    "angles": number(list_of(Number(least=0, whole=True, ceiling=DEPTH))),
}
SHARE = number(between(0, 1))


def check_arguments(
    where: str, given: Mapping[str, Any], own: Sequence[str], more: Mapping[str, Rule]
) -> None:
    """Refuse settings of the backbone ``where`` that are not listed, or of another type or range.

    Args:
        given: the settings.
        own: names of those of :data:`COMMON` that this backbone takes.
        more: those that are passed on to the library.

    Raises:
        AdaptError: names the setting, and what it may be.
    """
    rules = {name: COMMON[name] for name in own} | dict(more)
    for name, value in given.items():
        if name not in rules:
            close = get_close_matches(str(name), rules, n=1)
            hint = f"did you mean {close[0]}?" if close else f"it takes {', '.join(rules) or 'none'}"
            if more:
                raise AdaptError(f"{where} does not take these settings: {name} may not be set, {hint}")
            raise AdaptError(f"{name} is not a setting of backbone '{where}': {hint}")
        rules[name](f"backbone '{where}': {name}", value)
