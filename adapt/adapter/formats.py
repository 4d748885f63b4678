"""Folders of earlier versions, as this one would have written them."""

from pathlib import Path
from typing import Any

from torch import Tensor

from adapt.adapter.state import initial_state
from adapt.artifact import TENSORS
from adapt.errors import AdaptError

__all__ = ["FORMAT", "upgraded"]

FORMAT = 5

Tensors = dict[str, Tensor]


def upgraded(path: Path, config: dict[str, Any], tensors: Tensors) -> tuple[dict[str, Any], Tensors]:
    """``config``, read from ``path``, and ``tensors`` in the present format.

    Raises:
        AdaptError: a format that this version does not know, or tensors that it had not.
    """
    if config.get("format") == 1:
        config, tensors = _from_1(path, config, tensors)
    if config.get("format") == 2:
        config = _from_2(config)
    if config.get("format") == 3:  # tensors had one name, and no hash
        config = config | {"format": FORMAT}
    elif TENSORS not in config and config.get("format") in (4, FORMAT):
        raise AdaptError(
            f"{path} does not name its tensors ('{TENSORS}'): the file is damaged, save it again"
        )
    if config.get("format") == 4:  # tasks had no posterior, and adapters no calibration
        config = config | {"format": FORMAT}
    if config.get("format") != FORMAT:
        found = repr(config.get("format"))[:80]
        raise AdaptError(
            f"{path} has format {found}; this version reads format {FORMAT}: update adaptive-behavior"
        )
    return config, tensors


def _from_1(path: Path, config: dict[str, Any], tensors: Tensors) -> tuple[dict[str, Any], Tensors]:
    """Version 0.1 had one precision for all directions, and nothing but classification by prototypes."""
    if known := {"log_precision", "log_rates"} & set(tensors):
        raise AdaptError(f"{path} has format 1, which knew of no {min(known)}: the file is damaged")
    later = {"loss": {"name": "cross_entropy"}, "support_head": {"name": "prototype"}, "choice": ""}
    if {"log_damping", "origin", "basis"} <= set(tensors) and tensors["basis"].ndim:
        state = initial_state(tensors["origin"], tensors["basis"])
        one = {
            "log_precision": state.log_precision + tensors["log_damping"],
            "log_damping": state.log_damping,
        }
        tensors = tensors | one | {"log_rates": state.log_rates}
    return {**later, **config, "format": 2}, tensors


def _from_2(config: dict[str, Any]) -> dict[str, Any]:
    """Backbones had no settings, and spaces were known by the names of the backbone's tensors."""
    backbone, space = config.get("backbone"), config.get("space")
    if isinstance(backbone, dict):
        config = config | {"backbone": {"settings": {}, **backbone}}
    if isinstance(space, dict):
        config = config | {"space": {"settings": None, **space}}
    return config | {"format": 3}
