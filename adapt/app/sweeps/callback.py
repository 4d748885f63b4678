"""A sweep as one tree: an MLflow run above its runs, a table of them, and the best setting."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from adapt.app.build import build
from adapt.app.folders import hold
from adapt.app.progress import console
from adapt.app.stages.parent import this_process
from adapt.app.stages.state import OCCUPIED, SWEEP, clear, read_sweep, resumed
from adapt.app.sweeps.summary import Summary, draw, read_jobs
from adapt.compare import Comparison
from adapt.errors import AdaptError
from adapt.files import write_json
from adapt.interrupts import kind
from adapt.tracking import Run, TrackingSettings, forget, track
from adapt.tracking.sync import sync
from tasks.readers.shown import plain

__all__ = ["SweepSummary", "close"]

FAILED = 2  # exit code
#: Tells Python to leave the working directory out.
SAFE_PATH = "PYTHONSAFEPATH"


@dataclass(frozen=True)
class _Opened:
    """The sweep that this process has started and not yet summed up."""

    name: str
    folder: Path
    record: dict[str, Any]  # sweep.json, by which the runs find it
    stack: ExitStack
    run: Run
    local: bool  # the store is at hand: no server that one would have to wait for


#: At most one. Not on the callback, which launchers pickle for other processes.
_opened: list[_Opened] = []


class SweepSummary(Callback):
    """Works with any launcher: the runs find the sweep by ``sweep.json`` in its folder, and it reads what
    they wrote there.

    The folder of a run or a sweep is taken here, since Hydra writes into it before the run begins.
    """

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Take the folder."""
        _take(Path(config.hydra.run.dir).absolute())

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Take the folder, open the sweep's MLflow run, and write ``sweep.json``."""
        close(AdaptError("another sweep was started"))
        folder = Path(config.hydra.sweep.dir).absolute()
        _take(folder)
        overrides = list(config.hydra.overrides.task)
        known: dict[str, Any] = {}
        if resumed.get() != folder:
            clear(folder)
        elif (folder / SWEEP).is_file():
            known = read_sweep(folder)
        shutil.rmtree(folder / OCCUPIED, ignore_errors=True)
        settings, swept = _settings(config), _swept(config)
        with ExitStack() as stack:  # an interruption before the sweep is open ends its MLflow run
            stack.enter_context(_safe_path())
            run = stack.enter_context(
                track(
                    settings,
                    config.name,
                    tags={"sweep": "true"},
                    config=_common(config, swept),
                    overrides=overrides,
                    folder=folder,
                    keep=True,
                    run_id=known.get("run_id"),
                )
            )
            run.log_tags({"mlflow.runName": f"{config.name} sweep"})
            record = {
                "id": known.get("id") or uuid.uuid4().hex,
                "run_id": run.run_id or known.get("run_id"),
                "status": "running",
                "overrides": overrides,
                "swept": swept,
                "process": this_process(),
            }
            write_json(folder / SWEEP, record)
            local = settings.enabled and not (settings.uri or "").startswith("http")
            _opened.append(_Opened(config.name, folder, record, stack.pop_all(), run, local))
        atexit.register(close, KeyboardInterrupt())

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Sum up; a sweep in which a run failed ends FAILED, with exit code 2."""
        if not _opened:
            folder = Path(config.hydra.sweep.dir)
            found = sorted(folder.glob("*/comparison.json"))
            draw([Comparison.read(path) for path in found], folder)
            return
        try:
            summary = _sum_up(_opened[0])
        except Exception as error:
            close(error)
            raise
        if not summary.failed:
            close(None)
            return
        close(AdaptError(summary.failures))
        print(f"error: {plain(summary.failures)}", file=sys.stderr)
        sys.exit(FAILED)  # an exception of a callback would only be a warning of Hydra's


@contextmanager
def _safe_path() -> Iterator[None]:
    """Workers do not import from the working directory, as we do not; nor does what they start."""
    before = os.environ.get(SAFE_PATH)
    os.environ[SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(SAFE_PATH, None)
        else:
            os.environ[SAFE_PATH] = before


def _take(folder: Path) -> None:
    try:
        hold(folder)
    except AdaptError as error:  # an exception of a callback would only be a warning of Hydra's
        print(f"error: {plain(str(error))}", file=sys.stderr)
        sys.exit(FAILED)


def close(error: BaseException | None) -> None:
    """End the sweep that is open, if any: its MLflow run becomes FINISHED, KILLED if ``error`` is an
    interruption, else FAILED."""
    while _opened:
        opened = _opened.pop()
        status = "finished" if error is None else "failed"
        if error is not None and kind(error) is not None:
            status = "killed"
        write_json(opened.folder / SWEEP, {**read_sweep(opened.folder), "status": status})
        try:
            opened.stack.__exit__(
                type(error) if error else None, error, getattr(error, "__traceback__", None)
            )
        except BaseException as raised:
            if raised is not error:
                raise
        if status == "finished":
            forget(opened.folder)
        if status == "killed" and opened.local:
            with suppress(Exception):  # what it could not close looks as if it were running, no more
                sync([opened.folder])  # its runs in other processes were killed, and could not say so
    atexit.unregister(close)


def _sum_up(opened: _Opened) -> Summary:
    """Write, show and record what came of the sweep."""
    folder, run = opened.folder, opened.run
    summary = Summary(opened.name, read_jobs(folder, opened.record["id"]))
    status = {"status": "failed" if summary.failed else "finished"}
    write_json(folder / SWEEP, {**opened.record, **status, **summary.to_dict(folder)})
    files = [folder / SWEEP, *summary.write(folder)]
    run.log_metrics(summary.metrics())
    # What failed before it was resumed has failed no more.
    run.log_tags({**({"failed_runs": ""} if run.resumed else {}), **summary.tags()})
    run.log_files(files)
    console.print()
    console.print(summary.table())
    console.print(f"\n{summary.text}\n\nsweep    {folder}", soft_wrap=True, markup=False)
    return summary


def _settings(config: DictConfig) -> TrackingSettings:
    """Where to record; nowhere if the config is wrong about it, which every run will then say."""
    try:
        return build(config.tracking, "tracking", config.allow)
    except AdaptError:
        return TrackingSettings(enabled=False)


def _swept(config: DictConfig) -> dict[str, str]:
    """What the runs differ in: keys, and the texts of their values."""
    params = config.hydra.sweeper.get("params") or {}
    typed = [*(f"{key}={value}" for key, value in params.items()), *config.hydra.overrides.task]
    return {
        override.get_key_element().lstrip("+~"): str(override.input_line).partition("=")[2]
        for override in OverridesParser.create().parse_overrides(typed)
        if override.is_sweep_override()
    }


def _common(config: DictConfig, swept: dict[str, str]) -> dict[str, Any]:
    """The config that all runs share; a key that they differ in has the texts of its values."""
    shared = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    try:
        plain = OmegaConf.to_container(shared, resolve=True, enum_to_str=True)
    except OmegaConfBaseException:  # what it refers to is set by the sweep
        plain = OmegaConf.to_container(shared, enum_to_str=True)
    common = cast(dict[str, Any], plain)
    for name, values in swept.items():
        *path, last = name.partition("@")[2].split(".") if "@" in name else name.replace("/", ".").split(".")
        node = common
        for key in path:
            if not isinstance(node.get(key), dict):
                node[key] = {}
            node = node[key]
        node[last] = values
    return common
