"""The tables of docs/data.md: of sources, from their own cards, and of conditions; nothing in them is typed.

``python -m bench.pages.sources`` writes; with ``--check`` it fails if the page is not what it would write.
The row of a source whose files are not at hand stays as it is, and is reported.
"""

import argparse
import inspect
import sys
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

import tasks
from adapt.files import write_text
from bench.lib.blocks import fill, markdown_table
from bench.lib.paths import DOCS, ROOT
from tasks import TaskError, TaskWarning
from tasks.conditions import SEVERITIES, kinds_of

__all__ = ["PAGE", "filled", "row", "sources"]

PAGE = DOCS / "data.md"
HEADER = ("source", "config", "field", "holds", "licence", "commercial use", "personal data", "files")
COMMERCIAL = {True: "yes", False: "**no**", None: "not stated"}


def sources() -> dict[str, type]:
    """The classes of sources that need nothing of the user's own, by name."""
    public = {name: getattr(tasks, name) for name in tasks.__all__}
    return {name: found for name, found in sorted(public.items()) if _stands_alone(found)}


def _stands_alone(found: Any) -> bool:
    if not inspect.isclass(found) or not hasattr(found, "digest") or getattr(found, "_is_protocol", False):
        return False
    required = [p for p in inspect.signature(found).parameters.values() if p.default is p.empty]
    return not required and found.__name__ not in _own()


def _own() -> set[str]:
    """Names of the sources whose configs leave something for the user to say: `???`, or null in the task."""
    return {name for name, (_, text) in _configs().items() if "???" in text or "${task." in text}


@cache  # every row asks
def _configs() -> Mapping[str, tuple[str, str]]:
    """Source -> name and text of the first config of it."""
    found: dict[str, tuple[str, str]] = {}
    for path in sorted((ROOT / "conf" / "task").glob("*.yaml"), key=lambda path: len(path.stem)):
        text = path.read_text(encoding="utf-8")
        target = str((yaml.safe_load(text).get("source") or {}).get("_target_", ""))
        found.setdefault(target.removeprefix("tasks."), (path.stem, text))
    return found


def row(name: str) -> list[str]:
    """The cells of one source.

    Raises:
        TaskError: its files are not at hand.
    """
    kind = sources()[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TaskWarning)
        card = kind().card
    counts = [
        f"{card.counts[what]:,} {what}" for what in ("examples", "rows", "classes") if what in card.counts
    ]
    path = Path(inspect.getfile(kind)).relative_to(ROOT).as_posix()
    config = _configs().get(name)
    cells = (
        f"[`{name}`](../{path})",
        f"`{config[0]}`" if config else "–",
        card.domain or "–",
        ", ".join(counts) or "drawn as needed",
        card.licence,
        COMMERCIAL[card.commercial],
        card.personal_data,
        _files(kind),
    )
    return [" ".join(cell.split()).replace("|", "\\|") for cell in cells]


def _files(kind: type) -> str:
    settings = inspect.signature(kind).parameters
    if "root" not in settings:
        return "none needed"
    return "`download=true`" if "download" in settings else "in `$ADAPT_DATA`"


def filled(text: str, missing: list[str] | None = None) -> str:
    """``text`` with its table as the cards say; names of sources without files are added to ``missing``."""
    block = text.split("<!-- generated: sources -->\n", 1)[1].split("<!-- end -->", 1)[0]
    rows = list(_rows(block, [] if missing is None else missing))
    return fill(text, {"conditions": _conditions, "sources": lambda: markdown_table(HEADER, rows)})


def _conditions() -> str:
    """The kinds of conditions, as they are divided."""
    rows = [
        [f"`{part}`", ", ".join(f"`{kind}`" for kind in kinds_of(part)), ", ".join(map(str, severities))]
        for part, severities in SEVERITIES.items()
    ]
    return markdown_table(("kinds", "which they are", "severities"), rows)


def _rows(block: str, missing: list[str]) -> Iterator[list[str]]:
    there = {
        line.split("`")[1]: line[2:-2].split(" | ") for line in block.splitlines() if line.startswith("| [`")
    }
    for name in sources():
        try:
            yield row(name)
        except TaskError as error:
            missing.append(f"{name}: {error}")
            if name in there:
                yield there[name]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare; exit code 1 if out of date")
    arguments = parser.parse_args()
    missing: list[str] = []
    text = PAGE.read_text(encoding="utf-8")
    new = filled(text, missing)
    print(*(f"not at hand, row kept: {line}" for line in missing), sep="\n", end="\n" if missing else "")
    if not arguments.check:
        write_text(PAGE, new)
    elif new != text:
        sys.exit("docs/data.md is not what the cards say: run python -m bench.pages.sources")


if __name__ == "__main__":
    main()
