"""How far an adapted model may be believed: probabilities, sets of labels, what is of no class, and wrong
labels.

``python -m bench.trust [names] [--quick]``. ``names``: of the cases. Nothing is chosen here: every number is
of the defaults, and test tasks are looked at once. *Other classes* are as many examples of classes that the
task does not have as there are queries; besides there is what is of another world: characters beside digits,
questions that no assistant answers beside requests (CLINC150's own).
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from torch import Tensor, nn

import adapt
from adapt.adapter import FewShotAdapter, FittedTask
from adapt.adapter.conformal import Fit, how_well, p_values
from adapt.app.progress import progress
from adapt.backbones import call, load_backbone
from adapt.compare.examples import Examples
from adapt.compare.reliability import Reliability
from adapt.compare.statistics import mean_interval, paired_difference
from adapt.inner import GaussNewton
from adapt.memory import keep_freed_memory
from adapt.spaces import film
from bench.lib.choosing import HEAD
from bench.lib.models import data_root
from bench.lib.posterior_labels import flipped
from bench.lib.record import Row, options, report
from tasks import CifarFS, Clinc150, Digits, Distribution, Episode, Omniglot
from tasks.outside import auroc, false_positives

DEPENDS = ("adapt/adapter", "adapt/heads", "adapt/inner", "tasks/outside.py")
QUERIES = "queries"
COVERAGE, REJECTED, FLIPPED = 0.9, 0.05, 0.2
STRANGERS = 500  # of another world, of which each task sees as many as it has queries


@dataclass(frozen=True)
class Case:
    """An adapter, its tasks, so many of them, and what is of another world, by name."""

    adapter: FewShotAdapter
    tasks: Distribution
    count: int
    world: str = ""
    strangers: Tensor | None = None


def digits(shots: int = 5, count: int = 600, ways: int = 5, outside: int = 75) -> Case:
    """Scanned digits, by the adapter that ships, beside characters."""
    tasks = Distribution(
        Digits(), ways, shots, 15, support_split="support", query_split="query", outside=outside
    )
    characters = Distribution(Omniglot(size=32), STRANGERS // 10, 1, 10, support_split="test").episode(0)
    return Case(adapt.load("conv4_glyphs_film"), tasks, count, "characters", characters.query_x)


def photographs(count: int = 200) -> Case:
    """CIFAR-FS, classes that the network has not seen, beside digits."""
    tasks = Distribution(CifarFS(), 5, 5, 15, support_split="test", outside=75)
    scans = Digits(size=32).load(np.arange(STRANGERS)).expand(-1, 3, -1, -1)
    backbone, _ = load_backbone("conv4_cifar_fs")
    return Case(untrained(backbone), tasks, count, "digits", scans)


def requests(shots: int = 5, count: int = 100) -> Case:
    """CLINC150 in the official split, MiniLM as it is, beside its questions that no assistant answers."""
    backbone, _ = load_backbone("hf:minilm")
    source = Clinc150()
    encoded = source.encoded(backbone.tokenise)
    tasks = Distribution(encoded, 10, shots, 10, support_split="support", query_split="query", outside=100)
    strangers = encoded.load(source.out_of_scope("test")[:STRANGERS])
    return Case(untrained(backbone), tasks, count, "out of scope", strangers)


def untrained(backbone: nn.Module) -> FewShotAdapter:
    """A head on a network as it is."""
    return FewShotAdapter.of(backbone, film, solver=GaussNewton(steps=0), head=HEAD)


CASES: dict[str, Callable[[], Case]] = {
    "digits": digits,
    "photographs": photographs,
    "requests": requests,
}
WRONG: dict[str, Callable[[], Case]] = {
    "digits, 10 x 10": lambda: digits(10, 60, ways=10, outside=0),
    "requests, 10 x 10": lambda: requests(10, 60),
}
SHOWN = {"plain": {}, "tempered": {"tempered": True}}


def believed(name: str, case: Case, count: int) -> Iterator[Row]:
    """Probabilities, sets, and examples of no class, of the same tasks."""
    known: dict[str, list[Reliability]] = {said: [] for said in SHOWN}
    found: dict[tuple[str, str], list[float]] = {}
    metas = []
    for index in progress(name)(range(count)):
        episode = case.tasks.episode(index)
        task = case.adapter.fit(episode.support_x, episode.support_y, keep=True)
        for said, how in SHOWN.items():
            p = torch.from_numpy(task.predict_proba(episode.query_x, **how))
            known[said].append(Reliability.of(p.clamp(min=1e-30).log(), episode.query_y))
        for key, value in {**sets_of(task, episode), **outside_of(task, episode, case, index)}.items():
            found.setdefault(key, []).append(value)
        metas.append(episode.meta)
    drawn = Examples.of(metas)
    for said, parts in known.items():
        joined, case_name = Reliability.joined(parts), f"{name}: {said}"
        for metric, values in {"trust/nll": joined.nll, "trust/brier": joined.brier}.items():
            yield Row.of(case_name, metric, mean_interval(values, drawn), higher_is_better=False)
        for metric, value in [*joined.metrics().items()][2:]:
            yield Row.cost(case_name, metric, 100 * value, "%", n=len(metas))
    for (said, metric), values in found.items():
        unit = "labels" if metric == "trust/labels" else "%"
        scale = 1 if unit == "labels" else 100
        yield Row.of(f"{name}: {said}", metric, mean_interval(values, drawn).times(scale), unit)


def sets_of(task: FittedTask, episode: Episode) -> dict[tuple[str, str], float]:
    """How often the right label is in the set, and how many are."""
    sets = task.predict_set(episode.query_x, coverage=COVERAGE)
    rows = np.arange(len(sets))
    said = f"sets, {COVERAGE:.0%}"
    return {
        (said, "trust/coverage"): float(sets[rows, episode.query_y].mean()),
        (said, "trust/labels"): float(sets.sum(1).mean()),
    }


def outside_of(task: FittedTask, episode: Episode, case: Case, index: int) -> dict[tuple[str, str], float]:
    """How well those of other classes, and of another world, are told from queries; and how many of each
    ``reject`` refuses."""
    assert episode.meta.outside_x is not None
    others = {"other classes": episode.meta.outside_x}
    if case.strangers is not None:
        size = len(episode.query_x)
        chosen = torch.randperm(len(case.strangers), generator=torch.Generator().manual_seed(index))[:size]
        others[case.world] = case.strangers[chosen]
    seen = {said: through(task, x) for said, x in {QUERIES: episode.query_x, **others}.items()}
    found = {}
    for fit in get_args(Fit):
        inside = how_well(task, *seen[QUERIES], fit)[1]
        for said, outputs in seen.items():
            case_name = f"{said}, by {fit}"
            found[case_name, "trust/refused"] = float((p_values(task, *outputs, fit) <= REJECTED).mean())
            if said != QUERIES:
                outside = how_well(task, *outputs, fit)[1]
                found[case_name, "trust/auroc"] = auroc(inside, outside)
                found[case_name, "trust/fpr95"] = false_positives(inside, outside)
    if task.posterior is not None:
        x = {QUERIES: episode.query_x, **others}
        certain = {said: -task.predictive(part).epistemic.mean(1) for said, part in x.items()}
        for said in others:
            pair = (certain[QUERIES], certain[said])
            found[f"{said}, by variance", "trust/auroc"] = auroc(*pair)
            found[f"{said}, by variance", "trust/fpr95"] = false_positives(*pair)
    return found


def through(task: FittedTask, x: Tensor) -> tuple[Tensor, Tensor]:
    """Features and logits."""
    with torch.no_grad():
        features = call(task.adapter.backbone, task.parameters, x)
    return features, task.adapter.head.logits(task.head_state, features)


def trimmed(name: str, case: Case, count: int) -> Iterator[Row]:
    """Accuracy with labels that are right, with a fifth of them wrong, and with what looks wrong left out."""
    scores: dict[str, list[float]] = {
        "right labels": [],
        "as they are": [],
        "trimmed": [],
        "trimmed, right": [],
    }
    metas = []
    for index in progress(f"{name}, wrong labels")(range(count)):
        episode = case.tasks.episode(index)
        right, wrong = episode.support_y, flipped(episode.support_y, index, FLIPPED)[0]
        given = (right, wrong, wrong, right)
        for said, labels, trim in zip(scores, given, (False, False, True, True), strict=True):
            task = case.adapter.fit(episode.support_x, labels, trim=trim)
            scores[said].append(task.score(episode.query_x, episode.query_y))
        metas.append(episode.meta)
    drawn, base = Examples.of(metas), scores["right labels"]
    for said, values in scores.items():
        shown = f"{name}, {FLIPPED:.0%} of the labels wrong: {said}"
        yield Row.of(shown, "eval/accuracy", mean_interval(values, drawn).times(100), "%")
        if said != "right labels":
            goal = -3.0 if said == "trimmed" else None
            gap = paired_difference(values, base, drawn).times(100)
            yield Row.of(shown, "compare/accuracy_minus_right", gap, "points", goal=goal)


def main() -> None:
    arguments = options(__doc__, names=f"cases, of {', '.join(CASES)}").parse_args()
    keep_freed_memory()
    os.environ.setdefault("ADAPT_DATA", str(data_root()))
    quick = arguments.quick
    names = ["digits"] if quick else arguments.names or [*CASES]
    found: list[Row] = []
    for name in names:
        case = CASES[name]()
        found += believed(name, case, 2 if quick else case.count)
    for name, make in WRONG.items():
        if name.partition(",")[0] in names:
            case = make()
            found += trimmed(name, case, 1 if quick else case.count)
    report("trust", found, arguments)


if __name__ == "__main__":
    main()
