"""From config nodes to objects: only components, and only with arguments that fit."""

import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

from adapt.app.components import COMPONENTS
from adapt.app.config import OF_THE_RUN, tasks_of
from adapt.app.earlier import MOVED
from adapt.errors import AdaptError
from tasks import DISTRIBUTIONS, TaskError
from tasks.places import import_own, within_any

__all__ = ["build", "check", "check_all"]

OURS = ("adapt", "tasks")
SCALARS = (bool, int, float, str)
#: Keys of a node that are not arguments; the last two, of Hydra's, change nothing here. Arguments have names:
#: what counts only when it is typed is known by its name (:mod:`adapt.app.trust`).
OF_A_NODE = ("_target_", "_partial_", "_recursive_", "_convert_")
LISTS = (Sequence, list, tuple)


#: Of a node (plain containers) and what makes its component: that component.
Make = Callable[[Mapping[str, Any], Callable[[], Any]], Any]


def build(config: Any, where: str, allow: Sequence[str] = (), make: Make | None = None) -> Any:
    """The component of a node, after :func:`check`, and before it all components that it holds.

    Args:
        config: the node, as Hydra composes it or as plain containers.
        where: its key, for messages.
        allow: modules that a ``_target_`` may come from, besides our components.
        make: called for every component, to make it or to give another; None: every one is made.

    Raises:
        AdaptError: no component, a target that is not allowed or does not exist, or arguments that do not
            fit. What a component raises of its arguments is raised on.
    """
    plain = OmegaConf.to_container(config, resolve=True) if isinstance(config, DictConfig) else config
    if not isinstance(plain, Mapping) or "_target_" not in plain:
        raise _no_component(where, config)
    check(plain, where, allow)
    return _built(plain, where, allow, make or (lambda node, made: made()))


def _no_component(where: str, value: Any) -> AdaptError:
    return AdaptError(
        f"{where}={value} is not a component: give it a _target_, or choose an option of its group"
    )


def _built(value: Any, where: str, allow: Sequence[str], make: Make) -> Any:
    if isinstance(value, list):
        return [_built(child, f"{where}[{index}]", allow, make) for index, child in enumerate(value)]
    if not isinstance(value, Mapping):
        return value
    if "_target_" not in value:
        return {key: _built(child, f"{where}.{key}", allow, make) for key, child in value.items()}

    def made() -> Any:
        if unset := [key for key, child in value.items() if child == MISSING]:
            raise AdaptError(f"{where}.{unset[0]} has no value yet: set {where}.{unset[0]}=…")
        parts = {key: _built(child, f"{where}.{key}", allow, make) for key, child in value.items()}
        arguments = {key: part for key, part in parts.items() if not str(key).startswith("_")}
        target = _resolve(value["_target_"], where, allow)
        if value.get("_partial_"):
            return partial(target, **arguments)
        try:
            return target(**arguments)
        except TaskError as error:
            raise _placed(error, target, where) from None
        except ValueError:
            raise  # its own message is what the user should read
        except Exception as error:
            raise AdaptError(
                f"{where}: {value['_target_']} failed: {type(error).__name__}: {error}"
            ) from error

    return make(value, made)


def _placed(error: TaskError, target: Any, where: str) -> TaskError:
    """What tasks say of their settings, which they call ``task.ways`` wherever they stand."""
    if where == "task" or target not in DISTRIBUTIONS.values():
        return error
    of_the_run = "|".join(OF_THE_RUN)
    return TaskError(re.sub(rf"\btask\.(?!(?:{of_the_run})\b)", f"{where}.", str(error)))


def check_all(config: Mapping[str, Any], allow: Sequence[str] = ()) -> None:
    """Check every component of a whole configuration (plain containers)."""
    for name in config.get("method", ()):
        if not re.fullmatch(r"\w[\w.+ -]*", str(name)):
            raise AdaptError(f"method.{name}: files are called so; use letters, digits, and . + - _")
    for key, node in config.items():
        check(tasks_of(node) if key == "task" else node, key, allow)


def check(value: Any, where: str, allow: Sequence[str] = (), *, names_only: bool = False) -> None:
    """Check every ``_target_`` below ``value`` (plain containers), recursively, without calling anything;
    ``names_only`` where what its arguments are set to is not complete yet."""
    if isinstance(value, Mapping):
        if "_target_" in value:
            _check_arguments(value, _resolve(value["_target_"], where, allow), where, names_only)
        for key, child in value.items():
            check(child, f"{where}.{key}", allow, names_only=names_only)
        if "_target_" in value and (odd := [k for k in value if str(k)[:1] == "_" and k not in OF_A_NODE]):
            raise AdaptError(f"{where}.{odd[0]} is not a setting of {value['_target_']}: name its arguments")
    elif isinstance(value, list):
        for index, child in enumerate(value):
            check(child, f"{where}[{index}]", allow, names_only=names_only)


def _resolve(target: Any, where: str, allow: Sequence[str]) -> Any:
    if target == MISSING:
        raise AdaptError(f"{where} has no value yet: set {where}._target_=…")
    if isinstance(target, str) and (found := _component(target)) is not None:
        return found
    if not isinstance(target, str) or not within_any(target, allow):
        raise _not_allowed(target, where, allow)
    module, _, attribute = target.rpartition(".")
    try:
        found = getattr(import_own(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise AdaptError(f"{where}._target_={target} does not exist ({error}): check the spelling") from None
    # A module also holds what it imported: my_package.os must not be a way to os.
    if not callable(found) or not within_any(getattr(found, "__module__", None) or "", allow):
        raise _not_allowed(target, where, allow)
    return found


def _component(target: str) -> Any:
    """The component of that name, or of the module that defines it; nothing is imported to find out."""
    if (found := COMPONENTS.get(target)) is not None:
        return found
    alike = (part for part in COMPONENTS.values() if target == f"{part.__module__}.{part.__name__}")
    return next(alike, None)


def _not_allowed(target: Any, where: str, allow: Sequence[str]) -> AdaptError:
    known = ", ".join(["adapt's and tasks' components", *allow])
    if isinstance(target, str) and target.split(".")[0] in OURS:
        close = get_close_matches(target, COMPONENTS, n=1)
        hint = f"did you mean {close[0]}?" if close else "`python -m adapt list` shows them;"
        return AdaptError(
            f"{where}._target_={target} does not exist or is not allowed: targets come from {known}: {hint} "
            "check the spelling"
        )
    return AdaptError(
        f"{where}._target_={target} is not allowed: targets come from {known}; add your own package with "
        "allow=[my_package], typed, if you trust it"
    )


def _check_arguments(node: Mapping[str, Any], target: Any, where: str, names_only: bool) -> None:
    parameters = inspect.signature(target).parameters
    # Fields that a dataclass inherits are annotated with names of the module that they come from.
    plain_class = inspect.isclass(target) and not is_dataclass(target)
    hints = typing.get_type_hints(target.__init__ if plain_class else target)
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    given = {key: value for key, value in node.items() if not str(key).startswith("_")}
    for key, value in given.items():
        if key in parameters and names_only:
            continue
        if key in parameters:
            _check_value(value, hints.get(key), f"{where}.{key}")
        elif not open_ended:
            if now := MOVED.get(f"{where}.{key}"):
                raise AdaptError(f"{where}.{key} is no setting any more: use {now}")
            deeper = [path for path in _within(given) if path.endswith(f".{key}")]
            known = [*parameters, *(OF_THE_RUN if where == "task" else ())]
            close = deeper or get_close_matches(str(key), known, n=1)
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


def _within(node: Mapping[str, Any]) -> Iterator[str]:
    """The keys of what ``node`` holds, with dots."""
    for key, child in node.items():
        if isinstance(child, Mapping):
            yield from (f"{key}.{name}" for name in (*child, *_within(child)))


def _check_value(value: Any, hint: Any, where: str) -> None:
    """Check scalars against their annotation; components (nested targets) are checked where they stand, but
    nothing else stands for one."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    scalars = [option for option in options if option in SCALARS]
    components = [o for o in options if getattr(o, "_is_protocol", False) or is_dataclass(o)]
    plain = (isinstance(value, Mapping) and "_target_" not in value) or isinstance(value, (*SCALARS, list))
    plain = plain or (value is None and type(None) not in options)
    if plain and components and len(components) + (type(None) in options) == len(options):
        raise _no_component(where, value)
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
        fits = fits or (isinstance(value, list) and any(typing.get_origin(o) in LISTS for o in options))
    if not fits:
        kinds = [option for option in options if isinstance(option, type) and option is not types.NoneType]
        raise AdaptError(f"{where}={value} should be {' or '.join(k.__name__ for k in kinds)}")
