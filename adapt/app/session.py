"""What every stage needs of its run: folder, config, builders, tracking."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from torch import nn

from adapt.app.build import build
from adapt.backbones import tokeniser
from adapt.errors import AdaptError
from tasks import Distribution, FunctionTasks

__all__ = ["Session", "distribution", "readable"]


@dataclass(frozen=True)
class Session:
    """``folder`` takes the run's files; ``config`` is the resolved config as plain containers; ``overrides``
    what the user typed."""

    folder: Path
    config: dict[str, Any]
    overrides: list[str]


def distribution(
    config: DictConfig,
    backbone: nn.Module | None = None,
    *,
    split: str | None = None,
    seed: int | None = None,
) -> Distribution | FunctionTasks:
    """The distribution of ``config.task``: over classes, or over functions if its source says so; ``split``
    replaces its support split (both roles), ``seed`` its seed. Texts are tokenised for ``backbone``."""
    task = config.task
    if task.tasks < 1:
        raise AdaptError(f"task.tasks={task.tasks}: at least one task is needed")
    source = readable(build(task.source, "task.source", config.allow), backbone)
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
        return source.encoded(encode)
    if encode is not None:
        raise AdaptError(
            f"this backbone reads texts, and task '{source.name}' has none: choose a task of texts, for "
            "instance task=text_file, or another backbone"
        )
    return source
