"""Configs by Hydra's compose API: those of the trials, and the one of the settings that were chosen."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from adapt.app import build
from adapt.app.compose import compose_run
from adapt.app.config import config_folder
from adapt.app.sweeps.tuning.search import GROUPS, Value
from adapt.errors import AdaptError

__all__ = ["chosen_config", "composed", "override", "resolved"]

#: Overrides that are no part of the settings that were chosen: they say where to write, or what to search.
LEFT_OUT = ("experiment", "hparams_search", "launcher", "tracking")


def composed(overrides: Sequence[str], config_dir: Path | None = None) -> DictConfig:
    """The config that ``python -m adapt [--config-dir config_dir] overrides`` would run.

    Raises:
        AdaptError: ``config_dir`` does not exist, or an override that means nothing here.
    """
    for parsed in _parsed(overrides):
        if parsed.key_or_group.split(".")[0] == "hydra":
            raise AdaptError(f"tune has no {parsed.key_or_group}: name its folder, as folder=my_search")
        if parsed.is_sweep_override():
            raise AdaptError(f"{parsed.input_line} names several values: tune takes one, and searches others")
    if config_dir is not None and not config_dir.is_dir():
        raise AdaptError(f"--config-dir {config_dir} is no folder: give one that holds groups of configs")
    return compose_run(overrides, config_dir).config


def resolved(config: DictConfig) -> dict[str, Any]:
    """``config`` as plain containers, every component in it checked, as for any run."""
    plain: Any = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
    build.check_all(plain, list(config.allow))
    return plain


def override(key: str, value: Value) -> str:
    """``key=value`` as the command line takes it.

    Example:
        >>> override("method.forward.k", None), override("inner", "auto"), override("inner.damping", 0.5)
        ('method.forward.k=null', "inner='auto'", 'inner.damping=0.5')
    """
    if value is None or isinstance(value, bool):
        return f"{key}={str(value).lower() if value is not None else 'null'}"
    if isinstance(value, str):
        # Hydra wants a backslash doubled only where a quote follows.
        escaped = re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + (r"\'" if found[2] else ""), value)
        return f"{key}='{escaped}'"
    return f"{key}={value!r}"


def chosen_config(overrides: Sequence[str], values: Mapping[str, Value], remark: str) -> str:
    """The text of an experiment: the one of ``overrides``, what they change in it, and ``values``.

    Raises:
        AdaptError: an override that a config file cannot say.
    """
    parsed = _parsed(overrides)
    base = [item.value() for item in parsed if item.key_or_group == "experiment"]
    options: dict[str, Any] = {}
    body = OmegaConf.create()
    for item in parsed:
        key = item.key_or_group
        if key.split(".")[0] in LEFT_OUT:
            continue
        if item.is_delete():
            raise AdaptError(f"{item.input_line} deletes, which the chosen config cannot say: leave it out")
        if _is_group(key):
            options[key + (f"@{item.package}" if item.package is not None else "")] = item.value()
        else:
            OmegaConf.update(body, key, item.value(), force_add=True)
    for key, value in values.items():
        if key in GROUPS:
            options[key] = value
        else:
            OmegaConf.update(body, key, value, force_add=True)
    defaults = [*base, *({f"override /{name}": option} for name, option in options.items()), "_self_"]
    head = OmegaConf.to_yaml(OmegaConf.create({"defaults": defaults}))
    return f"# @package _global_\n# {remark}\n{head}{OmegaConf.to_yaml(body) if len(body) else ''}"


def _parsed(overrides: Sequence[str]) -> list[Override]:
    return OverridesParser.create().parse_overrides([*overrides])


def _is_group(key: str) -> bool:
    """Whether an override chooses an option: groups of ours are folders of configs, and have no dots."""
    return "." not in key and (config_folder() / key).is_dir()
