"""Few-shot accuracy on public images: inside a domain, and from one domain to another.

``python -m bench.vision [names] [--train] [--quick]``. A *start* is a pretrained network with what
meta-training on some tasks made of it; its cases are tasks of other classes, or of other domains. What a
start is, is decided on its validation classes alone; every case is then measured once. What has been done is
kept in ``outputs/bench/vision``, so an interrupted run goes on.

The data sets are those of ``docs/data.md``, below ``ADAPT_DATA``. The conv4 networks come with the package
(``experiment=pretrain_omniglot`` and ``pretrain_cifar_fs`` made them); MobileNetV2 has weights of ImageNet.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import torch
from torch import nn

from adapt.adapter import Forward, Method
from adapt.app.build import build
from adapt.app.environment import choose_device
from adapt.backbones import freeze_batch_norm, load_backbone
from adapt.baselines import Backprop, HeadOnly
from adapt.compare import Comparison
from adapt.heads import Prototype
from adapt.inner import Auto, GaussNewton
from adapt.memory import keep_freed_memory
from adapt.meta import MetaTraining
from adapt.spaces import Space, film
from bench.lib.choosing import GRIDS, HEAD, adapter_of, choices, compared, winner
from bench.lib.domain_tasks import composed, glyphs
from bench.lib.domains import Domain
from bench.lib.models import data_root
from bench.lib.record import Row, folder_of, options, report
from tasks import GTSRB, CifarFS, Digits, Distribution, Mixture, Omniglot, Pneumonia, Source

DEPENDS = (
    "adapt/adapter", "adapt/backbones", "adapt/baselines", "adapt/compare", "adapt/forward", "adapt/heads",
    "adapt/inner", "adapt/meta", "adapt/pretrained", "adapt/spaces", "bench/lib/choosing.py",
    "tasks/distribution.py", "tasks/images", "tasks/mixture.py",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """Tasks that a start is measured on; ``goals``: of metrics of :func:`rows`, for our method."""

    data: str
    ways: int
    shots: int
    tasks: int
    goals: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.data}, {self.ways}-way {self.shots}-shot"


@dataclass(frozen=True)
class Start:
    """``adapter``: the shipped one, or None to meta-train with ``settings`` on tasks of ``data``."""

    network: Callable[[], nn.Module]
    space: Callable[[nn.Module], Space]
    data: str
    cases: Sequence[Case]
    settings: MetaTraining
    validation_tasks: int


# ------------------------------------------------------------------------------------------ networks


def conv4(name: str) -> Callable[[], nn.Module]:
    return lambda: load_backbone(name)[0]


def mobilenetv2() -> nn.Module:
    return build(composed("backbone=mobilenetv2_int8").backbone, "backbone")[0]


def last_third(backbone: nn.Module) -> Space:
    """Scale and shift of the last third of the norms: what comes before costs one pass for any k."""
    norms = len(film(backbone).shapes) // 2
    return film(backbone, skip=norms - -(-norms // 3))


# ------------------------------------------------------------------------------------------ tasks


@cache
def source(name: str) -> Source:
    made: dict[str, Callable[[], Source]] = {
        "Omniglot": lambda: Omniglot(size=32),
        "CIFAR-FS": CifarFS,
        "GTSRB": lambda: GTSRB(size=32),
        "GTSRB, all signs": lambda: GTSRB(size=32, split_by="tracks"),
        "digits": Digits,
        "pneumonia": Pneumonia,
    }
    return made[name]()


#: (train, validation, test): supports and queries of each
SPLITS = {
    "Omniglot": (("train", None), ("validation", None), ("test", None)),
    "CIFAR-FS": (("train", None), ("validation", None), ("test", None)),
    "GTSRB": (
        ("train_support", "train_query"),
        ("validation_support", "validation_query"),
        ("test_support", "test_query"),
    ),
    "GTSRB, all signs": ((), (), ("all_support", "all_query")),
    "digits": ((), (), ("support", "query")),
    "pneumonia": ((), ("validation", None), ("test", None)),
}


def tasks_of(data: str, part: int, ways: int, shots: int, queries: int) -> Distribution:
    splits = SPLITS[data][part]
    return Distribution(source(data), ways, shots, queries, *splits)


def elsewhere(part: int) -> Mixture:
    """Characters, photographs and glyphs: domains that have no signs."""
    drawn = replace(glyphs("meta_glyphs", False), ways=5, shots=5, queries=10)
    components = {
        "omniglot": tasks_of("Omniglot", part, 5, 5, 10),
        "cifar_fs": tasks_of("CIFAR-FS", part, 5, 5, 10),
        "glyphs": replace(drawn, support_split=("train", "validation")[part]),
    }
    return Mixture(components, {"omniglot": 1.0, "cifar_fs": 2.0, "glyphs": 1.0})


def training_tasks(data: str) -> tuple[Distribution | Mixture, Distribution | Mixture]:
    """For meta-training and for choosing."""
    if data == "elsewhere":
        return elsewhere(0), elsewhere(1)
    ways = 10 if data == "GTSRB" else 5
    if data == "glyphs":
        drawn = glyphs("meta_glyphs", False)
        return drawn, replace(drawn, support_split="validation")
    return tasks_of(data, 0, ways, 5, 10), tasks_of(data, 1, ways, 5, 10)


# ------------------------------------------------------------------------------------------ starts

FROZEN_START = MetaTraining(k=8, basis="displacements", nested=(2, 4, 8), gradient="first_order", chunk=1)
BACKPROP = "compare/accuracy_vs_backprop"
HEADS = "compare/accuracy_vs_head"
STARTS = {
    "omniglot": Start(
        conv4("conv4_omniglot"),
        lambda network: film(network, skip=1),
        "Omniglot",
        [
            Case("Omniglot", 5, 1, 600, {"eval/accuracy": 99.5}),
            Case("Omniglot", 20, 1, 300, {"eval/accuracy": 98.0}),
            Case("Omniglot", 5, 5, 300),
            Case("Omniglot", 20, 5, 50),
        ],
        replace(FROZEN_START, steps=100, basis_tasks=60),
        validation_tasks=100,
    ),
    "cifar_fs": Start(
        conv4("conv4_cifar_fs"),
        lambda network: film(network, skip=1),
        "CIFAR-FS",
        [
            Case("CIFAR-FS", 5, 1, 600, {"eval/accuracy": 65.0}),
            Case("CIFAR-FS", 5, 5, 300, {"eval/accuracy": 80.0}),
        ],
        replace(FROZEN_START, steps=100, basis_tasks=60),
        validation_tasks=100,
    ),
    "conv4": Start(
        conv4("conv4_glyphs"),
        lambda network: film(network, skip=1),
        "glyphs",
        [
            Case("Omniglot", 5, 1, 300),
            Case("Omniglot", 5, 5, 300),
            Case("digits", 5, 1, 300),
            Case("digits", 5, 5, 300),
        ],
        FROZEN_START,
        validation_tasks=100,
    ),
    "signs": Start(
        mobilenetv2,
        last_third,
        "GTSRB",
        [
            Case("GTSRB", 10, 5, 60, {HEADS: 18.0, BACKPROP: 0.0}),
            Case("GTSRB", 5, 1, 50),
            Case("GTSRB", 5, 5, 50),
        ],
        replace(FROZEN_START, steps=40, basis_tasks=24, validation_tasks=10, validate_every=20),
        validation_tasks=12,
    ),
    "elsewhere": Start(
        mobilenetv2,
        last_third,
        "elsewhere",
        [
            Case("GTSRB", 5, 1, 50),
            Case("GTSRB", 5, 5, 50),
            Case("GTSRB", 10, 5, 60, {HEADS: 10.0, BACKPROP: 0.0}),
            Case("GTSRB, all signs", 43, 5, 10),
            Case("Omniglot", 5, 1, 40),
            Case("Omniglot", 5, 5, 40),
            Case("CIFAR-FS", 5, 1, 40),
            Case("CIFAR-FS", 5, 5, 40),
            Case("digits", 5, 1, 40),
            Case("digits", 5, 5, 40),
        ],
        replace(FROZEN_START, steps=40, basis_tasks=48, validation_tasks=10, validate_every=20),
        validation_tasks=12,
    ),
}


def domain_of(name: str) -> Domain:
    """A start in the form that choosing takes; its test is never looked at there."""
    start = STARTS[name]
    network = freeze_batch_norm(start.network()).eval().requires_grad_(False)
    train, validation = training_tasks(start.data)
    return Domain(name, network, start.space(network), train, validation, validation, "", start.data)


def methods_of(found: Mapping[str, Mapping[str, float]]) -> dict[str, Method]:
    """Heads on the pretrained features, heads at the start, ours and backprop as chosen; and what chooses on
    the support set, without and with backprop."""
    chosen = {name: dict(grid())[winner(found[name])] for name, grid in GRIDS.items()}
    ours = max(("gauss_newton", "linearised"), key=lambda name: max(found[name].values()))
    backprop = chosen["backprop"]
    assert isinstance(backprop, Backprop)
    rival = {"backprop_steps": backprop.solver.steps, "backprop_lr": backprop.solver.lr}
    assert backprop.solver.optimizer == "adam", "auto tries no other"
    return {
        "pretrained, prototypes": HeadOnly(Prototype()),
        "pretrained, logistic head": HeadOnly(HEAD),
        "start, logistic head": Forward(GaussNewton(steps=0), HEAD),
        "forward": chosen[ours],
        "auto": Forward(Auto(), HEAD),
        "auto, or backprop": Forward(Auto(**rival), HEAD),
        "backprop": backprop,
    }


def rows(start: str, case: Case, result: Comparison) -> Iterator[Row]:
    """Every method; ours against the best head on pretrained features and against backprop."""
    methods = result.methods
    heads = [method for method in methods.values() if method.name.startswith("pretrained")]
    head = max(heads, key=lambda method: method.mean_score.mean)
    for method in methods.values():
        name, score = f"{start}: {case}: {method.name}", method.mean_score.times(100)
        goals = case.goals if method.name == "forward" else {}
        goal = goals.get("eval/accuracy")
        yield Row.of(name, "eval/accuracy", score, "%", goal=goal)
        yield Row.cost(name, "time/adapt_seconds", method.adapt_seconds, "s", n=method.n)
        for other, metric in ((head, HEADS), (methods["backprop"], BACKPROP)):
            if method is not other:
                gap = result.difference(method, other).times(100)
                yield Row.of(name, metric, gap, "points", goal=goals.get(metric))


def run(
    name: str, *, quick: bool, train: bool, kept_only: bool, folder: Path, device: torch.device
) -> tuple[list[Row], list[str]]:
    """One start, from meta-training to rows, and the cases that were left out; what has been done is kept."""
    start, chosen = STARTS[name], domain_of(name)
    adapter = adapter_of(chosen, start.settings, folder, quick=quick)
    found = choices(chosen, adapter, folder, tasks=1 if quick else start.validation_tasks)
    if train:
        return [], []
    adapter = adapter.to(device)
    measured: list[Row] = []
    missing: list[str] = []
    for case in start.cases[-1:] if quick else start.cases:
        kept = folder / f"{str(case).replace(', ', '_').replace(' ', '_')}.{device.type}.json"
        if kept_only and not kept.exists():
            missing.append(f"{name}: {case}")
            continue
        result = compared(
            kept,
            methods_of(found),
            tasks_of(case.data, 2, case.ways, case.shots, 15 if case.ways <= 20 else 5),
            adapter,
            experiment=f"vision, {name}",
            shown=f"{name}: {case}",
            number=2 if quick else case.tasks,
            device=device,
        )
        measured += rows(name, case, result)
    seconds = float(adapter.info["training"]["seconds"])
    settings = ", ".join(f"{method}: {winner(found[method])}" for method in GRIDS)
    train_row = Row.cost(name, "time/train_seconds", seconds, "s", note=settings)
    return [train_row, *measured], missing


def main() -> None:
    names = f"of {', '.join(STARTS)}; default: all"
    parser = options(__doc__, names=names, train="meta-train and choose only")
    parser.add_argument("--kept", action="store_true", help="write what has been measured, measure nothing")
    parser.add_argument("--device", default="cpu", help="of the test tasks: cpu (the default), cuda or auto")
    arguments = parser.parse_args()
    keep_freed_memory()
    os.environ.setdefault("ADAPT_DATA", str(data_root()))  # where the other benchmarks look, too
    device = choose_device(arguments.device)
    folder = folder_of("vision", arguments)
    found: list[Row] = []
    missing: list[str] = []
    for name in arguments.names or (["conv4"] if arguments.quick else STARTS):
        rows_of_start, left_out = run(
            name,
            quick=arguments.quick,
            train=arguments.train,
            kept_only=arguments.kept,
            folder=folder / name,
            device=device,
        )
        found, missing = found + rows_of_start, missing + left_out
    if not arguments.train:
        remarks = [f"Not measured yet: {'; '.join(missing)}."] if missing else []
        report("vision", found, arguments, device=device, remarks=remarks)


if __name__ == "__main__":
    main()
