"""Tasks that the regression gate is run on: drawn from what no version was trained on."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from omegaconf import DictConfig
from torch import nn

from adapt.app.stages.session import Parts, distribution
from adapt.app.trust import split_read
from adapt.backbones import BackboneInfo
from adapt.errors import AdaptError
from tasks import TaskError, Tasks
from tasks.elsewhere import leaves, redrawn

__all__ = ["about_tasks", "gate_tasks", "task_overrides"]

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


def task_overrides(text: str) -> list[str]:
    """Of the overrides of a recorded run, one in a line, those that its tasks follow from.

    Somebody else may have written the store: what it names is built under the same rules as what is typed,
    and ``allow`` is not taken over.

    Example:
        >>> task_overrides("experiment=meta_glyphs\\nmeta.steps=9\\nallow=[evil]\\ntask.ways=3\\n")
        ['experiment=meta_glyphs', 'task.ways=3']
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [line for line in split_read(lines)[0] if _root(line) not in (*ELSEWHERE, *DONE)]


def _root(override: str) -> str:
    return override.lstrip("+~").split("=")[0].split("@")[0].split(".")[0]


def gate_tasks(
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
    trained_on = distribution(config, Parts(config, network))
    sized = not trained_on.regression and all(getattr(p, "sizes", None) is None for p in leaves(trained_on))
    numbers = list(shots) if shots is not None else [1, 5, 10] if sized else [None]
    tasks: dict[str, Tasks] = {}
    for index, number in enumerate(numbers):
        try:
            found = redrawn(trained_on, SEED + index, partial(_held_out, shots=number))
        except TaskError as error:
            hint = "" if number is None else " (--shots chooses numbers of shots)"
            raise AdaptError(f"{error}{hint}") from None
        tasks[str(found.shots)] = found
    return tasks, f"{found.source.name}, split {found.query_split or found.support_split}"


def _held_out(part: Any, shots: int | None) -> dict[str, Any]:
    """What makes ``part`` draw tasks of ``shots``, and from another split if its own is for learning."""
    sizes = {} if shots is None else {"shots": shots}
    if not part.support_split.startswith(LEARNED):
        return sizes
    for split in HELD:
        if split in part.source.splits:
            return {"support_split": split, "query_split": None, **sizes}
    raise AdaptError(
        f"'{part.source.name}' has no split that nothing was learned from, only "
        f"{', '.join(part.source.splits)}: give other tasks, as in experiment=quickstart or task=digits"
    )
