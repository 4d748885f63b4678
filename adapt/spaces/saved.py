"""A space as JSON, and back."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from adapt.errors import AdaptError
from adapt.spaces import SPACES
from adapt.spaces.base import Space, named
from adapt.spaces.combine import Parts, combine

__all__ = ["describe", "rebuild"]


def describe(space: Space) -> dict[str, Any]:
    """``{"name", "settings", "parameters"}``, ``parameters`` being the names of the adaptable tensors;
    ``{"name", "parts", "parameters"}`` for a combination.

    Raises:
        AdaptError: a space of the caller's own that merges, which nobody could make again.
    """
    description: dict[str, Any] = {"name": space.name, "parameters": list(space.shapes)}
    if isinstance(space.merge, Parts):
        return description | {"parts": [describe(part) for part in space.merge.spaces]}
    if space.merge is not None and (space.settings is None or space.name not in SPACES):
        raise AdaptError(
            f"space '{space.name}' cannot be saved: only {', '.join(SPACES)}, combinations of them, and "
            "spaces of the backbone's own tensors can"
        )
    known = space.name in SPACES and space.settings is not None
    return description | {"settings": dict(space.settings) if known and space.settings is not None else None}


def rebuild(description: Mapping[str, Any], backbone: nn.Module) -> Space:
    """The space that :func:`describe` described, of ``backbone``.

    Raises:
        AdaptError: an unknown name, settings that do not fit, or a backbone in which this space has other
            tensors.
        KeyError, TypeError: parts of the description that are missing or of the wrong type.
    """
    name, tensors, settings = description["name"], description["parameters"], description.get("settings")
    parts = description.get("parts")
    if not isinstance(name, str) or not isinstance(tensors, list) or not tensors:
        raise TypeError("a space without a name, or without tensors")
    if not all(isinstance(entry, str) for entry in tensors):
        raise TypeError("tensors of a space that have no names")
    if not isinstance(settings, dict | None):
        raise AdaptError(f"space '{name}' does not take these settings ({str(settings)[:80]})")
    if not isinstance(parts, list | None) or not all(isinstance(part, dict) for part in parts or ()):
        raise TypeError("parts of a space that are no spaces")
    if parts:
        if len(parts) > len(tensors):
            raise AdaptError(f"space '{name}' has {len(parts):,} parts, but {len(tensors):,} tensors")
        space = combine(*(rebuild(part, backbone) for part in parts))
    elif settings is None:  # also formats before 3, which knew only spaces of the backbone's own tensors
        return named(name, backbone, tensors)
    elif name not in SPACES:
        raise AdaptError(f"space '{name}' is not known to this version: known are {', '.join(SPACES)}")
    else:
        try:
            space = SPACES[name](backbone, **settings)
        except TypeError as error:
            raise AdaptError(f"space '{name}' does not take these settings ({error})") from None
    if set(tensors) < set(space.shapes) and not parts:  # an earlier version knew of fewer
        space = _fewer(space, settings or {}, list(tensors), backbone)
    if list(space.shapes) != list(tensors):
        differing = sorted(set(space.shapes) ^ set(tensors)) or ["the order of its tensors"]
        raise AdaptError(
            f"space '{name}' was saved with other tensors than it has in {type(backbone).__name__} "
            f"({differing[0]}): it was made for another backbone, or by another version"
        )
    return space


def _fewer(space: Space, settings: Mapping[str, Any], tensors: list[str], backbone: nn.Module) -> Space:
    """``space`` with no other tensors than ``tensors``."""
    if space.merge is None:
        return named(space.name, backbone, tensors, space.settings)
    layers = ",".join(name.rpartition(".")[0] for name in tensors)
    return replace(SPACES[space.name](backbone, **{**settings, "targets": layers}), settings=space.settings)
