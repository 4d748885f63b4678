"""Tasks that the regression gate is run on: drawn from what no version was trained on."""

from collections.abc import Iterable, Sequence
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from torch import nn

from adapt.app.session import Parts, distribution
from adapt.backbones import BackboneInfo
from adapt.errors import AdaptError
from tasks import TaskError, Tasks

__all__ = ["about_tasks", "held_tasks", "recorded"]

#: Splits for learning begin so; of a source that has one, tasks come from these instead, the first there is.
LEARNED, HELD = ("train", "pretrain"), ("test", "validation")
#: The gate's tasks have seeds of their own, another for every number of shots.
SEED = 600_000
#: Overrides that say nothing of tasks: those of a recorded run are left out, and typed ones add to them.
ELSEWHERE = ("tracking", "device", "allow", "hydra", "seed")
#: Of a recorded run also these: what it did with its tasks.
DONE = ("stage", "name", "output", "resume", "register", "adapter", "launcher", "hparams_search", "meta")


def about_tasks(overrides: Iterable[str]) -> bool:
    """Whether any of ``overrides`` says what tasks are.

    Example:
        >>> about_tasks(["tracking.uri=http://localhost:5000", "device=cuda"])
        False
        >>> about_tasks(["device=cuda", "experiment=quickstart"])
        True
    """
    return any(_root(override) not in ELSEWHERE for override in overrides)


def recorded(text: str) -> list[str]:
    """Of the overrides of a recorded run, one in a line, those that its tasks follow from.

    Somebody else may have written the store: what it names is built under the same rules as what is typed,
    and ``allow`` is not taken over.

    Example:
        >>> recorded("experiment=meta_glyphs\\nmeta.steps=9\\nallow=[evil]\\ntask.ways=3\\n")
        ['experiment=meta_glyphs', 'task.ways=3']
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [line for line in lines if _root(line) not in (*ELSEWHERE, *DONE)]


def _root(override: str) -> str:
    return override.lstrip("+~").split("=")[0].split("@")[0].split(".")[0]


def held_tasks(
    config: DictConfig, network: tuple[nn.Module, BackboneInfo], shots: Sequence[int] | None
) -> tuple[dict[str, Tasks], str]:
    """Tasks by their number of shots, and in a few words where they come from.

    Args:
        config: its ``task`` says what tasks are.
        network: that reads them; texts are encoded for it.
        shots: labelled examples per class; None: 1, 5 and 10, or for tasks that are no classes of one size
            what ``config`` says.

    Raises:
        AdaptError: the source has no split that nothing was learned from.
    """
    parts = _With(config, network)
    first = distribution(config, parts)
    split = _held(config, first)
    sized = config.task.sizes is None and not first.regression
    numbers = list(shots) if shots is not None else [1, 5, 10] if sized else [None]
    tasks = {}
    for index, number in enumerate(numbers):
        name = str(config.task.shots if number is None else number)
        try:
            tasks[name] = distribution(_changed(config, split, number), parts, seed=SEED + index)
        except TaskError as error:
            hint = "" if number is None else " (--shots chooses numbers of shots)"
            raise AdaptError(f"{error}{hint}") from None
    queries = split or config.task.query_split or config.task.support_split
    return tasks, f"{first.source.name}, split {queries}"


class _With(Parts):
    """Parts whose network is there already."""

    def __init__(self, config: DictConfig, network: tuple[nn.Module, BackboneInfo]) -> None:
        super().__init__(config)
        self.network = network


def _held(config: DictConfig, tasks: Tasks) -> str | None:
    """The split to take instead of the configured one, if that is for learning."""
    chosen, source = config.task.support_split, tasks.source
    if not chosen.startswith(LEARNED):
        return None
    for split in HELD:
        if split in source.splits:
            return split
    raise AdaptError(
        f"'{source.name}' has no split that nothing was learned from, only {', '.join(source.splits)}: give "
        "other tasks, as in experiment=quickstart or task=digits"
    )


def _changed(config: DictConfig, split: str | None, shots: int | None) -> DictConfig:
    """``config`` with another split and another number of shots; parts of a mixture that set their own keep
    theirs."""
    changes: dict[str, Any] = {} if split is None else {"support_split": split, "query_split": None}
    changes |= {} if shots is None else {"shots": shots}
    return cast(DictConfig, OmegaConf.merge(config, {"task": changes}))
