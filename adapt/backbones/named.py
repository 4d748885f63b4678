"""Backbones that their name describes: a prefix for where they come from, then what they are called there.

A new family is one entry of :data:`FAMILIES`: a function of the name and of settings that JSON can hold.
"""

import inspect
import json
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from torch import nn

from adapt.backbones.built import Built
from adapt.backbones.fingerprint import fingerprint
from adapt.backbones.from_timm import from_timm
from adapt.backbones.from_torchvision import from_torchvision
from adapt.backbones.from_transformers import from_transformers
from adapt.backbones.frozen import frozen
from adapt.backbones.info import BackboneInfo, remember
from adapt.backbones.mlp import from_sizes
from adapt.errors import AdaptError

__all__ = ["FAMILIES", "load_named"]

FAMILIES: dict[str, Callable[..., Built]] = {
    "hf": from_transformers,
    "mlp": from_sizes,
    "timm": from_timm,
    "torchvision": from_torchvision,
}


def load_named(family: str, name: str, settings: Mapping[str, Any]) -> tuple[nn.Module, BackboneInfo]:
    """The frozen network ``family:name``, and what is known of it.

    Raises:
        AdaptError: settings that the family does not take, and whatever it says.
    """
    _check(family, name, settings)
    built = FAMILIES[family](name, **settings)
    network = frozen(built.network)
    info = BackboneInfo(
        f"{family}:{built.label or name}",
        family,
        dict(settings) if built.arguments is None else built.arguments,
        built.input_shape,
        fingerprint(network),
        settings=None if built.local else dict(settings),
    )
    return remember(network, info), info


def _check(family: str, name: str, settings: Mapping[str, Any]) -> None:
    parameters = inspect.signature(FAMILIES[family]).parameters.values()
    names = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    passes_on = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)  # the library says
    for key in settings:
        if key not in names and not passes_on:
            close = get_close_matches(key, names, n=1)
            hint = f"did you mean {close[0]}?" if close else f"it takes {', '.join(names) or 'none'}"
            raise AdaptError(f"{key} is not a setting of backbone '{family}:{name}': {hint}")
    try:
        json.dumps(dict(settings), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AdaptError(f"backbone '{family}:{name}': its settings are no plain values ({error})") from None
