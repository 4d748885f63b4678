"""Is a review praise or blame? The twelve tasks of the literature, ten labelled reviews each, with MiniLM.

``python -m bench.reviews [--quick] [--train]``. Tasks of Yu et al. (2018), *Diverse Few-Shot Text
Classification with Multiple Metrics* (ARSC): reviews of books, DVDs, electronics and kitchenware, each at
three bars. ``experiment=meta_reviews`` learns on seventeen other kinds of goods where MiniLM should start
(``--train``: no more is done). Heads, and settings of what moves on from there, are chosen on two further
kinds, by drawn tasks of as many reviews of both classes; the twelve tasks are looked at once, with the ten
reviews and all test reviews as published. What has been done is kept in ``outputs/bench/reviews``.

Bars are of the same goods: intervals are over the four kinds of goods, each the mean of its three tasks.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import adapt
from adapt.adapter import FewShotAdapter
from adapt.app.progress import progress
from adapt.backbones import load_backbone
from adapt.compare.statistics import mean_interval, paired_difference, ratio_interval
from adapt.heads import Head, Logistic, Prototype, Ridge
from adapt.inner import GaussNewton, Linearised
from adapt.memory import keep_freed_memory
from bench.lib.models import data_root
from bench.lib.record import Row, folder_of, options, report
from bench.lib.runs import command_line
from bench.lib.text_learning import Learning, Settings, forward, kept_json, kept_tensor
from bench.lib.text_study import processor
from bench.lib.texts import Encoder, Pool, fit
from tasks import AmazonReviews

DEPENDS = (
    "adapt/adapter", "adapt/backbones", "adapt/forward", "adapt/heads", "adapt/inner", "adapt/meta",
    "adapt/spaces", "bench/lib/text_learning.py", "bench/lib/texts.py",
    "conf/experiment/meta_reviews.yaml", "tasks/text",
)  # fmt: skip
GOAL, PUBLISHED = 84.0, 85.63
TOKENS, ROWS, SHOTS, EACH = 128, 16, 5, 20
HEADS: dict[str, Head] = {
    "prototypes": Prototype(),
    **{f"ridge l2={l2}": Ridge(l2) for l2 in (0.1, 1.0)},
    **{f"logistic l2={l2}": Logistic(l2) for l2 in (0.03, 0.3, 3.0)},
}
SETTINGS = Settings(ways=2, shots=SHOTS, basis_ways=2, basis_tasks=24, validation_ways=2, choice_tasks=9)
FORWARD = [(k, 2, damping) for k in (2, 8) for damping in (0.1, 1.0, 10.0)]
FROZEN, START, SOME = "frozen", "start", "start, of some"
#: Test reviews of a task that what moves on is asked for: each has to be read anew.
MOVED = 150
#: Reviews of a class, of the kinds of goods that heads are chosen on.
JUDGED = 200


class Goods(Pool):
    """Reviews by task and class, as ``music.t2 negative``: what is drawn is of both classes of one task."""

    def draw(
        self, ways: int, sizes: Sequence[int], rng: np.random.Generator
    ) -> list[tuple[list[str], Tensor]]:
        """See :class:`bench.lib.texts.Pool`."""
        tasks = sorted({name.partition(" ")[0] for name in self.texts})
        task = tasks[int(rng.integers(len(tasks)))]
        both = {
            label: texts for name, texts in self.texts.items() for t, label in [name.split(" ")] if t == task
        }
        return Pool(both).draw(ways, sizes, rng)


@dataclass(frozen=True)
class Onwards(Learning):
    """What moves on from a start that has been learned elsewhere."""

    given: Tensor | None = None

    @property
    def start(self) -> Tensor:
        """φ₀ ``[P]``."""
        assert self.given is not None
        return self.given


@dataclass(frozen=True)
class Study:
    """The tasks, the network, where it starts; what is computed is kept in ``folder``. ``most``: reviews of a
    test part that are read, and tasks; None: all."""

    source: AmazonReviews
    adapter: FewShotAdapter
    folder: Path
    most: int | None = None

    @cached_property
    def encoder(self) -> Encoder:
        return Encoder(self.adapter.backbone, self.adapter.space, ROWS)

    @cached_property
    def starts(self) -> dict[str, Tensor | None]:
        return {FROZEN: None, START: self.adapter.state.origin}

    def goods(self, split: str, each: int | None = None) -> Goods:
        """Of every task of a split; ``each``: the first so many reviews of a class."""
        return Goods(
            {
                f"{group} {label}": [self.source.texts[row] for row in rows[:each]]
                for group in self.source.groups(split)
                for label, rows in zip(("negative", "positive"), self.source.rows(group), strict=True)
            }
        )

    # ---------------------------------------------------------------------------------- choices

    def heads(self, network: str) -> dict[str, float]:
        """Accuracy of every head on drawn tasks of other goods, %."""
        return kept_json(self.folder / f"heads, {network}.json", lambda: self._heads(self.starts[network]))

    def _heads(self, phi: Tensor | None) -> dict[str, float]:
        pool = self.goods("validation", JUDGED if self.most is None else SHOTS + 1)
        number = 60 if self.most is None else 2
        texts, _ = pool.all()
        table = dict(zip(texts, self.encoder.plain(texts, phi), strict=True))
        scores: dict[str, list[float]] = {name: [] for name in HEADS}
        for index in range(number):
            support, labels, query, truth = pool.task(2, SHOTS, 25, (0, index))
            x, q = (torch.stack([table[text] for text in part]) for part in (support, query))
            for name, head in HEADS.items():
                right = head.logits(fit(head, x, labels), q).argmax(-1) == truth
                scores[name].append(float(right.double().mean()))
        return {name: 100 * float(np.mean(found)) for name, found in scores.items()}

    def head(self, network: str) -> Head:
        return HEADS[best(self.heads(network))]

    @cached_property
    def onwards(self) -> Onwards:
        learn, validate = self.goods("train"), self.goods("validation")
        return Onwards(
            self.encoder,
            learn,
            validate,
            SETTINGS,
            self.folder,
            FORWARD,
            self.head(START),
            given=self.starts[START],
        )

    # ---------------------------------------------------------------------------------- measuring

    @cached_property
    def tasks(self) -> dict[str, tuple[list[str], Tensor, list[str], Tensor]]:
        """The ten reviews, their labels, the test part and its labels."""
        reading = self.source.encoded(self.encoder.backbone.tokenise)  # type: ignore[operator]
        found = {}
        for group in [*self.source.groups("test")][: self.most]:
            drawn = reading.official(group)
            rows = np.random.default_rng(0).permutation(len(drawn.query_y))[: self.most]
            texts = [
                [self.source.texts[row] for row in part]
                for part in (drawn.support_rows, drawn.query_rows[rows])
            ]
            labels = torch.from_numpy(drawn.support_y), torch.from_numpy(drawn.query_y[rows])
            found[group] = (texts[0], labels[0], texts[1], labels[1])
        return found

    def features(self, group: str, network: str) -> Tensor:
        """Of the test part."""
        path = self.folder / "features" / f"{group}, {network}.safetensors"
        return kept_tensor(path, lambda: self.encoder.plain(self.tasks[group][2], self.starts[network]))

    def measured(self) -> dict[str, dict[str, list[float]]]:
        """Method -> task -> accuracy, mean of both classes' accuracies, and seconds of the processor for the
        ten reviews."""
        return kept_json(self.folder / "tasks.json", self._measured)

    def _measured(self) -> dict[str, dict[str, list[float]]]:
        found: dict[str, dict[str, list[float]]] = {}

        def note(name: str, group: str, logits: Tensor, truth: Tensor, seconds: float = 0.0) -> None:
            found.setdefault(name, {})[group] = [*scores(logits, truth[: len(logits)]), seconds]

        classifier = self._classifier()
        for group in progress("tasks")([*self.tasks]):
            support, labels, query, truth = self.tasks[group]
            for network, phi in self.starts.items():
                head = self.head(network)
                state, seconds = processor(self._fitted, head, support, phi, labels)
                note(network, group, head.logits(state, self.features(group, network)), truth, seconds)
            note("others", group, classifier.head_logits(self.features(group, START)), truth)
            note(SOME, group, head.logits(state, self.features(group, START)[:MOVED]), truth)
            for name, move in self._moves(support, labels, classifier).items():
                logits, seconds = processor(move)
                note(name, group, logits(query[:MOVED]), truth, seconds)
        return found

    def _fitted(self, head: Head, texts: list[str], phi: Tensor | None, labels: Tensor) -> Any:
        return fit(head, self.encoder.plain(texts, phi), labels)

    def _moves(
        self, support: list[str], labels: Tensor, classifier: "Classifier"
    ) -> Mapping[str, Callable[[], Callable[[list[str]], Tensor]]]:
        """What begins at the start and moves on, by its name: what then gives the logits of texts."""
        if self.most is not None:
            return {}
        head, onwards = self.head(START), self.onwards

        def at(phi: Tensor) -> Callable[[list[str]], Tensor]:
            state = self._fitted(head, support, phi, labels)
            return lambda texts: head.logits(state, self.encoder.plain(texts, phi))

        def forwards() -> Callable[[list[str]], Tensor]:
            k, steps, damping, _ = onwards.chosen["forward"]
            state = onwards.state.leading(int(k))
            return at(forward(self.encoder, state, Linearised(int(steps), damping), support, labels)[0])

        return {
            "forward": forwards,
            "backprop": lambda: at(onwards.backprop(onwards.start, support, labels)),
            "others, forward": lambda: classifier.moved(support, labels),
        }

    def _classifier(self) -> "Classifier":
        texts, labels = [], []
        for name, reviews in self.goods("train", EACH if self.most is None else 2).texts.items():
            texts += reviews
            labels += [int(name.endswith("positive"))] * len(reviews)
        state = self.onwards.state if self.most is None else self.adapter.state
        adapter = self.adapter.replace(state=state, solver=GaussNewton(steps=0), head=Logistic(0.03))
        return Classifier(adapter, texts, torch.tensor(labels))


class Classifier:
    """A head of the reviews of other goods, which stays."""

    def __init__(self, adapter: FewShotAdapter, texts: list[str], labels: Tensor) -> None:
        self.tokenise = adapter.backbone.tokenise  # type: ignore[operator]
        self.task = adapter.fit(torch.from_numpy(self.tokenise(texts)), labels.tolist())

    def head_logits(self, features: Tensor) -> Tensor:
        return self.task.adapter.head.logits(self.task.head_state, features)

    def moved(self, texts: list[str], labels: Tensor) -> Callable[[list[str]], Tensor]:
        """Under the conditions of these goods (:meth:`adapt.FittedTask.fit`)."""
        there = self.task.fit(torch.from_numpy(self.tokenise(texts)), labels.tolist())
        return lambda query: torch.cat(
            [
                there.logits(torch.from_numpy(self.tokenise(query[i : i + 64])))
                for i in range(0, len(query), 64)
            ]
        )


def scores(logits: Tensor, truth: Tensor) -> tuple[float, float]:
    """Accuracy, and the mean of that of both classes."""
    right = (logits.argmax(-1) == truth).double()
    return float(right.mean()), float(
        np.mean([float(right[truth == label].mean()) for label in truth.unique()])
    )


def best(heads: Mapping[str, float]) -> str:
    """The name of the first with the greatest accuracy."""
    return max(heads, key=lambda name: heads[name])


def by_goods(values: Mapping[str, Sequence[float]], place: int) -> list[float]:
    """The mean of the bars of each kind of goods, %."""
    kinds = sorted({group.partition(".")[0] for group in values})
    return [
        100 * float(np.mean([each[place] for group, each in values.items() if group.startswith(f"{kind}.")]))
        for kind in kinds
    ]


#: What is to be as good as published models.
AIMED = (START, "others", "others, forward")
NAMES = {
    FROZEN: "network as it is",
    START: "start",
    SOME: "start, of some reviews",
    "forward": "start, forward",
    "backprop": "start, backprop",
    "others": "start, head of other goods",
    "others, forward": "start, head of other goods, forward",
}


def rows_of(study: Study) -> Iterator[Row]:
    for network in study.starts:
        heads = study.heads(network)
        chosen = best(heads)
        yield Row(f"heads: {NAMES[network]}", "validation/accuracy", heads[chosen], "%", note=chosen)
    found = study.measured()
    for name, values in found.items():
        case, goal = NAMES[name], GOAL if name in AIMED else None
        note = ", ".join(map(str, study.onwards.chosen[name][:-1])) if name in ("forward", "backprop") else ""
        yield Row.of(case, "eval/accuracy", mean_interval(by_goods(values, 0)), "%", goal=goal, note=note)
        yield Row.of(case, "eval/balanced_accuracy", mean_interval(by_goods(values, 1)), "%")
        if seconds := [each[2] for each in values.values() if each[2]]:
            yield Row.cost(case, "time/adapt_seconds", float(np.mean(seconds)), "s", n=len(seconds))
            theirs = [found[FROZEN][group][2] for group in values]
            ratio, aim = ratio_interval(seconds, theirs).ratio, 2.0 if name == START else None
            yield Row.cost(case, "compare/time_of_this", ratio, "× as it is", n=len(seconds), goal=aim)
        if name in ("forward", "backprop", "others, forward"):
            gap = paired_difference(by_goods(values, 0), by_goods(found[SOME], 0))
            yield Row.of(case, "compare/accuracy_vs_start", gap, "points")
        elif name != FROZEN:
            gap = paired_difference(by_goods(values, 0), by_goods(found[FROZEN], 0))
            yield Row.of(case, "compare/accuracy_vs_frozen", gap, "points")
    for group, (_, _, _, truth) in study.tasks.items():
        majority = 100 * max(float((truth == label).double().mean()) for label in (0, 1))
        yield Row(f"{group}: most frequent class", "eval/accuracy", majority, "%", n=len(truth))
        for name in (FROZEN, START, "others"):
            yield Row(
                f"{group}: {NAMES[name]}", "eval/accuracy", 100 * found[name][group][0], "%", n=len(truth)
            )
            if name != FROZEN:
                above = 100 * found[name][group][0] - majority
                shown = f"{group}: {NAMES[name]}"
                yield Row(shown, "compare/accuracy_vs_majority", above, "points", goal=-1.0)
    yield Row("Induction Networks", "published/accuracy", PUBLISHED, "%", note="Geng et al. (2019)")


def learned(folder: Path, quick: bool) -> FewShotAdapter:
    """By the experiment, unless it has been; of a miniature nothing."""
    backbone, _ = load_backbone("hf:minilm", max_tokens=8 if quick else TOKENS)
    if quick:
        return FewShotAdapter.of(backbone)
    made = folder / START
    if not (made / "adapter_config.json").exists():
        where = ("tracking=none", f"hydra.run.dir={made}.run", f"output={made}")
        command_line(["experiment=meta_reviews", *where], quick=False)
    return adapt.load(made, backbone=backbone)


def main() -> None:
    arguments = options(__doc__, train="learn the start only").parse_args()
    keep_freed_memory()
    os.environ.setdefault("ADAPT_DATA", str(data_root()))  # where the other benchmarks look, too
    folder, quick = folder_of("reviews", arguments), arguments.quick
    adapter = learned(folder, quick)
    if not arguments.train:
        study = Study(AmazonReviews(), adapter, folder, 4 if quick else None)
        report("reviews", [*rows_of(study)], arguments)


if __name__ == "__main__":
    main()
