"""The digits experiment in full: 1, 5 and 10 shots, 600 tasks each (200 a seed), all methods.

``python -m bench.digits [--quick]``. Each (shots, seed) is one run of ``python -m adapt experiment=digits``;
finished ones are not run again, and an interrupted one goes on where it was.
"""

from itertools import product
from pathlib import Path

from adapt.adapter import Role
from adapt.compare import Comparison, Interval, MethodResult, pool
from adapt.files import write_json
from bench.lib.paths import RESULTS
from bench.lib.record import Row, folder_of, options, report
from bench.lib.runs import bounded, compact, cost_rows, measured, percent, target_row

DEPENDS = (
    "adapt/adapter", "adapt/backbones", "adapt/baselines", "adapt/compare", "adapt/forward", "adapt/heads",
    "adapt/inner", "adapt/pretrained", "adapt/spaces", "conf/experiment", "conf/method",
    "tasks/distribution.py", "tasks/images",
)  # fmt: skip
SHOTS, SEEDS = (1, 5, 10), (0, 1, 2)
GOALS = {("forward, 5-shot", "eval/accuracy"): 96.0, ("forward, 5-shot", "compare/speedup_vs_retrain"): 50.0}
#: What ours is held against besides heads and retraining.
OTHERS: tuple[Role, ...] = ("backprop", "finetune")
MINIATURE = (
    "task.tasks=2", "task.ways=2", "task.queries=3", "task.costly_tasks=1", "method.retrain.max_tasks=1",
    "method.retrain.epochs=1",
)  # fmt: skip


def measure(shots: int, seed: int, folder: Path, quick: bool) -> Comparison:
    """One comparison, from its file if it has been run before."""
    settings = ["experiment=digits", f"task.shots={shots}", f"seed={seed}", *(MINIATURE if quick else ())]
    return measured(folder / f"{shots}-shot-seed-{seed}", settings, quick=quick)


def rows_of(run: Comparison) -> list[Row]:
    """Rows of one number of shots: tasks of all seeds together, differences and ratios paired by task."""
    return [
        row for name, method in run.methods.items() for row in _rows(run, method, f"{name}, {_shots(run)}")
    ]


def _shots(run: Comparison) -> str:
    return f"{run.task['shots']}-shot"


def _rows(run: Comparison, method: MethodResult, case: str) -> list[Row]:
    def shown(metric: str, value: Interval, unit: str) -> Row:
        found = percent(value)
        return Row.of(case, metric, found, unit, goal=GOALS.get((case, metric)))

    rows = [
        shown("eval/accuracy", method.mean_score, "%"),
        Row.cost(case, "time/adapt_seconds", method.adapt_seconds, "s", n=method.n),
        *cost_rows(method, case),
    ]
    rows += [row for row in [target_row(run, method, case)] if row is not None]
    if method.role != "head" and (head := run.best_head) is not None:
        rows.append(shown(f"difference to {head.name}", run.difference(method, head), "points"))
    others = {role: run.by_role(role) for role in OTHERS} if method is run.ours else {}
    for role, other in others.items():
        if other is not None:
            rows.append(shown(f"compare/accuracy_vs_{role}", run.difference(method, other), "points"))
    if method.role != "retrain" and (retrain := run.by_role("retrain")) is not None:
        speedup = run.speedup(retrain, method)
        rows.append(bounded(case, "compare/speedup_vs_retrain", speedup, GOALS))
    for role, other in others.items():
        if other is not None:
            rows.append(bounded(case, f"compare/speedup_vs_{role}", run.speedup(other, method), GOALS))
    return rows


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--runs", type=Path, help="folder of the single runs, kept for resuming")
    arguments = parser.parse_args()
    folder = arguments.runs or folder_of("digits", arguments)
    shots, seeds = ((5,), (0,)) if arguments.quick else (SHOTS, SEEDS)
    runs = {(k, seed): measure(k, seed, folder, arguments.quick) for seed, k in product(seeds, shots)}
    rows = [row for k in shots for row in rows_of(pool([runs[k, seed] for seed in seeds]))]
    one = runs[5, 0]
    report("digits", rows, arguments, measured=one.environment, energy_source=one.energy_source)
    if not arguments.quick:  # the figures of docs/ are drawn from these; curves of one seed are enough
        compacted = [compact(run, curves=run.seed == SEEDS[0]) for run in runs.values()]
        write_json((arguments.out or RESULTS) / "digits.runs.json", {"runs": compacted})


if __name__ == "__main__":
    main()
