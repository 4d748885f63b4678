"""The result on the terminal: a table, what to pick and why, and where to look further."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from adapt.compare import Comparison
from adapt.compare.markdown import table_rows
from adapt.compare.verdict import size_text, verdict

__all__ = ["show"]


def show(result: Comparison, *, figure: Path, folder: Path, ui: str | None, console: Console) -> None:
    """Print ``result``; ``ui`` is the command that opens the MLflow UI, None if nothing was tracked."""
    task = result.task
    title = (
        f"{result.experiment}: {task['source']}, {size_text(task)}, "
        f"{task['tasks']} tasks, seed {result.seed}, {result.device}"
    )
    header, rows = table_rows(result)
    table = Table(title=title, title_justify="left")
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print()
    console.print(table)
    console.print()
    console.print(verdict(result))
    console.print(f"\nfigure   {_short(figure)}\nresults  {_short(folder)}", soft_wrap=True)
    if ui is not None:
        console.print(f"MLflow   {ui}", soft_wrap=True)


def _short(path: Path) -> str:
    """Relative to the working directory where that is shorter to read."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
