"""Accuracy on examples that are worse than those that were learned from: images, texts, tables.

``python -m bench.corruptions [names] [--quick]``. ``names``: of the cases. Support sets are clean, queries
are worsened. Images: all kinds and the strengths of CIFAR-C (:mod:`tasks.corruptions`); texts: slips of the
keyboard (textnoisr), lost words, capitals; tables: cells that are missing, and numbers with noise in units of
their spread. The mean corruption error is that of Hendrycks and Dietterich (2019), section 4, beside the head
on the same network in the place of AlexNet: the mean over kinds of Σ_severities error / Σ_severities error of
the head.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from adapt.adapter import FewShotAdapter
from adapt.app.progress import progress
from adapt.compare.examples import Examples
from adapt.compare.statistics import mean_interval, paired_difference
from adapt.heads import one_hot
from adapt.memory import keep_freed_memory
from adapt.spaces import film
from bench.lib import worse_texts
from bench.lib.choosing import HEAD
from bench.lib.models import data_root
from bench.lib.record import Row, options, report
from bench.trust import digits, photographs, requests, untrained
from tasks import BreastCancer, Clinc150, Episode, GermanCredit, GroupedTasks, Tasks
from tasks.corruptions import EXTRA_KINDS, KINDS, Corruption
from tasks.grouped import GroupSource

DEPENDS = ("adapt/adapter", "adapt/heads", "adapt/inner", "tasks/corruptions.py", "tasks/_corruptions")
SEVERITIES = (1, 3, 5)
CLEAN = "clean"
#: Outputs for further examples ``[m, …]``.
Predictor = Callable[[Tensor], Tensor]
Methods = Mapping[str, Callable[[Episode], Predictor]]


@dataclass(frozen=True)
class Case:
    """Tasks and methods; ``worse(episode)``: queries by kind and severity."""

    tasks: Tasks
    methods: Methods
    count: int
    worse: Callable[[Episode], Iterator[tuple[str, int, Tensor]]]


def adapted(adapter: FewShotAdapter) -> Callable[[Episode], Predictor]:
    """The adapter on the support set."""
    return lambda episode: adapter.fit(episode.support_x, episode.support_y).logits


def logistic(episode: Episode) -> Predictor:
    """A head on numbers as they are."""
    state = HEAD.fit(episode.support_x, one_hot(episode.support_y, len(episode.meta.classes)))
    return lambda x: HEAD.logits(state, x)


def images(tasks: Tasks, methods: Methods, count: int) -> Case:
    """Every kind that images of so many channels can have."""

    def worse(episode: Episode) -> Iterator[tuple[str, int, Tensor]]:
        channels = episode.query_x.shape[1]
        for kind in (*KINDS, *EXTRA_KINDS):
            for severity in SEVERITIES:
                corruption = Corruption(kind, severity, "cifar")
                if corruption.takes(channels):
                    yield kind, severity, corruption(episode.query_x, _generator(episode, severity))

    return Case(tasks, methods, count, worse)


def _digits() -> Case:
    case = digits()
    methods = {"head": adapted(untrained(case.adapter.backbone)), "forward": adapted(case.adapter)}
    return images(case.tasks, methods, 100)


def _photographs() -> Case:
    case = photographs()
    moved = FewShotAdapter.of(case.adapter.backbone, film, head=HEAD)
    return images(case.tasks, {"head": adapted(case.adapter), "forward": adapted(moved)}, 100)


def _requests() -> Case:
    case = requests()
    backbone, texts = case.adapter.backbone, Clinc150().texts
    moved = FewShotAdapter.of(backbone, film, head=HEAD)

    def worse(episode: Episode) -> Iterator[tuple[str, int, Tensor]]:
        asked = [texts[row] for row in episode.meta.query_indices]
        for kind, change in worse_texts.KINDS.items():
            for severity, level in zip(SEVERITIES, worse_texts.LEVELS, strict=True):
                ids = backbone.tokenise(change(asked, level, episode.meta.index))
                yield kind, severity, torch.as_tensor(np.asarray(ids))

    return Case(case.tasks, {"head": adapted(case.adapter), "forward": adapted(moved)}, 40, worse)


def _table(source: GroupSource, shots: int, count: int) -> Case:
    tasks = GroupedTasks(source, shots, 15, support_split="test")

    def worse(episode: Episode) -> Iterator[tuple[str, int, Tensor]]:
        x = episode.query_x
        for severity, share in zip(SEVERITIES, (0.1, 0.3, 0.5), strict=True):
            drawn = _generator(episode, severity)
            # Columns are standardised: what is missing is taken for usual.
            yield "missing cells", severity, x * (torch.rand(x.shape, generator=drawn) >= share)
            yield "noise", severity, x + 2 * share * torch.randn(x.shape, generator=drawn)

    return Case(tasks, {"head": logistic}, count, worse)


def _generator(episode: Episode, severity: int) -> torch.Generator:
    return torch.Generator().manual_seed(10 * episode.meta.index + severity)


CASES: dict[str, Callable[[], Case]] = {
    "digits": _digits,
    "photographs": _photographs,
    "requests": _requests,
    "breast cancer": lambda: _table(BreastCancer(), 5, 300),
    "german credit": lambda: _table(GermanCredit(), 10, 300),
}


def measured(name: str, case: Case, count: int) -> Iterator[Row]:
    """Accuracy by kind and severity, and what a method loses on all of them."""
    found: dict[tuple[str, str, int], list[float]] = {}
    metas = []
    for index in progress(name)(range(count)):
        episode = case.tasks.episode(index)
        predict = {method: fit(episode) for method, fit in case.methods.items()}
        for kind, severity, x in [(CLEAN, 0, episode.query_x), *case.worse(episode)]:
            for method, outputs in predict.items():
                right = outputs(x).argmax(-1) == episode.query_y
                found.setdefault((method, kind, severity), []).append(float(right.double().mean()))
        metas.append(episode.meta)
    drawn = Examples.of(metas)
    kinds = [*dict.fromkeys(kind for _, kind, _ in found if kind != CLEAN)]
    for (method, kind, severity), scores in found.items():
        shown = kind if kind == CLEAN else f"{kind} {severity}"
        interval = mean_interval(scores, drawn).times(100)
        yield Row.of(f"{name}: {method}: {shown}", "eval/accuracy", interval, "%")
    for method in case.methods:
        clean = found[method, CLEAN, 0]
        for severity in SEVERITIES:
            each = [np.array(found[method, kind, severity]) for kind in kinds]
            case_name = f"{name}: {method}: severity {severity}"
            yield Row.of(
                case_name, "eval/accuracy", mean_interval([*np.mean(each, 0)], drawn).times(100), "%"
            )
            loss = paired_difference([*np.mean(each, 0)], clean, drawn).times(100)
            yield Row.of(case_name, "compare/accuracy_minus_clean", loss, "points")
        if method != "head":
            error = {
                (m, kind): sum(1 - np.mean(found[m, kind, severity]) for severity in SEVERITIES)
                for m in ("head", method)
                for kind in kinds
            }
            ratio = float(np.mean([error[method, kind] / error["head", kind] for kind in kinds]))
            yield Row.cost(f"{name}: {method}", "trust/mce", 100 * ratio, "%", n=count)


def main() -> None:
    arguments = options(__doc__, names=f"cases, of {', '.join(CASES)}").parse_args()
    keep_freed_memory()
    os.environ.setdefault("ADAPT_DATA", str(data_root()))
    names = ["breast cancer"] if arguments.quick else arguments.names or [*CASES]
    found: list[Row] = []
    for name in names:
        case = CASES[name]()
        found += measured(name, case, 1 if arguments.quick else case.count)
    report("corruptions", found, arguments)


if __name__ == "__main__":
    main()
