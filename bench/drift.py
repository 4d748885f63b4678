"""Noticing that what a task is asked has changed, and how often it is noticed where nothing has.

``python -m bench.drift [names] [--quick]``. ``names``: of the cases. A stream holds examples of a task's
classes; after half of it they are of other classes, of another world, or worse images. What is usual is how
strange the task's own examples are, each left out (:mod:`adapt.drift`). The chance of a false alarm that was
asked for is 1 %, over a whole stream. *Examples* is the median from the change to the alarm.
"""

import os
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from adapt.adapter import FittedTask
from adapt.adapter.conformal import how_well
from adapt.app.progress import progress
from adapt.compare.statistics import wilson
from adapt.drift import Monitor
from adapt.memory import keep_freed_memory
from bench.lib.models import data_root
from bench.lib.record import Row, options, report
from bench.trust import Case, digits, photographs, requests, through
from tasks import Distribution
from tasks.corruptions import Corruption

DEPENDS = ("adapt/drift", "adapt/adapter/conformal.py", "adapt/adapter/nearness.py")
CASES = {"digits": digits, "photographs": photographs, "requests": requests}
SHOTS, LENGTH, STREAMS = 10, 100, 100
SIGNALS = {"unsure": "probability", "far": "distance"}


def streams(name: str, case: Case, count: int) -> Iterator[Row]:
    """Of every change: how many alarms there were, and after how many examples."""
    own = case.tasks
    tasks = Distribution(
        own.source,
        own.ways,
        SHOTS,
        LENGTH // own.ways,
        support_split=own.support_split,
        query_split=own.query_split,
        outside=LENGTH,
        seed=5,
    )
    delays: dict[str, list[float]] = {}
    for index in progress(name)(range(count)):
        episode = tasks.episode(index)
        assert episode.meta.outside_x is not None
        task = case.adapter.fit(episode.support_x, episode.support_y, keep=True)
        order = torch.randperm(len(episode.query_x), generator=torch.Generator().manual_seed(index))
        known = episode.query_x[order]
        half = len(known) // 2
        later = {"nothing": known[half:], "other classes": episode.meta.outside_x[:half]}
        if case.strangers is not None:
            later[case.world] = case.strangers[:half]
        if known.is_floating_point():
            worse = Corruption("gaussian_noise", 3, "cifar")
            later["noise"] = worse(known[half:], torch.Generator().manual_seed(index))
        for said, rest in later.items():
            delays.setdefault(said, []).append(_delay(task, known[:half], rest, index))
    for said, found in delays.items():
        noticed = int(np.isfinite(found).sum())
        low, high = (100 * end for end in wilson(noticed, count))
        case_name = f"{name}: {said}"
        note = f"{low:.1f} to {high:.1f}"
        better = said != "nothing"
        yield Row(
            case_name, "trust/alarms", 100 * noticed / count, "%", n=count, higher_is_better=better, note=note
        )
        if better:
            middle = float(np.median(found))
            if np.isfinite(middle):
                yield Row.cost(case_name, "trust/examples", middle, "examples", n=count)


def _delay(task: FittedTask, before: Tensor, after: Tensor, seed: int) -> float:
    """Examples from the change to the alarm; below 0 one before it; infinite: none."""
    parts = [through(task, x) for x in (before, after)]  # texts of which may be of different lengths
    seen = tuple(torch.cat(both) for both in zip(*parts, strict=True))
    found = {signal: how_well(task, *seen, fit) for signal, fit in SIGNALS.items()}
    usual = {signal: (-own).tolist() for signal, (own, _) in found.items()}
    monitor = Monitor(usual, seed=seed)
    for row in range(len(seen[0])):
        monitor.see({signal: -float(new[row]) for signal, (_, new) in found.items()})
    return float("inf") if monitor.alarm is None else float(monitor.alarm.example - len(before))


def main() -> None:
    arguments = options(__doc__, names=f"cases, of {', '.join(CASES)}").parse_args()
    keep_freed_memory()
    os.environ.setdefault("ADAPT_DATA", str(data_root()))
    found: list[Row] = []
    for name in ["digits"] if arguments.quick else arguments.names or [*CASES]:
        found += streams(name, CASES[name](), 2 if arguments.quick else STREAMS)
    report("drift", found, arguments)


if __name__ == "__main__":
    main()
