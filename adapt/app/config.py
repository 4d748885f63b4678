"""The root of the configuration: which keys there are, and their types.

The nodes of the groups are typed by what they build: :mod:`adapt.app.build` checks every key and value
against the signature of its ``_target_``, so that a class is described in one place.
"""

import sys
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from omegaconf import MISSING

__all__ = ["Config", "Stage", "TaskConfig", "config_folder"]


class Stage(Enum):
    """What a run does."""

    compare = "compare"
    meta = "meta"
    pretrain = "pretrain"


@dataclass
class TaskConfig:
    """What tasks are made of: a source of ``tasks/`` and the shape of an episode.

    Where the source draws functions there are no classes: ``ways`` means nothing then, and ``transform`` and
    ``replace`` are refused.
    """

    source: Any = MISSING
    ways: int = 5
    shots: int = 5
    queries: int = 15
    tasks: int = 100
    costly_tasks: int = 20  # of these, how many a costly method (full fine-tuning) runs on
    support_split: str = "train"
    query_split: str | None = None
    transform: Any = None
    replace: bool = False


@dataclass
class Config:
    """See ``python -m adapt --help``."""

    name: str = "adapt"
    stage: Stage = Stage.compare
    seed: int = 0
    device: str = "cpu"
    adapter: str = "conv4_glyphs_film"
    output: str | None = None
    resume: str | None = None
    allow: list[str] = field(default_factory=list)
    backbone: Any = MISSING
    space: Any = MISSING
    head: Any = MISSING
    support_head: Any = MISSING
    inner: Any = MISSING
    meta: Any = MISSING
    task: TaskConfig = field(default_factory=TaskConfig)
    method: dict[str, Any] = field(default_factory=dict)
    tracking: Any = MISSING
    experiment: Any = None


def config_folder() -> Path:
    """Folder of the configs: inside the installed package, or beside it in a checkout."""
    package = Path(sys.modules["adapt"].__path__[0])
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"
