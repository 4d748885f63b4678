"""The same classes under other conditions: with two labels a class, and without any.

``python -m bench.conditions [--quick]``. CIFAR-100's 20 coarse classes, in every task under one or two of
CIFAR-C's corruptions, the same for 40 support photographs and the queries: of kinds that were in no
meta-training (*unseen*), and of others at strengths that were not (*seen*). Settings are chosen on validation
kinds and photographs; test tasks are looked at once. The network and the adapter come with the package
(``experiment=pretrain_cifar100`` and ``meta_conditions`` made them).
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch

import adapt
from adapt.adapter import Context, FewShotAdapter, Forward, Matching, Method, Role, initial_state
from adapt.adapter.method import Adapt
from adapt.app.environment import environment
from adapt.app.progress import progress
from adapt.app.stages.compare import pool_from
from adapt.baselines import Backprop, Followed, HeadOnly
from adapt.compare import Comparison, compare
from adapt.files import read_json, write_json
from adapt.inner import Descent, GaussNewton
from adapt.memory import keep_freed_memory
from bench.lib.choosing import HEAD, TOLERANCE
from bench.lib.models import data_root
from bench.lib.record import Row, folder_of, options, report
from tasks import Cifar100, Conditions

DEPENDS = (
    "adapt/adapter", "adapt/backbones", "adapt/baselines", "adapt/compare", "adapt/forward", "adapt/heads",
    "adapt/inner", "adapt/pretrained", "adapt/spaces", "tasks/conditions.py", "tasks/corruptions.py",
)  # fmt: skip
ADAPTER = "conv4_cifar100_conditions"
CASES = {"unseen kinds": "test", "seen kinds, new strengths": "seen"}
TASKS, CHOOSING = 100, 30
GOALS = {
    ("seen kinds, new strengths: forward", "compare/accuracy_vs_backprop"): 1.0,
    ("unseen kinds: forward", "compare/accuracy_vs_backprop"): 0.0,
    ("unseen kinds: no labels, ours", "compare/accuracy_vs_tent"): 0.0,
    ("seen kinds, new strengths: no labels, ours", "compare/accuracy_vs_tent"): 0.0,
}
STEPS, RATES, MIXES = (1, 3, 10), (0.001, 0.003, 0.01, 0.03), (0.3, 0.5, 0.7, 1.0)
STAY = GaussNewton(steps=0)
#: What others are held against, with labels and without.
TAUGHT, FREE = ("pretrained, head", "start, head", "backprop"), ("no labels, as it is", "no labels, tent")


@dataclass(frozen=True)
class Pretrained:
    """``method`` from the network as it was pretrained: nothing meta-learned."""

    method: Method
    match: Matching | None = None
    role: Role = "rival"
    max_tasks: int | None = None
    keeps_backbone: bool = True

    def prepare(self, context: Context) -> Adapt:
        """See :class:`adapt.adapter.Method`."""
        space = context.adapter.space
        state = initial_state(space.initial.clone(), space.initial.new_zeros(space.size, 0))
        return self.method.prepare(
            context._replace(adapter=context.adapter.replace(state=state, match=self.match))
        )


def followed(**settings: object) -> Followed:
    return Followed(HEAD, **settings)  # type: ignore[arg-type]


def grids() -> dict[str, list[tuple[str, Method]]]:
    """The settings that validation tasks choose from, the cheaper first, by the name of the method."""
    alone = Forward(STAY, HEAD)
    mixes = [(f"mix={mix}", Matching(mix, 0.0)) for mix in MIXES]
    descents = [(f"lr={lr} steps={steps}", Descent("adam", lr, steps)) for steps, lr in product(STEPS, RATES)]
    tent = {"match": Matching(1.0, 0.0), "diversity": 0.0, "statistics": 0.0, "checked": False}
    return {
        "pretrained, head": [("", HeadOnly(HEAD))],
        "pretrained, norms, head": [(said, Pretrained(alone, match)) for said, match in mixes],
        "start, head": [("", alone)],
        "forward": [
            (f"k={k} steps={steps}", Forward(GaussNewton(steps), HEAD, k))
            for steps, k in product((1, 2), (2, 4, 8))
        ],
        "backprop": [(said, Backprop(solver, HEAD)) for said, solver in descents],
        "no labels, as it is": [("", Pretrained(followed(adapts=False)))],
        "no labels, norms": [
            (said, Pretrained(followed(solver=STAY, match=match, checked=False))) for said, match in mixes
        ],
        "no labels, tent": [
            (said, Pretrained(followed(solver=solver, subspace=False, **tent))) for said, solver in descents
        ],
        "no labels, ours": [
            (f"mix={mix} statistics={s}", followed(solver=GaussNewton(), match=Matching(mix), statistics=s))
            for s, mix in product((0.0, 1.0), (0.5, 1.0))
        ],
    }


def smaller(method: Method) -> Method:
    """With a classifier of two examples a class."""
    inside = method.method if isinstance(method, Pretrained) else method
    if not isinstance(inside, Followed):
        return method
    inside = replace(inside, examples=2)
    return replace(method, method=inside) if isinstance(method, Pretrained) else inside


def tasks_of(source: Cifar100, part: str) -> Conditions:
    return Conditions(
        source, support_split="validation" if part == "validation" else "test", kinds=part, queries=10
    )


def measured(
    path: Path, methods: Mapping[str, Method], tasks: Conditions, adapter: FewShotAdapter, number: int
) -> Comparison:
    """On the first ``number`` of ``tasks``, kept in ``path``."""
    if not path.exists():
        pool = pool_from(tasks.source, tasks.pool_split, torch.device("cpu"))
        result = compare(
            methods,
            tasks,
            Context(adapter.backbone, adapter, pool),
            experiment="conditions",
            task={"source": tasks.source.name, "ways": len(tasks.class_names), "shots": tasks.shots},
            tasks=number,
            device=torch.device("cpu"),
            memory=False,
            environment=environment(torch.device("cpu")),
            progress=progress(path.stem),
        )
        write_json(path, result.to_dict())
    return Comparison.from_dict(read_json(path))


def chosen(
    folder: Path, tasks: Conditions, adapter: FewShotAdapter, *, quick: bool
) -> dict[str, tuple[str, Method]]:
    """Of every method the first setting within a tenth of a point of the best on validation tasks."""
    found = {}
    for name, grid in grids().items():
        said, method = grid[0]
        if len(grid) > 1 and not quick:
            result = measured(folder / f"validation, {name}.json", dict(grid), tasks, adapter, CHOOSING)
            scores = {said: result.methods[said].mean_score.mean for said, _ in grid}
            said = next(it for it in scores if scores[it] >= max(scores.values()) - TOLERANCE)
            method = dict(grid)[said]
        found[name] = said, method
        print(name, said, flush=True)
    return found


def rows_of(case: str, result: Comparison, notes: Mapping[str, str], tasks: Conditions) -> Iterator[Row]:
    """Every method; with labels against heads and backprop, without against the classifier as it is and Tent;
    of ours without labels the kind on which it does worst."""
    methods = result.methods
    for name, method in methods.items():
        shown = f"{case}: {name}"
        yield Row.of(shown, "eval/accuracy", method.mean_score.times(100), "%", note=notes[name])
        yield Row.cost(shown, "time/adapt_seconds", method.adapt_seconds, "s", n=method.n)
        yield Row.cost(shown, "cost/forward_equivalents", method.forward_equivalents, n=1)
        free = name.startswith("no labels")
        others = FREE if free else TAUGHT
        for other in others:
            if other != name and other in methods:
                said = other.removeprefix("no labels, ").replace(", ", "_").replace(" ", "_")
                metric = f"compare/accuracy_vs_{said}"
                gap = result.difference(method, methods[other]).times(100)
                yield Row.of(shown, metric, gap, "points", goal=GOALS.get((shown, metric)))
    ours, source = (np.array(methods[f"no labels, {name}"].score) for name in ("ours", "as it is"))
    kinds: dict[str, list[float]] = {}
    for index, gain in enumerate(100 * (ours - source)):
        for kind in tasks.episode(index).meta.parameters:
            kinds.setdefault(kind, []).append(gain)
    worst = min(kinds, key=lambda kind: float(np.mean(kinds[kind])))
    least = float(np.mean(kinds[worst]))
    yield Row(
        f"{case}: no labels, ours", "worst kind", least, "points", n=len(kinds[worst]), goal=0.0, note=worst
    )


def main() -> None:
    arguments = options(__doc__).parse_args()
    keep_freed_memory()
    os.environ.setdefault("ADAPT_DATA", str(data_root()))  # where the other benchmarks look, too
    adapter, source = adapt.load(ADAPTER), Cifar100()
    folder, quick = folder_of("conditions", arguments), arguments.quick
    choosing = tasks_of(source, "validation")
    found = chosen(folder, choosing, adapter, quick=quick)
    rows: list[Row] = []
    for case, part in CASES.items():
        tasks = replace(tasks_of(source, part), queries=2 if quick else 10)
        methods = {name: method for name, (_, method) in found.items()}
        if quick:
            methods = {name: smaller(method) for name, method in methods.items()}
        result = measured(folder / f"{part}.json", methods, tasks, adapter, 1 if quick else TASKS)
        rows += rows_of(case, result, {name: said for name, (said, _) in found.items()}, tasks)
    report("conditions", rows, arguments)


if __name__ == "__main__":
    main()
