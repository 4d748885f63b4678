"""What every stage needs of its run: folder, config, builders, tracking."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from adapt.app.build import build
from adapt.errors import AdaptError
from tasks import Distribution, FunctionTasks

__all__ = ["Session", "distribution"]


@dataclass(frozen=True)
class Session:
    """``folder`` takes the run's files; ``config`` is the resolved config as plain containers; ``overrides``
    what the user typed."""

    folder: Path
    config: dict[str, Any]
    overrides: list[str]


def distribution(
    config: DictConfig, *, split: str | None = None, seed: int | None = None
) -> Distribution | FunctionTasks:
    """The distribution of ``config.task``: over classes, or over functions if its source says so; ``split``
    replaces its support split (both roles), ``seed`` its seed."""
    task = config.task
    if task.tasks < 1:
        raise AdaptError(f"task.tasks={task.tasks}: at least one task is needed")
    source = build(task.source, "task.source", config.allow)
    common = {
        "shots": task.shots,
        "queries": task.queries,
        "support_split": split or task.support_split,
        "query_split": None if split else task.query_split,
        "seed": config.seed if seed is None else seed,
    }
    # A source of examples need not say that it is none of functions.
    if getattr(source, "regression", False):
        if task.transform is not None or task.replace:
            raise AdaptError(
                f"task.transform and task.replace are for examples of classes, but {source.name} "
                "draws functions: leave both out"
            )
        return FunctionTasks(source, **common)
    transform = build(task.transform, "task.transform", config.allow) if task.transform is not None else None
    return Distribution(source, ways=task.ways, transform=transform, replace=task.replace, **common)
