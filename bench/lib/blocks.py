"""Pages that are written by hand around generated blocks: what every such page needs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from adapt.files import read_json
from bench.lib.paths import RESULTS

__all__ = [
    "Blocks",
    "Result",
    "Rows",
    "by_case",
    "committed",
    "fill",
    "gap",
    "markdown_table",
    "measured",
    "reached",
]

Result = Mapping[str, Any]
Rows = Mapping[tuple[str, str], Result]
Blocks = Mapping[str, Callable[[], str]]


def fill(text: str, blocks: Blocks) -> str:
    """``text`` with every generated block replaced by what the results say."""
    for name, block in blocks.items():
        start, end = f"<!-- generated: {name} -->\n", "<!-- end -->"
        head, rest = text.split(start, 1)
        text = head + start + block() + end + rest.split(end, 1)[1]
    return text


def measured(name: str, text: Callable[[Result], str]) -> Callable[[], str]:
    """A block: the ``text`` of a committed result, as far as there is one."""

    def block() -> str:
        result = committed(name)
        return "Not measured yet.\n" if result is None else text(result)

    return block


def by_case(result: Result) -> Rows:
    """The rows of a result by case and metric."""
    return {(row["case"], row["metric"]): row for row in result["rows"]}


def gap(row: Result) -> str:
    """A difference with its interval, if it has one, signs included."""
    interval = "" if row["ci95"] is None else f" ± {row['ci95']:.1f}"
    return f"{row['value']:+.1f}{interval}".replace("-", "−")


def reached(is_reached: bool) -> str:
    """Of a goal."""
    return "reached" if is_reached else "**missed**"


def committed(name: str) -> Result | None:
    """A committed result; None if there is none."""
    path = RESULTS / f"{name}.json"
    return read_json(path) if path.exists() else None


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """With a line break at its end."""
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"
