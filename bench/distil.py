"""A smaller network instead of eight bits: what it keeps of an adapted one, by what it was taught.

``python -m bench.distil [--quick]``. The teacher is adapted to a task's labelled examples; the student learns
from these alone, or from what the teacher says of other images of the same classes, none of which are queries
or of their pool: probabilities at the point where it was adapted to, or means over its posterior. Settings
are chosen on validation tasks: other signs, and characters for digits, which have no other classes. One
thread; sizes are those of exported files.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from onnxruntime import InferenceSession, SessionOptions
from torch import Tensor, nn

import adapt
from adapt.adapter import Context, FewShotAdapter, FittedTask, Support
from adapt.app.progress import progress
from adapt.backbones import Conv4, load_backbone
from adapt.baselines import Finetune
from adapt.compare.examples import Examples
from adapt.compare.statistics import mean_interval, paired_difference
from adapt.edge import EdgeAdapter, quantised, save_edge
from adapt.edge.graph import INT8
from adapt.inner import GaussNewton
from adapt.memory import keep_freed_memory
from bench.lib.choosing import HEAD
from bench.lib.models import data_root
from bench.lib.record import Row, options, report
from bench.lib.timing import timed
from bench.vision import tasks_of
from tasks import Distribution, Episode

DEPENDS = (
    "adapt/adapter/adapting.py", "adapt/adapter/export.py", "adapt/adapter/uncertainty.py",
    "adapt/baselines/distilled.py", "adapt/baselines/finetune.py", "adapt/baselines/retrain.py", "adapt/edge",
    "adapt/heads", "adapt/inner/gauss_newton.py", "adapt/inner/posterior.py",
)  # fmt: skip
SIZES = (5, 5, 10)
#: Validation tasks: those that settings are chosen on, and those whose images eight bits take ranges from.
CHOOSING, CALIBRATION = 4, 4
EPOCHS = 20
DISTIL_GRID = tuple({"temperature": t, "lr": lr} for t, lr in product((1.0, 3.0), (3e-3, 1e-2)))
#: Of learning from labels alone; None: a head.
SUPPORT_GRID = (None, 3e-4, 1e-3, 3e-3)
STEPS = (0.1, 0.3)
TEACHER, INT8_TEACHER = "teacher", "teacher, eight bits"
ALONE = "student, labelled examples alone"
TAUGHT = {"student, taught by the point": False, "student, taught by posterior means": True}

#: Where labelled and unlabelled images are from, for choosing and for measuring.
SIGNS = {1: "validation_support", 2: "test_support"}

Predict = Callable[[Tensor], Tensor]


class Part(NamedTuple):
    """Tasks, and the split that their labelled and unlabelled images are from."""

    tasks: Distribution
    split: str

    def rest(self, episode: Episode) -> Tensor:
        """All other images of the task's classes."""
        pool = self.tasks.source.classes(self.split)
        used = {*episode.meta.support_indices.tolist(), *episode.meta.query_indices.tolist()}
        rows = [row for name in episode.meta.classes for row in pool[name] if row not in used]
        return self.tasks.source.load(np.array(rows))


@dataclass(frozen=True)
class Case:
    """An adapter, a smaller network, and tasks, ``tested`` of which are measured."""

    teacher: FewShotAdapter
    student: nn.Module
    validation: Part
    test: Part
    tested: int


@dataclass(frozen=True, eq=False, repr=False)
class Asked(FittedTask):
    """A teacher that says again what it has said, to the students whose settings are compared."""

    said: dict[Any, Any] = field(default_factory=dict)

    def logits(self, x: Any, **settings: Any) -> Tensor:
        return self._again(("logits", id(x)), lambda: FittedTask.logits(self, x, **settings))

    def predict_proba(self, x: Any, **settings: Any) -> Any:
        key = ("probabilities", id(x), *settings.values())
        return self._again(key, lambda: FittedTask.predict_proba(self, x, **settings))

    def _again(self, key: Any, ask: Callable[[], Any]) -> Any:
        if key not in self.said:
            self.said[key] = ask()
        return self.said[key]


def signs() -> Case:
    adapter = adapt.load("efficientnet_lite0_start").replace(solver=GaussNewton(), head=HEAD)
    validation, test = (Part(tasks_of("GTSRB", part, *SIZES), split) for part, split in SIGNS.items())
    return Case(adapter, load_backbone("conv4_cifar_fs")[0], validation, test, 12)


def digits() -> Case:
    """A quarter of the channels, from nothing that was pretrained."""
    with torch.random.fork_rng(devices=[]):  # layers take no generator
        torch.manual_seed(0)
        student = Conv4(width=16)
    validation = Part(tasks_of("Omniglot", 1, *SIZES), "validation")
    return Case(
        adapt.load("conv4_glyphs_film"),
        student,
        validation,
        Part(tasks_of("digits", 2, *SIZES), "support"),
        20,
    )


CASES = {"road signs": signs, "digits": digits}
NAMES = {"road signs": "EfficientNet-Lite0 → Conv4", "digits": "Conv4 → Conv4 with 16 channels"}


def alone(case: Case, lr: float | None) -> Callable[[Episode], Predict]:
    """Learns from the labelled examples alone: a head at the pretrained weights, or all of them."""
    frozen = FewShotAdapter.of(case.student).replace(solver=GaussNewton(steps=0))
    if lr is None:
        return lambda episode: frozen.fit(episode.support_x, episode.support_y).logits
    run = Finetune(lr=lr).prepare(Context(frozen.backbone, frozen))
    return lambda episode: run(
        Support(episode.support_x, episode.support_y, episode.meta.classes), lambda _: None
    )


def right(predict: Predict, episode: Episode) -> float:
    with torch.no_grad():
        return float((predict(episode.query_x).argmax(-1) == episode.query_y).double().mean())


@dataclass(frozen=True)
class Chosen:
    """Settings: of distilling, by what is taught, and the rate of learning from labels alone."""

    distil: Mapping[bool, Mapping[str, float]]
    alone: float | None


def choose(case: Case, number: int, grid: tuple[Mapping[str, float], ...]) -> Chosen:
    """Those that are best on validation tasks; of equals the first."""
    found: dict[Any, list[float]] = {}
    for index in progress("choosing")(range(number)):
        episode = case.validation.tasks.episode(index)
        unlabelled, x, y = case.validation.rest(episode), episode.support_x, episode.support_y
        task = case.teacher.fit(x, y)
        teacher = Asked(**{part.name: getattr(task, part.name) for part in fields(task)})
        for average, (place, settings) in product(TAUGHT.values(), enumerate(grid)):
            small = adapt.distil(
                teacher, case.student, unlabelled, x, y, average=average, **{"epochs": EPOCHS, **settings}
            )
            found.setdefault((average, place), []).append(right(small.logits, episode))
        for lr in SUPPORT_GRID:
            found.setdefault(lr, []).append(right(alone(case, lr)(episode), episode))
    means = {key: float(np.mean(scores)) for key, scores in found.items()}
    print({str(key): round(100 * mean, 1) for key, mean in means.items()}, flush=True)
    best = {
        average: grid[max(range(len(grid)), key=lambda place: means[average, place])]
        for average in TAUGHT.values()
    }
    return Chosen(best, max(SUPPORT_GRID, key=lambda lr: means[lr]))


def chosen_step(folder: Path, tasks: Distribution, number: int) -> float:
    """The width of differences in eight bits that is best on validation tasks; of equals the first."""

    def accuracy(step: float) -> float:
        edge = EdgeAdapter.load(folder, INT8, step=step)
        drawn = [tasks.episode(index) for index in range(number)]
        return float(np.mean([right(edge.fit(it.support_x, it.support_y).logits, it) for it in drawn]))

    return max(STEPS, key=accuracy)


def measured(name: str, case: Case, chosen: Chosen, folder: Path) -> Iterator[Row]:
    first, validation = case.test.tasks.episode(0), case.validation.tasks
    save_edge(case.teacher, folder, first.support_x)
    quantised(folder, torch.cat([validation.episode(10**6 + i).support_x for i in range(CALIBRATION)]))
    step = chosen_step(folder, validation, CHOOSING)
    edge, learn = EdgeAdapter.load(folder, INT8, step=step), alone(case, chosen.alone)
    scores: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    small: FittedTask | None = None
    teacher = case.teacher.fit(first.support_x, first.support_y)
    for index in progress(name)(range(case.tested)):
        episode = case.test.tasks.episode(index)
        unlabelled, x, y = case.test.rest(episode), episode.support_x, episode.support_y

        def keep(said: str, make: Callable[[], Any], logits: bool = True) -> Any:
            begun = time.perf_counter()
            made = make()
            seconds.setdefault(said, []).append(time.perf_counter() - begun)
            scores.setdefault(said, []).append(right(made.logits if logits else made, episode))  # noqa: B023
            return made

        teacher = keep(TEACHER, lambda: case.teacher.fit(x, y))  # noqa: B023
        keep(INT8_TEACHER, lambda: edge.fit(x, y))  # noqa: B023
        keep(ALONE, lambda: learn(episode), logits=False)  # noqa: B023
        for said, average in TAUGHT.items():
            settings = {"epochs": EPOCHS, **chosen.distil[average], "average": average}
            taught = lambda: adapt.distil(teacher, case.student, unlabelled, x, y, **settings)  # noqa: B023, E731
            small = keep(said, taught)
    notes = {
        said: ", ".join(f"{k} {v:g}" for k, v in chosen.distil[it].items()) for said, it in TAUGHT.items()
    }
    notes[ALONE] = "head" if chosen.alone is None else f"all weights, lr {chosen.alone:g}"
    notes[INT8_TEACHER] = f"step {step:g}"
    drawn = Examples.of(case.test.tasks.episode(index).meta for index in range(case.tested))
    for said, values in scores.items():
        shown = f"{name}, {NAMES[name]}: {said}"
        accuracy = mean_interval(values, drawn).times(100)
        yield Row.of(shown, "eval/accuracy", accuracy, "%", note=notes.get(said, ""))
        for other, metric in ((TEACHER, "teacher"), (ALONE, "labels_alone")):
            if said != other:
                gap = paired_difference(values, scores[other], drawn).times(100)
                yield Row.of(shown, f"compare/accuracy_vs_{metric}", gap, "points")
        if said == [*TAUGHT][-1]:
            gap = paired_difference(values, scores[next(iter(TAUGHT))], drawn).times(100)
            yield Row.of(shown, "compare/accuracy_vs_point", gap, "points")
        yield Row.cost(shown, "time/adapt_seconds", float(np.median(seconds[said])), "s", n=case.tested)
    assert small is not None
    one = first.query_x[:1]
    files = {
        said: _file(task, folder / f"{place}.onnx", first.query_x[:2])
        for place, (said, task) in enumerate(
            [(TEACHER, teacher), *((said, small) for said in [ALONE, *TAUGHT])]
        )
    }
    files[INT8_TEACHER] = folder / INT8, lambda: edge.features(one, torch.zeros(edge.state.k))
    for said, (path, infer) in files.items():
        shown = f"{name}, {NAMES[name]}: {said}"
        yield Row.cost(shown, "cost/size", path.stat().st_size / 2**20, "MiB")
        times = [timed(infer) for _ in range(30)]
        yield Row.cost(shown, "time/inference", 1e3 * float(np.median(times)), "ms an example")


def _file(task: FittedTask, path: Path, x: Tensor) -> tuple[Path, Callable[[], Any]]:
    """The exported task, and one inference of a single example."""
    task.export(path, x)
    settings = SessionOptions()
    settings.intra_op_num_threads = 1
    session = InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    one = task.adapter.examples(x[:1]).numpy()
    return path, lambda: session.run(None, {"x": one})


def main() -> None:
    arguments = options(__doc__).parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    os.environ.setdefault("ADAPT_DATA", str(data_root()))  # where the other benchmarks look, too
    found: list[Row] = []
    for name in ["digits"] if arguments.quick else CASES:
        case, number, grid = CASES[name](), CHOOSING, DISTIL_GRID
        if arguments.quick:
            case, number, grid = replace(case, tested=2), 1, ({**DISTIL_GRID[0], "epochs": 2},)
        with tempfile.TemporaryDirectory() as folder:
            found += measured(name, case, choose(case, number, grid), Path(folder))
    report("distil", found, arguments)


if __name__ == "__main__":
    main()
