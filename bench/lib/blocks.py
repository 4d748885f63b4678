"""Pages that are written by hand around generated blocks: what every such page needs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from adapt.files import read_json
from bench.lib.paths import RESULTS

__all__ = ["Blocks", "Result", "committed", "fill", "markdown_table"]

Result = Mapping[str, Any]
Blocks = Mapping[str, Callable[[], str]]


def fill(text: str, blocks: Blocks) -> str:
    """``text`` with every generated block replaced by what the results say."""
    for name, block in blocks.items():
        start, end = f"<!-- generated: {name} -->\n", "<!-- end -->"
        head, rest = text.split(start, 1)
        text = head + start + block() + end + rest.split(end, 1)[1]
    return text


def committed(name: str) -> Result | None:
    """A committed result; None if there is none."""
    path = RESULTS / f"{name}.json"
    return read_json(path) if path.exists() else None


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """With a line break at its end."""
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"
