"""CLINC150: what people ask an assistant, by intent, and what it cannot answer."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping, Sequence

import numpy as np

from tasks.data import DataFile, fetch
from tasks.readers.regular import read_regular
from tasks.source import Card, TaskError
from tasks.text._intents import Rows, read, shot_pools
from tasks.text._pools import Members, Pools
from tasks.text.source import TextSource

__all__ = ["Clinc150"]

_TOPICS = DataFile(
    "intents/clinc150/domains.json", ("b947b579d3b8e74b06f93b01083d8efaff2888b43a3e362533bd88a6e1211b3a",)
)
_FILES = {
    pool: DataFile(f"intents/clinc150/{name}.csv", (sha256,))
    for pool, name, sha256 in (
        ("query", "test", "9998ce647eb338c578c90ca21d803e55221b2877deedfd3f67a9988fb858af40"),
        ("validation_pool", "valid", "07255be49fafe97979804ce7a339acecbe18c7bb1681d29b12db2caff6412e88"),
        ("support", "train", "8de4c000e4024b9778bb1238e5cfa47bb916f948b93c31226aaac74d611796d0"),
        ("support_10", "train_10", "0d3c2b14dc11985623cec8043086bfabb0e5bf1fc904aedf06a7a06ada22e0c7"),
        ("support_5", "train_5", "45f1e249243bb3ddce3522f4ee17a757bb0aef9652c1ade0bec3b98be1153203"),
        ("oos test", "oos_test", "db1e6b5f1f87481c24c75b35f843b03ea098dd95a205784cf96cf3098dfa0b68"),
        ("oos validation", "oos_valid", "f14b2b7975770da4c82e55a62b88204447bef97450dcde08b49fb59cd0256acd"),
        ("oos train", "oos_train", "f8eaf8749bb74c831315980ba2ef84acda91e45adb794fe022b8587ed0d722e8"),
    )
}
#: Pools, the ones first that keep a text which is in two of them.
_ORDER = ("query", "validation_pool", "support", "oos test", "oos validation", "oos train")
_VALIDATION_TOPICS = ("utility", "work")


class Clinc150(TextSource):
    """150 intents in ten topics, and queries that belong to none of them.

    Larson et al. (2019), *An evaluation dataset for intent classification and out-of-scope prediction*; the
    pools of five and ten shots are those of Zhang et al. (2021), *Few-shot intent detection via contrastive
    pre-training and fine-tuning*. The files are CSV with the columns text and label, below
    `intents/clinc150/`, and the official `domains.json`.

    Splits come in two kinds, which use the same texts:

    - for meta-training, disjoint in topics: `validation` (topics utility and work) and `train` (the others),
      both of the official training part;
    - official pools over all intents, disjoint in examples: `support` (train), `validation_pool` (valid) and
      `query` (test); `support_5` and `support_10` are parts of `support`. No text is in two of the three.

    Args:
        root: folder of the data sets; None: `$ADAPT_DATA`, or `~/.cache/adapt`.
        without: topics and intents to leave out of all splits.

    Raises:
        TaskError: a file is not there or is another one, or `without` names what there is not.
    """

    def __init__(self, root: str | os.PathLike[str] | None = None, without: Sequence[str] = ()) -> None:
        topics = json.loads(read_regular(fetch(_TOPICS, root=root)))
        topic_of = {intent: topic for topic, intents in topics.items() for intent in intents}
        left_out = _left_out(without, topics)
        rows: dict[str, Rows] = {
            pool: [row for row in read(file, root) if row[1] not in left_out] for pool, file in _FILES.items()
        }
        pools = Pools({pool: rows[pool] for pool in _ORDER})
        few, stand_ins = shot_pools(pools, "support", rows["support_10"], rows["support_5"])
        by_topic: dict[str, Members] = {"train": {}, "validation": {}}
        for intent, held in pools.members["support"].items():
            held_out = topic_of[intent] in _VALIDATION_TOPICS
            by_topic["validation" if held_out else "train"][intent] = held
        members = {split: classes for split, classes in by_topic.items() if classes}
        members |= few
        members |= {pool: pools.members[pool] for pool in ("support", "validation_pool", "query")}
        self._out_of_scope = {
            split: np.array(pools.members[f"oos {split}"].get("oos", ()), np.int64)
            for split in ("train", "validation", "test")
        }
        counts = {
            "examples": len(pools.texts),
            "classes": len(members["query"]),
            **{f"{split} examples": sum(map(len, classes.values())) for split, classes in members.items()},
            **{f"out-of-scope {split} queries": len(held) for split, held in self._out_of_scope.items()},
        }
        super().__init__(_card(counts, (*pools.issues, *stand_ins), without), pools.texts, members)

    def out_of_scope(self, split: str) -> np.ndarray:
        """int64 indices of the queries that belong to no intent: no class of any split, but encoded with the
        rest, so that `source.encoded(tokenise).load(source.out_of_scope("test"))` loads them.

        Args:
            split: train, validation or test.
        """
        if split not in self._out_of_scope:
            raise TaskError(
                f"{self.name} has no out-of-scope queries {split!r}: use train, validation or test"
            )
        return self._out_of_scope[split].copy()


def _left_out(without: Sequence[str], topics: Mapping[str, Sequence[str]]) -> set[str]:
    """The intents that `without` names, by topic or one by one."""
    if isinstance(without, str):
        raise TaskError(f"clinc150.without={without!r} should be a list of topics and intents: [{without}]")
    intents = {intent for group in topics.values() for intent in group}
    found: set[str] = set()
    for name in without:
        if name not in topics and name not in intents:
            close = difflib.get_close_matches(str(name), [*topics, *sorted(intents)], n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"topics are {', '.join(topics)}"
            raise TaskError(f"clinc150.without: {name!r} is neither a topic nor an intent: {hint}")
        found.update(topics.get(name, (name,)))
    if len(intents - found) < 2:
        raise TaskError("clinc150.without leaves out all intents: leave at least two")
    return found


def _card(counts: Mapping[str, int], issues: tuple[str, ...], without: Sequence[str]) -> Card:
    left = (f"Left out as asked: {', '.join(without)}.",) if without else ()
    return Card(
        name="clinc150",
        description="Requests to an assistant, in English, each of one of 150 intents or of none.",
        origin="Larson et al. (2019), https://github.com/clinc/oos-eval; few-shot pools: "
        "https://github.com/jianguoz/Few-Shot-Intent-Detection",
        licence="CC BY 3.0",
        terms="Name the authors.",
        counts=counts,
        known_issues=(
            *left,
            *issues,
            "train and validation are made of the same texts as support: what was learnt on train has seen "
            "the intents of support, validation_pool and query, unless they are left out.",
            "The intent exchange_rate is one of BANKING77 too, and the topics banking and credit_cards are "
            "about the same things: leave them out before testing there.",
        ),
        personal_data="None known: written for the data set by paid workers.",
        domain="conversational AI",
        commercial=True,
    )
