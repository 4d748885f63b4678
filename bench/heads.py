"""Heads on the same frozen features: ours, and those of easyfsl; they see one query at a time, or all.

``python -m bench.heads [--quick] [--train]``. Features are those of EfficientNet-Lite0 with its ImageNet
weights, of 128 pixels, and stay in ``outputs/bench/heads`` (``--train`` makes them, and no more). Tasks have
five classes and fifteen queries of each, equally many, which transductive methods take for granted. Every
method has a few settings, of which the best on validation tasks of Omniglot, CIFAR-FS and GTSRB is taken, one
for each number of shots; so is the best method of a kind. Test tasks are looked at once.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from adapt.app.progress import progress
from adapt.backbones import require
from adapt.compare.examples import Examples
from adapt.compare.statistics import mean_interval, paired_difference
from adapt.files import read_json, write_json
from adapt.heads import (
    TIM,
    Head,
    KernelRidge,
    LaplacianShot,
    Linear,
    Logistic,
    LogisticCV,
    Mahalanobis,
    Matching,
    OptimalTransport,
    Prototype,
    Ridge,
    SimpleShot,
    is_transductive,
    one_hot,
)
from adapt.memory import keep_freed_memory
from bench.lib.feature_pools import embedded, network, pool
from bench.lib.models import data_root
from bench.lib.record import Row, folder_of, options, report
from bench.vision import SPLITS, source
from tasks import ArraySource, Distribution, Episode

DEPENDS = (
    "adapt/heads", "bench/lib/feature_pools.py", "bench/vision.py", "tasks/distribution.py", "tasks/images",
)  # fmt: skip
WAYS, QUERIES, SHOTS = 5, 15, (1, 5)
CHOOSING, TESTED = 16, 100
DATA = ("digits", "Omniglot", "CIFAR-FS", "GTSRB")
KINDS = ("inductive", "transductive")
#: Support, labels, queries -> logits.
Predict = Callable[[Tensor, Tensor, Tensor], Tensor]


class Method(NamedTuple):
    """Settings, by what is said of them; whether all queries are seen at once; whose it is."""

    settings: Mapping[str, Predict]
    transductive: bool
    ours: bool


# ------------------------------------------------------------------------------------------- features


def photographs(folder: Path, quick: bool) -> Tensor:
    """The mean of features of photographs, ten of every training class of CIFAR-FS, ``[n, D]``."""
    path = folder / "photographs.npy"
    if not path.exists():
        images = source("Omniglot" if quick else "CIFAR-FS")
        rows = np.concatenate(
            [it[: 1 if quick else 10] for it in images.classes("train").values()][: 4 if quick else None]
        )
        found = embedded(network(), images.load(rows), "photographs")
        folder.mkdir(parents=True, exist_ok=True)
        np.save(path, found)
    return torch.from_numpy(np.load(path))


def tasks_of(name: str, made: ArraySource, part: int, shots: int) -> Distribution:
    return Distribution(made, WAYS, shots, QUERIES, *SPLITS[name][part])


# -------------------------------------------------------------------------------------------- methods


def ours(seen: Tensor) -> dict[str, Method]:
    simple = [SimpleShot(power=power) for power in (1.0, 0.5)]
    grids: dict[str, Sequence[Head]] = {
        "nearest mean": [Prototype()],
        "nearest mean, cosine": [Prototype(metric="cosine")],
        "matching": [Matching(t) for t in (0.05, 0.1, 0.3)],
        "SimpleShot": [*simple, *(head.centred_on(seen) for head in simple)],
        "Mahalanobis": [Mahalanobis(l2) for l2 in (0.1, 0.3, 1.0, 3.0)],
        "ridge": [Ridge(l2) for l2 in (0.03, 0.1, 0.3, 1.0)],
        "kernel ridge": [KernelRidge(length, l2) for length, l2 in product((0.3, 0.5, 1.0, 2.0), (0.1, 0.3))],
        "logistic": [Logistic(l2) for l2 in (0.003, 0.01, 0.03, 0.1)],
        "logistic, λ left-one-out": [LogisticCV()],
        "linear, by descent": [Linear()],
        "LaplacianShot": [
            LaplacianShot(pull=pull, temperature=t, power=power)
            for pull, t, power in product((0.0, 0.3, 1.0), (0.05, 0.15), (0.5, 1.0))
        ],
        "TIM": [
            TIM(sure=sure, temperature=t, power=power)
            for sure, t, power in product((0.1, 0.5), (0.05, 0.15), (0.5, 1.0))
        ],
        "optimal transport": [
            OptimalTransport(temperature=t, steps=steps, unknown=unknown)
            for t, steps, unknown in product((0.05, 0.15), (10, 30), (0.0, 1.0))
        ],
    }
    return {
        name: Method({said(head): predicting(head) for head in grid}, is_transductive(grid[0]), True)
        for name, grid in grids.items()
    }


def said(head: Head) -> str:
    """Its settings that are not the default."""
    plain = type(head)()
    changed = {k: v for k, v in vars(head).items() if v != getattr(plain, k)}
    return " ".join(f"{k}={'photographs' if k == 'mean' else v}" for k, v in changed.items())


def predicting(head: Head) -> Predict:
    return lambda s, y, q: head.logits(head.fit(s, one_hot(y, WAYS)), q)


def theirs(seen: Tensor) -> dict[str, Method]:
    """Of easyfsl, all but those that are networks to be trained on episodes: FEAT, matching and relation
    networks."""
    methods = require("easyfsl.methods")
    more: dict[str, list[dict[str, Any]]] = {
        "PrototypicalNetworks": [{}],
        "SimpleShot": [{}],
        "Finetune": [{"fine_tuning_lr": lr, "temperature": t} for lr in (1e-4, 1e-2) for t in (1, 10)],
        "BDCSPN": [{}],
        "LaplacianShot": [{"lambda_regularization": pull} for pull in (0.3, 0.7, 1.0)],
        "TIM": [{"fine_tuning_lr": lr, "fine_tuning_steps": n} for lr in (1e-4, 1e-2) for n in (50, 200)],
        "PTMAP": [{"fine_tuning_steps": steps} for steps in (10, 30)],
        "TransductiveFinetuning": [
            {"fine_tuning_lr": lr, "temperature": t} for lr in (5e-5, 1e-2) for t in (1, 10)
        ],
    }
    plain: dict[str, Any] = {"": {}}
    scaled = {"normalised": {"feature_normalization": 2.0}}
    centred = {"photographs": {"feature_centering": seen.mean(0), "feature_normalization": 2.0}}
    found = {}
    for name, grid in more.items():
        kind = getattr(methods, name)
        # A power of negative features there is none, and of long ones no transport; to cosines lengths make
        # no difference.
        which = scaled if name == "PTMAP" else plain | centred
        which |= scaled if name in ("PrototypicalNetworks", "LaplacianShot", "BDCSPN") else {}
        settings = {
            " ".join([how, *(f"{k}={v}" for k, v in one.items())]).strip(): _of(kind, {**one, **which[how]})
            for one, how in product(grid, which)
        }
        found[f"easyfsl {name}"] = Method(settings, kind.is_transductive(), False)
    return found


def _of(kind: Any, settings: Mapping[str, Any]) -> Predict:
    def predict(s: Tensor, y: Tensor, q: Tensor) -> Tensor:
        method = kind(**settings)
        method.process_support_set(s, y)
        return method(q)

    return predict


# -------------------------------------------------------------------------------------------- results


def accuracies(predict: Predict, episodes: Sequence[Episode]) -> np.ndarray:
    with torch.no_grad():
        found = [predict(e.support_x, e.support_y, e.query_x).argmax(1) == e.query_y for e in episodes]
    return np.array([float(right.double().mean()) for right in found])


def kept(path: Path, names: Iterable[str], make: Callable[[str], Any]) -> dict[str, Any]:
    """What ``make`` gives for every name, kept in a JSON file: what is there is not made again."""
    found: dict[str, Any] = read_json(path) if path.exists() else {}
    for name in progress(path.stem)([name for name in names if name not in found]):
        found[name] = make(name)
        write_json(path, found)
    return {name: found[name] for name in names}


def chosen(methods: Mapping[str, Method], held: Sequence[Episode], path: Path) -> dict[str, dict[str, float]]:
    """Of every method its settings, the one that is right most often on validation tasks first."""

    def judged(name: str) -> dict[str, float]:
        found = {key: float(accuracies(one, held).mean()) for key, one in methods[name].settings.items()}
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    return kept(path, methods, judged)


def rows(folder: Path, quick: bool) -> Iterator[Row]:
    names = DATA[:2] if quick else DATA
    made = {name: pool(name, folder / f"{name}.npy", quick) for name in names}
    seen, many, held = photographs(folder, quick), 2 if quick else TESTED, 2 if quick else CHOOSING
    methods = {**ours(seen), **theirs(seen)}
    if quick:
        methods = {
            name: method._replace(settings=dict([*method.settings.items()][:1]))
            for name, method in methods.items()
        }
    for shots in SHOTS[: 1 if quick else None]:
        validation = [
            episode
            for name in names[1:]
            for episode in tasks_of(name, made[name], 1, shots).episodes(0, held)
        ]
        best = chosen(methods, validation, folder / f"chosen, {shots}-shot.json")
        for data in names:
            case, tasks = f"{data}, {shots}-shot", tasks_of(data, made[data], 2, shots)
            yield from of_data(case, [*tasks.episodes(0, many)], best, methods, folder / f"{case}.json")


def of_data(
    case: str,
    episodes: Sequence[Episode],
    best: Mapping[str, Mapping[str, float]],
    methods: Mapping[str, Method],
    path: Path,
) -> Iterator[Row]:
    """Every method on the same test tasks, and the best of ours against the best of theirs."""
    drawn = Examples.of(episode.meta for episode in episodes)
    setting = {name: next(iter(found)) for name, found in best.items()}

    def measured(name: str) -> dict[str, Any]:
        started = time.perf_counter()
        found = accuracies(methods[name].settings[setting[name]], episodes)
        return {"seconds": (time.perf_counter() - started) / len(episodes), "accuracy": found.tolist()}

    found = kept(path, methods, measured)
    for name, method in methods.items():
        mean = mean_interval(found[name]["accuracy"], drawn).times(100)
        note = "; ".join(filter(None, [KINDS[method.transductive], setting[name]]))
        yield Row.of(f"{case}: {name}", "eval/accuracy", mean, "%", note=note)
        milliseconds = 1000 * found[name]["seconds"]
        yield Row.cost(f"{case}: {name}", "time/task_milliseconds", milliseconds, "ms", n=len(episodes))
    for transductive, kind in enumerate(KINDS):
        of_kind = [name for name, method in methods.items() if method.transductive == bool(transductive)]
        us, them = (
            max((n for n in of_kind if methods[n].ours == own), key=lambda n: best[n][setting[n]])
            for own in (True, False)
        )
        gap = paired_difference(found[us]["accuracy"], found[them]["accuracy"], drawn).times(100)
        note = f"{us} against {them}, each the best of its kind in validation"
        yield Row.of(
            f"{case}: best, {kind}", "compare/accuracy_vs_easyfsl", gap, "points", goal=0.0, note=note
        )


def main() -> None:
    arguments = options(__doc__, train="make features only").parse_args()
    keep_freed_memory()
    os.environ.setdefault("ADAPT_DATA", str(data_root()))  # where the other benchmarks look, too
    folder, quick = folder_of("heads", arguments), arguments.quick
    if arguments.train:
        for name in DATA:
            pool(name, folder / f"{name}.npy", quick)
        photographs(folder, quick)
        return
    report("heads", [*rows(folder, quick)], arguments)


if __name__ == "__main__":
    main()
