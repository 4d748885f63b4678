"""Inner loops side by side: forward (Gauss–Newton, linearised, auto), backprop in the same space from the
same start, learn2learn, higher, and a head alone, on five pretrained networks.

``python -m bench.inner_loops [names] [--quick] [--train]``. For each network: an adapter is meta-trained on
training tasks (kept in ``outputs/bench/inner_loops``, as are the choices); every method's settings are chosen
on validation tasks, from grids of the same size; all methods then adapt to the same test tasks in turn, once.
``--train`` stops before the test tasks, so that they can be measured on a quiet machine. Results of single
networks are kept, so that a broken run goes on where it stopped.
"""

import argparse
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import torch

import adapt
from adapt.adapter import Context, FewShotAdapter, Forward, Method, Problem, Support
from adapt.app.environment import choose_device, environment
from adapt.app.progress import progress
from adapt.baselines import Backprop, HeadOnly, Higher, Learn2Learn
from adapt.compare import Comparison, compare
from adapt.compare.measure import peak_megabytes
from adapt.compare.statistics import Interval, ratio_interval
from adapt.files import read_json, write_json
from adapt.heads import Logistic, Prototype
from adapt.inner import Auto, Descent, GaussNewton, Linearised
from adapt.memory import keep_freed_memory
from adapt.meta import MetaTraining, initial_basis, meta_train
from bench.lib.domains import DOMAINS, Domain, available, domain
from bench.lib.record import KEPT, RESULTS, Row, table, write
from tasks import Distribution

CACHE = KEPT / "inner_loops"
HEAD = Logistic(l2=0.03)
NESTED = (2, 4, 8)
#: Of gradients of the mean support loss, which are small. From 10 on most tasks end where they began: the
#: loss rises, and FewShotAdapter.fit goes back to z = 0.
RATES = (0.1, 1.0)
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
SHIPPED = {"conv4": "conv4_glyphs_film"}
VALIDATION_TASKS = {"conv4": 60, "resnet12": 60, "vit_tiny": 30, "minilm": 5, "mobilenetv2": 12}
TEST_TASKS = {"conv4": 300, "resnet12": 120, "vit_tiny": 60, "minilm": 16, "mobilenetv2": 24}
#: Validation tasks come in two parts: for keeping the best state, and for choosing settings.
CHOOSING = 10_000
TOLERANCE = 0.001  # chosen is the cheapest setting within a tenth of a point of the best


def forward_grid() -> Iterator[tuple[str, Method]]:
    """Nine Gauss–Newton settings."""
    for k, (steps, damping) in product(NESTED, ((1, 1.0), (1, 0.3), (2, 1.0))):
        yield f"k={k} steps={steps} damping={damping}", Forward(GaussNewton(steps, damping), HEAD, k)


def linearised_grid() -> Iterator[tuple[str, Method]]:
    """Six linearised settings."""
    for k, damping in product(NESTED, (1.0, 0.3)):
        yield f"k={k} damping={damping}", Forward(Linearised(damping=damping), HEAD, k)


def backprop_grid() -> Iterator[tuple[str, Method]]:
    """Nine settings of Adam, two of SGD with momentum."""
    adam = [("adam", lr, steps) for steps, lr in product((1, 3, 10), (0.003, 0.01, 0.03))]
    momentum = [("momentum", lr, 5) for lr in RATES]
    for optimizer, lr, steps in sorted(adam + momentum, key=lambda setting: setting[2]):
        yield f"{optimizer} lr={lr} steps={steps}", Backprop(Descent(optimizer, lr, steps), HEAD)


def sgd_grid() -> Iterator[tuple[str, Method]]:
    """Rates of the plain SGD that learn2learn and higher share, three steps each."""
    for lr in RATES:
        yield str(lr), Backprop(Descent("sgd", lr, 3), HEAD)


GRIDS = {"gauss_newton": forward_grid, "linearised": linearised_grid, "backprop": backprop_grid}


def adapter_of(chosen: Domain, settings: MetaTraining, folder: Path, *, quick: bool) -> FewShotAdapter:
    """The shipped one, or meta-trained for the domain, unless that has been done."""
    if chosen.name in SHIPPED and not quick:
        return adapt.load(SHIPPED[chosen.name], chosen.backbone).with_(head=HEAD)
    path, problem = folder / "adapter", Problem(head=HEAD)
    if (path / "adapter_config.json").exists():
        return adapt.load(path, chosen.backbone)
    if quick:
        small = {"basis_tasks": 4, "basis_steps": 2, "steps": 1, "validation_tasks": 2, "tasks_per_step": 1}
        settings = replace(settings, k=2, nested=(), **small)
    started = time.perf_counter()
    episodes = (chosen.train.episode(10**6 + index) for index in range(settings.basis_tasks))
    start = initial_basis(chosen.backbone, chosen.space, problem, episodes, settings)
    print(f"{chosen.name}: first basis after {time.perf_counter() - started:.0f} s", flush=True)
    state, metrics = meta_train(
        chosen.backbone,
        chosen.space,
        start,
        GaussNewton(),
        problem,
        chosen.train,
        chosen.validation,
        settings,
        progress=progress(f"{chosen.name}: meta-training"),
        report=_print_validation,
    )
    seconds = time.perf_counter() - started
    training = {"seconds": seconds, "settings": {k: str(v) for k, v in vars(settings).items()}, **metrics}
    made = FewShotAdapter(chosen.backbone, chosen.space, state, head=HEAD, info={"training": training})
    made.save_pretrained(path)
    return made


def _print_validation(step: int, metrics: Mapping[str, float]) -> None:
    if "validation/loss" in metrics:
        print(step, {name: round(value, 4) for name, value in metrics.items()}, flush=True)


def choices(
    chosen: Domain, adapter: FewShotAdapter, folder: Path, *, tasks: int
) -> dict[str, dict[str, float]]:
    """Validation accuracy of every setting of every grid, ``{method: {setting: accuracy}}``; kept."""
    path = folder / "validation.json"
    found = read_json(path) if path.exists() else {}
    for name, grid in {**GRIDS, "sgd": sgd_grid}.items():
        known = found.setdefault(name, {})
        for setting, method in grid():
            too_many = isinstance(method, Forward) and method.k is not None and method.k > adapter.state.k
            if setting in known or too_many:
                continue
            known[setting] = _accuracy(method, chosen.validation, adapter, tasks)
            write_json(path, found)
        found[name] = {setting: known[setting] for setting, _ in grid() if setting in known}
        print(chosen.name, name, found[name], flush=True)
    return found


def _accuracy(method: Method, tasks: Distribution, adapter: FewShotAdapter, n: int) -> float:
    run = method.prepare(Context(adapter.backbone, adapter))
    scores = []
    for index in range(CHOOSING, CHOOSING + n):
        episode = tasks.episode(index)
        with torch.no_grad():
            predictor = run(
                Support(episode.support_x, episode.support_y, episode.meta.classes), lambda _: None
            )
            scores.append(float((predictor(episode.query_x).argmax(-1) == episode.query_y).double().mean()))
    return float(np.mean(scores))


def winner(accuracies: Mapping[str, float]) -> str:
    """The first (grids go from cheap to dear) within the tolerance of the best."""
    best = max(accuracies.values())
    return next(setting for setting, accuracy in accuracies.items() if accuracy >= best - TOLERANCE)


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
        yield Row(case, "eval/accuracy", score.mean, "%", score.ci95, score.n, note=note)
        yield Row(case, "time/adapt_seconds", method.adapt_seconds, "s", n=method.n, higher_is_better=False)
        yield Row(case, "cost/forward_equivalents", method.forward_equivalents, higher_is_better=False)
        yield Row(case, "memory/peak_mb", method.peak_mb, "MB", higher_is_better=False)
        for other, metric in ((backprop, "compare/accuracy_vs_backprop"), (head, "compare/accuracy_vs_head")):
            if method is not other:
                yield _points(case, metric, result.difference(method, other))
        if method is not backprop:
            ratio = ratio_interval(method.seconds, backprop.seconds)
            goal = 0.5 if method.name in OURS else None
            yield Row(case, "compare/time_of_backprop", ratio.ratio, "", None, ratio.n, goal, False)


def _points(case: str, metric: str, difference: Interval) -> Row:
    points = difference.times(100)
    return Row(case, metric, points.mean, "points", points.ci95, points.n)


def run(name: str, *, quick: bool, train: bool, cache: Path, device: torch.device) -> list[Row]:
    """One network, from training to rows; what has been done is kept."""
    folder = cache / name
    chosen = domain(name, quick=quick)
    adapter = adapter_of(chosen, TRAINING.get(name, COMMON), folder, quick=quick)
    found = choices(chosen, adapter, folder, tasks=1 if quick else VALIDATION_TASKS[name])
    if train:
        return []
    kept = folder / f"comparison.{device.type}.json"
    adapter = adapter.to(device)
    if kept.exists():
        result = Comparison.from_dict(read_json(kept))
    else:
        result = compare(
            methods_of(found, adapter),
            chosen.test,
            Context(adapter.backbone, adapter),
            experiment=f"inner loops, {name}",
            task={"source": chosen.test.source.name, "ways": chosen.test.ways, "shots": chosen.test.shots},
            tasks=2 if quick else TEST_TASKS[name],
            device=device,
            environment=environment(device),
            progress=progress(f"{name}: test tasks"),
        )
        write_json(kept, result.to_dict())
    settings = {method: winner(found[method]) for method in GRIDS}
    inference = Row(
        name, "memory/inference_mb", inference_megabytes(chosen, device), "MB", higher_is_better=False
    )
    about = Row(name, "about", adapter.state.k, note=f"{chosen.describe}; weights: {chosen.weights}.")
    return [about, inference, *rows(name, result, settings)]


def inference_megabytes(chosen: Domain, device: torch.device) -> float:
    """Peak of the tensors of one plain forward pass of a support set, MB."""
    x = chosen.test.episode(0).support_x.to(device)
    with torch.no_grad():
        return peak_megabytes(lambda: chosen.backbone(x), device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(DOMAINS)}; default: all that can be built")
    parser.add_argument("--quick", action="store_true", help="everything once, in miniature")
    parser.add_argument("--train", action="store_true", help="meta-train and choose only")
    parser.add_argument("--device", default="cpu", help="of the test tasks: cpu (the default), cuda or auto")
    parser.add_argument("--out", type=Path, help="folder of the result")
    arguments = parser.parse_args()
    keep_freed_memory()
    device = choose_device(arguments.device)
    names = arguments.names or (DOMAINS[:1] if arguments.quick else DOMAINS)
    cache = arguments.out / "inner_loops" if arguments.out else CACHE
    found: list[Row] = []
    for name in names:
        if reason := available(name, quick=arguments.quick):
            print(f"left out: {reason}")
            continue
        found += run(name, quick=arguments.quick, train=arguments.train, cache=cache, device=device)
    if not arguments.train:
        print(table(found))
        folder = arguments.out or RESULTS
        print(write("inner_loops", found, quick=arguments.quick, folder=folder, device=device))


if __name__ == "__main__":
    main()
