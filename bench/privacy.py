"""What it costs that no single example is told of: error against ε, for a vehicle that is new.

``python -m bench.privacy [--quick]``. The sums from which a task is adapted (``adapter.statistics``) are
clipped and get noise; one step of Gauss–Newton follows. The clip is chosen for each ε and number of examples
on validation vehicles; test vehicles are looked at once. δ is 1e-5.
"""

from collections.abc import Iterator

import numpy as np
import torch

import adapt
from adapt.adapter import FewShotAdapter, Privacy
from adapt.compare.statistics import mean_interval, paired_difference
from adapt.memory import keep_freed_memory
from bench.lib.record import Row, options, report
from tasks import FunctionTasks, VehicleDynamics

DEPENDS = ("adapt/adapter", "adapt/inner", "tasks/functions.py", "tasks/regression")
ADAPTER, QUERIES = "mlp_vehicle_dynamics", 100
SIZES, EPSILONS, CLIPS = (10, 50, 500), (1.0, 4.0, 16.0), (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
TESTED, CHOOSING = 200, 60


def errors(adapter: FewShotAdapter, size: int, split: str, count: int, private: Privacy | None) -> np.ndarray:
    """Squared error on the queries of each task after one step."""
    tasks, found = FunctionTasks(VehicleDynamics(), size, QUERIES, support_split=split), []
    for index in range(count):
        episode, drawn = tasks.episode(index), torch.Generator().manual_seed(index)
        sent = adapter.statistics(episode.support_x, episode.support_y, private=private, generator=drawn)
        outputs = adapter.fit_statistics([sent]).logits(episode.query_x)
        found.append(float((outputs - episode.query_y).square().mean()))
    return np.array(found)


def rows(quick: bool) -> Iterator[Row]:
    adapter = adapt.load(ADAPTER)
    tested, choosing = (2, 1) if quick else (TESTED, CHOOSING)
    for size in SIZES[:1] if quick else SIZES:
        plain = errors(adapter, size, "test", tested, None)
        start = errors(adapter.replace(state=adapter.state.leading(0)), size, "test", tested, None)
        for said, values in {"not adapted": start, "no noise": plain}.items():
            yield Row.of(
                f"{size} examples: {said}", "eval/mse", mean_interval(values), higher_is_better=False
            )
        for epsilon in EPSILONS:
            tried = {
                clip: errors(adapter, size, "validation", choosing, Privacy(epsilon, clip=clip)).mean()
                for clip in CLIPS
            }
            clip = min(tried, key=lambda it: tried[it])
            case, note = f"{size} examples: ε = {epsilon:g}", f"clip {clip:g}"
            found = errors(adapter, size, "test", tested, Privacy(epsilon, clip=clip))
            yield Row.of(case, "eval/mse", mean_interval(found), higher_is_better=False, note=note)
            gap = paired_difference(found, start)
            yield Row.of(case, "compare/mse_minus_not_adapted", gap, higher_is_better=False)


def main() -> None:
    arguments = options(__doc__).parse_args()
    keep_freed_memory()
    report("privacy", [*rows(arguments.quick)], arguments)


if __name__ == "__main__":
    main()
