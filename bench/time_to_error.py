"""Time to error: when does each method first predict trajectories of a new environment as well as ours?

``python -m bench.time_to_error [--quick]``: predators and prey, as ``experiment=quickstart_physics`` runs
them, but with retraining on every task, and for far longer. The second family of tasks beside
``bench.time_to_accuracy``: there a head is enough, here there is none.
"""

from pathlib import Path

from adapt.compare import pool
from adapt.files import write_json
from bench.lib.paths import RESULTS
from bench.lib.record import folder_of, options, report
from bench.lib.runs import compact, measured
from bench.time_to_accuracy import rows_of

DEPENDS = (
    "adapt/adapter", "adapt/backbones", "adapt/baselines", "adapt/compare", "adapt/forward", "adapt/inner",
    "adapt/pretrained/rollout_lotka_volterra", "conf/experiment", "tasks/physics",
)  # fmt: skip
TASKS, EPOCHS = 10, 8000
GOAL = 100.0  # of the speed-up against retraining


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--runs", type=Path, help="folder of the single runs, kept for resuming")
    arguments = parser.parse_args()
    name, quick = "time_to_error", arguments.quick
    tasks, epochs = (1, 1) if quick else (TASKS, EPOCHS)
    settings = [
        "experiment=quickstart_physics",
        f"name={name}",
        f"task.tasks={tasks}",
        f"task.costly_tasks={tasks}",
        f"method.retrain.max_tasks={tasks}",
        f"method.retrain.epochs={epochs}",
        "method.retrain.watch_every=50",
        "memory=false",
        *(("task.queries=1", "method.backprop.solver.steps=1", "method.finetune.steps=1") if quick else ()),
    ]
    folder = arguments.runs or folder_of(name, arguments)
    run = pool([measured(folder / "seed-0", settings, quick=quick)])
    rows = rows_of(run, {("forward", "speed-up against retrain"): GOAL})
    report(name, rows, arguments, measured=run.environment, energy_source=run.energy_source)
    if not quick:  # the figure of the README is drawn from this
        write_json((arguments.out or RESULTS) / f"{name}.runs.json", {"runs": [compact(run)]})


if __name__ == "__main__":
    main()
