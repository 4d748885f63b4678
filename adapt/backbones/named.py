"""Backbones that their name describes: a prefix for where they come from, then what they are called there.

A new family is one entry of :data:`FAMILIES`: a function of the name and of settings that JSON can hold, each
of them listed with its range in :mod:`adapt.backbones.arguments`, or in :data:`PASSED_ON`.
"""

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from adapt.backbones.arguments import Rule, check_arguments
from adapt.backbones.built import Built
from adapt.backbones.columns import from_columns
from adapt.backbones.fingerprint import fingerprint
from adapt.backbones.from_timm import TIMM, from_timm
from adapt.backbones.from_torchvision import TORCHVISION, from_torchvision
from adapt.backbones.from_transformers import from_transformers
from adapt.backbones.frozen import frozen
from adapt.backbones.info import BackboneInfo, remember
from adapt.backbones.mlp import from_sizes
from adapt.backbones.packaged import check_packaged
from adapt.backbones.rollout import from_field
from adapt.budget import counted
from adapt.errors import AdaptError

__all__ = ["FAMILIES", "load_named"]

FAMILIES: dict[str, Callable[..., Built]] = {
    "columns": from_columns,
    "hf": from_transformers,
    "mlp": from_sizes,
    "rollout": from_field,
    "timm": from_timm,
    "torchvision": from_torchvision,
}
#: What is passed on to a library; nothing else is.
PASSED_ON: dict[str, Mapping[str, Rule]] = {"timm": TIMM, "torchvision": TORCHVISION}


def load_named(family: str, name: str, settings: Mapping[str, Any]) -> tuple[nn.Module, BackboneInfo]:
    """The frozen network ``family:name``, and what is known of it.

    Raises:
        AdaptError: settings that the family does not take, more parameters than can be afforded
            (:mod:`adapt.budget`), and whatever the family says.
    """
    _check(family, name, settings)
    check_packaged(f"{family}:{name}", settings.get("weights"))
    with counted(f"backbone '{family}:{name}'"):
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
    try:
        json.dumps(dict(settings), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AdaptError(f"backbone '{family}:{name}': its settings are no plain values ({error})") from None
    parameters = inspect.signature(FAMILIES[family]).parameters.values()
    own = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    check_arguments(f"{family}:{name}", settings, own, PASSED_ON.get(family, {}))
