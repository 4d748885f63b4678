"""Single comparisons behind a benchmark: run as anybody would run them, kept, and put into rows."""

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from adapt.app.main import main
from adapt.compare import Comparison, Interval, MethodResult, Speedup
from adapt.compare.examples import Examples
from adapt.files import read_json
from bench.lib.paths import ROOT
from bench.lib.record import Row
from tasks import Digits, Distribution

__all__ = [
    "bounded",
    "command_line",
    "compact",
    "cost_rows",
    "measured",
    "percent",
    "target_row",
    "with_examples",
]

Goals = Mapping[tuple[str, str], float]


def command_line(overrides: Sequence[str], *, quick: bool) -> None:
    """``python -m adapt`` with ``overrides``, as a user would start it; in miniature in this process, since
    nothing is learned from its times, and most of them would be imports, and without figures and memory."""
    if quick:
        with mock.patch.object(sys, "argv", ["adapt", *overrides, "figures=false", "memory=false"]):
            main()
    else:
        subprocess.run([sys.executable, "-m", "adapt", *overrides], cwd=ROOT, check=True)


def measured(folder: Path, overrides: Sequence[str], *, quick: bool) -> Comparison:
    """``python -m adapt`` with ``overrides`` in ``folder``: read, if it has been run before, and gone on
    with, if it was interrupted."""
    path = folder.resolve() / "comparison.json"
    if not path.exists():
        own = ["hydra.mode=RUN", f"hydra.run.dir={path.parent}", "tracking=none"]
        own += [] if quick else ["figures=false"]
        command_line([*overrides, *own], quick=quick)
    return Comparison.from_dict(read_json(path))


def percent(interval: Interval) -> Interval:
    """Of a share."""
    return interval.times(100)


def bounded(case: str, metric: str, speedup: Speedup, goals: Goals | None = None) -> Row:
    """A ratio of times with its interval, and on how many tasks it is a lower bound."""
    notes = [speedup.between()] if speedup.ends is not None else []
    if speedup.bound:
        notes.append(f"a lower bound: {speedup.never} of {speedup.n} never got there")
    note = "; ".join(notes)
    goal = (goals or {}).get((case, metric))
    return Row(case, metric, speedup.ratio, "×", n=speedup.n, goal=goal, note=note)


def target_row(run: Comparison, method: MethodResult, case: str) -> Row | None:
    """Median time in which a watched method first reached the accuracy of ours; None of ours, and of what
    was not watched."""
    found, ours = run.to_target_seconds(method), run.ours
    if found is None or ours is None or method is ours:
        return None
    n, never = min(method.n, ours.n), run.failures(method)
    note = f"a lower bound: {never} of {n} never got there" if never else ""
    return Row.cost(case, "time/to_target_seconds", found, "s", n=n, note=note)


def with_examples(run: Comparison) -> Comparison:
    """``run`` with what its tasks were drawn from; where that was not kept, they are drawn again, since each
    is a function of its seed and its number. Of digits, which all kept comparisons are of."""
    if run.examples is not None or run.task["source"] != "digits":
        return run
    seeds = run.task.get("seeds", [run.seed])
    sizes = [run.task[name] for name in ("ways", "shots", "queries")]
    parts = []
    for seed in seeds:
        tasks = Distribution(Digits(), *sizes, support_split="support", query_split="query", seed=seed)
        each = run.task["tasks"] // len(seeds)
        parts.append(Examples.of(episode.meta for episode in tasks.episodes(0, each)))
    return replace(run, examples=Examples.joined(parts, in_turn=True))


def cost_rows(method: MethodResult, case: str) -> Iterator[Row]:
    """Operations, memory, and, where they are known, energy, emissions and price of many adaptations: those
    of a single one are too small to be read."""
    values = (
        ("cost/forward_equivalents", method.forward_equivalents, 1, "FE"),
        ("memory/peak_mb", method.peak_mb, 1, "MB"),
        ("memory/process_mb", method.process_mb, 1, "MB"),
        ("energy of 1,000 adaptations", method.energy_wh, 1e3, "Wh"),
        ("CO₂ of 1,000 adaptations", method.co2_g, 1e3, "g"),
        ("price of 1,000,000 adaptations", method.usd, 1e6, "USD"),
    )
    for metric, value, times, unit in values:
        if value is not None:
            yield Row.cost(case, metric, times * value, unit)


def compact(run: Comparison, *, curves: bool = True) -> dict[str, Any]:
    """For the figures of the pages: numbers rounded to what can be seen there."""
    value = run.to_dict()
    for method in value["methods"].values():
        method["score"] = [round(a, 4) for a in method["score"]]
        method["seconds"] = [_rounded(s) for s in method["seconds"]]
        method["curves"] = [
            {
                "seconds": [_rounded(s) for s in curve["seconds"]],
                "score": [round(a, 4) for a in curve["score"]],
            }
            for curve in (method["curves"] if curves else ())
        ]
    return value


def _rounded(seconds: float) -> float:
    return float(f"{seconds:.3g}")
