"""Time to accuracy: when does each method first get as far as ours, and when has meta-training paid off?

``python -m bench.time_to_accuracy [--quick]``: real digits, 5-way 5-shot, five seeds of 20 tasks, every
method on every task, each as ``python -m adapt`` runs it; finished seeds are not run again, and an
interrupted one goes on where it was. A method that never got there on a task within its budget is counted as
a failure: its median is then a lower bound.
"""

from collections.abc import Mapping
from pathlib import Path

from adapt.compare import Comparison, pool
from adapt.compare.figures.numbers import Reached, break_even_of, reached, speedups_of
from adapt.compare.metric import Metric
from adapt.files import write_json
from bench.lib.paths import RESULTS
from bench.lib.record import Row, folder_of, options, report
from bench.lib.runs import bounded, compact, cost_rows, measured, percent

DEPENDS = (
    "adapt/adapter", "adapt/backbones", "adapt/baselines", "adapt/compare", "adapt/forward", "adapt/heads",
    "adapt/inner", "adapt/pretrained", "adapt/spaces", "conf/experiment", "conf/method",
    "tasks/distribution.py", "tasks/images",
)  # fmt: skip
SEEDS, TASKS = (0, 1, 2, 3, 4), 20
MINIATURE = ("task.ways=2", "task.queries=3", "method.retrain.epochs=1")
METHODS = ("head", "forward", "backprop", "finetune", "retrain")


def measure(seed: int, folder: Path, methods: str, quick: bool) -> Comparison:
    """All methods on all tasks of a seed."""
    tasks = 2 if quick else TASKS
    settings = [
        "experiment=quickstart",
        "name=time_to_accuracy",
        f"method=[{methods}]",
        f"seed={seed}",
        f"task.tasks={tasks}",
        f"task.costly_tasks={tasks}",
        f"method.retrain.max_tasks={tasks}",
    ]
    return measured(folder / f"seed-{seed}", [*settings, *(MINIATURE if quick else ())], quick=quick)


def rows_of(run: Comparison, goals: Mapping[tuple[str, str], float] | None = None) -> list[Row]:
    """Score, time and costs of every method, then how it stands against ours."""
    rows = [row for found in reached(run) for row in _rows(found, run.metric)]
    if run.ours is None:
        return rows
    case = run.ours.name
    rows += [
        bounded(case, f"speed-up against {other.name}", found, goals) for other, found in speedups_of(run)
    ]
    if (even := break_even_of(run)) is not None:
        note = "an upper bound: retraining did not always get there" if even.bound else ""
        metric = "compare/break_even_tasks"
        rows.append(Row.cost(case, metric, even.tasks, "tasks", note=note))
        rows.append(Row.cost(case, "meta-training", even.start, "s"))
    return rows


def _rows(found: Reached, metric: Metric) -> list[Row]:
    method, (median, low, high) = found.method, found.median
    case, score, n = method.name, method.mean_score, len(found.seconds)
    notes = [] if low is None else [f"{low:.3g} to {high:.3g} s"]
    if found.never:
        notes.append(f"a lower bound: {found.never} of {n} never")
    note = "; ".join(notes)
    first = (
        Row.of(case, "eval/accuracy", percent(score), "%")
        if metric.share
        else Row.cost(case, "eval/mse", score.mean, "", score.ci95, score.n)
    )
    return [
        first,
        Row.cost(case, "time/adapt_seconds", method.adapt_seconds, "s", n=method.n),
        Row.cost(case, "time/to_target_seconds", median, "s", n=n, note=note),
        Row.cost(case, "time/to_target_failures", found.never, "tasks", n=n),
        *cost_rows(method, case),
    ]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--runs", type=Path, help="folder of the single runs, kept for resuming")
    parser.add_argument("--methods", default=",".join(METHODS), help="options of the group method, by commas")
    arguments = parser.parse_args()
    name = "time_to_accuracy"
    folder = arguments.runs or folder_of(name, arguments)
    seeds = SEEDS[:1] if arguments.quick else SEEDS
    run = pool([measure(seed, folder, arguments.methods, arguments.quick) for seed in seeds])
    extra = {"measured": run.environment, "energy_source": run.energy_source, "seeds": list(seeds)}
    report(name, rows_of(run), arguments, **extra)
    if not arguments.quick:  # the figures of docs/ are drawn from this
        write_json((arguments.out or RESULTS) / f"{name}.runs.json", {"runs": [compact(run)]})


if __name__ == "__main__":
    main()
