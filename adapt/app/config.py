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

    ``ways``, ``shots`` and ``queries`` are numbers or distributions over them (``tasks.Uniform``,
    ``tasks.Choice``), drawn task by task; ``ways`` may be null: all classes, at most five. Where the source
    draws functions there are no classes: ``ways`` means nothing then, and what is said of classes is refused.
    """

    source: Any = MISSING
    ways: Any = 5
    shots: Any = 5
    queries: Any = 15
    tasks: int = 100
    costly_tasks: int = 20  # of these, how many a costly method (full fine-tuning) runs on
    support_split: str = "train"
    query_split: str | None = None
    transform: Any = None
    replace: bool = False
    imbalanced: bool = False  # every class draws a number of shots of its own
    sizes: Any = None  # ways, shots and queries together: tasks.MetaDataset
    outside: int = 0  # examples per task of classes that it does not have
    vectorised: bool = False  # another stream of tasks, drawn faster
    label_noise: float = 0.0  # share of the support's labels that are replaced
    corruption: Any = None  # of images: tasks.Corruption
    corrupted: str = "query"  # what it is done to: query, support or both
    curriculum: Any = None  # list of stages: start (index of the first episode), and settings that change
    mixture: Any = None  # components by name: weight, and settings that differ from these
    validation: Any = None  # settings that differ where choices are made, such as the source
    root: str | None = None  # for sources that read a folder, which refer to it as ${task.root}
    file: str | None = None  # for sources that read one file


@dataclass
class Config:
    """See ``python -m adapt --help``."""

    name: str = "adapt"
    stage: Stage = Stage.compare
    seed: int = 0
    device: str = "cpu"
    adapter: str | None = "conv4_glyphs_film"
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
    ours: str | None = None  # of several forward methods the one that is compared; null: the first
    tracking: Any = MISSING
    energy: Any = MISSING
    register: str | None = None  # stage=meta: the adapter becomes a version of this registered model
    hparams_search: Any = None  # what `python -m adapt tune` searches
    launcher: Any = None
    experiment: Any = None


def config_folder() -> Path:
    """Folder of the configs: inside the installed package, or beside it in a checkout."""
    package = Path(sys.modules["adapt"].__path__[0])
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"
