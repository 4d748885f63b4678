"""The texts of ``bench/intents.py``: for each benchmark its shots, its test set, its whole training set, and
the intents of the other benchmark that may be learned from, divided into training and validation intents."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from adapt.files import read_json
from bench.lib.domain_tasks import BANKING, VALIDATION_TOPICS, data_file, intent_rows
from bench.lib.texts import Pool, made_up

__all__ = ["Benchmark", "benchmarks", "small_benchmarks"]

VALIDATION_INTENTS = 20  # of BANKING77, when CLINC150 is the test
#: Accuracies to reach, %: the best published ones that we know of.
GOALS = {("banking77", 5): 84.0, ("banking77", 10): 89.8, ("clinc150", 5): 92.6, ("clinc150", 10): 94.8}


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
    some = set(np.random.default_rng(0).permutation(bank["train"].classes)[:VALIDATION_INTENTS].tolist())
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
    """Of made-up texts."""
    pool = made_up()
    few = {5: pool(0, 4, 5), 10: pool(0, 4, 10)}
    return [Benchmark("made up", few, pool(0, 4, 12), pool(0, 4, 30), pool(4, 6, 16), pool(10, 4, 16))]


def _pool(file: str) -> Pool:
    texts: dict[str, list[str]] = {}
    for text, intent in intent_rows(file):
        texts.setdefault(intent, []).append(text)
    return Pool(texts)


def _only(pool: Pool, intents: set[str]) -> Pool:
    return Pool({intent: pool.texts[intent] for intent in sorted(intents & set(pool.texts))})
