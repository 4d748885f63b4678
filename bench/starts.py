"""What a start that was learned on other domains is worth: each domain left out, and tested on it.

``python -m bench.starts [--quick] [--train]``. The start that a case is measured with was learned without its
domain and without what is like it (:mod:`bench.lib.start_learning`; ``--train``: no more is done). What has
been done is kept in ``outputs/bench/starts``, and an interrupted run goes on from its last checkpoint.

The share of the way that is taken where nothing can be held out is chosen on validation classes; where there
is something, held-out examples of the task choose (:mod:`adapt.own_data.starts`). Test classes are looked at
once.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from adapt.adapter import FewShotAdapter
from adapt.app.progress import progress
from adapt.compare.examples import Examples
from adapt.compare.statistics import mean_interval, paired_difference
from adapt.files import read_json, write_json
from adapt.memory import keep_freed_memory
from adapt.own_data.head import FOLDS, folds_of
from adapt.own_data.starts import SHARES, UNSEEN, heads_on, judged_by
from bench.lib.choosing import HEAD, outputs_of
from bench.lib.feature_pools import network, pool
from bench.lib.models import data_root
from bench.lib.own_folders import HOW, scores
from bench.lib.record import Row, folder_of, options, report
from bench.lib.screening import screened
from bench.lib.start_learning import (
    DOMAINS,
    MINIATURE_DOMAINS,
    VARIANTS,
    Start,
    learned,
    starts_for,
    state_of,
)
from bench.lib.start_methods import added
from bench.vision import SPLITS, source
from tasks import ArraySource, Distribution, Episode

DEPENDS = (
    "adapt/heads", "adapt/meta", "adapt/own_data", "bench/lib/feature_pools.py", "bench/lib/own_folders.py",
    "bench/lib/screening.py", "bench/lib/start_learning.py", "bench/lib/start_methods.py", "bench/vision.py",
    "conf/experiment/meta_vision_domain.yaml",
    "tasks/distribution.py", "tasks/images",
)  # fmt: skip
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
TESTED, CHOOSING, QUERIES, FOLDERS = 100, 60, 15, 20


# --------------------------------------------------------------------------------------- measuring


class Measured(NamedTuple):
    """Of every task its accuracy at each of ``SHARES``, and which share held-out examples choose."""

    accuracy: list[list[float]]
    chosen: list[int]


def measured(
    data: str, start: Start, part: int, ways: int, shots: int, number: int, folder: Path, quick: bool
) -> Measured:
    """Tasks of validation classes (``part`` 1) or of test classes (2)."""
    name = f"{data}, {ways}-way {shots}-shot, part {part}, {start.name}"
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
    moves, state = state_of(start, folder, quick)
    each = 200 if data == "pneumonia" else 40
    moved = state.origin - moves.initial
    found = []
    for share in SHARES:
        name = f"{share:g} of {start.name}" if share else "as it is"
        parameters = moves.parameters(moves.initial + share * moved) if share else None
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
        ways, shots, queries, many = (2, 2, 2, 1) if quick else (10, 5, 15, FOLDERS)
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
        moves, state = state_of(starts_for(data, quick)[0], folder, quick)
        adapter = FewShotAdapter(network(quick), moves, state, head=HEAD)
        yield from added(data, adapter, folder, quick=quick)


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
    """Which share is best on validation classes of a domain that was left out, and which variant."""
    for shots in (1, 5):
        for data in ("Omniglot",) if quick else ("GTSRB", "CIFAR-FS", "Omniglot"):
            for start in starts_for(data, quick):
                case = f"{data}, validation, 5-way {shots}-shot: {start.kind}"
                plain = on_validation(data, start, shots, folder, quick)
                for share, mean in zip(SHARES, plain.mean(0), strict=True):
                    shown = f"{case}: {share:g} of the way"
                    yield Row(shown, "validation/accuracy", 100 * float(mean), "%", n=len(plain))
                for variant in VARIANTS if start.kind == "free" and not quick else ():
                    other = on_validation(data, start._replace(variant=variant), shots, folder, quick)
                    for number, share in [*enumerate(SHARES)][1:]:
                        gap = paired_difference(other[:, number], plain[:, number]).times(100)
                        shown = f"{case}: {share:g} of the way, {variant}"
                        yield Row.of(shown, "validation/accuracy_vs_scales", gap, "points")


def on_validation(data: str, start: Start, shots: int, folder: Path, quick: bool) -> np.ndarray:
    """Of tasks of validation classes the accuracy at each share: ``[tasks, SHARES]``."""
    many = 2 if quick else CHOOSING
    return np.array(measured(data, start, 1, 5, shots, many, folder, quick).accuracy)


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
