"""A mixture of subspaces beside a single one: tasks of several kinds, and it is not said which.

``python -m bench.mixture [--quick] [--train]``. ``--train`` stops after meta-training, whose adapters stay in
``outputs/bench/mixture``. All start from the same network and get the same tasks and as many outer steps; the
state with the least validation loss is kept. Beside a single basis of as many directions as one subspace has,
and of as many as all have together: two that were learned of one family each (which hence saw twice as many
tasks of it), and are told which it is. Test tasks are looked at once.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

import adapt
from adapt.adapter import Context, Method, Saved
from adapt.app.environment import environment
from adapt.app.progress import progress
from adapt.app.stages.meta import problem_of
from adapt.compare import Comparison, compare
from adapt.compare.examples import Examples
from adapt.compare.statistics import mean_interval, paired_difference, ratio_interval
from adapt.inner import Auto
from adapt.memory import keep_freed_memory
from adapt.meta import MetaTraining
from adapt.meta.query import Learner
from bench.conditions import tasks_of
from bench.lib.models import data_root
from bench.lib.record import Row, folder_of, options, report
from bench.lib.runs import command_line
from tasks import Cifar100, Conditions, Families, FunctionTasks, Sinusoid, VehicleDynamics

DEPENDS = (
    "adapt/adapter", "adapt/compare", "adapt/forward", "adapt/inner", "adapt/meta",
    "conf/experiment/meta_conditions.yaml", "conf/experiment/meta_families.yaml", "conf/meta",
    "conf/task/families.yaml", "tasks/conditions.py", "tasks/functions.py", "tasks/regression",
)  # fmt: skip
SEEDS = (0, 1, 2)
TEST_TASKS, SHOTS = 300, 20  # tasks of each seed
FAMILIES = {"vehicle": VehicleDynamics(), "sinusoid": Sinusoid()}
BASE, MIXED, EVIDENCE, TOLD = (
    "one basis, k = 4",
    "two subspaces",
    "two subspaces, by evidence",
    "told the family",
)
#: Overrides of the experiment; the weight of the other family is none.
TRAINED: dict[str, tuple[str, ...]] = {
    BASE: ("meta.subspaces=1",),
    "one basis, k = 8": ("meta.subspaces=1", "meta.k=8"),
    MIXED: (),
    "four subspaces": ("meta.subspaces=4",),
    **{
        f"{TOLD} {name}": (
            "meta.subspaces=1",
            *(f"task.source.weights.{it}=0" for it in FAMILIES if it != name),
        )
        for name in FAMILIES
    },
}
#: Classes that stay, under conditions of fifteen kinds; overrides of ``meta_conditions``.
CONDITIONS = {"one basis, k = 8": ("meta.subspaces=1",), "three subspaces": ("meta.subspaces=3",)}
SHARED = ("meta.nested=[]", "meta.basis_tasks=120")
PARTS = {"conditions, seen kinds": "seen", "conditions, unseen kinds": "test"}
CONDITION_TASKS = 100
QUICK = ("meta.steps=2", "meta.validate_every=1", "meta.validation_tasks=2", "meta.tasks_per_step=2")
QUICK += ("meta.distinct_tasks=8", "meta.basis_tasks=24", "meta.basis_steps=1", "meta.k=2")


def train(name: str, experiment: str, overrides: tuple[str, ...], folder: Path, *, quick: bool) -> Path:
    """Meta-train by the command line, as a user would, unless it has been done; returns the adapter."""
    output = folder / name.translate(str.maketrans(" ,:=", "____"))
    if (output / "adapter_config.json").exists():
        return output
    print(f"meta-training {name}", flush=True)
    overrides = (f"experiment={experiment}", *overrides, *(QUICK if quick else ()))
    command_line(
        [*overrides, "tracking=none", f"output={output}", f"hydra.run.dir={output}.run"], quick=quick
    )
    return output


def measured(folders: dict[str, Path], seed: int, tasks: int) -> Comparison:
    """All in turn on the same test tasks."""
    methods: dict[str, Method] = {name: Saved(str(path)) for name, path in folders.items()}
    methods[EVIDENCE] = Saved(str(folders[MIXED]), solver=Auto())
    ours = adapt.load(folders[MIXED])
    return compare(
        methods,
        FunctionTasks(Families(FAMILIES), shots=SHOTS, support_split="test", seed=seed),
        Context(ours.backbone, ours, seed=seed),
        experiment="families",
        task={"families": [*FAMILIES], "shots": SHOTS, "tasks": tasks},
        tasks=tasks,
        device=torch.device("cpu"),
        environment=environment(torch.device("cpu")),
        ours=MIXED,
        progress=progress("test tasks"),
    )


def rows(runs: list[Comparison], seeds: tuple[int, ...]) -> Iterator[Row]:
    """Seeds pooled: every task is one observation, of the adapter of its seed; by family and for both."""
    tasks = [
        FunctionTasks(Families(FAMILIES), shots=SHOTS, support_split="test", seed=seed) for seed in seeds
    ]
    count = len(runs[0].methods[MIXED].score)
    family = np.array([it.episode(i).meta.parameters["family"] for it in tasks for i in range(count)])
    scores = {name: np.concatenate([run.methods[name].score for run in runs]) for name in runs[0].methods}
    seconds = {name: np.concatenate([run.methods[name].seconds for run in runs]) for name in runs[0].methods}
    told = [scores.pop(f"{TOLD} {name}") for name in FAMILIES]
    scores[TOLD] = np.choose(family.astype(int), told)
    for scope, chosen in {
        "both": family >= 0,
        **{name: family == n for n, name in enumerate(FAMILIES)},
    }.items():
        for name, errors in scores.items():
            case = f"{scope}: {name}"
            yield Row.of(case, "eval/mse", mean_interval(errors[chosen]), higher_is_better=False)
            if name != BASE:
                gap = paired_difference(errors[chosen], scores[BASE][chosen])
                goal = 0.0 if name == MIXED else None
                yield Row.of(case, "compare/mse_minus_one_basis", gap, goal=goal, higher_is_better=False)
    for name, own in seconds.items():
        if name in scores and name != BASE:
            found = ratio_interval(own, seconds[BASE])
            yield Row.cost(f"both: {name}", "compare/time_of_one_basis", found.ratio, "×", n=found.n)


def condition_rows(folder: Path, *, quick: bool) -> Iterator[Row]:
    """A classifier that stays, as the training judges it: labels of some examples, z, and no other head."""
    source, learners = Cifar100(labels="coarse"), {}
    trained_on = Conditions(source, shots=2, support_split="train", kinds="train", queries=5)
    for name, overrides in CONDITIONS.items():
        path = train(f"conditions_{name}", "meta_conditions", (*overrides, *SHARED), folder, quick=quick)
        adapter = adapt.load(path)
        problem = problem_of(adapter, trained_on, MetaTraining(classifier=50))
        learner = Learner(adapter.backbone, adapter.space, adapter.solver, problem, adapter.match)
        learners[name] = learner, adapter.state
    for part, kinds in PARTS.items():
        scores: dict[str, list[float]] = {name: [] for name in learners}
        episodes = [*tasks_of(source, kinds).episodes(0, 1 if quick else CONDITION_TASKS)]
        for episode in episodes:
            for name, (learner, state) in learners.items():
                with torch.no_grad():
                    _, outputs = learner.adapt(state, episode)
                scores[name].append(float((outputs.argmax(1) == episode.query_y).double().mean()))
        drawn = Examples.joined([Examples.of([episode.meta]) for episode in episodes])
        base, mixed = scores.values()
        for name, own in scores.items():
            yield Row.of(f"{part}: {name}", "eval/accuracy", mean_interval(own, drawn).times(100), "%")
        gap = paired_difference(mixed, base, drawn).times(100)
        yield Row.of(f"{part}: {name}", "compare/accuracy_minus_one_basis", gap, "points", goal=0.0)


def main() -> None:
    arguments = options(__doc__, train="meta-train only").parse_args()
    keep_freed_memory()
    seeds, folder = SEEDS[:1] if arguments.quick else SEEDS, folder_of("mixture", arguments)
    os.environ.setdefault("ADAPT_DATA", str(data_root()))
    made = {
        seed: {
            name: train(
                f"{name}_{seed}", "meta_families", (f"seed={seed}", *it), folder, quick=arguments.quick
            )
            for name, it in TRAINED.items()
        }
        for seed in seeds
    }
    conditions = [*condition_rows(folder, quick=arguments.quick)]
    if arguments.train:
        return
    runs = [measured(made[seed], seed, 6 if arguments.quick else TEST_TASKS) for seed in seeds]
    report("mixture", [*rows(runs, seeds), *conditions], arguments)


if __name__ == "__main__":
    main()
