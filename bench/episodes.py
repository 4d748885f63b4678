"""How fast tasks are drawn, beside learn2learn on the same images in memory.

``python -m bench.episodes [--quick] [--out folder]``. Theirs is ``Taskset`` with ``NWays, KShots, LoadData,
RemapLabels, ConsecutiveLabels`` over a ``TensorDataset`` of floats; ours a ``Distribution`` over the same
images as bytes, by either stream. Both end in tensors of all examples of a task. The unit is the processor
time of one thread, in turns, since the clock of a shared machine also counts what others do. A second pair
draws what a task is made of and loads nothing. Images are made up, as many and as large as those of
Omniglot's training classes; where the data set is at hand, its own come next.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from adapt.baselines.learn2learn import library
from adapt.compare.statistics import ratio_interval
from adapt.memory import keep_freed_memory
from bench.lib.record import Row, options, report, table
from tasks import ArraySource, Card, Distribution, Omniglot, TaskError
from tasks.vectorised import Table, draw_block

DEPENDS = ("tasks/distribution.py", "tasks/images", "tasks/vectorised.py")
SETTINGS = ((5, 1, 15), (5, 5, 15), (20, 5, 15), (5, 1, 1), (5, 5, 5), (20, 5, 5))  # ways, shots, queries
GOAL = 50.0  # times the tasks per second of learn2learn
CLASSES, PER_CLASS = 964, 20  # as in Omniglot's background set
TASKS = {"learn2learn": 8, "learn2learn, drawn only": 8}  # per turn, the others more: they are faster
MANY = 256
SPLIT = "train"


def made_up() -> ArraySource:
    """Random bytes: how long they take does not depend on what they show."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (CLASSES * PER_CLASS, 1, 28, 28), dtype=np.uint8)
    rows = np.arange(len(images)).reshape(CLASSES, PER_CLASS)
    card = Card("made up", "Random bytes.", "Computed here.", "CC0", "None.", {}, (), "None.")
    return ArraySource(card, images, {SPLIT: {f"c{c}": rows[c] for c in range(CLASSES)}})


def sources(*, quick: bool) -> Iterator[ArraySource]:
    """What there is to draw from."""
    yield made_up()
    if quick:
        return
    try:
        yield Omniglot(size=28)
    except TaskError as error:
        print(f"without Omniglot: {error}")


def taskset(source: ArraySource, ways: int, shots: int, queries: int, *, load: bool) -> Any:
    """The same tasks by learn2learn."""
    data = library().data
    pools = source.classes(SPLIT)
    x = source.load(np.concatenate([*pools.values()]))
    y = torch.arange(len(pools)).repeat_interleave(torch.tensor([len(pool) for pool in pools.values()]))
    meta, t = data.MetaDataset(torch.utils.data.TensorDataset(x, y)), data.transforms
    steps = [t.NWays(meta, ways), t.KShots(meta, shots + queries)]
    finish = [t.LoadData(meta), t.RemapLabels(meta), t.ConsecutiveLabels(meta)]
    return data.Taskset(meta, [*steps, *finish] if load else steps)


def works(source: ArraySource, ways: int, shots: int, queries: int) -> dict[str, Callable[[int, int], None]]:
    """What is timed: tasks start … stop − 1 by each way of drawing them."""
    theirs = taskset(source, ways, shots, queries, load=True)
    drawn = taskset(source, ways, shots, queries, load=False)
    plain = Distribution(source, ways, shots, queries, support_split=SPLIT)
    fast = Distribution(source, ways, shots, queries, support_split=SPLIT, vectorised=True)
    table = Table.of([*source.classes(SPLIT).values()])

    def each(draw: Callable[[], object]) -> Callable[[int, int], None]:
        def work(start: int, stop: int) -> None:
            for _ in range(start, stop):
                draw()

        return work

    def ours(tasks: Distribution) -> Callable[[int, int], None]:
        def work(start: int, stop: int) -> None:
            for _ in tasks.episodes(start, stop):
                pass

        return work

    def indices(start: int, stop: int) -> None:
        draw_block(0, start, stop, table, table, ways=ways, shots=shots, queries=queries)

    return {
        "learn2learn": each(theirs.sample),
        "plain": ours(plain),
        "vectorised": ours(fast),
        "learn2learn, drawn only": each(drawn.sample_task_description),
        "vectorised, drawn only": indices,
    }


def measure(source: ArraySource, setting: tuple[int, int, int], rounds: int) -> Iterator[Row]:
    """Times of `rounds` turns; each work does other tasks every time."""
    case = f"{source.name}, {setting[0]}-way {setting[1]}-shot, {setting[2]} queries"
    contenders = works(source, *setting)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, work in contenders.items():
            tasks = TASKS.get(name, MANY)
            started = time.process_time()
            work(turn * tasks, (turn + 1) * tasks)
            if turn:  # the first one warms up
                seconds[name].append((time.process_time() - started) / tasks)
    for name, times in seconds.items():
        yield Row.cost(case, f"time/{name}", 1e6 * float(np.median(times)), "µs", n=rounds)
    for name, goal in (("plain", None), ("vectorised", GOAL), ("vectorised, drawn only", None)):
        other = "learn2learn, drawn only" if "only" in name else "learn2learn"
        found = ratio_interval(seconds[other], seconds[name])
        yield Row(case, f"compare/{name} against {other}", found.ratio, "×", n=rounds, goal=goal)


def main() -> None:
    arguments = options(__doc__).parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    rounds, settings = (2, SETTINGS[3:5]) if arguments.quick else (15, SETTINGS)
    rows: list[Row] = []
    for source in sources(quick=arguments.quick):
        for setting in settings:
            found = [*measure(source, setting, rounds)]
            print(table(found), flush=True)
            rows += found
    report("episodes", rows, arguments)


if __name__ == "__main__":
    main()
