"""One trial: a setting of a method on the validation tasks, or a training run, recorded in MLflow."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from adapt.adapter import Context, Method
from adapt.app.build import build
from adapt.app.environment import choose_device, environment
from adapt.app.progress import console
from adapt.app.stages.compare import context_of, describe
from adapt.app.stages.licence import licence_tags, warn_about_licence
from adapt.app.stages.meta import CHECKPOINT, run_meta
from adapt.app.stages.session import Parts, Session, distribution
from adapt.app.stages.tracked import data_of
from adapt.app.sweeps.tuning.composing import override
from adapt.app.sweeps.tuning.search import Search
from adapt.app.sweeps.tuning.study import Trial
from adapt.app.sweeps.tuning.validation import one_pool, origin, splits_of, validation_tasks
from adapt.compare import ACCURACY, MSE, Metric, compare
from adapt.compare.examples import Examples
from adapt.compare.verdict import size_text
from adapt.errors import AdaptError
from adapt.tracking import TrackingSettings, forget, track
from adapt.tracking.params import method_config
from tasks import Tasks

__all__ = ["ComparisonTrials", "Record", "TrainingTrials"]


@dataclass(frozen=True)
class Record:
    """Where a trial is recorded: MLflow's settings, the run of the search, and a folder of its own."""

    settings: TrackingSettings
    parent: str | None
    folder: Path


class ComparisonTrials:
    """Trials of ``stage=compare``: a method on the validation tasks. Backbone, data and tasks are made once.

    Attributes:
        metric: of the scores.
        tags: of the search and of every trial.
        data: what the trials read.
        where: one sentence on the tasks.
    """

    def __init__(self, config: DictConfig, search: Search) -> None:
        self.device = choose_device(config.device)
        torch.manual_seed(config.seed)
        parts = Parts(config)
        self.tasks: Tasks = validation_tasks(config, parts, search)
        _check_pool(config, search, self.tasks)
        backbone, info = parts.network
        source = self.tasks.source
        changed = config.copy()
        changed.task.tasks = search.tasks
        self.context: Context = context_of(changed, backbone, info, self.tasks, self.device)
        self.task = describe(changed, self.tasks)
        self.metric: Metric = MSE if self.tasks.regression else ACCURACY
        self.tags = {
            "backbone": self.context.adapter.backbone_name or "own",
            "task": source.name,
            "device": self.device.type,
            **licence_tags(source.card),
        }
        warn_about_licence(source.card, console)
        self.data = data_of(source, "validation")
        self.where = f"{search.tasks} {size_text(self.task)} tasks from {source.name} ({origin(self.tasks)})"

    @cached_property
    def examples(self) -> Examples | None:
        """What the validation tasks were drawn from."""
        return Examples.of(episode.meta for episode in self.tasks.episodes(0, self.task["tasks"]))

    def title(self, trial: Trial) -> str:
        """Name of its MLflow run."""
        return f"{trial.method} {trial.number}"

    def run(
        self,
        config: DictConfig,
        plain: dict[str, Any],
        trial: Trial,
        record: Record,
        store: Callable[[Trial], None],
    ) -> None:
        """Judge ``trial``, whose config is ``config``, and hand what was found to ``store``."""
        started = time.perf_counter()
        method: Method = build(config.method[trial.method], f"method.{trial.method}", config.allow)
        torch.manual_seed(config.seed)
        with track(
            record.settings,
            self.title(trial),
            tags={**self.tags, **_tags(config, trial), "role": method.role},
            config=method_config(plain, trial.method),
            overrides=[override(key, value) for key, value in trial.params.items()],
            datasets=[self.data],
            folder=record.folder,
            parent=record.parent,
            keep=True,
        ) as run:
            result = compare(
                {trial.method: method},
                self.tasks,
                self.context,
                experiment=config.name,
                task=self.task,
                tasks=self.task["tasks"],
                device=self.device,
                environment=environment(self.device),
            )
            (found,) = result.methods.values()
            run.log_metrics(result.method_metrics(found))
            judged = replace(
                trial,
                scores=found.score,
                ci95=found.mean_score.ci95,
                seconds=found.adapt_seconds,
                spent=time.perf_counter() - started,
                run_id=run.run_id,
                cost=found.forward_equivalents,
            )
            store(judged)  # before the run ends: a trial that is stored is not run again
        forget(record.folder)


class TrainingTrials:
    """Trials of ``stage=meta``: whole training runs, judged by what they report of their validation tasks."""

    def __init__(self, config: DictConfig, search: Search) -> None:
        self._name: str = config.name
        train = distribution(config, Parts(config))
        self.metric: Metric = MSE if train.regression else ACCURACY
        device = choose_device(config.device)
        self.tags = {"task": train.source.name, "device": device.type, **licence_tags(train.source.card)}
        self.data = data_of(train.source, "training")
        self.where = (
            f"the {config.meta.validation_tasks} validation tasks of meta-training on {train.source.name}"
        )

    @property
    def examples(self) -> Examples | None:
        """None: a training run has one score."""
        return None

    def title(self, trial: Trial) -> str:
        """Name of its MLflow run, which training gives it."""
        return self._name

    def run(
        self,
        config: DictConfig,
        plain: dict[str, Any],
        trial: Trial,
        record: Record,
        store: Callable[[Trial], None],
    ) -> None:
        """Train with the setting of ``trial``, from the checkpoint if it was interrupted, and hand what was
        found to ``store``."""
        started = time.perf_counter()
        config = config.copy()
        config.output, config.register = None, None  # one adapter per trial, in its folder
        OmegaConf.update(config, "tracking.experiment", record.settings.experiment, force_add=True)
        if (record.folder / CHECKPOINT).is_file():
            config.resume = str(record.folder)
        overrides = [override(key, value) for key, value in trial.params.items()]
        session = Session(record.folder, plain, overrides, record.parent)
        score = run_meta(config, session)
        seconds = time.perf_counter() - started
        store(replace(trial, scores=(score,), seconds=seconds, spent=seconds, run_id=session.run_id))
        forget(record.folder)


def _tags(config: DictConfig, trial: Trial) -> dict[str, str]:
    return {
        "experiment": config.name,
        "stage": "tune",
        "method": trial.method,
        "trial": str(trial.number),
        "seed": str(config.seed),
    }


def _check_pool(config: DictConfig, search: Search, tasks: Tasks) -> None:
    """Retraining learns from a whole pool: one that the queries are drawn from would give them away."""
    if not one_pool(tasks):
        return
    for name in search.space:
        if build(config.method[name], f"method.{name}", config.allow).role == "retrain":
            others = ",".join(other for other in search.space if other != name)
            raise AdaptError(
                f"method '{name}' learns from all examples of split '{splits_of(tasks)[0]}', and the queries "
                "of the validation tasks are drawn from it: search "
                f"hparams_search.methods=[{others}] only, or give task.validation two splits"
            )
