"""``python -m adapt resume FOLDER``: go on with an interrupted run or sweep, in its folder."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from unittest import mock

from omegaconf import OmegaConf

from adapt.app.commands.arguments import Arguments, say_taken
from adapt.app.folders import hold
from adapt.app.progress import console
from adapt.app.sizes import check_file
from adapt.app.stages.state import MULTIRUN, RUN, SWEEP, State, kept, read_sweep, resumed
from adapt.app.trust import split_read
from adapt.errors import AdaptError
from adapt.files import write_text
from adapt.tracking import forget, left

__all__ = ["Started", "main", "started"]

#: What ``tune`` leaves in its folder.
SEARCH = "tune.json"


@dataclass(frozen=True)
class Started:
    """How what is in a folder was started.

    Attributes:
        folder: of the run, or of the whole sweep.
        sweep: whether it is one.
        cwd: the working directory; paths that were typed are relative to it.
        arguments: of the command line; what counts only when it is typed is not among them.
        left: that.
    """

    folder: Path
    sweep: bool
    cwd: Path
    arguments: list[str]
    left: list[str]


def main(arguments: list[str]) -> None:
    """Start again what was started in the folder, with what was typed then; whatever is finished is kept.

    Raises:
        AdaptError: no run's folder, a working directory that is gone, or settings that have changed since.
    """
    parser = Arguments("resume", "Go on with an interrupted run or sweep: what is finished is not run again.")
    parser.add_argument("folder", help="where it writes: outputs/NAME/DATE, or its hydra.run.dir")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="typed again, since it is not taken from a folder: allow=…, hydra.…=…, tracking.uri=…",
    )
    given = parser.parse_intermixed_args(arguments)
    own = [] if given.config_dir is None else ["--config-dir", str(Path(given.config_dir).resolve())]
    found = started(Path(given.folder).resolve())
    if _finished(found):
        # A process that was killed right after it had noted so has left the journal, whole or not.
        rest = "there is nothing to do"
        if not forget(found.folder):
            send = f"python -m adapt.tracking.sync {shlex.quote(str(found.folder))}"
            rest = f"`{send}` sends what MLflow has not got"
        console.print(f"{found.folder} is finished: {rest}", soft_wrap=True, markup=False)
        return
    say_taken(f"going on in {found.cwd} with", found.arguments[:-1], found.left)
    from adapt.app.main import main as start  # which imports this module

    if not found.cwd.is_dir():
        raise AdaptError(
            f"{found.folder} was started in {found.cwd}, which does not exist any more: what was typed may "
            "refer to it, so create it or start a new run"
        )
    _check_place(found)
    with (
        contextlib.chdir(found.cwd),
        mock.patch.object(sys, "argv", [sys.argv[0], *found.arguments, *own, *given.overrides]),
        _going_on(found.folder),
    ):
        hold(found.folder)  # before anything in it is touched; who started us lets go of it
        _keep(found)
        start()


def _check_place(found: Started) -> None:
    """Results are written below the directory that a run was started in, which its folder names: that is the
    present one, or one below it in which the folder lies."""
    here, there = Path.cwd().resolve(), found.cwd.resolve()
    if there != here and not (there.is_relative_to(here) and found.folder.is_relative_to(there)):
        raise AdaptError(
            f"{found.folder} was started in {found.cwd}, and would write there: if that is right, resume it "
            f"from there (cd {shlex.quote(str(found.cwd))})"
        )


def started(folder: Path) -> Started:
    """What Hydra noted in ``folder`` when it was started there.

    Raises:
        AdaptError: Hydra noted nothing there, or the folder is that of one run of a sweep.
    """
    sweep = (folder / MULTIRUN).is_file()
    noted = folder / (MULTIRUN if sweep else RUN)
    if not noted.is_file() and (folder / SEARCH).is_file():
        raise AdaptError(
            f"{folder} is that of a search: go on with "
            f"`python -m adapt tune folder={shlex.quote(str(folder))}`"
        )
    if not noted.is_file():
        raise AdaptError(
            f"{folder} is not the folder of a run or a sweep: there is neither {RUN} nor {MULTIRUN} in it"
        )
    hydra = _read(noted)
    if not sweep and hydra["mode"] == "MULTIRUN":
        whole = next((str(above) for above in folder.parents if (above / MULTIRUN).is_file()), "its folder")
        raise AdaptError(
            f"{folder} is one run of a sweep: resume all of it, which keeps what is finished, with {whole}"
        )
    key = "hydra.sweep.dir" if sweep else "hydra.run.dir"
    typed = [text for text in hydra["overrides"]["hydra"] if text.lstrip("+").partition("=")[0] != key]
    own = [
        source["path"]
        for source in hydra["runtime"]["config_sources"]
        if source["provider"] == "command-line"
    ]
    taken, untaken = split_read([*hydra["overrides"]["task"], *typed])
    arguments = [
        *(["--multirun"] if sweep else []),
        *("--config-name", hydra["job"]["config_name"]),
        *(argument for path in own for argument in ("--config-dir", path)),
        *taken,
        f"{key}={_quoted(str(folder))}",
    ]
    return Started(folder, sweep, Path(hydra["runtime"]["cwd"]), arguments, untaken)


def _read(noted: Path) -> dict[str, Any]:
    """What Hydra noted; a copy of an earlier resume counts first."""
    source = copy if (copy := kept(noted)).is_file() else noted
    check_file(source)
    try:
        found = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(source)))
        hydra: dict[str, Any] = found["hydra"]
        sources = hydra["runtime"]["config_sources"]
        texts = [hydra["mode"], hydra["runtime"]["cwd"], *(source["provider"] for source in sources)]
        texts += [*hydra["overrides"]["task"], *hydra["overrides"]["hydra"]]
        values = [hydra["job"]["config_name"], *(source["path"] for source in sources)]
        if not all(isinstance(text, str) for text in (*texts, *values)):
            raise TypeError
        if any(value.startswith("-") for value in values):  # an option, not the value of one
            raise ValueError
    except Exception:  # what half a file reads like is anybody's guess
        raise AdaptError(
            f"{noted} is not whole: what was started there was killed before it began, so start it again"
        ) from None
    return hydra


def _keep(found: Started) -> None:
    noted = found.folder / (MULTIRUN if found.sweep else RUN)
    if not kept(noted).is_file():
        write_text(kept(noted), noted.read_text(encoding="utf-8"))


def _finished(found: Started) -> bool:
    if found.sweep:
        if not (found.folder / SWEEP).is_file():
            return False
        return bool(read_sweep(found.folder, "status")["status"] == "finished") and not left(found.folder)
    state = State.read(found.folder)
    return state is not None and state.status == "finished"


@contextlib.contextmanager
def _going_on(folder: Path) -> Iterator[None]:
    token = resumed.set(folder)
    try:
        yield
    finally:
        resumed.reset(token)


def _quoted(text: str) -> str:
    """As Hydra reads it, whatever is in it."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
