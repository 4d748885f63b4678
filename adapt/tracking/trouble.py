"""What an error of MLflow means for what was to be sent."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from adapt.errors import AdaptError

__all__ = ["disconnected", "passing", "refusal", "text"]

#: An error of MLflow may quote a whole web page.
LENGTH = 300
#: MLflow's codes for: this will never be accepted.
REFUSALS = {
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "NOT_IMPLEMENTED",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_CONFLICT",
    "RESOURCE_DOES_NOT_EXIST",
}
#: … and for: later, perhaps.
PASSING = {"REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED", "TEMPORARILY_UNAVAILABLE"}
#: HTTP status of what a server will never store.
TOO_MUCH = (400, 413, 422)
WORDS = ("database is locked", "error code 429", "error code 50", "too many 50")


def refusal(error: BaseException) -> bool:
    """Whether sending the same again is no use: it is wrong, or a file of it is gone."""
    if _status(error) in TOO_MUCH:
        return True
    if str(error).startswith("API request") or "JSONDecodeError" in _names(error):
        return False  # that was not MLflow, but something on the way to it
    code = getattr(error, "error_code", None)
    return (
        isinstance(error, AdaptError | FileNotFoundError | ValueError | TypeError | KeyError)
        or code in REFUSALS
    )


def disconnected(error: BaseException) -> bool:
    """Whether there was no answer at all."""
    names = {name for cause in _causes(error) for name in _names(cause)}
    return bool(names & {"ConnectionError", "Timeout"})


def passing(error: BaseException) -> bool:
    """Whether it may be over in seconds: a store that others use, a server that is overloaded or slow."""
    for cause in _causes(error):
        message = str(cause)
        overloaded = (_status(cause) or 0) in (429, *range(500, 600))
        if overloaded or "Timeout" in _names(cause) or any(word in message for word in WORDS):
            return True
        if getattr(cause, "error_code", None) in PASSING:
            return True
    return False


def text(error: BaseException) -> str:
    """In a few words."""
    return textwrap.shorten(f"{type(error).__name__}: {error}", LENGTH, placeholder=" …")


def _status(error: BaseException) -> int | None:
    """The HTTP status that an artifact was answered with."""
    found: int | None = getattr(getattr(error, "response", None), "status_code", None)
    return found


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _names(error: BaseException) -> set[str]:
    """Of its classes: those of the libraries below MLflow need not be imported."""
    return {kind.__name__ for kind in type(error).__mro__}
