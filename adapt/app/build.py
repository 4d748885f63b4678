"""From config nodes to objects: only what is allowed, and only with arguments that fit."""

import importlib
import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from adapt.errors import AdaptError

__all__ = ["build", "check"]

#: Modules that a ``_target_`` may come from: those of components, and none that writes files or runs things.
#: A config may have been written by somebody else; nothing but these is ever called.
ALLOWED = (
    "adapt.adapter",
    "adapt.backbones",
    "adapt.baselines",
    "adapt.compare",
    "adapt.forward",
    "adapt.heads",
    "adapt.inner",
    "adapt.meta",
    "adapt.spaces",
    "adapt.tracking",
    "tasks",
)
SCALARS = (bool, int, float, str)


def build(config: Any, where: str, allow: Sequence[str] = ()) -> Any:
    """Instantiate a node after :func:`check`; ``where`` is its key, for messages.

    Raises:
        AdaptError: no component, a target that is not allowed or does not exist, or arguments that do not
            fit.
    """
    if not isinstance(config, DictConfig) or "_target_" not in config:
        raise AdaptError(
            f"{where}={config} is not a component: give it a _target_, or choose an option of its group"
        )
    plain = OmegaConf.to_container(config, resolve=True)
    check(plain, where, allow)
    try:
        return instantiate(plain, _convert_="all")
    except InstantiationException as error:
        # Hydra wraps what a constructor raises; its own message is what the user should read.
        if isinstance(error.__cause__, ValueError):
            raise error.__cause__ from None
        raise


def check(value: Any, where: str, allow: Sequence[str] = ()) -> None:
    """Check every ``_target_`` below ``value`` (plain containers), recursively, without calling anything."""
    if isinstance(value, Mapping):
        if "_target_" in value:
            _check_arguments(value, _resolve(value["_target_"], where, allow), where)
        for key, child in value.items():
            check(child, f"{where}.{key}", allow)
    elif isinstance(value, list):
        for index, child in enumerate(value):
            check(child, f"{where}[{index}]", allow)


def _resolve(target: Any, where: str, allow: Sequence[str]) -> Any:
    allowed = (*ALLOWED, *allow)
    if not isinstance(target, str) or target.split(".")[0] not in {name.split(".")[0] for name in allowed}:
        raise _not_allowed(target, where, allowed)
    if not any(target == name or target.startswith(f"{name}.") for name in allowed):
        raise _not_allowed(target, where, allowed)
    module, _, attribute = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise AdaptError(f"{where}._target_={target} does not exist ({error}): check the spelling") from None
    # A module of ours also holds what it imported: adapt.files.os must not be a way to os.
    home = getattr(found, "__module__", None) or ""
    if not callable(found) or not any(home == name or home.startswith(f"{name}.") for name in allowed):
        raise _not_allowed(target, where, allowed)
    return found


def _not_allowed(target: Any, where: str, allowed: Sequence[str]) -> AdaptError:
    return AdaptError(
        f"{where}._target_={target} is not allowed: targets come from {', '.join(allowed)}; "
        "add your own package with allow=[my_package] if you trust it"
    )


def _check_arguments(node: Mapping[str, Any], target: Any, where: str) -> None:
    parameters = inspect.signature(target).parameters
    hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    given = {key: value for key, value in node.items() if not str(key).startswith("_")}
    for key, value in given.items():
        if key in parameters:
            _check_value(value, hints.get(key), f"{where}.{key}")
        elif not open_ended:
            close = get_close_matches(str(key), parameters, n=1)
            hint = f"did you mean {close[0]}?" if close else f"it takes {', '.join(parameters)}"
            raise AdaptError(f"{where}.{key} is not a setting of {node['_target_']}: {hint}")
    if not node.get("_partial_"):
        missing = [
            n
            for n, p in parameters.items()
            if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and n not in given
        ]
        if missing:
            raise AdaptError(f"{where} lacks {', '.join(missing)}, which {node['_target_']} needs")


def _check_value(value: Any, hint: Any, where: str) -> None:
    """Check scalars against their annotation; components (nested targets) are checked where they stand."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    scalars = [option for option in options if option in SCALARS]
    if not scalars or (value is None and type(None) in options):
        return
    if isinstance(value, bool):
        fits = bool in scalars
    elif isinstance(value, int):
        fits = int in scalars or float in scalars
    else:
        fits = isinstance(value, tuple(scalars)) or (
            len(scalars) < len(options) and isinstance(value, Mapping)
        )
    if not fits:
        raise AdaptError(f"{where}={value} should be {' or '.join(option.__name__ for option in scalars)}")
