"""The same classes under other conditions: with few labels, and without any.

``python -m bench.conditions [names] [--quick] [--train]``. CIFAR-100's 20 coarse classes, in every task
under one or two of CIFAR-C's corruptions, the same for 40 support photographs and the queries: of kinds that
were in no meta-training (*unseen*), and of others at strengths that were not (*seen*). Settings are chosen on
validation kinds and photographs; test tasks are looked at once. Conv4 and its adapter come with the package;
other networks, and their adapters, are made by the commands of the experiments and kept in
``outputs/bench/conditions``. ``names``: of the networks.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

import adapt
from adapt.adapter import Context, FewShotAdapter, Method
from adapt.app.environment import environment
from adapt.app.progress import progress
from adapt.app.stages.pools import pool_from
from adapt.backbones import FrozenBatchNorm, load_backbone
from adapt.compare import Comparison, compare
from adapt.files import read_json, write_json
from adapt.memory import keep_freed_memory
from bench.lib.choosing import TOLERANCE
from bench.lib.condition_methods import FREE, GIVEN, LABELLED, grids, smaller
from bench.lib.models import data_root
from bench.lib.record import Row, folder_of, options, report
from bench.lib.runs import command_line
from tasks import Cifar100, Conditions

DEPENDS = (
    "adapt/adapter", "adapt/backbones", "adapt/baselines", "adapt/compare", "adapt/forward", "adapt/heads",
    "adapt/inner", "adapt/pretrained", "adapt/spaces", "tasks/conditions.py", "tasks/corruptions.py",
)  # fmt: skip
CASES = {"unseen kinds": "test", "seen kinds, new strengths": "seen"}
CHOOSING = 30


@dataclass(frozen=True)
class Network:
    """Tasks of every case, labels of a class beside two, how it is pretrained (nothing: it ships), how its
    directions are learned, methods that would take minutes a task, or a grid that would, and validation tasks
    that settings are chosen on."""

    tasks: int
    more: tuple[int, ...] = ()
    pretraining: tuple[str, ...] = ()
    meta: tuple[str, ...] = ("meta.steps=100",)
    left_out: tuple[str, ...] = ()
    choosing: int = CHOOSING


#: Hundreds of passes a task.
ZEROTH_ORDER = ("no labels, foa", "no labels, spsa")
RESNET = ("backbone=resnet12_untrained", "backbone.width=16", "backbone.channels=3")
VIT = (
    "backbone=vit_small", "backbone.channels=3", "backbone.width=96", "backbone.depth=4", "backbone.patch=4"
)  # fmt: skip
NETWORKS = {
    "conv4": Network(100, (1, 5)),
    "resnet12, batch norm": Network(24, pretraining=RESNET, left_out=ZEROTH_ORDER),
    "resnet12, group norm": Network(
        16,
        pretraining=(*RESNET, "backbone.norm=group"),
        meta=("meta.steps=100", "~match"),
        left_out=ZEROTH_ORDER,
        choosing=10,
    ),
    # Without labels, beside FOA: there batch statistics can do nothing.
    "vit": Network(
        16,
        pretraining=VIT,
        left_out=("head", "backprop, head", "classifier, backprop", "no labels, eata", "no labels, spsa"),
        choosing=10,
    ),
}  # fmt: skip
GOALS = {
    ("seen kinds, new strengths: classifier, forward", "compare/accuracy_vs_classifier_backprop"): 1.0,
    ("unseen kinds: classifier, forward", "compare/accuracy_vs_classifier_backprop"): 0.0,
    ("unseen kinds: no labels, ours", "compare/accuracy_vs_tent"): 0.0,
    ("seen kinds, new strengths: no labels, ours", "compare/accuracy_vs_tent"): 0.0,
    ("vit, unseen kinds: no labels, ours", "compare/accuracy_vs_foa"): 0.0,
    ("vit, seen kinds, new strengths: no labels, ours", "compare/accuracy_vs_foa"): 0.0,
}


def adapter_for(name: str, network: Network, folder: Path) -> FewShotAdapter:
    """Shipped, or made by the commands that a user would type, unless that has been done."""
    if not network.pretraining:
        return adapt.load("conv4_cifar100_conditions")
    backbone, output = (
        folder / f"{name.replace(', ', '_').replace(' ', '_')}{end}" for end in ("", "_adapter")
    )
    made = ["tracking=none", f"hydra.run.dir={output}.run"]
    if not (backbone / "backbone.json").exists():
        command_line(
            ["experiment=pretrain_cifar100", *network.pretraining, f"output={backbone}", *made], quick=False
        )
    if not (output / "adapter_config.json").exists():
        how = [f"backbone.name={backbone}", *network.meta, f"output={output}"]
        command_line(["experiment=meta_conditions", *how, *made], quick=False)
    return adapt.load(output, backbone=load_backbone(backbone)[0])


def tasks_of(source: Cifar100, part: str, shots: int = 2) -> Conditions:
    """With ``shots`` labelled photographs of a class, in every method's support."""
    support = "validation" if part == "validation" else "test"
    return Conditions(source, shots=shots, support_split=support, kinds=part, queries=10)


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
            environment=environment(torch.device("cpu")),
            checkpoint=path.with_suffix(".jsonl"),
            memory=number > CHOOSING,
            progress=progress(path.stem),
        )
        write_json(path, result.to_dict())
    return Comparison.from_dict(read_json(path))


def chosen(
    folder: Path, tasks: Conditions, adapter: FewShotAdapter, network: Network, *, quick: bool
) -> dict[str, tuple[str, Method]]:
    """Of every method the first setting within a tenth of a point of the best on validation tasks, but for
    those that ``network`` leaves out."""
    found = {}
    matched = any(isinstance(module, FrozenBatchNorm) for module in adapter.backbone.modules())
    for name, grid in grids(matched).items():
        if name in network.left_out:
            continue
        said, method = grid[0]
        if len(grid) > 1 and not quick:
            result = measured(
                folder / f"validation, {name}.json", dict(grid), tasks, adapter, network.choosing
            )
            scores = {said: result.methods[said].mean_score.mean for said, _ in grid}
            said = next(it for it in scores if scores[it] >= max(scores.values()) - TOLERANCE)
            method = dict(grid)[said]
        found[name] = said, method
        print(name, said, flush=True)
    return found


def rows_of(case: str, result: Comparison, notes: Mapping[str, str], tasks: Conditions) -> Iterator[Row]:
    """Every method; with labels against heads and backprop, without against the classifier as it is and its
    rivals; of ours without labels the kind on which it does worst."""
    methods = result.methods
    for name, method in methods.items():
        shown = f"{case}: {name}"
        yield Row.of(shown, "eval/accuracy", method.mean_score.times(100), "%", note=notes[name])
        yield Row.cost(shown, "time/adapt_seconds", method.adapt_seconds, "s", n=method.n)
        yield Row.cost(shown, "cost/forward_equivalents", method.forward_equivalents, n=1)
        if method.peak_mb is not None:
            yield Row.cost(shown, "memory/peak_mb", method.peak_mb, "MB", n=1)
        for other in FREE if name.startswith("no labels") else (*GIVEN, "no labels, norms"):
            if other != name and other in methods:
                said = other.removeprefix("no labels, ").replace(", ", "_").replace(" ", "_")
                metric = f"compare/accuracy_vs_{said}"
                gap = result.difference(method, methods[other]).times(100)
                yield Row.of(shown, metric, gap, "points", goal=GOALS.get((shown, metric)))
    if "no labels, ours" in methods:
        yield _worst(case, result, tasks)


def _worst(case: str, result: Comparison, tasks: Conditions) -> Row:
    ours, source = (np.array(result.methods[f"no labels, {name}"].score) for name in ("ours", "as it is"))
    kinds: dict[str, list[float]] = {}
    for index, gain in enumerate(100 * (ours - source)):
        for kind in tasks.episode(index).meta.parameters:
            kinds.setdefault(kind, []).append(gain)
    worst = min(kinds, key=lambda kind: float(np.mean(kinds[kind])))
    least, n = float(np.mean(kinds[worst])), len(kinds[worst])
    return Row(f"{case}: no labels, ours", "worst kind", least, "points", n=n, goal=0.0, note=worst)


def of_network(name: str, network: Network, source: Cifar100, folder: Path, *, quick: bool) -> Iterator[Row]:
    """The rows of one network."""
    adapter = adapter_for(name, network, folder)
    kept = folder / name
    found = chosen(kept, tasks_of(source, "validation"), adapter, network, quick=quick)
    notes = {method: said for method, (said, _) in found.items()}
    prefix = "" if name == "conv4" else f"{name}, "
    for shots in (2, *(() if quick else network.more)):
        methods = {
            it: method
            for it, (_, method) in found.items()
            if shots == 2 or it in (*LABELLED, "no labels, norms")
        }
        for case, part in [*CASES.items()][: 1 if quick else None]:
            tasks = replace(tasks_of(source, part, shots), queries=2 if quick else 10)
            labels = "" if shots == 2 else f"{shots} label{'s' * (shots > 1)}, "
            result = measured(
                kept / f"{part}, {shots}.json",
                smaller(methods) if quick else methods,
                tasks,
                adapter,
                1 if quick else network.tasks,
            )
            yield from rows_of(f"{labels}{prefix}{case}", result, notes, tasks)


def main() -> None:
    parser = options(
        __doc__, names=f"networks, of {'; '.join(NETWORKS)}", train="make networks and adapters only"
    )
    arguments = parser.parse_args()
    keep_freed_memory()
    os.environ.setdefault("ADAPT_DATA", str(data_root()))  # where the other benchmarks look, too
    folder, quick = folder_of("conditions", arguments), arguments.quick
    names = ["conv4"] if quick else arguments.names or [*NETWORKS]
    if arguments.train:
        for name in names:
            adapter_for(name, NETWORKS[name], folder)
        return
    found = [
        row for name in names for row in of_network(name, NETWORKS[name], Cifar100(), folder, quick=quick)
    ]
    report("conditions" if "conv4" in names else "conditions.networks", found, arguments)


if __name__ == "__main__":
    main()
