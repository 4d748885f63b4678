"""``python -m adapt show experiment=quickstart``: what a run would be made of, without running it."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import RenderableType
from rich.text import Text

from adapt.app.build import check
from adapt.app.commands.arguments import Arguments
from adapt.app.commands.list import config_folders, groups, rows, sentence
from adapt.app.compose import Composed, compose_run
from adapt.app.config import tasks_of
from adapt.app.progress import console
from adapt.app.sizes import check_file

__all__ = ["main"]

#: Groups whose options say what others are: they stand in the list of options, not among the settings.
ABOUT = ("experiment", "hparams_search", "launcher")


def main(arguments: list[str]) -> None:
    """Print the options that were chosen, what the experiment sets, the whole configuration, and the command.

    Raises:
        AdaptError: a folder that does not exist, or a key of ``task`` that is no setting. What Hydra raises
            of overrides is raised on.
    """
    parser = Arguments(
        "show", "What an experiment is made of: options, settings, and the command that runs it."
    )
    parser.add_argument(
        "override", nargs="*", help="as in a run: experiment=quickstart task.shots=1, for instance"
    )
    given = parser.parse_intermixed_args(arguments)
    known = groups(config_folders(given.config_dir))
    composed = compose_run(given.override, given.config_dir)
    _check_task(composed.config)
    for part in _page(composed, known, given.override, given.config_dir):
        console.print(part, soft_wrap=not console.is_terminal)


def _check_task(config: DictConfig) -> None:
    """Refuse what is misspelt in ``task``, the one part whose keys Hydra leaves open. Tasks of somebody's own
    package are left to the run, which asks whether that is allowed."""
    task = tasks_of(cast(dict[str, Any], OmegaConf.to_container(config.task, resolve=True)))
    if not re.search(r"'_target_': '(?!tasks\.)", repr(task)):
        check(task, "task", names_only=True)


def _page(
    composed: Composed, known: Mapping[str, Mapping[str, Path]], overrides: Sequence[str], own: str | None
) -> Iterator[RenderableType]:
    command = ["python", "-m", "adapt", *(["--config-dir", own] if own is not None else []), *overrides]
    experiments = [known["experiment"][name] for group, name in composed.options if group == "experiment"]
    for path in experiments:
        yield Text(sentence(path))
        yield ""
    yield Text("Made of", style="bold")
    lines = {}
    for group, option in composed.options:
        file = known.get(group.split("@")[0], {}).get(option)
        lines[f"{group}={option}"] = sentence(file) if file is not None else ""
    yield from rows(lines)
    settings: dict[str, str] = {}
    for path in experiments:
        settings |= _settings(path, known["experiment"])
    for title, values in (("Set by the experiment", settings), ("One run for each of", composed.sweep)):
        if values:
            yield Text(f"\n{title}", style="bold")
            yield Text("\n".join(f"  {key}={value}" for key, value in values.items()))
    with open_dict(config := composed.config.copy()):
        for name in ABOUT:
            config.pop(name, None)
    yield Text("\nThe whole configuration", style="bold")
    yield Text(OmegaConf.to_yaml(config, resolve=True))
    yield Text("Run it", style="bold")
    yield Text(f"  {shlex.join(command)}")


def _settings(path: Path, experiments: Mapping[str, Path]) -> dict[str, str]:
    """What an experiment sets, by key, as one would type it; with what it takes from another experiment."""
    check_file(path)
    node = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(path)))
    found: dict[str, str] = {}
    for entry in node.pop("defaults", []):
        if isinstance(entry, str) and entry in experiments:
            found |= _settings(experiments[entry], experiments)
        elif isinstance(entry, dict):
            for group, option in entry.items():
                found[group.removeprefix("override").strip().lstrip("/")] = _typed(option)
    node.pop("hydra", None)
    return {**found, **dict(_flat(node, ""))}


def _flat(node: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in node.items():
        if isinstance(value, dict) and value and "_target_" not in value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _typed(value)


def _typed(value: Any) -> str:
    """A value as Hydra reads it from the command line."""
    if isinstance(value, list):
        return f"[{','.join(map(_typed, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_typed(entry)}" for key, entry in value.items()) + "}"
    return value if isinstance(value, str) else json.dumps(value)
