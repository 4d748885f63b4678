"""Relations that sentences of PubMed state, learned from 1 or 5 examples each, with all-MiniLM-L6-v2.

``python -m bench.relations [--quick] [--until MINUTES]``. Tasks are drawn from the test relations of FewRel
2.0 (medical abstracts); a start φ₀, a low-rank change of every layer, and directions U are learned on 11
relations of Wikipedia, which are of another domain. What to read off a sentence, the heads, how long φ₀ is
trained and the settings of every method are chosen on relations of Wikipedia; each method sees the test tasks
once. How much of φ₀ to take is left to the support set: the share with the smallest leave-one-out loss (of
ridge). Seconds are those of the processor, of one thread, with encoding the support set; queries are no part
of them. What has been done is kept in ``outputs/bench/relations``; after ``--until`` minutes nothing new is
begun.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from adapt.adapter.state import AdapterState
from adapt.compare.statistics import mean_interval, paired_difference
from adapt.files import read_json, read_tensors, write_json, write_tensors
from adapt.heads import Head, Logistic, Prototype, Ridge, one_hot
from adapt.inner import Auto, Linearised
from adapt.spaces import lora
from bench.lib.intent_data import Bag, Pool, small_benchmarks
from bench.lib.intent_learning import (
    PROBLEM,
    Settings,
    choose_forward,
    descend,
    forward,
    learn_basis,
    learn_start,
    tasks_of,
)
from bench.lib.record import KEPT, RESULTS, Row, table, write
from bench.lib.relation_text import Sentences, Table, Task, draws, encoders, examples_of, fit, pools

CACHE = KEPT / "relations"
HEADS: dict[str, dict[str, Head]] = {
    "prototypes": {"": Prototype()},
    "ridge": {f"l2={l2}": Ridge(l2) for l2 in (0.1, 1.0)},
    "logistic": {f"l2={l2}": Logistic(l2) for l2 in (0.003, 0.03, 0.3)},
}
FORWARD = [(2, 5, 1.0), (8, 5, 0.1), (8, 5, 1.0), (8, 5, 10.0)]
BACKPROP = [(lr, steps) for lr in (3e-4, 1e-3) for steps in (1, 3)]
SHARES = (0.0, 0.5, 1.0)
REFERENCE, LINEAR, AUTO, BACK = "frozen, logistic", "forward, linearised", "forward, auto", "backprop"
CHOSEN_START = "start, logistic"
Scores = dict[str, list[float]]


@dataclass(frozen=True)
class Size:
    """``tasks`` for heads on kept features, the first ``costly`` of them for methods that move the network
    (0: none), the first ``timed`` for the seconds of heads."""

    ways: int
    shots: int
    tasks: int = 600
    costly: int = 0
    timed: int = 10

    @property
    def name(self) -> str:
        return f"{self.ways}-way {self.shots}-shot"


@dataclass(frozen=True)
class Study:
    """``networks``: what may be read off a sentence; what is computed is kept in ``folder``."""

    pools: Mapping[str, Pool]
    networks: Mapping[str, nn.Module]
    settings: Settings
    sizes: Sequence[Size]
    folder: Path
    sample: int = 60
    choice_tasks: int = 300
    validation_tasks: int = 4
    queries: int = 10

    # ------------------------------------------------------------------------- choices and learning

    @cached_property
    def frozen(self) -> dict[str, Any]:
        """What to read off a sentence and the heads, on the pretrained network: ``{"pooling": [[name,
        accuracy], …], …}`` on 5-way 5-shot tasks of all relations of Wikipedia."""
        path = self.folder / "frozen.json"
        if not path.exists():
            sample = {
                relation: texts[: self.sample]
                for split in ("train", "validation")
                for relation, texts in self.pools[split].texts.items()
            }
            pool, found = Pool(sample), dict[str, Any]()
            tables = {name: Table.of(Sentences(it, lora(it)), pool) for name, it in self.networks.items()}
            drawn = [*islice(draws(pool, 5, 5, self.queries), self.choice_tasks)]
            head = HEADS["logistic"]["l2=0.03"]
            found["pooling"] = [
                [name, 100 * float(np.mean([it.score(head, task) for task in drawn]))]
                for name, it in tables.items()
            ]
            best = tables[best_of(found["pooling"])[0]]
            for kind, options in HEADS.items():
                found[kind] = [
                    [name, 100 * float(np.mean([best.score(head, task) for task in drawn]))]
                    for name, head in options.items()
                ]
            write_json(path, found)
        return read_json(path)

    @cached_property
    def heads(self) -> dict[str, Head]:
        return {kind: options[best_of(self.frozen[kind])[0]] for kind, options in HEADS.items()}

    @cached_property
    def encoder(self) -> Sentences:
        network = self.networks[best_of(self.frozen["pooling"])[0]]
        return Sentences(network, lora(network, rank=4))

    @cached_property
    def learned(self) -> tuple[AdapterState, list[list[float]]]:
        """φ₀ and U, and the log of the learning."""
        learn, validate = self.pools["train"], self.pools["validation"]
        start, log = learn_start(self.encoder, learn, validate, self.settings, self.folder)
        return learn_basis(self.encoder, start, learn, self.settings, self.folder), log

    @cached_property
    def moving(self) -> dict[str, Any]:
        """Settings of what moves the network: ``{"forward": [[k, steps, damping, accuracy], …], …}``."""
        path = self.folder / "choices.json"
        if not path.exists():
            state, pool = self.learned[0], self.pools["validation"]
            settings = replace(self.settings, validation_tasks=self.validation_tasks)
            ours = choose_forward(self.encoder, state, pool, settings, FORWARD)
            theirs: dict[tuple[float, int], list[float]] = {setting: [] for setting in BACKPROP}
            for task in tasks_of(pool, settings, settings.validation_queries):
                for lr in sorted({lr for lr, _ in BACKPROP}):
                    most = max(steps for _, steps in BACKPROP)
                    for step, phi in descend(self.encoder, state.origin, task[0], task[1], lr, most):
                        if (lr, step) in theirs:
                            theirs[lr, step].append(self.judged(self.fitted(task, phi), task, phi))
            found = {
                "forward": [[*setting, accuracy] for setting, accuracy in ours.items()],
                "backprop": [[*setting, 100 * float(np.mean(it))] for setting, it in theirs.items()],
            }
            write_json(path, found)
        return read_json(path)

    # ----------------------------------------------------------------------------------- measuring

    def shared(self, share: float) -> Tensor:
        """φ ``[P]`` at a share of the way from the pretrained network to φ₀."""
        return torch.lerp(self.encoder.space.initial, self.learned[0].origin, share)

    @cached_property
    def tables(self) -> dict[float, "Table"]:
        """Features of all test sentences at every share of φ₀."""
        found = {}
        for share in SHARES:
            path = self.folder / f"test, {share}.safetensors"
            if not path.exists():
                kept = Table.of(self.encoder, self.pools["test"], self.shared(share))
                write_tensors(path, {"features": kept.features})
            found[share] = Table(self.pools["test"].all()[0], read_tensors(path)["features"])
        return found

    def tasks(self, size: Size) -> Iterator[Task]:
        return draws(self.pools["test"], size.ways, size.shots, self.queries)

    def by_heads(self, size: Size) -> dict[str, Any]:
        """``{"scores": {method: one per task}, "seconds": {method: one per timed task}}`` of heads."""
        path = self.folder / f"{size.name}, heads.json"
        if not path.exists():
            scores: Scores = {}
            for task in islice(self.tasks(size), size.tasks):
                for kind, head in self.heads.items():
                    keep(scores, f"frozen, {kind}", self.tables[0.0].score(head, task))
                for kind in ("prototypes", "logistic"):
                    score = self.tables[1.0].score(self.heads[kind], task)
                    keep(scores, f"whole start, {kind}", score)
                if size.shots > 1:
                    share = self.share(
                        {share: it.features_of(task[0]) for share, it in self.tables.items()}, task
                    )
                    keep(scores, CHOSEN_START, self.tables[share].score(self.heads["logistic"], task))
            write_json(path, {"scores": scores, "seconds": self._seconds_of_heads(size)})
        return read_json(path)

    def _seconds_of_heads(self, size: Size) -> Scores:
        seconds: Scores = {}
        for task in islice(self.tasks(size), size.timed):
            encoding, fitting, there = {}, {}, {}
            for share in SHARES:
                there[share], encoding[share] = timed(self.encoder.plain, task[0], self.at(share))
            for kind, head in self.heads.items():
                _, fitting[kind] = timed(fit, head, there[0.0], task[1])
                keep(seconds, f"frozen, {kind}", encoding[0.0] + fitting[kind])
            for kind in ("prototypes", "logistic"):
                keep(seconds, f"whole start, {kind}", encoding[1.0] + fitting[kind])
            if size.shots > 1:
                _, choosing = timed(self.share, there, task)
                keep(seconds, CHOSEN_START, sum(encoding.values()) + choosing + fitting["logistic"])
        return seconds

    def at(self, share: float) -> Tensor | None:
        """φ, or None: the backbone as it is, without merging anything."""
        return self.shared(share) if share else None

    def share(self, features: Mapping[float, Tensor], task: Task) -> float:
        """The share of φ₀ that predicts every support example best from the others, by ridge: in closed form,
        where the logistic head would be fitted anew for every example."""

        def held_out(x: Tensor) -> float:
            targets = one_hot(task[1], int(task[1].max()) + 1, x.dtype)
            return float(PROBLEM.loss.values(self.heads["ridge"].loo_logits(x, targets), targets).mean())

        return min(features, key=lambda share: held_out(features[share]))

    def fitted(self, task: Task, phi: Tensor) -> Tensor:
        """State of the logistic head on the support set at φ."""
        return fit(self.heads["logistic"], self.encoder.plain(task[0], phi), task[1])

    def judged(self, state: Tensor, task: Task, phi: Tensor) -> float:
        """Accuracy on the queries at φ, 0 … 1."""
        logits = self.heads["logistic"].logits(state, self.encoder.plain(task[2], phi))
        return float((logits.argmax(-1) == task[3]).double().mean())

    def by_moving(self, size: Size, until: float = float("inf")) -> dict[str, Any]:
        """As :meth:`by_heads`, of what moves the network; begins no task after ``until``, by the clock."""
        path = self.folder / f"{size.name}, moving.json"
        found = read_json(path) if path.exists() else {"scores": {}, "seconds": {}}
        done = max(map(len, found["scores"].values()), default=0)
        for task in islice(self.tasks(size), done, size.costly):
            if time.monotonic() > until:
                break
            share, choosing = timed(self._choose_share, task)
            state = self.learned[0]._replace(origin=self.shared(share))
            for name, move in self.moves(state, task).items():
                (phi, head), seconds = timed(self._moved, move, task)
                keep(found["scores"], name, self.judged(head, task, phi))
                keep(found["seconds"], name, choosing + seconds)
            write_json(path, found)
            done += 1
            print(f"  {size.name}, {done}: share {share}, " + means(found["scores"]), flush=True)
        return found

    def _choose_share(self, task: Task) -> float:
        return self.share({share: self.encoder.plain(task[0], self.at(share)) for share in SHARES}, task)

    def _moved(self, move: Callable[[], Tensor], task: Task) -> tuple[Tensor, Tensor]:
        phi = move()
        return phi, self.fitted(task, phi)

    def moves(self, state: AdapterState, task: Task) -> dict[str, Callable[[], Tensor]]:
        """Method -> φ for the support set of ``task``."""
        k, steps, damping, _ = best_of(self.moving["forward"])
        lr, descents, _ = best_of(self.moving["backprop"])
        linear = Linearised(int(steps), damping)
        auto = Auto(directions=(2, 8), strengths=(damping,), folds=3)

        def ours(solver: Linearised | Auto, few: AdapterState) -> Tensor:
            return forward(self.encoder, few, solver, task[0], task[1])[0]

        def theirs() -> Tensor:
            return [*descend(self.encoder, state.origin, task[0], task[1], lr, int(descents))][-1][1]

        return {
            LINEAR: lambda: ours(linear, state.leading(int(k))),
            AUTO: lambda: ours(auto, state),
            BACK: theirs,
        }


def timed(work: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    begun = time.process_time()
    return work(*arguments), time.process_time() - begun


def keep(scores: Scores, name: str, value: float) -> None:
    scores.setdefault(name, []).append(value)


def best_of(rows: Sequence[Sequence[Any]]) -> Sequence[Any]:
    """The first of those with the greatest last number."""
    return max(rows, key=lambda row: row[-1])


def means(scores: Scores) -> str:
    return ", ".join(f"{name} {100 * np.mean(values):.1f}" for name, values in scores.items())


def rows_of(study: Study) -> Iterator[Row]:
    """Accuracy and seconds, and differences to the frozen network's logistic head on the same tasks."""
    pooling, accuracy = best_of(study.frozen["pooling"])
    note = "Wikipedia; " + ", ".join(f"{name} {value:.1f}" for name, value in study.frozen["pooling"])
    yield Row(f"features: {pooling}", "validation/accuracy", accuracy, "%", note=note)
    log = study.learned[1]
    note = f"Wikipedia; {log[0][2]:.2f} before; prototypes"
    yield Row("start", "validation/accuracy", max(row[2] for row in log), "%", note=note)
    yield Row.cost("start", "time/train_seconds", log[-1][3], "s", note="processor")
    for size in study.sizes:
        if not (study.folder / f"{size.name}, heads.json").exists():
            continue  # --until came first
        found = study.by_heads(size)
        if (study.folder / f"{size.name}, moving.json").exists():
            more = read_json(study.folder / f"{size.name}, moving.json")
            found = {key: {**found[key], **more[key]} for key in found}
        drawn = examples_of(islice(study.tasks(size), size.tasks))
        for name, scores in found["scores"].items():
            case, mean = f"{size.name}: {name}", mean_interval([100 * score for score in scores], drawn)
            yield Row.of(case, "eval/accuracy", mean, "%")
            seconds = mean_interval(found["seconds"][name])
            yield Row.cost(case, "time/adapt_seconds", seconds.mean, "s", seconds.ci95, seconds.n)
            for rival, metric in (
                (REFERENCE, "compare/accuracy_vs_head"),
                (BACK, "compare/accuracy_vs_backprop"),
            ):
                if (
                    name == rival
                    or rival not in found["scores"]
                    or (rival == BACK and name not in (LINEAR, AUTO))
                ):
                    continue
                theirs = found["scores"][rival][: len(scores)]
                gap = paired_difference([100 * a for a in scores], [100 * b for b in theirs], drawn)
                goal = 0.0 if name in (CHOSEN_START, AUTO) and rival == REFERENCE else None
                yield Row.of(case, metric, gap, "points", goal=goal)


SETTINGS = Settings(
    steps=60,
    ways=8,
    shots=3,
    queries=2,
    lr=1e-3,
    validate_every=20,
    basis_tasks=10,
    basis_ways=5,
    validation_tasks=3,
    validation_ways=5,
    start_queries=30,
    validation_queries=15,
)
SIZES = (Size(5, 5, costly=100), Size(5, 1), Size(10, 5), Size(10, 1))
SMALL = Settings(
    steps=2, ways=4, shots=2, queries=2, validate_every=1, basis_tasks=8, basis_ways=4, basis_steps=1,
    validation_ways=4, start_queries=5, validation_queries=5,
)  # fmt: skip


def small(folder: Path) -> Study:
    """The same with made-up texts and a small network."""
    (made_up,) = small_benchmarks()
    splits = {"train": made_up.learn, "validation": made_up.validate, "test": made_up.test}
    sizes = (Size(4, 1, 4, 0, 2), Size(4, 5, 4, 2, 2))
    networks = {"mean": Bag().eval().requires_grad_(False)}
    return Study(splits, networks, SMALL, sizes, folder, 12, 5, 1, queries=5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="made-up texts and a small network")
    parser.add_argument("--until", type=float, default=1e9, help="minutes after which nothing new is begun")
    parser.add_argument("--out", type=Path, help="folder of the result")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    until = time.monotonic() + 60 * arguments.until
    folder = arguments.out / "relations" if arguments.out else CACHE
    study = small(folder) if arguments.quick else Study(pools(), encoders(), SETTINGS, SIZES, folder)
    print(study.frozen, study.learned[1][-1], study.moving, sep="\n", flush=True)
    for size in study.sizes:
        if time.monotonic() < until:
            print(f"{size.name}: " + means(study.by_heads(size)["scores"]), flush=True)
    for size in study.sizes:
        study.by_moving(size, until)
    found = [*rows_of(study)]
    print(table(found))
    print(write("relations", found, quick=arguments.quick, folder=arguments.out or RESULTS, remarks=REMARKS))


REMARKS = (
    "Rows 'whole start' take all of φ₀; 'start', 'forward' and 'backprop' begin at the share of it that "
    "leave-one-out on the support set likes best, and their seconds hold that choice.",
    "With one shot nothing is left when an example is left out: there is nothing to choose or to descend on.",
)


if __name__ == "__main__":
    main()
