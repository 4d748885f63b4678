"""What adapting adds to a start, method by method, on tasks of domains that it was learned without."""

from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path

import torch

from adapt.adapter import FewShotAdapter, Forward, Method
from adapt.app.progress import progress
from adapt.baselines import Backprop, HeadOnly
from adapt.files import read_json, write_json
from adapt.inner import Auto, Descent, GaussNewton
from bench.lib.choosing import HEAD, accuracy_of, compared
from bench.lib.record import Row
from bench.vision import SPLITS, source
from tasks import Distribution

__all__ = ["added"]

GRID = [*product((0.003, 0.01), (3, 10))]
START = "start"
SIZES, MINIATURE = (5, 5, 10), (2, 2, 2)


def added(
    data: str, adapter: FewShotAdapter, folder: Path, *, quick: bool, tasks: int, held: int
) -> Iterator[Row]:
    """Accuracy and seconds of every method from the start of ``adapter``, and points over the start itself.

    Args:
        tasks, held: test tasks, and validation tasks on which rate and steps of backpropagation are chosen.
    """
    sizes = MINIATURE if quick else SIZES
    grid = GRID[:1] if quick else GRID
    settings = chosen(data, adapter, folder / f"backprop of {data}.json", sizes, grid, held)
    lr, steps = max(settings, key=lambda it: it[-1])[:2]
    methods: Mapping[str, Method] = {
        "as it is": HeadOnly(HEAD),
        START: Forward(GaussNewton(steps=0), HEAD),
        "forward": Forward(GaussNewton(), HEAD),
        "auto": Forward(Auto(), HEAD),
        "backprop": Backprop(Descent("adam", lr, int(steps)), HEAD),
    }
    result = compared(
        folder / f"methods on {data}.json",
        methods,
        Distribution(source(data), *sizes, *SPLITS[data][2]),
        adapter,
        experiment="starts",
        shown=f"methods on {data}",
        number=tasks,
        device=torch.device("cpu"),
    )
    start = result.methods[START]
    for name, method in result.methods.items():
        case = f"methods: {data}, {sizes[0]}-way {sizes[1]}-shot: {name}"
        note = f"lr={lr} steps={steps}" if name == "backprop" else ""
        yield Row.of(case, "eval/accuracy", method.mean_score.times(100), "%", note=note)
        yield Row.cost(case, "time/adapt_seconds", method.adapt_seconds, "s", n=method.n)
        if method is not start:
            gap = result.difference(method, start).times(100)
            yield Row.of(case, "compare/accuracy_vs_start", gap, "points", note=note)


def chosen(
    data: str,
    adapter: FewShotAdapter,
    path: Path,
    sizes: tuple[int, int, int],
    grid: list[tuple[float, int]],
    held: int,
) -> list[list[float]]:
    """Rate, steps and accuracy on validation tasks, kept in ``path``."""
    if not path.exists():
        tasks, found = Distribution(source(data), *sizes, *SPLITS[data][1]), []
        for lr, steps in progress(path.stem)(grid):
            method = Backprop(Descent("adam", lr, steps), HEAD)
            found.append([lr, steps, accuracy_of(method, tasks, adapter, held, first=0)])
        write_json(path, {"lr, steps, accuracy": found})
    kept: list[list[float]] = read_json(path)["lr, steps, accuracy"]
    return kept
