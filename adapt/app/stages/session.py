"""What every stage needs of its run: folder, config, builders, tracking."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from torch import nn

from adapt.app.build import build
from adapt.app.config import TaskConfig
from adapt.backbones import BackboneInfo, tokeniser
from adapt.checks import check_setting, least
from adapt.errors import AdaptError
from adapt.tracking import DatasetInput, Run, TrackingSettings, track
from tasks import (
    Choice,
    Corrupted,
    Curriculum,
    Distribution,
    FunctionTasks,
    GroupedTasks,
    Mixture,
    NoisyLabels,
    Tasks,
    Uniform,
)
from tasks.pools import common_classes

__all__ = ["Parts", "Session", "distribution", "readable"]

#: Settings that say something of classes.
FOR_CLASSES = ("transform", "replace", "imbalanced", "sizes", "outside", "vectorised")


@dataclass
class Session:
    """What a run is, and what is to be remembered of it.

    Attributes:
        folder: takes the run's files.
        config: resolved, as plain containers.
        overrides: what the user typed.
        parent: MLflow run of the sweep that it belongs to, if any.
        label: what tells it from the other runs of the sweep.
        run_id: MLflow run of this one, set by :meth:`track`.
        metric: name of the score that the stage returns, set by the stage.
    """

    folder: Path
    config: dict[str, Any]
    overrides: list[str]
    parent: str | None = None
    label: str = ""
    run_id: str | None = None
    metric: str | None = None

    @contextmanager
    def track(
        self, settings: TrackingSettings, tags: Mapping[str, str], datasets: Sequence[DatasetInput]
    ) -> Iterator[Run]:
        """:func:`adapt.tracking.track` for this run."""
        run: Run | None = None
        try:
            with track(
                settings,
                self.config["name"],
                tags=tags,
                config=self.config,
                overrides=self.overrides,
                datasets=datasets,
                folder=self.folder,
                parent=self.parent,
            ) as run:
                if self.label:
                    run.log_tags({"mlflow.runName": f"{self.config['name']} {self.label}"})
                yield run
        finally:
            self.run_id = None if run is None else run.run_id


class Parts:
    """What a run makes once: its backbone, when it is first asked for, and every source of its tasks."""

    def __init__(self, config: DictConfig) -> None:
        self._config = config
        self._sources: dict[str, Any] = {}

    @cached_property
    def network(self) -> tuple[nn.Module, BackboneInfo]:
        """The backbone of the config."""
        return build(self._config.backbone, "backbone", self._config.allow)

    def source(self, node: Any) -> Any:
        """The source that ``node`` describes, its texts encoded for the backbone: reading files and encoding
        texts is not done again for other splits of it."""
        told = OmegaConf.to_yaml(node, resolve=True) if isinstance(node, DictConfig) else repr(node)
        if told not in self._sources:
            source = build(node, "task.source", self._config.allow)
            self._sources[told] = readable(source, self.network[0])
        return self._sources[told]


def distribution(
    config: DictConfig,
    parts: Parts | None = None,
    *,
    split: str | None = None,
    seed: int | None = None,
) -> Tasks:
    """The distribution of ``config.task``: over classes, over functions or groups if its source says so, or a
    mixture. Texts are tokenised for the backbone of ``parts``, which is made after the source: mistakes in
    one's own data are told at once.

    Args:
        split: replaces its support split (both roles); ``task.validation`` then has its say.
        seed: replaces that of the config.

    Raises:
        AdaptError: settings that do not fit together.
    """
    task = config.task
    check_setting("task.tasks", task.tasks, least(1, "at least one task is needed"))
    if split is not None and task.get("validation"):
        roles = {"support_split": split, "query_split": None, "mixture": None, "curriculum": None}
        task, split = _changed(task, {**roles, **task.validation, "validation": None}), None
    return _tasks(config, task, parts, split, config.seed if seed is None else seed)


def _tasks(config: DictConfig, task: DictConfig, parts: Parts | None, split: str | None, seed: int) -> Tasks:
    """The tasks of one node of settings."""
    if task.get("mixture"):
        weights = {name: node.get("weight", 1.0) for name, node in task.mixture.items()}
        nodes = {
            name: _changed(task, {"mixture": None, **{k: v for k, v in node.items() if k != "weight"}})
            for name, node in task.mixture.items()
        }
        components = {name: _tasks(config, node, parts, split, seed) for name, node in nodes.items()}
        return Mixture(components, weights, seed)
    if split is not None:
        task = _changed(task, {"support_split": split, "query_split": None})
    if parts is None:
        source = readable(build(task.source, "task.source", config.allow), None)
    else:
        source = parts.source(task.source)
    if not task.get("curriculum"):
        return _stage(config, task, source, seed)
    if not all(isinstance(stage, DictConfig) and "start" in stage for stage in task.curriculum):
        raise AdaptError("task.curriculum: every stage needs start=<index of its first episode>")
    stages = {
        stage.start: _stage(
            config, _changed(task, {k: v for k, v in stage.items() if k != "start"}), source, seed
        )
        for stage in task.curriculum
    }
    course = Curriculum(stages)
    return course if split is None else course.last  # choices are made on what the course leads to


def _stage(config: DictConfig, task: DictConfig, source: Any, seed: int) -> Tasks:
    """Tasks of one source, with their noise and corruption."""
    tasks = _of_source(config, task, source, seed)
    if task.get("label_noise"):
        tasks = NoisyLabels(tasks, task.label_noise)
    if task.get("corruption") is not None:
        tasks = Corrupted(tasks, build(task.corruption, "task.corruption", config.allow), task.corrupted)
    return tasks


def _of_source(config: DictConfig, task: DictConfig, source: Any, seed: int) -> Tasks:
    common: dict[str, Any] = {
        **{name: _size(config, task[name], f"task.{name}") for name in ("shots", "queries")},
        "support_split": task.support_split,
        "query_split": task.query_split,
        "seed": seed,
    }
    # A source of examples need not say that it is none of functions or groups.
    grouped = getattr(source, "grouped", False)
    if grouped or getattr(source, "regression", False):
        draws = f"{source.name} draws {'groups' if grouped else 'functions'}"
        if asked := [name for name in FOR_CLASSES if task.get(name)]:
            raise AdaptError(f"task.{asked[0]} is for examples of classes, but {draws}: leave it out")
        if not all(isinstance(common[name], int) for name in ("shots", "queries")):
            raise AdaptError(f"{draws} of one size: use numbers for task.shots and task.queries")
        kind: Any = GroupedTasks if grouped else FunctionTasks
        return kind(source, **common)
    parts: dict[str, Any] = {
        name: build(task[name], f"task.{name}", config.allow) if task.get(name) is not None else None
        for name in ("transform", "sizes")
    }
    options: dict[str, Any] = {
        name: task[name] for name in ("replace", "imbalanced", "outside", "vectorised") if name in task
    }
    there = common_classes(source, task.support_split, task.query_split) if task.ways is None else {}
    ways = _size(config, min(len(there), 5) if task.ways is None else task.ways, "task.ways")
    return Distribution(source, ways=ways, **parts, **options, **common)


def _size(config: DictConfig, value: Any, where: str) -> Any:
    """A number, or a distribution over numbers."""
    if isinstance(value, DictConfig):
        size = build(value, where, config.allow)
        if isinstance(size, Uniform | Choice):
            return size
    if not isinstance(value, int) or isinstance(value, bool):
        raise AdaptError(
            f"{where}={value} is no size: use a whole number, or draw it from tasks.Uniform or tasks.Choice"
        )
    return value


def _changed(task: DictConfig, changes: Mapping[str, Any]) -> DictConfig:
    """``task`` with some settings replaced as a whole, checked against their types."""
    settings = {**cast(dict[str, Any], OmegaConf.to_container(task, resolve=True)), **changes}
    return cast(DictConfig, OmegaConf.merge(OmegaConf.structured(TaskConfig), settings))


def readable(source: Any, backbone: nn.Module | None) -> Any:
    """``source``, its texts encoded with the tokeniser of ``backbone``, where it is one of texts.

    Raises:
        AdaptError: texts for a backbone that reads none, or the reverse.
    """
    encode = None if backbone is None else tokeniser(backbone)
    if getattr(source, "text", False):
        if encode is None:
            raise AdaptError(
                f"task '{source.name}' holds texts, and this backbone has no tokeniser: choose one that "
                "reads texts, for instance backbone=minilm"
            )
        return source.encoded(encode, getattr(backbone, "pad", 0))
    if encode is not None:
        raise AdaptError(
            f"this backbone reads texts, and task '{source.name}' has none: choose a task of texts, for "
            "instance task=text_file, or another backbone"
        )
    return source
