"""The same tasks drawn elsewhere: from another split, or with another seed.

Tasks may hold other tasks: label noise, a mixture, a curriculum. Each kind has one method, `map`, by which
it takes itself apart and puts itself together again; all else is said here once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from difflib import get_close_matches
from typing import Any

from .source import TaskError

__all__ = ["FromSource", "leaves", "on_split", "redrawn", "with_seed"]


class FromSource:
    """Tasks that are drawn from a source, not made of other tasks: the base of their three kinds, which are
    dataclasses with the fields `source`, `support_split`, `query_split`, `seed` and `validation`."""

    validation: Mapping[str, Any] | None

    @property
    def described(self) -> dict[str, Any]:
        """What a reader of a report should know of the tasks beside source and sizes."""
        return {}

    def map(self, change: Callable[[Any], Any]) -> Any:
        """What `change` makes of it."""
        return change(self)

    def check_validation(self) -> None:
        """
        Raises:
            TaskError: `validation` is no mapping, or names what is no setting.
        """
        known = [f.name for f in fields(self) if f.init and f.name not in ("seed", "validation")]  # type: ignore[arg-type]
        if self.validation is not None and not isinstance(self.validation, Mapping):
            raise TaskError(f"task.validation={self.validation} names no settings: give them by name")
        for name in self.validation or ():
            if name not in known:
                close = get_close_matches(str(name), known, n=1)
                hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
                raise TaskError(f"task.validation.{name} is not a setting: {hint}")


def leaves(tasks: Any) -> list[Any]:
    """The parts that draw from a source themselves."""
    found: list[Any] = []

    def look(part: Any) -> Any:
        found.extend([part] if _draws(part) else [])
        return part

    tasks.map(look)
    return found


def with_seed(tasks: Any, seed: int) -> Any:
    """`tasks` of another seed."""
    return tasks.map(lambda part: replace(part, seed=seed) if getattr(part, "seed", seed) != seed else part)


def redrawn(tasks: Any, seed: int, settings: Callable[[Any], Mapping[str, Any]]) -> Any:
    """`tasks` for choosing and judging: with another seed and, in every part that draws from a source, what
    `settings` says of that part. Of a curriculum only the last stage is left, which it leads to."""

    def change(part: Any) -> Any:
        if _draws(part):
            return replace(part, **settings(part), seed=seed)
        part = getattr(part, "last", part)
        return replace(part, seed=seed) if hasattr(part, "seed") else part

    return tasks.map(change)


def on_split(tasks: Any, split: str, seed: int) -> Any:
    """`tasks` drawn from another split, supports and queries alike, to make choices on; a part whose
    `validation` says what differs there draws by that.

    Example:
        >>> from tasks import Digits, Distribution
        >>> tasks = Distribution(Digits(), support_split="support", validation={"shots": 3})
        >>> chosen_on = on_split(tasks, "query", seed=1)
        >>> chosen_on.support_split, chosen_on.shots, chosen_on.seed
        ('query', 3, 1)
    """
    there = {"support_split": split, "query_split": None, "validation": None}
    return redrawn(tasks, seed, lambda part: {**there, **(part.validation or {})})


def _draws(part: Any) -> bool:
    return hasattr(part, "validation")
