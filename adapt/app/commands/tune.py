"""``python -m adapt tune``: the settings of every method, chosen on validation tasks with equal budgets."""

import argparse
import platform
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from adapt.app.build import build
from adapt.app.commands.arguments import say_taken
from adapt.app.config import Stage
from adapt.app.folders import alone
from adapt.app.progress import console, progress
from adapt.app.recorded import TEXT, TEXTS, recorded
from adapt.app.sweeps.tuning.composing import chosen_config, composed, override, resolved
from adapt.app.sweeps.tuning.report import draw, page, show, summary
from adapt.app.sweeps.tuning.result import Tuning
from adapt.app.sweeps.tuning.search import Range, Search, Setting, Value, check_space, own_values, read_search
from adapt.app.sweeps.tuning.study import MethodStudy, Trial, opened
from adapt.app.sweeps.tuning.trials import ComparisonTrials, Record, TrainingTrials
from adapt.app.trust import split_read
from adapt.errors import AdaptError
from adapt.files import write_json, write_text
from adapt.memory import keep_freed_memory
from adapt.tracking import Run, TrackingSettings, forget, left, track
from adapt.tracking.database import uri_of
from adapt.tracking.params import flatten
from tasks.readers.room import check_room

__all__ = ["main", "tune"]

#: In the folder of a search: what was typed, so that ``folder=`` alone goes on with it.
REQUEST = "tune.json"
REQUESTED = {"overrides": TEXTS, "config_dir": TEXT, "studies": str}
NUMBERS = "tuning.json"
#: Parts of the config that may change when a search goes on: where it is recorded, its budget, and which
#: method the others are compared with, as methods are searched one by one.
MAY_CHANGE = (
    "tracking",
    "hparams_search",
    "output",
    "register",
    "launcher",
    "experiment",
    "energy",
    "evaluate",
    "resume",
    "ours",
)


def main(arguments: Sequence[str]) -> None:
    """``adapt tune [--config-dir DIR] [folder=FOLDER] hparams_search=NAME [KEY=VALUE ...]``."""
    parser = argparse.ArgumentParser(
        prog="python -m adapt tune",
        description="Choose the settings of methods on validation tasks, with the same budget for each.",
        epilog="folder=FOLDER names the folder of the search; one that exists goes on with its search.",
    )
    parser.add_argument("--config-dir", "-cd", type=Path, help="a folder of your own configs")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="hparams_search=NAME, experiment=NAME, …"
    )
    given = parser.parse_intermixed_args([*arguments])
    folders = [text.removeprefix("folder=") for text in given.overrides if text.startswith("folder=")]
    overrides = [text for text in given.overrides if not text.startswith("folder=")]
    tune(overrides, folder=Path(folders[-1]) if folders else None, config_dir=given.config_dir)


def tune(overrides: Sequence[str], *, folder: Path | None = None, config_dir: Path | None = None) -> Tuning:
    """Search, write what was found into ``folder``, and show it.

    Args:
        overrides: as on the command line; without ``hparams_search=…`` they come after those that ``folder``
            was made with, of which nothing is taken that counts only when it is typed.
        folder: new, or of a search to go on with; None: a new one below ``outputs/``.
        config_dir: further configs.

    Raises:
        AdaptError: a config or a space that does not fit, or a folder of another search.
    """
    if folder is not None and not any(text.startswith("hparams_search=") for text in overrides):
        recorded, noted = _request(folder)
        overrides, config_dir = [*recorded, *overrides], config_dir or noted
    config = composed(overrides, config_dir)
    plain = resolved(config)
    search = read_search(config.hparams_search)
    check_space(search, config)
    if config.stage is Stage.compare:
        _check_effects(search, overrides, config_dir, config, plain)
    check_room(folder or "outputs", f"folder={folder}", AdaptError)
    keep_freed_memory()
    kind = ComparisonTrials if config.stage is Stage.compare else TrainingTrials
    trials = kind(config, search)
    if folder is None:
        folder = Path("outputs", config.name, f"{datetime.now():%Y-%m-%d_%H-%M-%S}_tune")
    folder.mkdir(parents=True, exist_ok=True)
    settings: TrackingSettings = build(config.tracking, "tracking", config.allow)
    settings = replace(settings, experiment=f"{settings.experiment or config.name}-tune")
    work = _Work(config, plain, [*overrides], config_dir, search, trials, folder, settings)
    with alone(folder), opened(search.storage or uri_of(folder / "study.db")) as storage:
        called = _called(folder)
        studies = {name: _study(work, storage, called, name) for name in search.space}
        where = None if config_dir is None else str(config_dir.resolve())
        write_json(folder / REQUEST, {"overrides": [*overrides], "config_dir": where, "studies": called})
        done = (folder / NUMBERS).is_file() and not any(study.open for study in studies.values())
        if done and not left(folder):
            console.print(f"{folder} is finished: nothing is run again", soft_wrap=True, markup=False)
            tuning, ui = _tuning(work, studies), None
        else:
            tuning, ui = _recorded(work, studies)
    show(tuning, folder, ui, console)
    return tuning


@dataclass(frozen=True)
class _Work:
    """One search: what was asked for, and what its trials need."""

    config: DictConfig
    plain: Mapping[str, Any]
    overrides: list[str]
    config_dir: Path | None
    search: Search
    trials: ComparisonTrials | TrainingTrials
    folder: Path
    settings: TrackingSettings

    def record(self, trial: Trial, run: Run) -> Record:
        """Where a trial is recorded."""
        return Record(self.settings, run.run_id, self.folder / "trials" / f"{trial.method}-{trial.number}")


def _recorded(work: _Work, studies: Mapping[str, MethodStudy]) -> tuple[Tuning, str | None]:
    """The search with its files, as one MLflow run with a child per trial; also where to look at it."""
    config, trials = work.config, work.trials
    with track(
        work.settings,
        f"tune {config.name}",
        tags={
            **trials.tags,
            "experiment": config.name,
            "stage": "tune",
            "seed": str(config.seed),
            "trials": str(work.search.trials),
        },
        config=work.plain,
        overrides=work.overrides,
        datasets=[trials.data],
        folder=work.folder,
        keep=True,
    ) as run:
        try:
            _search(work, studies, run)
        except KeyboardInterrupt:
            command = f"python -m adapt tune folder={work.folder}"
            console.print(f"go on with  {command}", soft_wrap=True, markup=False)
            raise
        tuning = _tuning(work, studies)
        run.log_metrics(tuning.metrics())
        run.log_tags({"mlflow.note.content": summary(tuning)})
        run.log_files(_write(work, tuning))
    forget(work.folder)
    return tuning, run.ui_hint


def _search(work: _Work, studies: Mapping[str, MethodStudy], run: Run) -> None:
    """All trials that are still to be made, the methods in turn: at any time they have had the same."""
    for study in studies.values():
        _end(work, study, run)
    turns = [(number, name) for number in range(work.search.trials) for name in studies]
    left = [(number, name) for number, name in turns if number >= len(studies[name].trials)]
    bar = progress(f"tuning {work.config.name}")
    for index in bar(range(len(left))):
        study = studies[left[index][1]]
        if (trial := study.next()) is not None:
            _try(work, study, trial, run)
    for study in studies.values():
        if not any(trial.scores for trial in study.trials):
            problem = (
                study.trials[-1].problem if study.trials else "no trial fits into hparams_search.seconds"
            )
            raise AdaptError(f"no trial of method '{study.method}' worked, the last one because: {problem}")


def _try(work: _Work, study: MethodStudy, trial: Trial, run: Run) -> None:
    """One trial; one that fails, as by steps that are too large, is noted as worse than any other."""
    overrides = [*work.overrides, *(override(key, value) for key, value in trial.params.items())]
    config = composed(overrides, work.config_dir)
    plain = resolved(config)
    record, started = work.record(trial, run), time.perf_counter()
    try:
        work.trials.run(config, plain, trial, record, study.add)
    except (AdaptError, torch.linalg.LinAlgError) as error:
        if trial.own:
            raise  # the config itself does not work
        problem = " ".join(str(error).split())
        study.add(replace(trial, problem=problem, spent=time.perf_counter() - started))
    _tidy(record.folder)


def _end(work: _Work, study: MethodStudy, run: Run) -> None:
    """A process may have been killed after a trial was stored, but before its MLflow run had ended."""
    for trial in study.trials:
        record = work.record(trial, run)
        if trial.scores and left(record.folder):
            with track(
                work.settings,
                work.trials.title(trial),
                folder=record.folder,
                parent=record.parent,
                keep=True,
            ):
                pass
            forget(record.folder)
            _tidy(record.folder)


def _tidy(folder: Path) -> None:
    """Remove the folder of a trial that left nothing."""
    with suppress(OSError):
        folder.rmdir()
        folder.parent.rmdir()


def _called(folder: Path) -> str:
    """How the studies of a search are called in their storage, which other searches may share."""
    if not (folder / REQUEST).is_file():
        return f"{folder.name}-{uuid.uuid4().hex[:8]}"
    return str(
        recorded(folder / REQUEST, REQUESTED).get("studies", folder.name)
    )  # earlier versions did not say


def _study(work: _Work, storage: Any, called: str, name: str) -> MethodStudy:
    space, higher = work.search.space[name], work.trials.metric.higher_is_better
    own = own_values(work.config, space)
    study = MethodStudy(storage, f"{called}/{name}", name, space, work.search, own, higher)
    fixed = {key: value for key, value in work.plain.items() if key not in MAY_CHANGE}
    search = {key: getattr(work.search, key) for key in ("tasks", "seed", "sampler", "held_out")}
    searched = {f"{key} (searched)": str(setting) for key, setting in space.items()}
    study.agree(
        {**flatten(fixed), **flatten({"hparams_search": search}), **searched, "data": work.trials.data.digest}
    )
    return study


def _tuning(work: _Work, studies: Mapping[str, MethodStudy]) -> Tuning:
    trials = {name: study.trials for name, study in studies.items()}
    versions = {"python": platform.python_version(), **{name: version(name) for name in ("torch", "optuna")}}
    return Tuning(
        work.config.name,
        work.search,
        work.trials.metric,
        work.trials.where,
        work.trials.data.digest,
        trials,
        versions,
        work.trials.examples,
    )


def _write(work: _Work, tuning: Tuning) -> list[Path]:
    """``tuning.json``, ``tuning.md``, ``experiment/chosen.yaml`` and the figure."""
    folder = work.folder
    numbers, text, chosen = (
        folder / NUMBERS,
        folder / "tuning.md",
        folder / "experiment" / "chosen.yaml",
    )
    write_text(text, page(tuning))
    remark = f"Settings of {tuning.experiment} that `adapt tune` chose: {tuning.budget}."
    write_text(chosen, chosen_config(work.overrides, tuning.values, remark))
    figures = draw(tuning, folder / f"{tuning.metric.name}_against_trial")
    write_json(numbers, tuning.to_dict())  # last: it says that the search is finished
    return [numbers, text, chosen, *figures]


def _check_effects(
    search: Search,
    overrides: Sequence[str],
    config_dir: Path | None,
    config: DictConfig,
    plain: Mapping[str, Any],
) -> None:
    """Refuse a key that other methods refer to as well: choosing it for one would change the others behind
    the back of their own search."""
    for name, space in search.space.items():
        probes = [
            override(key, _other(setting, OmegaConf.select(config, key))) for key, setting in space.items()
        ]
        changed = resolved(composed([*overrides, *probes], config_dir))
        for other, node in changed["method"].items():
            if other != name and node != plain["method"][other]:
                raise AdaptError(
                    f"hparams_search.space.{name}: {' or '.join(space)} changes method '{other}' too: search "
                    f"keys below method.{name} only, or leave one of the two out of method=[...]"
                )


def _other(setting: Setting, own: Any) -> Value:
    """A value of ``setting`` that is not the config's own, if there is one."""
    values = (setting.low, setting.high) if isinstance(setting, Range) else setting.values
    return next((value for value in values if value != own), values[0])


def _request(folder: Path) -> tuple[list[str], Path | None]:
    if not (folder / REQUEST).is_file():
        raise AdaptError(
            f"{folder} holds no search to go on with: say what to search, as hparams_search=methods"
        )
    found = recorded(folder / REQUEST, REQUESTED, ("overrides", "config_dir"))
    taken, untaken = split_read(found["overrides"])
    where = ["--config-dir", found["config_dir"]] if found.get("config_dir") else []
    say_taken(f"{folder} goes on with", [*where, *taken], untaken)
    return taken, Path(where[1]) if where else None
