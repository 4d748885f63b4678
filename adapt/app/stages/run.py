"""One run: check the whole config before any work starts, then do what its stage says."""

from __future__ import annotations

import math
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from adapt.app import build
from adapt.app.config import Config, Stage
from adapt.app.environment import choose_device, job_number
from adapt.app.folders import Occupied, alone, hindrance
from adapt.app.progress import console
from adapt.app.ranks import local_rank
from adapt.app.stages.compare import follow_compare, run_compare
from adapt.app.stages.meta import CHECKPOINT, follow_meta, run_meta
from adapt.app.stages.parent import ORPHAN_SECONDS, end_with_parent
from adapt.app.stages.pretrain import run_pretrain
from adapt.app.stages.session import Session
from adapt.app.stages.state import OCCUPIED, State, Sweep, begin, sweep_of
from adapt.app.stages.stream import run_stream
from adapt.checks import SEED, check_setting
from adapt.errors import AdaptError
from adapt.interrupts import check
from adapt.memory import keep_freed_memory
from adapt.tracking import forget
from tasks import TaskError
from tasks.readers.room import check_room

__all__ = ["follow_run", "run"]

STAGES = {
    Stage.compare: run_compare,
    Stage.meta: run_meta,
    Stage.pretrain: run_pretrain,
    Stage.stream: run_stream,
}
#: Those that several processes can share, and what the others do then.
FOLLOWED = {Stage.compare: follow_compare, Stage.meta: follow_meta}
#: What the user can mend: said in a line, without a traceback.
MISTAKES = (AdaptError, TaskError, OmegaConfBaseException)


def run(config: DictConfig) -> float | None:
    """Run ``config``; returns what a sweep may optimise: the score of ours, or the validation score.

    In a sweep that :class:`adapt.app.sweeps.callback.SweepSummary` sums up, a run that fails does not end the
    others: it is noted, and returns NaN. It is not noted in a folder that another process is at work in.
    """
    hydra = HydraConfig.get()
    folder, sweep = Path(hydra.runtime.output_dir), sweep_of(hydra)
    state = State(
        "running",
        list(hydra.overrides.task),
        sweep=None if sweep is None else sweep.id,
        number=None if sweep is None else hydra.job.num,
        stage=config.stage.value,
    )
    check()
    if sweep is not None:
        end_with_parent(sweep, hydra.launcher._target_)
    try:
        with alone(folder, 0.0 if sweep is None else ORPHAN_SECONDS):
            return _noted(config, folder, state, sweep)
    except Exception as error:
        check()
        if sweep is None:
            raise
        if isinstance(error, Occupied):
            state.write(sweep.folder / OCCUPIED / str(state.number), status="failed", error=str(error))
        elif not isinstance(error, MISTAKES) and hindrance(error) is None:
            traceback.print_exc()
        console.print(
            f"run {state.number} of the sweep failed: {_one_line(error)}", soft_wrap=True, markup=False
        )
        return math.nan


def follow_run(told: Mapping[str, Any]) -> None:
    """Do this process's part of the run that the first one does, and say nothing; ``told`` is its config."""
    console.quiet = True
    config = cast(DictConfig, OmegaConf.merge(OmegaConf.structured(Config), told))
    keep_freed_memory()
    FOLLOWED[config.stage](config)


def _noted(config: DictConfig, folder: Path, state: State, sweep: Sweep | None) -> float | None:
    try:
        return _run(config, folder, state, sweep)
    except Exception as error:
        check()  # what an interruption became did not fail
        with suppress(OSError):  # where nothing can be written, what went wrong matters more
            _latest(folder, state).write(folder, status="failed", error=_one_line(error))
        raise


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _run(config: DictConfig, folder: Path, state: State, sweep: Sweep | None) -> float | None:
    plain = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True, enum_to_str=True))
    check_setting("seed", config.seed, SEED)
    build.check_all(plain, list(config.allow))
    if local_rank() is not None and config.stage not in FOLLOWED:
        raise AdaptError(f"stage={config.stage.value} is the work of one process: start it without torchrun")
    check_room(folder, "the folder of the run", AdaptError)
    state, goes_on = begin(folder, replace(state, config=plain))
    if state.status == "finished":
        console.print(f"{folder} is finished: not run again", soft_wrap=True, markup=False)
        return state.score
    if config.output is not None:
        check_room(config.output, f"output={config.output}", AdaptError)
    keep_freed_memory()
    _share(config)
    if goes_on and config.stage is Stage.meta and (folder / CHECKPOINT).is_file():
        config.resume = str(folder)
    session = Session(folder, plain, list(state.overrides), run_id=state.run_id)
    if sweep is not None:
        session.parent, session.label = sweep.run_id, sweep.label(state.overrides)
    score = STAGES[config.stage](config, session)
    state.write(folder, status="finished", score=score, metric=session.metric, run_id=session.run_id)
    forget(folder)
    return score


def _share(config: DictConfig) -> None:
    """Where other runs are at work too: as many threads as the launcher allots, and a GPU of one's own."""
    if (job := job_number()) is None:
        return
    if threads := HydraConfig.get().launcher.get("cpus_per_task"):
        torch.set_num_threads(threads)
    config.device = str(choose_device(config.device, job))


def _latest(folder: Path, state: State) -> State:
    """What is noted of this very run already, which says more than ``state``."""
    noted = State.read(folder)
    return noted if noted is not None and noted.sweep == state.sweep else state
