"""Many tasks at once, beside one after the other: tasks a second of ``fit_many`` and ``predict_many``.

``python -m bench.many_tasks [--quick]``. Small networks spend their time on calls, which a stack of tasks
makes once; of Conv4 a stack is measured too, which ``fit_many`` leaves alone on a CPU. The unit is the
processor time of one thread, in turns. Values are compared as well.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

import adapt
from adapt.adapter import FewShotAdapter, many
from adapt.compare.statistics import ratio_interval
from adapt.memory import keep_freed_memory
from bench.lib.record import Row, options, report
from tasks import Digits, Distribution, FunctionTasks, Sinusoid, VehicleDynamics

DEPENDS = (
    "adapt/adapter", "adapt/backbones", "adapt/forward", "adapt/heads", "adapt/inner", "adapt/spaces",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """An adapter, its tasks, how many in a turn, and times the tasks a second that were aimed at."""

    adapter: str
    tasks: Callable[[], Distribution | FunctionTasks]
    number: int
    goal: float


CASES = {
    "sinusoids, 10 points": Case("mlp_sinusoid", lambda: FunctionTasks(Sinusoid(), 10, 10), 256, 20.0),
    "vehicles, 10 moments": Case(
        "mlp_vehicle_dynamics", lambda: FunctionTasks(VehicleDynamics(), 10, 10), 256, 20.0
    ),
    "digits, 5-way 5-shot": Case(
        "conv4_glyphs_film", lambda: Distribution(Digits(), 5, 5, 5, "support", "query"), 16, 4.0
    ),
}


def measure(name: str, case: Case, rounds: int, number: int) -> Iterator[Row]:
    adapter, tasks = adapt.load(case.adapter), case.tasks()
    episodes = [*tasks.episodes(0, number)]
    given = [(episode.support_x, episode.support_y) for episode in episodes]
    queries = [episode.query_x for episode in episodes]
    alone, together = [adapter.fit(*task) for task in given], adapter.fit_many(given)
    works: dict[str, Callable[[], object]] = {
        "fit": lambda: [adapter.fit(*task) for task in given],
        "fit_many": lambda: adapter.fit_many(given),
        "stacked": lambda: stacked(adapter, given),
        "predict": lambda: [task.predict(x) for task, x in zip(alone, queries, strict=True)],
        "predict_many": lambda: adapter.predict_many(together, queries),
    }
    seconds: dict[str, list[float]] = {work: [] for work in works}
    for turn in range(rounds + 1):
        for said, work in works.items():
            begun = time.process_time()
            work()
            if turn:  # the first one warms up
                seconds[said].append((time.process_time() - begun) / number)
    for said, times in seconds.items():
        yield Row.cost(name, f"time/{said}", 1e3 * float(np.median(times)), "ms a task", n=rounds)
    for said, other, goal in (
        ("fit_many", "fit", case.goal),
        ("stacked", "fit", None),
        ("predict_many", "predict", None),
    ):
        ratio = ratio_interval(seconds[other], seconds[said]).ratio
        yield Row(name, f"compare/{said} against {other}", ratio, "×", n=rounds, goal=goal)
    apart = max(
        float((one.logits(x) - other.logits(x)).abs().max() / (1 + other.logits(x).abs().max()))
        for one, other, x in zip(together, alone, queries, strict=True)
    )
    yield Row.cost(name, "compare/outputs apart", apart, "", n=number, goal=1e-5)


def stacked(adapter: FewShotAdapter, given: list[tuple[Tensor, Tensor]]) -> list[adapt.FittedTask]:
    """As ``fit_many`` does it, whatever the size of the network."""
    small, many.SMALL = many.SMALL, 10**18
    try:
        return adapter.fit_many(given)
    finally:
        many.SMALL = small


def main() -> None:
    arguments = options(__doc__).parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    found: list[Row] = []
    for name, case in CASES.items():
        quick = arguments.quick
        found += measure(name, case, 1 if quick else 9, 2 if quick else case.number)
    report("many_tasks", found, arguments)


if __name__ == "__main__":
    main()
