"""The texts of ``bench/intents.py``: for each benchmark its shots, its test set, its whole training set, and
the intents of the other benchmark that may be learned from, divided into training and validation intents."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from adapt.files import read_json
from bench.lib.domain_tasks import BANKING, VALIDATION_TOPICS, data_file

__all__ = ["Bag", "Benchmark", "Pool", "benchmarks", "small_benchmarks"]

VALIDATION_INTENTS = 20  # of BANKING77, when CLINC150 is the test
#: Accuracies to reach, %: the best published ones that we know of.
GOALS = {("banking77", 5): 84.0, ("banking77", 10): 89.8, ("clinc150", 5): 92.6, ("clinc150", 10): 94.8}


@dataclass(frozen=True)
class Pool:
    """Texts by intent, intents sorted."""

    texts: Mapping[str, Sequence[str]]

    @property
    def intents(self) -> list[str]:
        return sorted(self.texts)

    def all(self) -> tuple[list[str], Tensor]:
        """Every text, and its intent's number ``[n]``."""
        rows = [(text, i) for i, intent in enumerate(self.intents) for text in self.texts[intent]]
        return [text for text, _ in rows], torch.tensor([i for _, i in rows])

    def draw(
        self, ways: int, sizes: Sequence[int], rng: np.random.Generator
    ) -> list[tuple[list[str], Tensor]]:
        """For ``ways`` random intents disjoint sets of texts, ``sizes`` per intent (the last ones fewer where
        there are not so many), with labels 0 … ways − 1."""
        chosen = rng.permutation(self.intents)[:ways]
        shuffled = [rng.permutation(len(self.texts[intent]))[: sum(sizes)] for intent in chosen]
        sets = []
        for low, high in pairwise(np.cumsum([0, *sizes])):
            rows = [(self.texts[c][i], y) for y, c in enumerate(chosen) for i in shuffled[y][low:high]]
            sets.append(([text for text, _ in rows], torch.tensor([y for _, y in rows])))
        return sets


@dataclass(frozen=True)
class Benchmark:
    """``shots``: the few-shot training sets by number of shots; ``train``: the whole training set; ``learn``
    and ``validate``: other intents, to learn from and to choose settings on."""

    name: str
    shots: Mapping[int, Pool]
    test: Pool
    train: Pool
    learn: Pool
    validate: Pool

    def goal(self, shots: int) -> float | None:
        return GOALS.get((self.name, shots))


def benchmarks() -> list[Benchmark]:
    """BANKING77 and CLINC150.

    Raises:
        AdaptError: files that are not there.
    """
    bank, assistant = (
        {name: _pool(f"{folder}/{name}.csv") for name in ("train_5", "train_10", "train", "test")}
        for folder in ("banking77", "clinc150")
    )
    topics = read_json(data_file("intents/clinc150/domains.json"))
    left_out = {intent for topic in BANKING for intent in topics[topic]} | set(bank["test"].texts)
    held = {intent for topic in VALIDATION_TOPICS for intent in topics[topic]} - left_out
    rest = set(assistant["train"].texts) - left_out - held
    some = set(np.random.default_rng(0).permutation(bank["train"].intents)[:VALIDATION_INTENTS].tolist())
    others = {
        "banking77": (_only(assistant["train"], rest), _only(assistant["train"], held)),
        "clinc150": (
            _only(bank["train"], set(bank["train"].texts) - some),
            _only(bank["train"], some),
        ),
    }
    return [
        Benchmark(name, {5: it["train_5"], 10: it["train_10"]}, it["test"], it["train"], *others[name])
        for name, it in (("banking77", bank), ("clinc150", assistant))
    ]


def small_benchmarks() -> list[Benchmark]:
    """Five words of a vocabulary of its own for each made-up intent, in any order, and a word of any."""
    rng = np.random.default_rng(0)

    def pool(first: int, classes: int, each: int) -> Pool:
        return Pool(
            {f"intent {c}": [_sentence(rng, c) for _ in range(each)] for c in range(first, first + classes)}
        )

    few = {5: pool(0, 4, 5), 10: pool(0, 4, 10)}
    return [Benchmark("made up", few, pool(0, 4, 12), pool(0, 4, 30), pool(4, 6, 16), pool(10, 4, 16))]


class Bag(nn.Module):
    """A network that reads their texts: words as random vectors, a layer, and their mean."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.words, self.layer = nn.Embedding(200, 24), nn.Linear(24, 16)

    def tokenise(self, texts: Sequence[str]) -> np.ndarray:
        rows = [
            [1 + 5 * int(a) + int(b) for a, b in (word.split("-") for word in text.split())] for text in texts
        ]
        width = max(map(len, rows))
        return np.array([row + [0] * (width - len(row)) for row in rows])

    def forward(self, ids: Tensor) -> Tensor:
        weights = (ids != 0).float()
        return (self.layer(self.words(ids)).tanh() * weights[..., None]).sum(1) / weights.sum(1, keepdim=True)


def _sentence(rng: np.random.Generator, intent: int) -> str:
    words = [f"{intent}-{i}" for i in rng.permutation(5)[:3]] + [f"{rng.integers(14)}-{rng.integers(5)}"]
    return " ".join(rng.permutation(words))


def _pool(file: str) -> Pool:
    texts: dict[str, list[str]] = {}
    with data_file(f"intents/{file}").open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            texts.setdefault(row["label"], []).append(row["text"])
    return Pool(texts)


def _only(pool: Pool, intents: set[str]) -> Pool:
    return Pool({intent: pool.texts[intent] for intent in sorted(intents & set(pool.texts))})
