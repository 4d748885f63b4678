"""What every stage needs of its run: folder, config, builders, tracking."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from torch import nn

from adapt.app.build import build
from adapt.app.config import tasks_of
from adapt.backbones import BackboneInfo, tokeniser
from adapt.compare.many import check_count
from adapt.errors import AdaptError
from adapt.tracking import DatasetInput, Run, TrackingSettings, track
from tasks import FunctionSource, GroupSource, Source, Tasks, ValueSource
from tasks.elsewhere import on_split, with_seed

__all__ = ["Parts", "Session", "distribution", "readable"]


#: The backbone that takes the number of its columns from the task.
COLUMNS = "columns"


@dataclass
class Session:
    """What a run is, and what is to be remembered of it.

    Attributes:
        folder: takes the run's files.
        config: resolved, as plain containers.
        overrides: what the user typed.
        parent: MLflow run of the sweep that it belongs to, if any.
        label: what tells it from the other runs of the sweep.
        run_id: MLflow run of this one, set by :meth:`track`; before, that of an earlier try that goes on.
        metric: name of the score that the stage returns, set by the stage.
        title: what the run does, as its name in MLflow, set by the stage; empty: the name of the experiment.
    """

    folder: Path
    config: dict[str, Any]
    overrides: list[str]
    parent: str | None = None
    label: str = ""
    run_id: str | None = None
    metric: str | None = None
    title: str = ""

    @contextmanager
    def track(
        self, settings: TrackingSettings, tags: Mapping[str, str], datasets: Sequence[DatasetInput]
    ) -> Iterator[Run]:
        """:func:`adapt.tracking.track` for this run, which is over when its state says so."""
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
                keep=True,
                run_id=self.run_id,
            ) as run:
                name = f"{self.config['name']} {self.label}" if self.label else self.title
                if name:
                    run.log_tags({"mlflow.runName": name})
                yield run
        finally:
            self.run_id = None if run is None else run.run_id


class Parts:
    """What a run makes once: its backbone, when it is first asked for, and every source of its tasks.

    Args:
        config: of the run.
        network: a backbone that is there already; None: the one of the config.
        reads: whether the backbone reads the tasks; otherwise none is made for them, and texts are refused.
    """

    def __init__(
        self, config: DictConfig, network: tuple[nn.Module, BackboneInfo] | None = None, *, reads: bool = True
    ) -> None:
        self._config, self._network, self._reads = config, network, reads
        self._sources: dict[str, Any] = {}
        self._shape: tuple[int, ...] = ()

    @property
    def network(self) -> tuple[nn.Module, BackboneInfo]:
        """The backbone of the config."""
        if self._network is None:
            self._network = build(self._node(), "backbone", self._config.allow)
        return self._network

    def _node(self) -> Any:
        """That of the config; of a table's columns there are as many as the task has."""
        node = self._config.backbone
        if not isinstance(node, DictConfig) or node.get("name") != COLUMNS:
            return node
        if len(self._shape) != 1:
            raise AdaptError(
                f"backbone={COLUMNS} reads the columns of a table, and this task has examples of shape "
                f"{self._shape}: choose a task of a table, or another backbone"
            )
        return OmegaConf.merge(node, {"name": f"{COLUMNS}:{self._shape[0]}"})

    def make(self, node: Mapping[str, Any], made: Callable[[], Any]) -> Any:
        """The component of ``node``; a source is made once, its texts encoded for the backbone, which comes
        after it: mistakes in one's own data are told at once."""
        key = repr(node)
        if key in self._sources:
            return self._sources[key]
        component = made()
        if isinstance(component, Source | FunctionSource | GroupSource | ValueSource):
            self._shape = tuple(component.shape)
            component = readable(component, self.network[0] if self._reads else None)
            self._sources[key] = component
        elif "seed" in node and hasattr(component, "map"):
            raise AdaptError(
                f"task: {node['_target_']} has the seed of the run: set seed, and leave its own out"
            )
        return component


def distribution(
    config: DictConfig,
    parts: Parts | None = None,
    *,
    split: str | None = None,
    seed: int | None = None,
) -> Tasks:
    """The tasks of ``config.task``.

    Args:
        parts: the backbone that reads them, and sources that were made already; None: neither.
        split: draws them from there, to make choices on; see :func:`tasks.elsewhere.on_split`.
        seed: replaces that of the config.

    Raises:
        AdaptError: settings that do not fit together.
    """
    parts = Parts(config, reads=False) if parts is None else parts
    task = cast(dict[str, Any], OmegaConf.to_container(config.task, resolve=True))
    if split is None:
        task = _nothing_held_back(task)
    tasks = build(tasks_of(task), "task", config.allow, parts.make)
    if not hasattr(tasks, "map"):
        raise AdaptError(
            f"task._target_={task['_target_']} makes no tasks: a source belongs below task.source, where "
            "task itself is tasks.from_source"
        )
    check_count(config.task.tasks, tasks)
    seed = config.seed if seed is None else seed
    return with_seed(tasks, seed) if split is None else on_split(tasks, split, seed)


def _nothing_held_back(node: Any) -> Any:
    """A task, or what it holds, of which no class is set aside: that is for learning or choosing on, and who
    does it names splits. Without a size every task divides all examples anew; of given sizes it draws from a
    pool of supports and one of queries."""
    if isinstance(node, list):
        return [_nothing_held_back(value) for value in node]
    if not isinstance(node, Mapping):
        return node
    found = {key: _nothing_held_back(value) for key, value in node.items()}
    source = found.get("source")
    plain = found.get("_target_") == "tasks.own_tasks" and found.get("support_split") is None
    if plain and isinstance(source, dict) and source.get("split_by") == "auto":
        given = [found.get(size) for size in ("ways", "shots", "queries", "sizes")]
        source["split_by"] = "pools" if any(size is not None for size in given) else "nothing"
    return found


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
