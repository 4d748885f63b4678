"""What the parameter ``backbone`` of an estimator stands for."""

from difflib import get_close_matches
from functools import lru_cache
from typing import Any

import numpy as np
from torch import Tensor, nn

from adapt.adapter import FewShotAdapter, FittedTask
from adapt.backbones import load_backbone, ready
from adapt.errors import AdaptError
from adapt.own_data.networks import NETWORKS, Network, Recipe, network_for
from adapt.spaces import default_space
from tasks.readers.pictures import is_picture
from tasks.readers.texts import holds_texts

__all__ = ["network_of"]


def network_of(backbone: Any, x: Any) -> Network | FewShotAdapter | None:
    """What reads examples such as ``x``; None: they are the rows of a table, and read as they are.

    Raises:
        AdaptError: nothing that reads examples.
    """
    if isinstance(backbone, FewShotAdapter):
        return backbone
    if isinstance(backbone, FittedTask):
        raise AdaptError("backbone is a FittedTask, which knows its classes already: pass task.adapter")
    if backbone is None:
        kind = _kind(x)
        return None if kind is None else _default(kind)
    if isinstance(backbone, str):
        return _named(backbone)
    if isinstance(backbone, nn.Module):
        module, info = ready(backbone)
        return Network(_recipe(info.name), module, info.name, info.input_shape, f"network: {info.name}")
    raise AdaptError(
        f"backbone is a {type(backbone).__name__}: pass the name of a network, an nn.Module, a "
        "FewShotAdapter, or None"
    )


def _kind(x: Any) -> str | None:
    """Pictures and texts are told from a table by their form."""
    if isinstance(x, np.ndarray | Tensor):
        texts = isinstance(x, np.ndarray) and x.ndim == 1 and holds_texts(x)
        return "pictures" if x.ndim == 4 else "texts" if texts else None
    if getattr(x, "ndim", 1) != 1 or not hasattr(x, "__len__") or not len(x):
        return None
    if isinstance(x, list | tuple) and (any(map(is_picture, x)) or _arrays(x)):
        return "pictures"
    return "texts" if holds_texts(x) else None


def _arrays(x: Any) -> bool:
    return all(isinstance(row, np.ndarray | Tensor) and row.ndim == 3 for row in x)


# A network is never changed, and reading one from disk takes as long as a fit: folds of a search share it.


@lru_cache(maxsize=2)
def _default(kind: str) -> Network:
    return network_for(kind)


@lru_cache(maxsize=2)
def _named(name: str) -> Network:
    for kind, recipes in NETWORKS.items():
        if any(name in (recipe.name, recipe.name.rpartition(":")[2]) for recipe in recipes):
            return network_for(kind, name)
    try:
        module, info = load_backbone(name)
    except AdaptError as error:
        known = [recipe.name.rpartition(":")[2] for recipes in NETWORKS.values() for recipe in recipes]
        if close := get_close_matches(name, known, n=1):
            raise AdaptError(f"backbone={name!r} is no network: did you mean {close[0]!r}?") from error
        raise
    return Network(_recipe(info.name), module, info.name, info.input_shape, f"network: {info.name}")


def _recipe(name: str) -> Recipe:
    return Recipe(name, name, space=default_space)
