"""The digits experiment in full: 1, 5 and 10 shots, 600 tasks each (200 a seed), all methods.

``python bench/digits.py [--quick]``. Each (shots, seed) is one run of ``python -m adapt experiment=digits``;
finished ones are not run again.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from record import RESULTS, Row, table, write

from adapt.compare import ACCURACY, Comparison, MethodResult
from adapt.compare.statistics import Interval, mean_interval, paired_difference, ratio_interval
from adapt.files import read_json, write_json

SHOTS, SEEDS = (1, 5, 10), (0, 1, 2)
GOALS = {("forward, 5-shot", "eval/accuracy"): 96.0, ("forward, 5-shot", "compare/speedup_vs_retrain"): 50.0}


def measure(shots: int, seed: int, folder: Path, quick: bool) -> Comparison:
    """One comparison, from its file if it has been run before."""
    path = folder / f"{shots}-shot-seed-{seed}" / "comparison.json"
    if not path.exists():
        miniature = (
            ["task.tasks=2", "task.costly_tasks=1", "method.retrain.max_tasks=1", "method.retrain.epochs=1"]
            if quick
            else []
        )
        command = [
            sys.executable,
            "-m",
            "adapt",
            "experiment=digits",
            "hydra.mode=RUN",
            f"hydra.run.dir={path.parent}",
        ]
        subprocess.run(
            [*command, f"task.shots={shots}", f"seed={seed}", f"tracking.root={folder}", *miniature],
            check=True,
        )
    return Comparison.from_dict(read_json(path))


def pooled(runs: Sequence[Comparison], shots: int) -> list[Row]:
    """Rows of one number of shots: tasks of all seeds together, differences and ratios paired by task."""
    rows = []
    for name, first in runs[0].methods.items():
        results = [run.methods[name] for run in runs]
        case = f"{name}, {shots}-shot"
        accuracy = mean_interval([a for r in results for a in r.score])
        add = _adder(rows, case)
        add("eval/accuracy", _percent(accuracy), "%")
        seconds = sorted(s for r in results for s in r.seconds)
        rows.append(
            Row(
                case,
                "time/adapt_seconds",
                seconds[len(seconds) // 2],
                "s",
                n=len(seconds),
                higher_is_better=False,
            )
        )
        rows.append(
            Row(case, "cost/forward_equivalents", first.forward_equivalents, "FE", higher_is_better=False)
        )
        rows.append(Row(case, "memory/peak_mb", first.peak_mb, "MB", higher_is_better=False))
        if first.role != "head":
            head = max(
                (m for m in runs[0].methods if runs[0].methods[m].role == "head"),
                key=lambda m: _mean(runs, m),
            )
            add(
                f"difference to {head}",
                _percent(_paired(results, [run.methods[head] for run in runs])),
                "points",
            )
        if first.role == "forward":
            for other in ("backprop", "finetune"):
                add(
                    f"compare/accuracy_vs_{other}",
                    _percent(_paired(results, [run.methods[other] for run in runs])),
                    "points",
                )
        if first.role not in ("retrain",):
            rows.append(_speedup(case, results, [run.methods["retrain"] for run in runs]))
        if first.role == "forward":
            for other in ("backprop", "finetune"):
                rows.append(_time_ratio(case, results, [run.methods[other] for run in runs], other))
    return rows


def _adder(rows: list[Row], case: str):  # type: ignore[no-untyped-def]
    def add(metric: str, interval: Interval, unit: str) -> None:
        rows.append(
            Row(case, metric, interval.mean, unit, interval.ci95, interval.n, GOALS.get((case, metric)))
        )

    return add


def _mean(runs: Sequence[Comparison], name: str) -> float:
    return sum(run.methods[name].mean_score.mean for run in runs)


def _percent(interval: Interval) -> Interval:
    return Interval(100 * interval.mean, 100 * interval.ci95, interval.n)


def _paired(ours: Sequence[MethodResult], other: Sequence[MethodResult]) -> Interval:
    pairs = [(a, b) for x, y in zip(ours, other, strict=True) for a, b in zip(x.score, y.score, strict=False)]
    return paired_difference([a for a, _ in pairs], [b for _, b in pairs])


def _speedup(case: str, ours: Sequence[MethodResult], retrain: Sequence[MethodResult]) -> Row:
    """Time of retraining to first reach the method's accuracy ÷ the method's time, median over tasks."""
    other, own, never = [], [], 0
    for mine, theirs in zip(ours, retrain, strict=True):
        for accuracy, seconds, curve, total in zip(
            mine.score, mine.seconds, theirs.curves, theirs.seconds, strict=False
        ):
            reached = curve.first_reach(accuracy, ACCURACY)
            never += reached is None
            other.append(total if reached is None else reached)
            own.append(seconds)
    ratio = ratio_interval(other, own, never)
    note = f"{ratio.low:.3g} to {ratio.high:.3g}" + (
        f"; a lower bound: {never} of {ratio.n} never got there" if never else ""
    )
    metric = "compare/speedup_vs_retrain"
    return Row(case, metric, ratio.ratio, "×", n=ratio.n, goal=GOALS.get((case, metric)), note=note)


def _time_ratio(case: str, ours: Sequence[MethodResult], other: Sequence[MethodResult], name: str) -> Row:
    pairs = [
        (a, b) for x, y in zip(ours, other, strict=True) for a, b in zip(x.seconds, y.seconds, strict=False)
    ]
    ratio = ratio_interval([b for _, b in pairs], [a for a, _ in pairs])
    return Row(
        case,
        f"compare/speedup_vs_{name}",
        ratio.ratio,
        "×",
        n=ratio.n,
        note=f"{ratio.low:.3g} to {ratio.high:.3g}",
    )


def _compact(run: Comparison) -> dict[str, Any]:
    """Numbers rounded to what can be seen in a figure, curves for one seed only."""
    value = run.to_dict()
    for method in value["methods"].values():
        method["score"] = [round(a, 4) for a in method["score"]]
        method["seconds"] = [float(f"{s:.3g}") for s in method["seconds"]]
        keep = method["curves"] if run.seed == SEEDS[0] else []
        method["curves"] = [
            {k: [round(v, 4) for v in values] for k, values in curve.items()} for curve in keep
        ]
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the same code in miniature")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON")
    parser.add_argument(
        "--runs", type=Path, default=None, help="folder of the single runs, kept for resuming"
    )
    arguments = parser.parse_args()
    folder = (
        arguments.runs or Path("outputs") / ("bench_digits_quick" if arguments.quick else "bench_digits")
    ).resolve()
    shots, seeds = ((1, 5), (0,)) if arguments.quick else (SHOTS, SEEDS)
    runs = {(k, seed): measure(k, seed, folder, arguments.quick) for seed, k in product(seeds, shots)}
    rows = [row for k in shots for row in pooled([runs[k, seed] for seed in seeds], k)]
    print(table(rows))
    path = write("digits", rows, quick=arguments.quick, folder=arguments.out, measured=runs[5, 0].environment)
    if not arguments.quick:  # the figures of docs/ are drawn from these
        write_json(arguments.out / "digits.runs.json", {"runs": [_compact(run) for run in runs.values()]})
    print(path)


if __name__ == "__main__":
    main()
