"""The form of a benchmark result: one JSON file in ``bench/results``, with where and how it was measured."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from adapt.app.environment import environment
from adapt.files import write_json

__all__ = ["DOCS", "KEPT", "RESULTS", "ROOT", "Row", "command", "provenance", "table", "write"]

ROOT = Path(__file__).resolve().parents[2]
RESULTS, DOCS = ROOT / "bench" / "results", ROOT / "docs"
#: What a benchmark keeps so that it can be gone on with, each in a folder of its own.
KEPT = ROOT / "outputs" / "bench"
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


def write(
    name: str,
    rows: Sequence[Row],
    *,
    quick: bool,
    folder: Path = RESULTS,
    device: torch.device | None = None,
    **extra: Any,
) -> Path:
    """Write ``<name>.json``, or ``<name>.<device>.json`` if that is no CPU; a quick run (the same code in
    miniature) never overwrites a real result."""
    where = environment(device or torch.device("cpu"))
    suffix = f".{device.type}" if device is not None and device.type != "cpu" else ""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=ROOT)
    value = {
        "name": name,
        "commit": commit.stdout.strip() or None,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "device": where["device"],
        "threads": where["threads"],
        "versions": where["versions"],
        "command": command(),
        "intervals": INTERVALS,
        **extra,
        "rows": [asdict(row) for row in rows],
    }
    path = folder / (f"{name}{suffix}.quick.json" if quick else f"{name}{suffix}.json")
    write_json(path, value)
    return path


def command() -> str:
    """What was typed to start this benchmark, without its options."""
    return f"python -m bench.{Path(sys.argv[0]).stem}"


def provenance(result: Mapping[str, Any]) -> str:
    """Command, device, date, commit and versions of a result, for a page, and how its intervals were made, if
    it has any."""
    versions = ", ".join(f"{package} {version}" for package, version in result["versions"].items())
    commit = (result["commit"] or "none")[:8]
    text = (
        f"`{result['command']}` on {result['device']}, {result['threads']} threads; {result['date']}; commit "
        f"{commit}; {versions}."
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
