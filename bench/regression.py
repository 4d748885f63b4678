"""Few-shot regression: sinusoids and vehicles, each method meta-trained for itself, all compared on one set
of new tasks.

``python -m bench.regression [names] [--quick] [--train]``. ``--train`` stops after meta-training, whose
adapters stay in ``outputs/bench/regression``: what is there is not trained again. Every method starts from
the same network and gets the same tasks and as many outer steps; the state with the least validation loss is
kept. Test tasks are looked at once, at the end, by all methods in turn.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import adapt
from adapt.adapter import Context, Method, Role, Saved
from adapt.adapter.method import Adapt
from adapt.app.environment import environment
from adapt.baselines import Higher, Learn2Learn
from adapt.compare import Comparison, compare
from adapt.compare.examples import Examples
from adapt.compare.statistics import mean_interval, paired_difference, ratio_interval
from adapt.heads import Direct
from adapt.inner import Linearised
from adapt.memory import keep_freed_memory
from bench.lib.record import Row, folder_of, options, report
from bench.lib.runs import command_line
from tasks import FunctionTasks, Sinusoid, VehicleDynamics

DEPENDS = (
    "adapt/adapter", "adapt/baselines", "adapt/compare", "adapt/forward", "adapt/inner", "adapt/meta",
    "conf/experiment", "tasks/functions.py", "tasks/regression",
)  # fmt: skip
SEEDS = (0, 1, 2)
TEST_TASKS = 200  # from each seed
OURS, BEST_BACKPROP = "forward", ("maml_1", "maml_5", "cavia", "subspace backprop")

#: Overrides of the experiment that make each method's inner and outer loop.
METHODS: dict[str, tuple[str, ...]] = {
    OURS: (),
    "subspace backprop": ("inner=backprop", "meta.learn=[origin,basis,log_rates]"),
    "cavia": ("inner=cavia", "meta=cavia"),
    "maml_1": ("inner=backprop", "meta=maml", "inner.steps=1"),
    "maml_5": ("inner=backprop", "meta=maml"),
}


@dataclass(frozen=True)
class Setting:
    """An experiment config, the number of support points, and its goal for our mean squared error."""

    experiment: str
    source: Sinusoid | VehicleDynamics
    shots: int
    goal: float | None = None

    @property
    def name(self) -> str:
        return f"{self.source.name}, {self.shots}-shot"


SETTINGS = (
    Setting("meta_sinusoid", Sinusoid(), 10, goal=0.02),
    Setting("meta_sinusoid", Sinusoid(), 5),
    Setting("meta_vehicle_dynamics", VehicleDynamics(), 50),
)
QUICK = ("meta.steps=2", "meta.validate_every=1", "meta.validation_tasks=2", "meta.tasks_per_step=2")


@dataclass(frozen=True)
class Within:
    """``method`` with another adapter than the comparison's: every method here has a start of its own."""

    adapter: Path
    method: Method
    max_tasks: int | None = None
    role: Role = "backprop"
    keeps_backbone: bool = True

    def prepare(self, context: Context) -> Adapt:
        """See :class:`adapt.adapter.Method`."""
        return self.method.prepare(context._replace(adapter=adapt.load(self.adapter)))


def train(setting: Setting, method: str, seed: int, folder: Path, *, quick: bool) -> Path:
    """Meta-train by the command line, as a user would, unless it has been done; returns the adapter."""
    output = folder / f"{setting.source.name}_{setting.shots}" / f"{method.replace(' ', '_')}_{seed}"
    if (output / "adapter_config.json").exists():
        return output
    overrides = [f"experiment={setting.experiment}", f"task.shots={setting.shots}", f"seed={seed}"]
    overrides += [*METHODS[method], *(QUICK if quick else ()), "tracking=none", f"output={output}"]
    print(f"meta-training {setting.name}, {method}, seed {seed}", flush=True)
    command_line([*overrides, f"hydra.run.dir={output}.run"], quick=quick)
    return output


def measure(setting: Setting, adapters: dict[str, Path], seed: int, *, tasks: int) -> Comparison:
    """All methods in turn on the same test tasks."""
    ours = adapters[OURS]
    methods: dict[str, Method] = {name: Saved(str(path), "backprop") for name, path in adapters.items()}
    methods[OURS] = Saved(str(ours))
    methods["linearised"] = Saved(str(ours), solver=Linearised())
    for steps in (1, 5):
        start = adapters[f"maml_{steps}"]
        lr = adapt.load(start).solver.lr
        methods[f"maml_{steps}, learn2learn"] = Within(start, Learn2Learn(lr=lr, steps=steps, head=Direct()))
        methods[f"maml_{steps}, higher"] = Within(
            start, Higher(optimizer="sgd", lr=lr, steps=steps, head=Direct())
        )
    adapter = adapt.load(ours)
    return compare(
        methods,
        FunctionTasks(setting.source, shots=setting.shots, support_split="test", seed=seed),
        Context(adapter.backbone, adapter, seed=seed),
        experiment=setting.name,
        task={"source": setting.source.name, "shots": setting.shots, "tasks": tasks},
        tasks=tasks,
        device=torch.device("cpu"),
        environment=environment(torch.device("cpu")),
    )


def rows(setting: Setting, runs: list[Comparison]) -> Iterator[Row]:
    """Seeds pooled: every task is one observation, of the adapter of its seed."""
    pooled = {name: _pooled(runs, name) for name in runs[0].methods}
    drawn = Examples.joined([run.examples for run in runs])
    error, seconds = pooled[OURS]
    best = min(BEST_BACKPROP, key=lambda name: pooled[name][0].mean())
    for name, (errors, times) in pooled.items():
        case, mean = f"{setting.name}: {name}", mean_interval(errors, drawn)
        goal = setting.goal if name == OURS else None
        note = "the best by backprop" if name == best else ""
        n = len(errors)
        yield Row.cost(case, "eval/mse", mean.mean, "", mean.ci95, n, goal, note=note)
        per_seed = [run.methods[name].mean_score.mean for run in runs]
        yield Row.cost(case, "eval/mse_worst_seed", max(per_seed), "", n=len(runs))
        yield Row.cost(case, "time/adapt_seconds", float(np.median(times)), "s", n=n)
        result = runs[0].methods[name]
        yield Row.cost(case, "cost/forward_equivalents", result.forward_equivalents)
        yield Row.cost(case, "memory/peak_mb", result.peak_mb, "MB")
        if name != OURS:
            paired = paired_difference(errors, error, drawn)
            yield Row(case, "compare/mse_minus_forward", paired.mean, "", paired.ci95, n)
            ratio = ratio_interval(seconds, times)
            goal = 0.5 if note else None
            metric = "compare/time_of_forward"
            yield Row.cost(case, metric, ratio.ratio, n=n, goal=goal)


def _pooled(runs: list[Comparison], name: str) -> tuple[np.ndarray, np.ndarray]:
    results = [run.methods[name] for run in runs]
    return np.concatenate([r.score for r in results]), np.concatenate([r.seconds for r in results])


def main() -> None:
    names = "experiments, of meta_sinusoid and meta_vehicle_dynamics"
    parser = options(__doc__, names=names, train="meta-train only")
    arguments = parser.parse_args()
    keep_freed_memory()
    seeds: Iterable[int] = SEEDS[:1] if arguments.quick else SEEDS
    settings = SETTINGS[:1] if arguments.quick else SETTINGS
    settings = tuple(s for s in settings if not arguments.names or s.experiment in arguments.names)
    folder = folder_of("regression", arguments)
    made = {
        (setting, seed): {name: train(setting, name, seed, folder, quick=arguments.quick) for name in METHODS}
        for setting in settings
        for seed in seeds
    }
    if arguments.train:
        return
    found: list[Row] = []
    for setting in settings:
        runs = [
            measure(setting, made[setting, seed], seed, tasks=2 if arguments.quick else TEST_TASKS)
            for seed in seeds
        ]
        found += rows(setting, runs)
    report("regression", found, arguments)


if __name__ == "__main__":
    main()
