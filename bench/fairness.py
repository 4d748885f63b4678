"""Whether a model does as well by all groups of examples.

``python -m bench.fairness [names] [--quick]``. ``names``: of the cases. *Loans*: ``adapt.fit_table`` on the
1,000 loans of German credit, each predicted without its fifth, with the protected columns among the inputs
and without. *Relations*: FewRel 2.0, ten relations of medical abstracts from 5 sentences each, by MiniLM as
it is; a group is a relation. *Signs*: all 43 kinds of GTSRB, from 5 frames each of half of the films, by a
small network as it is; a group is a film of the other half, of which there are a few frames: no film can be
judged by itself, so it is told how the worst tenth of them do. Of relations and signs mean and interval are
over draws of the support set. *Refused* is the share of fits that a gate at a gap of 10 points keeps out.
"""

import os
from collections.abc import Callable, Iterator

import numpy as np

import adapt
from adapt.adapter import FewShotAdapter
from adapt.app.progress import progress
from adapt.backbones import load_backbone
from adapt.compare.groups import Groups
from adapt.compare.statistics import mean_interval
from adapt.memory import keep_freed_memory
from bench.lib.models import data_root
from bench.lib.record import Row, options, report
from bench.trust import untrained
from tasks import GTSRB, Distribution, FewRel
from tasks.images.gtsrb import decoded

DEPENDS = ("adapt/compare/groups.py", "adapt/own_data", "adapt/heads", "tasks/own")
BY = ("status_and_sex", "age<=25", "is_foreign_worker")
MOST = 0.1
DRAWS = 20


def loans(quick: bool) -> Iterator[Row]:
    """By sex (with marital status), age, and foreign workers."""
    path = data_root() / "credit" / "german_credit.csv"
    protected = tuple(name.partition("<=")[0] for name in BY)
    learned = {"with protected columns": (), **({} if quick else {"without them": protected})}
    for said, ignore in learned.items():
        answer = adapt.fit_table(path, target="target", groups=BY, ignore=ignore, method="head")
        for kept in answer.about["groups"]:
            found = Groups.from_dict(kept)
            case = f"loans: {said}: {found.by}"
            for group in found.groups:
                half = (group.high - group.low) / 2
                yield Row(
                    f"{case}: {group.name}", "eval/accuracy", 100 * group.score, "%", 100 * half, group.n
                )
            worst = found.worst
            low, high = worst.gap_low, worst.gap_high
            shown = "too few" if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f}"
            yield Row.cost(case, "trust/gap", 100 * worst.gap, "points", note=f"{worst.name}: {shown}")
            for metric, value in (("trust/parity", found.parity), ("trust/odds", found.odds)):
                if value is not None:
                    yield Row.cost(case, metric, 100 * value, "points", n=sum(g.n for g in found.groups))


def relations(quick: bool) -> Iterator[Row]:
    """By relation: of each fit the worst, and the gap."""
    backbone, _ = load_backbone("hf:minilm")
    encoded = FewRel(markers=False).encoded(backbone.tokenise)
    tasks = Distribution(encoded, 10, 5, 5 if quick else 40, support_split="test")
    found: dict[str, list[float]] = {
        "eval/accuracy": [],
        "trust/worst": [],
        "trust/gap": [],
        "trust/refused": [],
    }
    for predicted, truth, _, names in _fits("relations", untrained(backbone), tasks, quick):
        member = [names[label] for label in truth]
        groups = Groups.of("relation", member, predicted, truth, regression=False)
        values = (
            (predicted == truth).mean(),
            groups.worst.score,
            groups.worst.gap,
            bool(groups.refused(MOST)),
        )
        for metric, value in zip(found, values, strict=True):
            found[metric].append(float(value))
    yield from _rows("relations", found)


def signs(quick: bool) -> Iterator[Row]:
    """By film: how the worst tenth of them do, over all fits together."""
    data = decoded(32, None, False)
    films = [f"{kind}/{film}" for kind, film in zip(data["classes"], data["tracks"], strict=True)]
    backbone, _ = load_backbone("conv4_cifar100")
    source = GTSRB(split_by="tracks")
    tasks = Distribution(source, 43, 5, 20, support_split="all_support", query_split="all_query")
    right: dict[str, list[float]] = {}
    every: list[float] = []
    for predicted, truth, rows, _ in _fits("signs", untrained(backbone), tasks, quick):
        every.append(float((predicted == truth).mean()))
        for row, hit in zip(rows, predicted == truth, strict=True):
            right.setdefault(films[row], []).append(float(hit))
    each = np.sort([np.mean(hits) for hits in right.values()])
    yield from _rows("signs", {"eval/accuracy": every})
    worst = float(each[: max(1, len(each) // 10)].mean())
    yield Row("signs", "trust/worst_tenth", 100 * worst, "%", n=len(each))
    yield Row.cost("signs", "trust/mostly_wrong", 100 * float((each < 0.5).mean()), "%", n=len(each))


def _fits(
    case: str, adapter: FewShotAdapter, tasks: Distribution, quick: bool
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, tuple[str, ...]]]:
    """Predictions, truth and rows of the queries of each draw, and the names of the classes."""
    for index in progress(case)(range(2 if quick else DRAWS)):
        episode = tasks.episode(index)
        predicted = adapter.fit(episode.support_x, episode.support_y).predict(episode.query_x)
        rows = np.asarray(episode.meta.query_indices)
        yield predicted, episode.query_y.numpy(), rows, episode.meta.classes


def _rows(case: str, found: dict[str, list[float]]) -> Iterator[Row]:
    for metric, values in found.items():
        better, unit = metric in ("eval/accuracy", "trust/worst"), "points" if metric == "trust/gap" else "%"
        yield Row.of(case, metric, mean_interval(values).times(100), unit, higher_is_better=better)


CASES: dict[str, Callable[[bool], Iterator[Row]]] = {"loans": loans, "relations": relations, "signs": signs}


def main() -> None:
    arguments = options(__doc__, names=f"cases, of {', '.join(CASES)}").parse_args()
    keep_freed_memory()
    os.environ.setdefault("ADAPT_DATA", str(data_root()))
    found: list[Row] = []
    for name in ["loans"] if arguments.quick else arguments.names or [*CASES]:
        found += CASES[name](arguments.quick)
    report("fairness", found, arguments)


if __name__ == "__main__":
    main()
