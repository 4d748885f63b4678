"""What adapting adds to a start, method by method, on tasks of domains that it was learned without."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch

from adapt.adapter import Context, FewShotAdapter, Forward, Method, Support
from adapt.adapter.method import Adapt, Predictor, Role, Watch, adapted_by
from adapt.adapter.state import whole_state
from adapt.app.progress import progress
from adapt.baselines import Backprop, HeadOnly, Tsa
from adapt.files import read_json, write_json
from adapt.inner import Auto, Descent, GaussNewton
from bench.lib.choosing import HEAD, accuracy_of, compared
from bench.lib.record import Row
from bench.vision import tasks_of
from tasks import Distribution

__all__ = ["added"]

START = "start"
#: Ways and queries, and the same of a miniature.
WAYS, QUERIES, MINIATURE = 5, 10, 2
#: By the number of shots, how many test tasks there are; the first is the one that rates and steps are chosen
#: with, on HELD validation tasks. With many shots a task takes minutes: one of the data sets has them.
TASKS, HELD = {5: 20, 20: 10}, 6
MANY_SHOTS = ("GTSRB",)
#: Layers that a matrix stands beside: those of 1×1 convolutions, which hold most of the weights.
POINTWISE = "*conv_pw*"


@dataclass(frozen=True)
class Both:
    """Forward steps along the directions first, from there backpropagation through all of φ."""

    solver: Descent
    max_tasks: int | None = None
    role: Role = "backprop"
    keeps_backbone: bool = True

    def prepare(self, context: Context) -> Adapt:
        """See :class:`adapt.adapter.Method`."""
        first = context.adapter.replace(solver=GaussNewton(), head=HEAD)

        def adapt(support: Support, watch: Watch) -> Predictor:
            z = first.fit(support.x, support.y).z
            state = first.state._replace(origin=first.state.origin + first.state.basis @ z)
            state = whole_state(first.space, state)
            return adapted_by(first.replace(state=state, solver=self.solver))(support, watch)

        return adapt


def of_steps(lr: float, steps: int) -> Descent:
    return Descent("adam", lr, int(steps))


#: Whose rate and steps are chosen, and of which.
CHOSEN: Mapping[str, tuple[Callable[[Descent], Method], tuple[float, ...]]] = {
    "backprop": (lambda solver: Backprop(solver, HEAD), (0.003, 0.01)),
    "both": (Both, (0.001, 0.003)),
    "TSA": (lambda solver: Tsa(solver, HEAD, POINTWISE), (0.001, 0.003)),
}
STEPS = (5, 10)


def added(data: str, adapter: FewShotAdapter, folder: Path, *, quick: bool) -> Iterator[Row]:
    """Accuracy and seconds of every method from the start of ``adapter``, and points over it."""
    found = {
        name: chosen(name, data, adapter, folder, quick) for name in [*CHOSEN][1 if quick else 0 :]
    }  # in miniature without what the others are made of
    methods: Mapping[str, Method] = {
        "as it is": HeadOnly(HEAD),
        START: Forward(GaussNewton(steps=0), HEAD),
        "forward": Forward(GaussNewton(), HEAD),
        "auto": Forward(Auto(), HEAD),
        **{name: CHOSEN[name][0](of_steps(*setting)) for name, setting in found.items()},
    }
    sizes = {MINIATURE: 1} if quick else TASKS
    for shots, number in [*sizes.items()][: None if data in MANY_SHOTS else 1]:
        shown = f"methods on {data}, {shots}-shot"
        tasks = drawn(data, shots, 2, quick)
        result = compared(
            folder / f"{shown}.json",
            methods,
            tasks,
            adapter,
            experiment="starts",
            shown=shown,
            number=number,
            device=torch.device("cpu"),
        )
        start = result.methods[START]
        for name, method in result.methods.items():
            case = f"methods: {data}, {tasks.ways}-way {shots}-shot: {name}"
            note = "lr={:g} steps={:g}".format(*found[name]) if name in found else ""
            yield Row.of(case, "eval/accuracy", method.mean_score.times(100), "%", note=note)
            yield Row.cost(case, "time/adapt_seconds", method.adapt_seconds, "s", n=method.n)
            if method is not start:
                gap = result.difference(method, start).times(100)
                yield Row.of(case, "compare/accuracy_vs_start", gap, "points", note=note)


def drawn(data: str, shots: int, part: int, quick: bool) -> Distribution:
    """Tasks of validation classes (``part`` 1) or of test classes (2)."""
    ways, queries = (MINIATURE, MINIATURE) if quick else (WAYS, QUERIES)
    return tasks_of(data, part, ways, shots, queries)


def chosen(name: str, data: str, adapter: FewShotAdapter, folder: Path, quick: bool) -> tuple[float, int]:
    """Rate and steps of a method that are best on validation tasks; their accuracies are kept."""
    path, (method, rates) = folder / f"{name} of {data}.json", CHOSEN[name]
    if not path.exists():
        grid = [*product(rates, STEPS)][: 1 if quick else None]
        tasks, found = drawn(data, MINIATURE if quick else min(TASKS), 1, quick), []
        for lr, steps in progress(path.stem)(grid):
            many = 1 if quick else HELD
            found.append([lr, steps, accuracy_of(method(of_steps(lr, steps)), tasks, adapter, many, first=0)])
        write_json(path, {"lr, steps, accuracy": found})
    kept: list[list[float]] = read_json(path)["lr, steps, accuracy"]
    lr, steps, _ = max(kept, key=lambda it: it[-1])
    return lr, int(steps)
