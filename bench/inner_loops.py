"""Inner loops side by side: forward (Gauss–Newton, linearised, auto), backprop in the same space from the
same start, learn2learn, higher, and a head alone, on five pretrained networks.

``python -m bench.inner_loops [names] [--quick] [--train]``. For each network: an adapter is meta-trained on
training tasks (kept in ``outputs/bench/inner_loops``, as are the choices); every method's settings are chosen
on validation tasks, from grids of the same size; all methods then adapt to the same test tasks in turn, once.
``--train`` stops before the test tasks, so that they can be measured on a quiet machine. Results of single
networks are kept, so that a broken run goes on where it stopped.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from adapt.adapter import FewShotAdapter, Forward, Method
from adapt.app.environment import choose_device
from adapt.baselines import Backprop, HeadOnly, Higher, Learn2Learn
from adapt.compare import Comparison
from adapt.compare.measure import peak_megabytes
from adapt.compare.statistics import ratio_interval
from adapt.heads import Prototype
from adapt.inner import Auto, GaussNewton
from adapt.memory import keep_freed_memory
from adapt.meta import MetaTraining
from bench.lib.choosing import GRIDS, HEAD, NESTED, adapter_of, backprop_grid, choices, compared, winner
from bench.lib.domains import DOMAINS, Domain, available, domain
from bench.lib.record import Row, folder_of, options, report

DEPENDS = (
    "adapt/adapter", "adapt/backbones", "adapt/baselines", "adapt/compare", "adapt/forward", "adapt/heads",
    "adapt/inner", "adapt/meta", "adapt/spaces", "bench/lib/choosing.py", "bench/lib/domains.py",
    "bench/lib/domain_tasks.py", "bench/lib/domain_weights.py", "tasks/distribution.py",
)  # fmt: skip
FEW = 2  # of 25 examples, with 8 tangents each, are no more than one forward pass of all
#: What one can afford on two cores: the outer gradient of the larger networks takes z for a constant.
COMMON = MetaTraining(
    k=8, basis="displacements", basis_tasks=40, nested=NESTED, tasks_per_step=4, chunk=1, validation_tasks=40
)
SMALLER = replace(COMMON, basis_tasks=24, validate_every=10, gradient="first_order")
TRAINING: dict[str, MetaTraining] = {
    "resnet12": replace(COMMON, steps=100, validate_every=25),
    "vit_tiny": replace(SMALLER, steps=60, validate_every=20, validation_tasks=30),
    "minilm": replace(SMALLER, steps=20, validation_tasks=10),
    "mobilenetv2": replace(SMALLER, steps=30, validation_tasks=10),
}
VALIDATION_TASKS = {"conv4": 60, "resnet12": 60, "vit_tiny": 30, "minilm": 5, "mobilenetv2": 12}
TEST_TASKS = {"conv4": 300, "resnet12": 120, "vit_tiny": 60, "minilm": 16, "mobilenetv2": 24}


def methods_of(found: Mapping[str, Mapping[str, float]], adapter: FewShotAdapter) -> dict[str, Method]:
    """The chosen setting of every method, cheap ones first."""
    chosen = {name: dict(grid())[winner(found[name])] for name, grid in GRIDS.items()}
    gauss_newton, backprop = chosen["gauss_newton"], chosen["backprop"]
    assert isinstance(gauss_newton, Forward) and isinstance(backprop, Backprop)
    lr = float(winner(found["sgd"]))
    many = {setting: value for setting, value in found["backprop"].items() if setting.endswith("steps=10")}
    return {
        "pretrained, prototypes": HeadOnly(Prototype()),
        "pretrained, logistic head": HeadOnly(HEAD),
        "start, logistic head": Forward(GaussNewton(steps=0), HEAD),
        "gauss_newton": gauss_newton,
        "gauss_newton, few examples at a time": replace(gauss_newton, rows=FEW),
        "linearised": chosen["linearised"],
        "auto": Forward(Auto(), HEAD),
        "backprop": backprop,
        "backprop, checkpointed": replace(backprop, checkpoint=True),
        "backprop, 10 steps": dict(backprop_grid())[winner(many)],
        "learn2learn": Learn2Learn(lr=lr, steps=3, head=HEAD),
        "higher": Higher("sgd", lr=lr, steps=3, head=HEAD),
    }


OURS = ("gauss_newton", "linearised", "auto")


def rows(name: str, result: Comparison, settings: Mapping[str, str]) -> Iterator[Row]:
    """Every method, and each of ours against backprop and against the best that adapts nothing."""
    methods = result.methods
    backprop = methods["backprop"]
    rest = [m for m in methods.values() if "head" in m.name or "prototypes" in m.name]
    head = max(rest, key=lambda method: method.mean_score.mean)
    for method in methods.values():
        case, score = f"{name}: {method.name}", method.mean_score.times(100)
        note = settings.get(method.name, "")
        yield Row.of(case, "eval/accuracy", score, "%", note=note)
        yield Row.cost(case, "time/adapt_seconds", method.adapt_seconds, "s", n=method.n)
        yield Row.cost(case, "cost/forward_equivalents", method.forward_equivalents)
        if method.peak_mb is not None:
            yield Row.cost(case, "memory/peak_mb", method.peak_mb, "MB")
        for other, metric in ((backprop, "compare/accuracy_vs_backprop"), (head, "compare/accuracy_vs_head")):
            if method is not other:
                yield Row.of(case, metric, result.difference(method, other).times(100), "points")
        if method is not backprop:
            ratio = ratio_interval(method.seconds, backprop.seconds)
            goal = 0.5 if method.name in OURS else None
            yield Row(case, "compare/time_of_backprop", ratio.ratio, "", None, ratio.n, goal, False)


def run(name: str, *, quick: bool, train: bool, cache: Path, device: torch.device) -> list[Row]:
    """One network, from training to rows; what has been done is kept."""
    folder = cache / name
    chosen = domain(name, quick=quick)
    adapter = adapter_of(chosen, TRAINING.get(name, COMMON), folder, quick=quick)
    found = choices(chosen, adapter, folder, tasks=1 if quick else VALIDATION_TASKS[name])
    if train:
        return []
    adapter = adapter.to(device)
    result = compared(
        folder / f"comparison.{device.type}.json",
        methods_of(found, adapter),
        chosen.test,
        adapter,
        experiment=f"inner loops, {name}",
        shown=f"{name}: test tasks",
        number=2 if quick else TEST_TASKS[name],
        device=device,
        memory=not quick,
    )
    settings = {method: winner(found[method]) for method in GRIDS}
    inference = Row.cost(name, "memory/inference_mb", inference_megabytes(chosen, device), "MB")
    about = Row(name, "about", adapter.state.k, note=f"{chosen.describe}; weights: {chosen.weights}.")
    return [about, inference, *rows(name, result, settings)]


def inference_megabytes(chosen: Domain, device: torch.device) -> float:
    """Peak of the tensors of one plain forward pass of a support set, MB."""
    x = chosen.test.episode(0).support_x.to(device)
    with torch.no_grad():
        return peak_megabytes(lambda: chosen.backbone(x), device)


def main() -> None:
    names = f"of {', '.join(DOMAINS)}; default: all that can be built"
    parser = options(__doc__, names=names, train="meta-train and choose only")
    parser.add_argument("--device", default="cpu", help="of the test tasks: cpu (the default), cuda or auto")
    arguments = parser.parse_args()
    keep_freed_memory()
    device = choose_device(arguments.device)
    names = arguments.names or (DOMAINS[:1] if arguments.quick else DOMAINS)
    cache = folder_of("inner_loops", arguments)
    found: list[Row] = []
    for name in names:
        if reason := available(name, quick=arguments.quick):
            print(f"left out: {reason}")
            continue
        found += run(name, quick=arguments.quick, train=arguments.train, cache=cache, device=device)
    if not arguments.train:
        report("inner_loops", found, arguments, device=device)


if __name__ == "__main__":
    main()
