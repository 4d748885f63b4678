"""Tasks that change with their index: from many shots to few, say.

Bengio, Louradour, Collobert, Weston (2009), *Curriculum Learning*: training examples in an order of growing
difficulty. Episodes have indices, so the order is one of stages by index, and an episode stays a pure
function of (seed, index).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ._settings import check_index, check_setting, least
from .distribution import Episode
from .functions import Tasks
from .sizes import Size, copies_of, summary
from .source import AnySource, TaskError

__all__ = ["Curriculum"]


@dataclass(frozen=True)
class Curriculum:
    """Episode i is episode i of the stage that i lies in.

    Args:
        stages: index of its first episode (a number, or its digits, as configs have them) -> tasks of that
            stage; the first stage starts at 0. All stages are of one source (and, as a rule, one seed).

    Raises:
        TaskError: no stage at 0, or stages of different sources.

    Example:
        >>> from tasks import Digits, Distribution
        >>> many, few = (Distribution(Digits(), 3, k, 2, support_split="support") for k in (10, 2))
        >>> course = Curriculum({0: many, 1000: few})
        >>> len(course.episode(999).support_y), len(course.episode(1000).support_y), str(course.shots)
        (30, 6, '2|10')
    """

    stages: Mapping[Any, Tasks]

    def __post_init__(self) -> None:
        stages = {_number(start): tasks for start, tasks in self.stages.items()}
        for start in stages:
            check_setting("task.stages: the first index of a stage", start, least(0))
        if min(stages, default=1) != 0:
            raise TaskError(f"task.stages start at {sorted(stages)}: give a stage for index 0")
        first = stages[0]
        for start, tasks in stages.items():
            if tasks.source is not first.source and tasks.source.digest() != first.source.digest():
                raise TaskError(
                    f"task.stages changes the source from {first.source.name} to {tasks.source.name} at "
                    f"{start}: change sizes and transforms only, or use a mixture"
                )
        object.__setattr__(self, "stages", dict(sorted(stages.items())))

    @property
    def last(self) -> Tasks:
        """The last stage: what is aimed at."""
        return list(self.stages.values())[-1]

    @property
    def source(self) -> AnySource:
        return self.last.source

    @property
    def regression(self) -> bool:
        """Whether targets are rows of numbers (True) or labels (False)."""
        return self.last.regression

    @property
    def shots(self) -> Size:
        return self._range("shots")

    @property
    def ways(self) -> Size:
        """Classes per task, of all stages."""
        return self._range("ways")

    @property
    def support_split(self) -> str:
        """Split that supports are drawn from in the end."""
        return self.last.support_split

    @property
    def query_split(self) -> str | None:
        """Split that queries are drawn from in the end; None: the same."""
        return self.last.query_split

    @property
    def described(self) -> dict[str, Any]:
        """What a reader of a report should know of the last stage beside source and sizes."""
        return self.last.described

    @property
    def queries(self) -> Size:
        """Queries per class (in regression, in all), of all stages."""
        return self._range("queries")

    @property
    def copies(self) -> int:
        """Support examples for each that was drawn: itself, and views of it."""
        return copies_of(self.stages.values())

    def episode(self, index: int) -> Episode:
        """Episode `index` >= 0: the same one on every call, machine and worker."""
        index = check_index(index)
        return self.stages[max(start for start in self.stages if start <= index)].episode(index)

    def episodes(self, start: int, stop: int) -> Iterator[Episode]:
        """Episodes start, start + 1, ..., stop - 1, drawn as they are asked for."""
        return map(self.episode, range(start, stop))

    def map(self, change: Callable[[Any], Any]) -> Any:
        """The course after `change` was done to all stages, and then to itself."""
        return change(
            replace(self, stages={start: tasks.map(change) for start, tasks in self.stages.items()})
        )

    def _range(self, name: str) -> Size:
        return summary([getattr(tasks, name) for tasks in self.stages.values()])


def _number(start: Any) -> Any:
    return int(start) if isinstance(start, str) and start.isdecimal() else start
