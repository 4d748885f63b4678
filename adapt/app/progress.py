"""Progress bars on the terminal, for whatever takes longer than two seconds."""

from collections.abc import Callable, Iterable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

__all__ = ["console", "progress"]

#: A pipe or a file has no width of its own: the result table should not be folded to 80 columns there.
console = Console(highlight=False) if Console().is_terminal else Console(highlight=False, width=120)


def progress(description: str) -> Callable[[Iterable[int]], Iterable[int]]:
    """A wrapper of a sized iterable that shows a bar with rate and remaining time while it is consumed."""

    def wrap(items: Iterable[int]) -> Iterator[int]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("eta"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            yield from bar.track(items, description=description)

    return wrap
