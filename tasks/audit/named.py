"""A source from what is typed: its name, and settings as `key=value`."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import tasks
from tasks.functions import FunctionSource
from tasks.grouped import GroupSource
from tasks.places import import_own, within_any
from tasks.source import AnySource, Source, TaskError

__all__ = ["make_source", "parse"]

#: Words that are no Python literals but mean one in YAML, which configs are written in.
WORDS = {"true": True, "false": False, "null": None}


def parse(arguments: Sequence[str]) -> dict[str, Any]:
    """`["size=32", "root=~/signs"]` as `{"size": 32, "root": "~/signs"}`.

    Values are Python literals, `true`, `false` and `null`; whatever is none of these is a text.

    Raises:
        TaskError: an argument without `=`, or one setting twice.

    Example:
        >>> parse(["size=32", "split_by=classes", "topics=['work', 'travel']", "download=true"])
        {'size': 32, 'split_by': 'classes', 'topics': ['work', 'travel'], 'download': True}
    """
    found: dict[str, Any] = {}
    for argument in arguments:
        key, sign, value = argument.partition("=")
        if not sign or not key.isidentifier():
            raise TaskError(f"{argument!r} is no setting: write key=value")
        if key in found:
            raise TaskError(f"{key} is set twice: keep one of {found[key]!r} and {value!r}")
        found[key] = _value(value)
    return found


def _value(text: str) -> Any:
    if text in WORDS:
        return WORDS[text]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def make_source(name: str, settings: Mapping[str, Any], allow: Sequence[str] = ()) -> AnySource:
    """The source called `name`, with these settings.

    Args:
        name: of a row of `tasks.SOURCES`, in any spelling (`ImageFolder`, `image_folder`,
            `tasks.ImageFolder`), or the dotted path of a class or function of your own (`my_data.letters`).
        settings: its arguments.
        allow: packages of your own, whose code may run; nothing else is imported.

    Raises:
        TaskError: there is no such source, or it has no such setting.
    """
    maker = _maker(name, allow)
    _check(name, maker, settings)
    source = maker(**settings)
    if not isinstance(source, Source | FunctionSource | GroupSource):
        raise TaskError(
            f"{name} makes no source, but a {type(source).__name__}: name a class or function that does"
        )
    return source


def _check(name: str, maker: Any, settings: Mapping[str, Any]) -> None:
    try:
        signature = inspect.signature(maker)
    except (TypeError, ValueError):
        raise TaskError(f"{name} makes no source: name a class or function that does") from None
    try:
        signature.bind(**settings)
    except TypeError as error:
        known = signature.parameters
        close = get_close_matches(next((key for key in settings if key not in known), ""), known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"its settings are {', '.join(known) or 'none'}"
        raise TaskError(f"{name} does not take these settings ({error}): {hint}") from None


def _maker(name: str, allow: Sequence[str]) -> Any:
    known = {_spelling(key): maker for key, maker in tasks.SOURCES.items()}
    known |= {_spelling(maker.__name__): maker for maker in tasks.SOURCES.values()}
    wanted = _spelling(name.removeprefix("tasks."))
    if wanted in known:
        return known[wanted]
    module, _, attribute = name.rpartition(".")
    if within_any(module, allow):
        try:
            return getattr(import_own(module), attribute)
        except (ImportError, AttributeError) as error:
            raise TaskError(f"{name} cannot be imported ({error}): give package.module.name") from None
    close = get_close_matches(wanted, known, n=1)
    if module:
        raise TaskError(
            f"{name} is no source of ours: if you trust {module.split('.')[0]}, whose code would run, add "
            f"--allow {module.split('.')[0]}"
        )
    named = (
        f"did you mean {known[close[0]].__name__}?"
        if close
        else "name one that `tasks` exports, such as digits"
    )
    raise TaskError(f"there is no source {name!r}: {named}")


def _spelling(name: str) -> str:
    return name.replace("_", "").lower()
