"""What a start that was learned on other domains is worth: each domain left out, and tested on it.

``python -m bench.starts [--quick] [--train]``. On every domain ``experiment=meta_vision_domain`` learns where
EfficientNet-Lite0 should start (``--train``: no more is done). A start is the middle of several of these and
of the network as it is (:mod:`adapt.meta.soup`); the one that a case is measured with was learned without its
domain and without what is like it. What has been done is kept in ``outputs/bench/starts``, and an interrupted
run goes on from its last checkpoint.

The share of the way that is taken where nothing can be held out is chosen on validation classes; where there
is something, held-out examples of the task choose (:mod:`adapt.own_data.starts`). Test classes are looked at
once.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from adapt.adapter import AdapterState, FewShotAdapter
from adapt.app.progress import progress
from adapt.app.stages.meta import CHECKPOINT
from adapt.compare.examples import Examples
from adapt.compare.statistics import mean_interval, paired_difference
from adapt.files import read_json, write_json
from adapt.memory import keep_freed_memory
from adapt.meta.soup import origins_of, soup
from adapt.own_data.head import FOLDS, folds_of
from adapt.own_data.starts import SHARES, UNSEEN, heads_on, judged_by
from adapt.spaces import Space, film
from bench.lib.choosing import HEAD, outputs_of
from bench.lib.feature_pools import network, pool
from bench.lib.models import data_root
from bench.lib.own_folders import HOW, scores
from bench.lib.record import Row, folder_of, options, report
from bench.lib.screening import screened
from bench.lib.start_methods import added
from bench.vision import SPLITS, source
from tasks import ArraySource, Distribution, Episode

DEPENDS = (
    "adapt/heads", "adapt/meta", "adapt/own_data", "bench/lib/feature_pools.py", "bench/lib/own_folders.py",
    "bench/lib/screening.py", "bench/lib/start_methods.py",
    "bench/vision.py", "conf/experiment/meta_vision_domain.yaml",
    "tasks/distribution.py", "tasks/images",
)  # fmt: skip
CHARACTERS = "task.transform.invert=0.5"
SIGNS = ("task.support_split=train_support", "task.query_split=train_query")
#: What the tasks of each domain are made with, and whether anybody may use it for anything.
DOMAINS: Mapping[str, tuple[str, ...]] = {
    "Omniglot": ("task=omniglot", CHARACTERS),
    "glyphs": ("task=glyphs", CHARACTERS),
    "emblems": ("task=emblems",),
    "CIFAR-FS": ("task=cifar_fs",),
    "GTSRB": ("task=gtsrb", *SIGNS),
}
FREE = ("Omniglot", "glyphs", "emblems")
MINIATURE_DOMAINS = ("emblems",)
#: What is left out of a start that is tested on a domain: itself and its like.
ALIKE = {
    "GTSRB": ("GTSRB",),
    "CIFAR-FS": ("CIFAR-FS",),
    "Omniglot": ("Omniglot", "glyphs"),
    "digits": ("Omniglot", "glyphs"),
    "pneumonia": (),
}
#: Tests, and points over the network as it is that were aimed at.
CASES: Mapping[tuple[str, int, int], float | None] = {
    ("GTSRB", 10, 5): 14.0,
    ("GTSRB", 5, 1): 12.0,
    ("GTSRB", 5, 5): None,
    ("Omniglot", 5, 1): None,
    ("Omniglot", 5, 5): 5.0,
    ("digits", 5, 1): None,
    ("digits", 5, 5): 6.0,
    ("CIFAR-FS", 5, 1): -0.5,
    ("CIFAR-FS", 5, 5): -0.5,
    ("pneumonia", 2, 5): None,
    ("pneumonia", 2, 20): None,
}
SCREENING, SCREENED = "screening: ", 40  # queries of a class, of some two hundred
TESTED, CHOOSING, QUERIES, DIRECTIONS, FOLDERS, MOVED = 100, 60, 15, 5, 20, 20
MINIATURE = (
    *("meta.steps=1", "meta.validation_tasks=1", "meta.validate_every=1", "task.ways=2", "backbone.size=32"),
    "task.source.classes=20",
)


class Start(NamedTuple):
    """Which domains it is learned on, of those that everybody may use or of all."""

    kind: str
    domains: tuple[str, ...]


def starts_for(data: str, quick: bool) -> list[Start]:
    kinds = {"free": MINIATURE_DOMAINS} if quick else {"free": FREE, "all": tuple(DOMAINS)}
    return [Start(kind, tuple(it for it in of if it not in ALIKE[data])) for kind, of in kinds.items()]


# ---------------------------------------------------------------------------------------- learning


def learned(name: str, folder: Path, quick: bool) -> Path:
    """The adapter of a domain; what was interrupted goes on."""
    made, run = folder / "domains" / name, folder / "runs" / name
    if not (made / "adapter_config.json").exists():
        if (run / CHECKPOINT).exists():
            order = ["resume", str(run), f"output={made}"]
        else:
            where = (f"output={made}", f"hydra.run.dir={run}", "tracking=none")
            order = ["experiment=meta_vision_domain", *DOMAINS[name], *where, *(MINIATURE if quick else ())]
        subprocess.run([sys.executable, "-m", "adapt", *order], check=True)
    return made


@cache
def space() -> Space:
    return film(network())


def state_of(start: Start, folder: Path, quick: bool) -> AdapterState:
    made = [str(learned(name, folder, quick)) for name in start.domains]
    return soup(space(), origins_of(made, network(), space()), DIRECTIONS)


# --------------------------------------------------------------------------------------- measuring


class Measured(NamedTuple):
    """Of every task its accuracy at each of ``SHARES``, and which share held-out examples choose."""

    accuracy: list[list[float]]
    chosen: list[int]


def measured(
    data: str, start: Start, part: int, ways: int, shots: int, number: int, folder: Path, quick: bool
) -> Measured:
    """Tasks of validation classes (``part`` 1) or of test classes (2)."""
    name = f"{data}, {ways}-way {shots}-shot, part {part}, {' '.join(start.domains)}"
    path = folder / "tasks" / f"{name}.json"
    if not path.exists():
        pools = at_shares(data, start, folder, quick)
        sizes = ways, shots, 2 if quick else QUERIES
        drawn = [Distribution(it, *sizes, *SPLITS[data][part]) for it in pools]
        found = Measured([], [])
        for index in progress(name)(range(number)):
            seen = [tasks.episode(index) for tasks in drawn]
            found.accuracy.append([accuracy(episode) for episode in seen])
            found.chosen.append(chosen(seen))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, found._asdict())
    return Measured(**read_json(path))


@lru_cache(maxsize=1)  # of one start after the other: together they are too large
def at_shares(data: str, start: Start, folder: Path, quick: bool) -> list[ArraySource]:
    """Features of the same pictures, a source for each share."""
    state, each = state_of(start, folder, quick), 200 if data == "pneumonia" else 40
    moved = state.origin - space().initial
    found = []
    for share in SHARES:
        name = f"{share:g} of {' '.join(start.domains)}" if share else "as it is"
        parameters = space().parameters(space().initial + share * moved) if share else None
        path = folder / "features" / f"{data}, {name}.npy"
        found.append(pool(data, path, quick, parameters, per_class=each))
    return found


def accuracy(episode: Episode) -> float:
    return float((outputs_of(episode).argmax(1) == episode.query_y).double().mean())


def chosen(seen: Sequence[Episode]) -> int:
    """The number of the share that a task would take."""
    rows = judged_by(y := seen[0].support_y.numpy())
    if not len(rows):
        return SHARES.index(UNSEEN)
    with torch.no_grad():
        fold = folds_of(y[rows], len(rows), min(FOLDS, len(rows)), 0)
        heads = heads_on((it.support_x[rows] for it in seen), y[rows], fold, regression=False)
    return int(np.argmin([head.loss for head in heads]))


# ------------------------------------------------------------------------------------------- rows


def rows(folder: Path, quick: bool) -> Iterator[Row]:
    cases = {("Omniglot", 2, 2): None} if quick else CASES
    for (data, ways, shots), goal in cases.items():
        case = f"{data}, {ways}-way {shots}-shot"
        for start in starts_for(data, quick):
            yield from of_case(case, data, ways, shots, start, goal, folder, quick)


def of_case(
    case: str, data: str, ways: int, shots: int, start: Start, goal: float | None, folder: Path, quick: bool
) -> Iterator[Row]:
    number = 2 if quick else TESTED
    found = measured(data, start, 2, ways, shots, number, folder, quick)
    pools = at_shares(data, start, folder, quick)
    drawn = Distribution(pools[0], ways, shots, 2 if quick else QUERIES, *SPLITS[data][2])
    examples = Examples.of(episode.meta for episode in drawn.episodes(0, number))
    table = np.array(found.accuracy)
    ways_to_start = {
        "as it is": table[:, 0],
        "half of the way": table[:, 1],
        "start": table[:, 2],
        "chosen": table[np.arange(number), found.chosen],
    }
    note = f"learned on {', '.join(start.domains)}"
    for name, values in ways_to_start.items():
        shown = f"{case}: {start.kind}: {name}"
        yield Row.of(shown, "eval/accuracy", mean_interval(values, examples).times(100), "%", note=note)
        if name != "as it is":
            gap = paired_difference(values, table[:, 0], examples).times(100)
            aim = goal if name == "chosen" else None
            yield Row.of(shown, "compare/accuracy_vs_frozen", gap, "points", goal=aim, note=note)


def fitted(folder: Path, quick: bool) -> Iterator[Row]:
    """Folders of pictures through ``adapt fit``, with the start that ships and without."""
    for data in ("Omniglot",) if quick else ("GTSRB", "Omniglot", "CIFAR-FS"):
        ways, shots, queries, many = (2, 2, 2, 2) if quick else (10, 5, 15, FOLDERS)
        case, path = f"adapt fit: {data}, {ways} folders of {shots}", folder / f"folders of {data}.json"
        found: list[dict[str, float]] = read_json(path)["tasks"] if path.exists() else []
        for index in progress(case)(range(len(found), many)):
            found.append(scores(data, ways, shots, queries, index))
            write_json(path, {"tasks": found})
        tasks = Distribution(source(data), ways, shots, queries, *SPLITS[data][2])
        drawn = Examples.of(tasks.episode(index).meta for index in range(many))
        values = {how: [it[how] for it in found] for how in HOW}
        for how in HOW:
            yield Row.of(f"{case}: {how}", "eval/accuracy", mean_interval(values[how], drawn).times(100), "%")
        gap = paired_difference(values[HOW[1]], values[HOW[0]], drawn).times(100)
        yield Row.of(f"{case}: {HOW[1]}", "compare/accuracy_vs_frozen", gap, "points", goal=-0.5)


def moved(folder: Path, quick: bool) -> Iterator[Row]:
    """What moving on from a start adds, by whatever moves."""
    for data in ("Omniglot",) if quick else ("GTSRB", "Omniglot", "CIFAR-FS"):
        state = state_of(starts_for(data, quick)[0], folder, quick)
        adapter = FewShotAdapter(network(), space(), state, head=HEAD)
        yield from added(
            data, adapter, folder, quick=quick, tasks=2 if quick else MOVED, held=1 if quick else 6
        )


def screening(folder: Path, quick: bool) -> Iterator[Row]:
    """Chest X-rays, of which no start knows any: how many of the sick are found."""
    ways = ("as it is", "half of the way", "start")
    for shots in (2,) if quick else (5, 20):
        for start in starts_for("pneumonia", quick):
            pools = at_shares("pneumonia", start, folder, quick)
            sizes = (2, shots, 4 if quick else SCREENED)
            drawn = [Distribution(it, *sizes, *SPLITS["pneumonia"][2]) for it in pools]
            case = f"{SCREENING}2-way {shots}-shot: {start.kind}"
            found = dict(zip(ways, drawn, strict=True))
            yield from screened(case, "pneumonia", found, 2 if quick else TESTED)


def validated(folder: Path, quick: bool) -> Iterator[Row]:
    """Which share is best on validation classes of a domain that was left out."""
    for shots in (1, 5):
        for data in ("Omniglot",) if quick else ("GTSRB", "CIFAR-FS", "Omniglot"):
            for start in starts_for(data, quick):
                many = 2 if quick else CHOOSING
                found = measured(data, start, 1, 5, shots, many, folder, quick)
                for share, mean in zip(SHARES, np.mean(found.accuracy, 0), strict=True):
                    case = f"{data}, validation, 5-way {shots}-shot: {start.kind}: {share:g} of the way"
                    yield Row(case, "validation/accuracy", 100 * float(mean), "%", n=many)


def main() -> None:
    arguments = options(__doc__, train="learn the starts only").parse_args()
    keep_freed_memory()
    os.environ.setdefault("ADAPT_DATA", str(data_root()))  # where the other benchmarks look, too
    folder, quick = folder_of("starts", arguments), arguments.quick
    for name in MINIATURE_DOMAINS if quick else DOMAINS:
        learned(name, folder, quick)
    if arguments.train:
        return
    found = [*validated(folder, quick), *rows(folder, quick), *screening(folder, quick)]
    found += [*fitted(folder, quick), *moved(folder, quick)]
    report("starts", found, arguments)


if __name__ == "__main__":
    main()
