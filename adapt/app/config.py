"""The root of the configuration: which keys there are, and their types.

The nodes of the groups are typed by what they build: :mod:`adapt.app.build` checks every key and value
against the signature of its ``_target_``, so that a class is described in one place.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, IntegerNode

__all__ = ["OF_THE_RUN", "Config", "Stage", "Stream", "config_folder", "tasks_of"]


class Stage(Enum):
    """What a run does."""

    compare = "compare"
    meta = "meta"
    pretrain = "pretrain"
    stream = "stream"


#: Keys of ``task`` that are the run's, and their values where nobody sets them. All others are arguments of
#: the component that ``task`` is, or of those that it holds.
#:
#: tasks: how many; costly_tasks: of these, how many a costly method (full fine-tuning) runs on; root, file:
#: the folder, or the file, of one's own, which options refer to as ${task.root} and ${task.file}; train_root,
#: test_root, train_file, test_file: those of a training set, or of several, and of their test set.
OF_THE_RUN: dict[Any, Any] = {
    "tasks": 100,
    "costly_tasks": 20,
    **dict.fromkeys(("root", "train_root", "test_root", "file", "train_file", "test_file")),
}

#: What ``task`` is where an option does not say.
ANY_TASKS = "tasks.from_source"


def tasks_of(task: Mapping[str, Any]) -> dict[str, Any]:
    """The component that the key ``task`` (plain containers) describes: without what is the run's."""
    return {key: value for key, value in task.items() if key not in OF_THE_RUN}


def _task() -> DictConfig:
    # An open node: which keys there are follows from its _target_, and whatever is misspelt is told when that
    # is checked. Hydra would ask for a + before every key that an option does not list.
    # The keys of the run have their types here, for they are nobody's arguments.
    counts = {key: IntegerNode(n, is_optional=False) for key, n in OF_THE_RUN.items() if isinstance(n, int)}
    return DictConfig({"_target_": ANY_TASKS, **OF_THE_RUN, **counts}, flags={"struct": False})


@dataclass
class Stream:
    """How examples come where stage=stream."""

    part: int = 5  # so many at a time
    forget: float = 0.8  # of the way that forgets: the share of what was known that counts on


@dataclass
class Evaluate:
    """What stage=compare measures of every method besides its score."""

    calibration: bool = True  # how far probabilities may be believed
    robustness: bool = True  # how it does on worse queries, and on those of no class
    governance: bool = True  # a page on data, licences, audit and what had been seen before


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
    match: Any = None
    meta: Any = MISSING
    task: Any = field(default_factory=_task)
    method: dict[str, Any] = field(default_factory=dict)
    ours: str | None = None  # of several forward methods the one that is compared; null: the first
    tracking: Any = MISSING
    energy: Any = MISSING
    evaluate: Evaluate = field(default_factory=Evaluate)
    memory: bool = True  # stage=compare measures it: two more adaptations by every method
    figures: bool = True  # stage=compare draws them, which takes seconds
    stream: Stream = field(default_factory=Stream)
    register: str | None = None  # stage=meta: the adapter becomes a version of this registered model
    hparams_search: Any = None  # what `python -m adapt tune` searches
    launcher: Any = None
    experiment: Any = None


def config_folder() -> Path:
    """Folder of the configs: inside the installed package, or beside it in a checkout."""
    package = Path(sys.modules["adapt"].__path__[0])
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"
