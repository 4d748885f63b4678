"""The form of a benchmark result: one JSON file in ``bench/results``, with where and how it was measured."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from adapt.app.environment import environment
from adapt.compare.statistics import Interval
from adapt.files import write_json
from adapt.tracking.git import git_state
from bench.lib.age import age_text
from bench.lib.paths import KEPT, RESULTS, ROOT

__all__ = [
    "Row",
    "folder_of",
    "form",
    "options",
    "provenance",
    "report",
    "table",
    "write",
]

#: How ± of a result is made, and of files that do not say it.
INTERVALS = "Student's t; examples that tasks share count once"
BEFORE = "1.96 standard errors, of three seeds Student's t; tasks taken for independent"


@dataclass(frozen=True)
class Row:
    """One measured number; ``ci95`` is the half-width of its 95 % interval, ``n`` what it is a mean of."""

    case: str
    metric: str
    value: float
    unit: str = ""
    ci95: float | None = None
    n: int | None = None
    goal: float | None = None
    higher_is_better: bool = True
    note: str = ""

    @classmethod
    def of(cls, case: str, metric: str, interval: Interval, unit: str = "", **more: Any) -> "Row":
        """A mean with its interval."""
        return cls(case, metric, interval.mean, unit, interval.ci95, interval.n, **more)

    @classmethod
    def cost(
        cls,
        case: str,
        metric: str,
        value: float,
        unit: str = "",
        ci95: float | None = None,
        n: int | None = None,
        goal: float | None = None,
        note: str = "",
    ) -> "Row":
        """Of what less is better."""
        return cls(case, metric, value, unit, ci95, n, goal, False, note)


def write(
    name: str,
    rows: Sequence[Row],
    *,
    quick: bool,
    folder: Path | None = None,
    device: torch.device | None = None,
    **extra: Any,
) -> Path:
    """Write ``<name>.json``, or ``<name>.<device>.json`` if that is no CPU; a quick run (the same code in
    miniature) never overwrites a real result. ``folder``: ``bench/results`` if None."""
    where = environment(device or torch.device("cpu"))
    suffix = f".{device.type}" if device is not None and device.type != "cpu" else ""
    state = git_state(ROOT)
    path = (folder or RESULTS) / (f"{name}{suffix}.quick.json" if quick else f"{name}{suffix}.json")
    write_json(
        path, form(name.partition(".")[0], rows, where, state and state[0], intervals=INTERVALS, **extra)
    )
    return path


def form(
    name: str, rows: Sequence[Row], where: Mapping[str, Any], commit: str | None, **extra: Any
) -> dict[str, Any]:
    """What a file of ``bench/results`` holds; ``where`` is an :func:`adapt.app.environment.environment`."""
    return {
        "name": name,
        "commit": commit,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "device": where["device"],
        "threads": where["threads"],
        "versions": where["versions"],
        "command": f"python -m bench.{Path(sys.argv[0]).stem}",
        **extra,
        "rows": [asdict(row) for row in rows],
    }


def report(name: str, rows: Sequence[Row], arguments: Namespace, **extra: Any) -> None:
    """Prints the rows, writes the result, and says where. ``arguments``: of :func:`options`."""
    print(table(rows))
    print(write(name, rows, quick=arguments.quick, folder=arguments.out, **extra))


def options(
    description: str | None, *, names: str | None = None, train: str | None = None, **settings: Any
) -> ArgumentParser:
    """The options that benchmarks share. ``names`` and ``train``: what these say of themselves, where some of
    the cases can be named and where learning comes first."""
    parser = ArgumentParser(description=description, **settings)
    if names is not None:
        parser.add_argument("names", nargs="*", help=names)
    parser.add_argument("--quick", action="store_true", help="the same code in miniature")
    if train is not None:
        parser.add_argument("--train", action="store_true", help=train)
    parser.add_argument("--out", type=Path, help="folder of the result (default: bench/results)")
    return parser


def folder_of(name: str, arguments: Namespace) -> Path:
    """The folder of what benchmark ``name`` keeps so that it can be gone on with; a miniature has its own."""
    return (arguments.out or KEPT) / (f"{name}_quick" if arguments.quick else name)


def provenance(result: Mapping[str, Any]) -> str:
    """Command, device, date, commit, age and versions of a result, for a page, and, if it has intervals, how
    they were made."""
    versions = ", ".join(f"{package} {version}" for package, version in result["versions"].items())
    commit = (result["commit"] or "none")[:8]
    text = (
        f"`{result['command']}` on {result['device']}, {result['threads']} threads; {result['date']}; commit "
        f"{commit}{age_text(result)}; {versions}."
    )
    if all(row["ci95"] is None for row in result["rows"]):
        return text
    return f"{text} ±: {result.get('intervals', BEFORE)}."


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned text for the terminal."""
    lines = []
    for row in rows:
        interval = f" ± {row.ci95:.3g}" if row.ci95 is not None else ""
        count = f"  n={row.n}" if row.n is not None else ""
        lines.append(
            f"{row.case:44s} {row.metric:28s} {row.value:10.4g}{interval} {row.unit}{count} {row.note}"
        )
    return "\n".join(lines)
