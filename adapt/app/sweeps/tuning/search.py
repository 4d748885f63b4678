"""What ``adapt tune`` searches: a node of ``conf/hparams_search``, checked before anything runs."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any

from omegaconf import DictConfig, OmegaConf

from adapt.app.config import Stage
from adapt.checks import TASKS, check_setting, least
from adapt.errors import AdaptError

__all__ = ["Choices", "Range", "Search", "Setting", "Value", "check_space", "own_values", "read_search"]

#: A value that a setting can have: what the command line can say and a study can store.
Value = bool | int | float | str | None

SAMPLERS = ("tpe", "random")
#: Keys that may be searched, by stage. All others say what is measured or where, not how a method works.
SEARCHED = {
    Stage.compare: ("method", "inner", "head"),
    Stage.meta: ("meta", "inner", "space", "head", "support_head"),
}
#: Of these, what is a group: its value is the name of an option.
GROUPS = ("inner", "space", "head", "meta")
ARM_OF_META = "meta"
WHERE = "hparams_search"


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included; whole ones if both are; ``log``: their logarithms are
    drawn evenly."""

    low: float
    high: float
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether the numbers are whole."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def holds(self, value: Any) -> bool:
        """Whether ``value`` can be drawn."""
        number = isinstance(value, int if self.whole else int | float) and not isinstance(value, bool)
        return number and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g} … {self.high:g}" + (", log" if self.log else "")


@dataclass(frozen=True)
class Choices:
    """One of ``values``."""

    values: tuple[Value, ...]

    def holds(self, value: Any) -> bool:
        """Whether ``value`` can be drawn."""
        return any(value == known and type(value) is type(known) for known in self.values)

    def __str__(self) -> str:
        return ", ".join("null" if value is None else str(value) for value in self.values)


Setting = Range | Choices


@dataclass(frozen=True)
class Search:
    """The same budget for every method, and the settings that it is spent on.

    Attributes:
        space: method → key of the config → what its value may be.
        trials: settings that are tried per method.
        tasks: validation tasks that each of them is judged on, the same ones; a costly method runs on as many
            of them as its ``max_tasks`` says.
        seconds: no trial of a method starts after it has taken so long in all; None: no such limit.
        seed: of the proposals and of the validation tasks.
        sampler: ``tpe`` or ``random``.
        methods: those of ``space`` that are searched; None: all.
        held_out: where the data have no split to choose on: the share of every class's support pool that
            becomes the queries of the choice; None refuses.
        storage: of the Optuna study, a database URL; None: ``study.db`` in the folder of the search.
    """

    space: Mapping[str, Mapping[str, Setting]]
    trials: int
    tasks: int
    seconds: float | None = None
    seed: int = 0
    sampler: str = "tpe"
    methods: tuple[str, ...] | None = None
    held_out: float | None = None
    storage: str | None = None


def read_search(node: Any) -> Search:
    """A node of ``hparams_search`` as a :class:`Search`.

    Raises:
        AdaptError: a setting that does not exist, a budget of nothing, or a space that holds no values.

    Example:
        >>> space = {"backprop": {"method.backprop.solver.lr": {"low": 0.001, "high": 0.1, "log": True}}}
        >>> search = read_search(OmegaConf.create({"trials": 8, "tasks": 20, "space": space}))
        >>> str(search.space["backprop"]["method.backprop.solver.lr"])
        '0.001 … 0.1, log'
    """
    if not isinstance(node, DictConfig):
        raise AdaptError(f"{WHERE}={node}: there is nothing to search; choose what, as {WHERE}=methods")
    given: Any = OmegaConf.to_container(node, resolve=True)
    known = [field.name for field in fields(Search)]
    for name in given:
        if name not in known:
            raise AdaptError(f"{WHERE}.{name} is not a setting: {_hint(str(name), known)}")
    for name in ("trials", "tasks"):
        if not isinstance(given.get(name), int) or given[name] < 1:
            raise AdaptError(f"{WHERE}.{name}={given.get(name)}: a whole number of at least 1 is needed")
        check_setting(f"{WHERE}.{name}", given[name], least(1, ceiling=TASKS))
    if not isinstance(given.get("seed", 0), int) or given.get("seed", 0) < 0:
        raise AdaptError(f"{WHERE}.seed={given['seed']}: a whole number that is not negative is needed")
    if given.get("seconds") is not None and not given["seconds"] > 0:
        raise AdaptError(f"{WHERE}.seconds={given['seconds']}: give a positive time, or null for no limit")
    if given.get("sampler", "tpe") not in SAMPLERS:
        raise AdaptError(f"{WHERE}.sampler={given['sampler']} does not exist: use {' or '.join(SAMPLERS)}")
    if given.get("held_out") is not None and not 0 < given["held_out"] < 1:
        raise AdaptError(f"{WHERE}.held_out={given['held_out']}: give a share between 0 and 1, or null")
    space = _space(given.pop("space", None))
    if (chosen := given.pop("methods", None)) is not None:
        for name in chosen:
            if name not in space:
                raise AdaptError(f"{WHERE}.methods: '{name}' has no space: {_hint(str(name), [*space])}")
        space = {name: space[name] for name in chosen}
        given["methods"] = tuple(chosen)
    if not space:
        raise AdaptError(f"{WHERE} has nothing to search: give it a space, or leave methods out")
    return Search(space=space, **given)


def check_space(search: Search, config: DictConfig) -> None:
    """Check that the methods of the space take part, and that its keys are settings of ``config``, each
    searched for one method.

    Raises:
        AdaptError: a method or a key that does not exist, that is not to be searched, or that is there twice.
    """
    stage = config.stage
    if stage not in SEARCHED:
        raise AdaptError(f"stage={stage.value} cannot be tuned: use {' or '.join(s.value for s in SEARCHED)}")
    arms = [str(name) for name in config.method] if stage is Stage.compare else [ARM_OF_META]
    known = [*_leaves(OmegaConf.to_container(config, resolve=False))]
    owner: dict[str, str] = {}
    for method, settings in search.space.items():
        if method not in arms:
            raise AdaptError(_no_method(method, arms, [name for name in search.space if name in arms], stage))
        for key in settings:
            _check_key(f"{WHERE}.space.{method}", key, stage, dict(known))
            if key in owner:
                raise AdaptError(
                    f"{key} is in the spaces of {owner[key]} and {method}, but can have one value only: "
                    "search it for one of them"
                )
            owner[key] = method


def own_values(config: DictConfig, keys: Mapping[str, Setting]) -> dict[str, Value] | None:
    """What ``config`` itself says of ``keys``; None if one of its values is not in the space."""
    values = {key: OmegaConf.select(config, key) for key in keys}
    return values if all(setting.holds(values[key]) for key, setting in keys.items()) else None


def _space(given: Any) -> dict[str, dict[str, Setting]]:
    space: dict[str, dict[str, Setting]] = {}
    for method, settings in (given or {}).items():
        if not isinstance(settings, Mapping) or not settings:
            raise AdaptError(
                f"{WHERE}.space.{method} is empty: give it keys of the config with values, or leave it out"
            )
        space[str(method)] = dict(_settings(settings, f"{WHERE}.space.{method}"))
    return space


def _settings(node: Mapping[str, Any], where: str, path: str = "") -> Iterator[tuple[str, Setting]]:
    """Keys with dots, however they are nested in ``node``."""
    for name, value in node.items():
        key = f"{path}{name}"
        if isinstance(value, Mapping) and value and not {"low", "high", "log"} & {*value}:
            yield from _settings(value, where, f"{key}.")
        else:
            yield key, _setting(value, f"{where}.{key}")


def _setting(value: Any, where: str) -> Setting:
    if isinstance(value, list):
        if not value or not all(item is None or isinstance(item, bool | int | float | str) for item in value):
            raise AdaptError(f"{where}={value}: give a list of numbers, texts or null, not an empty one")
        return Choices(tuple(value))
    if not isinstance(value, Mapping) or not {"low", "high"} <= {*value} <= {"low", "high", "log"}:
        raise AdaptError(
            f"{where}={value}: give a range, as {{low: 0.001, high: 0.1, log: true}}, or a list of values"
        )
    low, high, log = value["low"], value["high"], value.get("log", False)
    for name, number in (("low", low), ("high", high)):
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            raise AdaptError(f"{where}: {name}={number} is no number")
    if low > high:
        raise AdaptError(f"{where}: low={low} is above high={high}: exchange them")
    if log and low <= 0:
        raise AdaptError(f"{where}: low={low} has no logarithm: use a positive low, or log: false")
    return Range(low, high, bool(log))


def _no_method(method: str, arms: list[str], kept: list[str], stage: Stage) -> str:
    if stage is not Stage.compare:
        return f"{WHERE}.space.{method}: stage={stage.value} trains one thing: call its space {ARM_OF_META}"
    fix = "add it to method=[...]" + (
        f", or search {WHERE}.methods=[{','.join(kept)}] only" if kept else f": there are {', '.join(arms)}"
    )
    return f"{WHERE}.space.{method}: method '{method}' does not take part: {fix}"


def _check_key(where: str, key: str, stage: Stage, known: Mapping[str, Any]) -> None:
    allowed = SEARCHED[stage]
    if key.split(".")[0] not in allowed:
        raise AdaptError(
            f"{where}: {key} is not to be searched, since it says what is measured or where: "
            f"use keys below {', '.join(allowed)}"
        )
    if key in known:
        if isinstance(known[key], Mapping) and key not in GROUPS:
            raise AdaptError(f"{where}: {key} holds settings: search one of {', '.join(known[key])} in it")
        return
    parts = key.split(".")
    for length in range(len(parts) - 1, 0, -1):
        value = known.get(".".join(parts[:length]))
        if isinstance(value, str) and value.startswith("${") and value.endswith("}"):
            meant = ".".join([value[2:-1], *parts[length:]])
            raise AdaptError(f"{where}: {'.'.join(parts[:length])} is {value}: search {meant} instead")
    candidates = [name for name in known if name.split(".")[0] in allowed]
    raise AdaptError(f"{where}: {key} is not a setting: {_hint(key, candidates)}")


def _leaves(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """``(key with dots, value)`` of everything below ``node``, groups of the config included: another option
    of one is another value."""
    if path:
        yield ".".join(path), node
    if isinstance(node, Mapping):
        for name, child in node.items():
            yield from _leaves(child, (*path, str(name)))


def _hint(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
