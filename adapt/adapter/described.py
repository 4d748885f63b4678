"""Solvers, heads and losses as JSON, and back."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from adapt.errors import AdaptError
from adapt.forward.estimators import ESTIMATORS

__all__ = ["build_component", "describe_component", "read_settings"]

Made = TypeVar("Made")
#: Fields that say what a component can do; they are no settings.
FLAGS = ("exact", "regression", "supports_regression")


def describe_component(component: Any, known: Mapping[str, type]) -> dict[str, Any]:
    """``{"name", **settings}`` of a component that is one of ``known``.

    Raises:
        AdaptError: it is none of them.
    """
    names = [name for name, cls in known.items() if type(component) is cls]
    if not names:
        raise AdaptError(
            f"{type(component).__name__} cannot be saved: only {', '.join(known)} can; use "
            "adapter.replace(…) before saving"
        )
    settings: dict[str, Any] = {}
    for field in fields(component):
        value = getattr(component, field.name)
        if is_dataclass(value):
            settings[field.name] = describe_component(value, ESTIMATORS)
        elif field.name not in FLAGS:
            settings[field.name] = value
    return {"name": names[0], **settings}


def build_component(description: Any, known: Mapping[str, type], path: Path) -> Any:
    """The component that :func:`describe_component` described, in the config ``path``.

    Raises:
        AdaptError: an unknown name, or settings that it does not take.
    """
    if not isinstance(description, dict) or not isinstance(description.get("name", ""), str):
        kind = type(description if not isinstance(description, dict) else description["name"]).__name__
        raise AdaptError(
            f"{path} holds a value of the wrong type (a {kind} for a component): the file is damaged, save "
            "it again"
        )
    if "name" not in description:
        raise AdaptError(f"{path.parent} lacks 'name': it is not a complete adapter folder, save it again")
    name = description["name"]
    if name not in known:
        raise AdaptError(
            f"{path} names '{name[:80]}', which this version does not know: known are {', '.join(known)}"
        )
    arguments = {
        k: build_component(v, ESTIMATORS, path) if isinstance(v, dict) else v
        for k, v in description.items()
        if k != "name"
    }
    try:
        if flags := [flag for flag in FLAGS if flag in arguments]:
            raise TypeError(f"'{flags[0]}' is no setting")
        inner = {field.name for field in fields(known[name]) if is_dataclass(_default(field))}
        if other := [k for k, v in description.items() if (k in inner) != isinstance(v, dict)]:
            raise TypeError(f"{other[0]}={description[other[0]]!r}")
        return known[name](**arguments)
    except AdaptError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise AdaptError(f"{path}: '{name}' does not take these settings ({error})") from None


def read_settings(
    path: Path, config: Mapping[str, Any], name: str, kind: Callable[..., Made], later: tuple[str, ...] = ()
) -> Made | None:
    """The dataclass ``kind`` whose fields the entry ``name`` of a saved ``config`` holds, read from ``path``;
    None if it has none. Earlier versions did not write the fields ``later``.

    Raises:
        AdaptError: it is damaged.
    """
    said = config.get(name)
    if said is None:
        return None
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if not isinstance(said, dict) or {*said, *later} != known:
        raise AdaptError(f"{path}: '{name}' is not {' and '.join(sorted(known))}: save the adapter again")
    return kind(**said)


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()
