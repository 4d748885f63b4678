"""The result on the terminal: a table, what to pick and why, and where to look further."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from adapt.compare import Comparison
from adapt.compare.evidence import comparison_evidence
from adapt.compare.markdown import Rows, cost_rows, table_rows
from adapt.compare.verdict import size_text, verdict

__all__ = ["show"]

#: Columns of a terminal, from which on the table has room for energies.
WIDE = 120


def show(result: Comparison, *, figure: Path | None, folder: Path, ui: str | None, console: Console) -> None:
    """Print ``result``; ``ui`` is the command that opens the MLflow UI, None if nothing was tracked."""
    task = result.task
    count = "1 task" if task["tasks"] == 1 else f"{task['tasks']} tasks"
    title = (
        f"{result.experiment}: {task['source']}, {size_text(task)}, {count}, seed {result.seed}, "
        f"{result.device}"
    )
    content = _with_energy(result) if console.width >= WIDE else table_rows(result)
    console.print()
    console.print(_table(title, content))
    console.print()
    console.print(verdict(result))
    if evidence := comparison_evidence(result):
        console.print(f"\n{evidence}")
    console.print()
    for name, path in (("figure", figure), ("results", folder)):
        if path is not None:
            console.print(f"{name:9}{_short(path)}", soft_wrap=True)
    if ui is not None:
        console.print(f"MLflow   {ui}", soft_wrap=True)


def _table(title: str, content: Rows) -> Table:
    header, rows = content
    table = Table(title=title, title_justify="left")
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _with_energy(result: Comparison) -> Rows:
    """The table with a column of energies before the last one, if they are known; all else that an adaptation
    costs is on the page."""
    header, rows = table_rows(result)
    names, costs = cost_rows(result)
    column = next((index for index, name in enumerate(names) if name.startswith("energy")), None)
    if column is None:
        return header, rows
    paired = zip(rows, costs, strict=True)
    return (
        (*header[:-1], names[column], header[-1]),
        [(*row[:-1], cost[column], row[-1]) for row, cost in paired],
    )


def _short(path: Path) -> str:
    """Relative to the working directory where that is shorter to read."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
