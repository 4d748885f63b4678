"""Progress bars on the terminal, for whatever takes longer than two seconds."""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.text import Text

from adapt.app.environment import job_number
from adapt.interrupts import check
from tasks.readers.shown import plain

__all__ = ["console", "line", "progress"]


class _Console(Console):
    """Names and notes of others are shown as they are: nothing in them is markup, or acts on a terminal."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(highlight=False, markup=False, **settings)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The pieces of what is printed."""
        for piece in super().render(renderable, options):
            yield piece if piece.control else Segment(plain(piece.text), piece.style)


#: A pipe or a file has no width of its own: the result table should not be folded to 80 columns there.
console = _Console() if Console().is_terminal else _Console(width=120)


def line(said: str) -> None:
    """A line on what goes on, beside the results: with and without a terminal."""
    check()
    print(plain(said), file=sys.stderr, flush=True)


class _Rate(ProgressColumn):
    """Items per second, or seconds per item if that is more than one."""

    def render(self, task: Task) -> Text:
        if not (rate := task.finished_speed or task.speed):
            return Text("")
        return Text(f"{rate:.1f}/s" if rate >= 1 else f"{1 / rate:.1f} s each")


def progress(description: str) -> Callable[[Iterable[int]], Iterable[int]]:
    """A wrapper of a sized iterable that shows a bar with rate and remaining time while it is consumed; where
    several runs share the terminal, there is none. Before each item an interruption that was swallowed is
    raised again."""

    def wrap(items: Iterable[int]) -> Iterator[int]:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            _Rate(),
            TextColumn("eta"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True, disable=job_number() is not None) as bar:
            for item in bar.track(items, description=description):
                check()
                yield item

    return wrap
