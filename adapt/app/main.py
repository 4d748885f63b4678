"""The entry point: compose the config, run the stage, and turn mistakes into one clear line."""

import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import (
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from adapt import interrupts
from adapt.app.compose import forget_unchosen
from adapt.app.config import config_folder
from adapt.app.ranks import follow, joined
from adapt.app.trust import guarded
from adapt.errors import AdaptError
from tasks import TaskError, TaskWarning
from tasks.readers.shown import plain

__all__ = ["main"]

#: What the user can mend.
MISTAKES = (AdaptError, TaskError, HydraException, OmegaConfBaseException)

#: Commands beside running an experiment: ``main(arguments)`` of the module of that name in ``commands``.
COMMANDS = (
    "evaluate",
    "fit",
    "history",
    "list",
    "predict",
    "promote",
    "resume",
    "rollback",
    "serve",
    "show",
    "tune",
    "watch",
)

#: The group of Hydra's own that the options of our group `launcher` name plugins of.
LAUNCHER = "hydra/launcher/"

#: What Hydra is to load, as it was called in earlier versions.
RENAMED = {"adapt.app.sweep.SweepSummary": "adapt.app.sweeps.callback.SweepSummary"}

#: Through which Hydra makes folders.
MAKES_FOLDERS = ("os", "pathlib", "genericpath")
#: Characters of an error.
LONGEST = 4000
#: What SIGTERM does.
_terminate = interrupts.handle


def main() -> None:
    """``python -m adapt`` and the console script ``adapt``: exit code 0, or 2 with one line for anything the
    user can mend."""
    os.environ.setdefault(
        "HYDRA_FULL_ERROR", "1"
    )  # let exceptions through to the handler below instead of Hydra's own report
    follows = False
    with interrupts.listening() as outermost:
        try:
            with joined() as follows:
                (_follow if follows else _run)()
        except (KeyboardInterrupt, Exception, SystemExit) as error:
            # An interruption within an import, say, may look like another error by the time it gets here.
            kind = interrupts.kind(error)
            if not outermost or kind is None:
                raise
            terminated = issubclass(kind, interrupts.Terminated)
            if not follows:
                print("terminated" if terminated else "interrupted", file=sys.stderr)
            sys.exit(143 if terminated else 130)


def _run() -> None:
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    try:
        with _warnings_as_lines():
            if command in COMMANDS:
                importlib.import_module(f"adapt.app.commands.{command}").main(sys.argv[2:])
            else:
                _check_command(command)
                _check_options(sys.argv[1:])
                sys.argv += _folder_of_experiments(sys.argv[1:])
                with _sweep_closed(), guarded():
                    _entry()()
    except MISTAKES as error:
        _refuse(error)
    except (ValueError, OSError) as error:
        said = _hindrance(error)
        if said is None and not _raised_by_hydra(error):
            raise
        _refuse(error if said is None else AdaptError(said))
    finally:
        if (folders := sys.modules.get("adapt.app.folders")) is not None:
            folders.release()


def _follow() -> None:
    """What a process does that torchrun started beside the first one, which speaks for both."""
    from adapt.app.stages.run import follow_run  # imported here: --help should not wait for it

    try:
        follow(follow_run)
    except MISTAKES as error:
        _refuse(error)


def _folder_of_experiments(arguments: list[str]) -> list[str]:
    """What a sweep over experiments, or over names, needs besides: each has a name, and so a folder, of its
    own, and there would be none of all."""
    named = (word.partition("=")[2] for word in arguments if word.startswith(("experiment=", "name=")))
    several = any(sign in values for values in named for sign in (",", "(", "*"))  # as Hydra lists values
    if not several or not {"-m", "--multirun"} & {*arguments}:
        return []
    if any(word.startswith("hydra.sweep.dir=") for word in arguments):
        return []
    return ["hydra.sweep.dir=outputs/experiments/${now:%Y-%m-%d_%H-%M-%S}"]


def _hindrance(error: BaseException, folder: Path | None = None) -> str | None:
    from adapt.app.folders import hindrance  # imported here: --help should not wait for it

    return hindrance(error, folder)


@contextmanager
def _sweep_closed() -> Iterator[None]:
    """Whatever ends a sweep early, its MLflow run says so."""
    try:
        yield
    except BaseException as error:
        if (sweep := sys.modules.get("adapt.app.sweeps.callback")) is not None:
            sweep.close(error)
        raise


def _check_command(word: str) -> None:
    """Refuse a first word that is neither a command nor a setting (``key=value``, ``~key``): Hydra would call
    it an override that lacks its value."""
    if not word or word.startswith(("-", "~", "+")) or "=" in word:
        return
    close = get_close_matches(word, COMMANDS, n=1)
    fix = f"did you mean {close[0]}?" if close else f"use one of {', '.join(COMMANDS)}"
    if os.path.exists(word) or Path(word).suffix or len(Path(word).parts) > 1:
        fix = f"to learn from data, python -m adapt fit {word}"
    raise AdaptError(f"{word!r} is no command: {fix}")


def _check_options(arguments: list[str]) -> None:
    """Refuse options that there are not, in a line, and Hydra's that unpickles a file."""
    parser = get_args_parser()
    with mock.patch.object(parser, "error", _no_such_option):
        known, _ = parser.parse_known_args(arguments)
        if known.experimental_rerun is None:
            parser.parse_args(arguments)
    if known.experimental_rerun is not None:
        raise AdaptError(
            f"--experimental-rerun {known.experimental_rerun} would run code from that file: use "
            "`python -m adapt resume FOLDER`"
        )


def _no_such_option(message: str) -> NoReturn:
    raise AdaptError(f"{message}: see python -m adapt --help")


def _entry() -> Callable[[], object]:
    return hydra.main(version_base="1.3", config_path=str(config_folder()), config_name="config")(_task)


def _task(config: DictConfig) -> float | None:
    from adapt.app.stages.run import (
        run,
    )  # imported here: --help and misspelt keys should not wait for torch and MLflow

    forget_unchosen(config, HydraConfig.get().overrides.task)
    try:
        return run(config)
    except OSError as error:
        if (said := _hindrance(error, Path(HydraConfig.get().runtime.output_dir))) is None:
            raise
        _refuse(AdaptError(said))
    except MISTAKES as error:
        _refuse(error)  # here already: Hydra would announce any exception of a job with a line of its own


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Show what was left out of the data, or not recorded, as ``warning: <message>``, once: which line of
    code said so means nothing to the user. Other warnings are shown as ever."""
    others, shown = warnings.showwarning, set[str]()

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        # TrackingWarning by its name: importing it would cost every --help an import of half the package.
        if not issubclass(category, TaskWarning) and category.__name__ != "TrackingWarning":
            others(message, category, *place, **more)
        elif (line := " ".join(str(message).split())) not in shown:
            shown.add(line)
            print(f"warning: {plain(line)}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _refuse(error: Exception) -> NoReturn:
    said = _one_line(error)  # which may quote what was read
    said = said if len(said) <= LONGEST else f"{said[:LONGEST]} …"
    print(f"error: {plain(said)}", file=sys.stderr)
    sys.exit(2)


def _one_line(error: Exception) -> str:
    """The message, with what OmegaConf found behind one of Hydra's; no line breaks, no full-key footers."""
    if isinstance(error, MissingConfigException) and str(error.missing_cfg_file).startswith(LAUNCHER):
        name = str(error.missing_cfg_file).removeprefix(LAUNCHER)
        return f'Hydra\'s launcher {name} is not installed: pip install "adaptive-behavior[sweeps]"'
    if isinstance(error, MissingConfigException) and (line := _unknown_option(error)) is not None:
        return line
    if isinstance(error, OverrideParseException):  # Hydra would name the character, and a page on its grammar
        fix = "write NAME=VALUE, such as inner=auto, in quotes if VALUE has spaces, brackets or ="
        return f"{error.override!r} cannot be read as a setting: {fix}"
    if "override must be a string or a list. Got NoneType" in str(error):  # Hydra does not say of which
        return "a group takes the name of an option, and no null: leave one out with ~, as in ~match"
    for earlier, now in RENAMED.items():
        if isinstance(error, InstantiationException) and f"'{earlier}'" in str(error):
            return f"_target_={earlier} is now called {now}"
    cause = error.__cause__
    if isinstance(cause, ConfigKeyError | ConfigAttributeError) and isinstance(cause.parent_node, DictConfig):
        return _unknown_key(cause, cause.parent_node)
    messages = [str(error), str(cause)] if isinstance(cause, OmegaConfBaseException) else [str(error)]
    texts = [_without_footers(message) for message in messages]
    return ": ".join(filter(None, texts)) or type(error).__name__


def _unknown_option(error: MissingConfigException) -> str | None:
    """Hydra would say where it looked, and of some not what there is; None where it says something else."""
    group, _, option = str(error.missing_cfg_file).rpartition("/")
    folder = config_folder() / group
    if not group or not folder.is_dir():
        return None
    known = sorted({*(error.options or ()), *(path.stem for path in folder.glob("*.yaml"))})
    close = get_close_matches(option, known, n=1)
    hint = f"did you mean {close[0]}? There" if close else "there"
    return f"Could not find '{group}/{option}': {hint} are {', '.join(known)}"


def _unknown_key(error: OmegaConfBaseException, parent: DictConfig) -> str:
    """Hydra would advise to append the key with ``+``, which is not what a typing mistake needs."""
    known = [str(key) for key in parent if not str(key).startswith("_")]
    close = get_close_matches(str(error.key), known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known) or 'none'}"
    return f"{error.full_key or error.key} is not a setting: {hint}"


def _without_footers(message: str) -> str:
    lines = [line.strip() for line in message.splitlines()]
    footers = ("full_key:", "object_type=", "reference_type=")
    return " ".join(line for line in lines if line and not line.startswith(footers))


def _raised_by_hydra(error: ValueError | OSError) -> bool:
    """Some of Hydra's complaints about what was typed are plain ValueErrors, as bugs elsewhere are; and it
    makes the folder of the run, which may not be possible."""
    names = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return [name for name in names if name not in MAKES_FOLDERS][-1].startswith("hydra.")
