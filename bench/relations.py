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

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from adapt.heads import Head, Logistic, Prototype, Ridge
from adapt.spaces import lora
from bench.lib.intent_data import small_benchmarks
from bench.lib.record import Row, folder_of, report
from bench.lib.relation_text import ROWS, Table, encoders, examples_of, pools
from bench.lib.text_learning import Learning, Settings, best_of, held_out, kept_json, kept_tensor
from bench.lib.text_study import Scores, gap_row, processor, score_rows, until_option, work_off
from bench.lib.texts import Bag, Encoder, Pool, Task, accuracy, fit

DEPENDS = (
    "adapt/adapter", "adapt/backbones", "adapt/forward", "adapt/heads", "adapt/inner", "adapt/spaces",
    "bench/lib/relation_text.py", "bench/lib/text_learning.py", "bench/lib/texts.py", "tasks/text",
)  # fmt: skip
HEADS: dict[str, dict[str, Head]] = {
    "prototypes": {"": Prototype()},
    "ridge": {f"l2={l2}": Ridge(l2) for l2 in (0.1, 1.0)},
    "logistic": {f"l2={l2}": Logistic(l2) for l2 in (0.003, 0.03, 0.3)},
}
FORWARD = [(2, 5, 1.0), (8, 5, 0.1), (8, 5, 1.0), (8, 5, 10.0)]
SHARES = (0.0, 0.5, 1.0)
REFERENCE, LINEAR, AUTO, BACK = "frozen, logistic", "forward, linearised", "forward, auto", "backprop"
CHOSEN_START = "start, logistic"


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
    queries: int = 10

    # ------------------------------------------------------------------------- choices and learning

    @cached_property
    def frozen(self) -> dict[str, Any]:
        """What to read off a sentence and the heads, on the pretrained network: ``{"pooling": [[name,
        accuracy], …], …}`` on 5-way 5-shot tasks of all relations of Wikipedia."""
        return kept_json(self.folder / "frozen.json", self._frozen)

    def _frozen(self) -> dict[str, list[list[Any]]]:
        pool = Pool(
            {
                relation: texts[: self.sample]
                for split in ("train", "validation")
                for relation, texts in self.pools[split].texts.items()
            }
        )
        tasks = [pool.task(5, 5, self.queries, (5, 5, number)) for number in range(self.choice_tasks)]

        def row(name: str, table: Table, head: Head) -> list[Any]:
            return [name, 100 * float(np.mean([table.score(head, task) for task in tasks]))]

        tables = {name: Table.of(Encoder(it, lora(it), ROWS), pool) for name, it in self.networks.items()}
        pooling = [row(name, it, HEADS["logistic"]["l2=0.03"]) for name, it in tables.items()]
        best = tables[best_of(pooling)[0]]
        heads = {
            kind: [row(name, best, head) for name, head in options.items()] for kind, options in HEADS.items()
        }
        return {"pooling": pooling, **heads}

    @cached_property
    def heads(self) -> dict[str, Head]:
        return {kind: options[best_of(self.frozen[kind])[0]] for kind, options in HEADS.items()}

    @cached_property
    def learning(self) -> Learning:
        network = self.networks[best_of(self.frozen["pooling"])[0]]
        encoder = Encoder(network, lora(network, rank=4), ROWS)
        learn, validate = self.pools["train"], self.pools["validation"]
        head = self.heads["logistic"]
        return Learning(encoder, learn, validate, self.settings, self.folder, FORWARD, head)

    # ----------------------------------------------------------------------------------- measuring

    @cached_property
    def tables(self) -> dict[float, Table]:
        """Features of all test sentences at every share of φ₀."""
        texts, _ = self.pools["test"].all()
        there = {share: partial(self.encode, texts, self.learning.at(share)) for share in SHARES}
        files = {share: self.folder / f"test, {share}.safetensors" for share in SHARES}
        return {share: Table(texts, kept_tensor(files[share], make)) for share, make in there.items()}

    def encode(self, texts: Sequence[str], phi: Tensor | None) -> Tensor:
        return self.learning.encoder.plain(texts, phi)

    def scores(self, size: Size) -> Scores:
        return Scores(self.folder / f"{size.name}.json")

    def task(self, size: Size, number: int) -> Task:
        return self.pools["test"].task(size.ways, size.shots, self.queries, (size.ways, size.shots, number))

    def by_heads(self, size: Size) -> None:
        """Measures heads, on kept features."""
        scores = self.scores(size)
        if scores.of(REFERENCE):
            return
        for task in (self.task(size, number) for number in range(size.tasks)):
            for kind, head in self.heads.items():
                scores.add(f"frozen, {kind}", [self.tables[0.0].score(head, task)])
            for kind in ("prototypes", "logistic"):
                scores.add(f"whole start, {kind}", [self.tables[1.0].score(self.heads[kind], task)])
            if size.shots > 1:
                there = {share: it.features_of(task[0]) for share, it in self.tables.items()}
                share = self.share(there, task)
                scores.add(CHOSEN_START, [self.tables[share].score(self.heads["logistic"], task)])
        for number in range(size.timed):
            self._time_heads(size, self.task(size, number), scores)
        scores.save()
        print(f"{size.name}: {means(scores)}", flush=True)

    def _time_heads(self, size: Size, task: Task, scores: Scores) -> None:
        encoding, fitting, there = {}, {}, {}
        for share in SHARES:
            there[share], encoding[share] = processor(self.encode, task[0], self.at(share))
        for kind, head in self.heads.items():
            _, fitting[kind] = processor(fit, head, there[0.0], task[1])
            scores.add(f"frozen, {kind}", seconds=[encoding[0.0] + fitting[kind]])
        for kind in ("prototypes", "logistic"):
            scores.add(f"whole start, {kind}", seconds=[encoding[1.0] + fitting[kind]])
        if size.shots > 1:
            _, choosing = processor(self.share, there, task)
            scores.add(CHOSEN_START, seconds=[sum(encoding.values()) + choosing + fitting["logistic"]])

    def at(self, share: float) -> Tensor | None:
        """φ, or None: the backbone as it is, without merging anything."""
        return self.learning.at(share) if share else None

    def share(self, features: Mapping[float, Tensor], task: Task) -> float:
        """The share of φ₀ that predicts every support example best from the others, by ridge: in closed form,
        where the logistic head would be fitted anew for every example."""
        return min(features, key=lambda share: held_out(self.heads["ridge"], features[share], task[1]))

    def by_moving(self, size: Size, number: int) -> None:
        """Measures what moves the network, on one task."""
        scores = self.scores(size)
        if len(scores.of(LINEAR)) > number:
            return
        task = self.task(size, number)
        share, choosing = processor(self._choose_share, task)
        for name, move in self._moves(self.learning.at(share), task).items():
            (phi, head), seconds = processor(self._moved, move, task)
            right = accuracy(self.heads["logistic"], head, self.encode(task[2], phi), task[3])
            scores.add(name, [right], [choosing + seconds])
        scores.save()
        print(f"  {size.name}, {number + 1}: share {share}, {means(scores)}", flush=True)

    def _choose_share(self, task: Task) -> float:
        return self.share({share: self.encode(task[0], self.at(share)) for share in SHARES}, task)

    def _moved(self, move: Callable[[], Tensor], task: Task) -> tuple[Tensor, Any]:
        """φ, and the logistic head fitted there."""
        phi = move()
        return phi, fit(self.heads["logistic"], self.encode(task[0], phi), task[1])

    def _moves(self, origin: Tensor, task: Task) -> dict[str, Callable[[], Tensor]]:
        """Method -> φ for the support set of ``task``."""
        it, support = self.learning, task[:2]
        damping = it.chosen["forward"][2]
        return {
            LINEAR: lambda: it.linearised(origin, *support),
            AUTO: lambda: it.auto(origin, *support, damping)[0],
            BACK: lambda: it.backprop(origin, *support),
        }


def means(scores: Scores) -> str:
    return ", ".join(f"{name} {100 * np.mean(values):.1f}" for name, values in scores.found["scores"].items())


def rows_of(study: Study) -> Iterator[Row]:
    """Accuracy and seconds, and differences to the frozen network's logistic head on the same tasks."""
    pooling, best = best_of(study.frozen["pooling"])
    note = "Wikipedia; " + ", ".join(f"{name} {value:.1f}" for name, value in study.frozen["pooling"])
    yield Row(f"features: {pooling}", "validation/accuracy", best, "%", note=note)
    yield from study.learning.rows("start", "Wikipedia; ")
    for size in study.sizes:
        scores = study.scores(size)
        drawn = examples_of(study.task(size, number) for number in range(size.tasks))
        for name, found in scores.found["scores"].items():
            case = f"{size.name}: {name}"
            yield from score_rows(case, found, scores.seconds(name), drawn)
            if name != REFERENCE:
                goal = 0.0 if name in (CHOSEN_START, AUTO) else None
                yield gap_row(case, "compare/accuracy_vs_head", found, scores.of(REFERENCE), drawn, goal)
            if name in (LINEAR, AUTO):
                yield gap_row(case, "compare/accuracy_vs_backprop", found, scores.of(BACK), drawn)


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
    choice_tasks=4,
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
    return Study(splits, networks, SMALL, sizes, folder, 12, 5, queries=5)


def main() -> None:
    arguments = until_option(__doc__).parse_args()
    torch.set_num_threads(1)
    folder = folder_of("relations", arguments)
    study = small(folder) if arguments.quick else Study(pools(), encoders(), SETTINGS, SIZES, folder)
    print(study.frozen, study.learning.log[-1], study.learning.chosen, sep="\n", flush=True)
    heads = [partial(study.by_heads, size) for size in study.sizes]
    moving = [partial(study.by_moving, size, number) for size in study.sizes for number in range(size.costly)]
    work_off([*heads, *moving], arguments.until)
    report("relations", [*rows_of(study)], arguments, remarks=REMARKS)


REMARKS = (
    "Rows 'whole start' take all of φ₀; 'start', 'forward' and 'backprop' begin at the share of it that "
    "leave-one-out on the support set likes best, and their seconds hold that choice.",
    "With one shot nothing is left when an example is left out: there is nothing to choose or to descend on.",
)


if __name__ == "__main__":
    main()
