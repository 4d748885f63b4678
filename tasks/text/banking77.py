"""BANKING77: what customers of a bank ask, by intent."""

from __future__ import annotations

import os

from tasks.data import DataFile
from tasks.source import Card
from tasks.text._intents import read, shot_pools
from tasks.text._pools import Pools
from tasks.text.source import TextSource

__all__ = ["Banking77"]

_FILES = {
    "query": DataFile(
        "intents/banking77/test.csv", ("27ca4539957e87fa76c50ea913a87d64c8aadd56386718bbe11ff8f5aaa4d453",)
    ),
    "validation": DataFile(
        "intents/banking77/valid.csv", ("1567b43c12b4386e84847903c381afdee7c9f1c4820a2ad88e1dce702ca66a9e",)
    ),
    "support": DataFile(
        "intents/banking77/train.csv", ("c1c683223ee88e7a15ab128c6685e92f58efb30ed7ede3a3fd2731f444d3b8e2",)
    ),
    "support_10": DataFile(
        "intents/banking77/train_10.csv",
        ("b88a0d5b3e5e131e1d822e9c0c16293dffbb447b41bdf4a429c95dbed52c1dfc",),
    ),
    "support_5": DataFile(
        "intents/banking77/train_5.csv", ("ca01e32df7a3f3c56f8c80d55223d0c316aedf4371f1d5b089c24d260180dbdb",)
    ),
}


class Banking77(TextSource):
    """77 intents of customers of a bank, in the pools of the few-shot literature.

    Casanueva et al. (2020), *Efficient intent detection with dual sentence encoders*; the pools of five and
    ten shots are those of Zhang et al. (2021), *Few-shot intent detection via contrastive pre-training and
    fine-tuning*. The files are CSV with the columns text and label, below `intents/banking77/`.

    Splits share classes, not examples: `support` (train), `validation` and `query` (test); `support_5` and
    `support_10` are parts of `support`. No text is in two of the three pools, nor twice in one.

    Args:
        root: folder of the data sets; None: `$ADAPT_DATA`, or `~/.cache/adapt`.

    Raises:
        TaskError: a file is not there or is another one.
    """

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        rows = {pool: read(file, root) for pool, file in _FILES.items()}
        pools = Pools({pool: rows[pool] for pool in ("query", "validation", "support")})
        few, stand_ins = shot_pools(pools, "support", rows["support_10"], rows["support_5"])
        members = {
            **few,
            "support": pools.members["support"],
            "validation": pools.members["validation"],
            "query": pools.members["query"],
        }
        smallest = {pool: min(map(len, classes.values())) for pool, classes in members.items()}
        card = Card(
            name="banking77",
            description="Short questions of customers of a bank, in English, each with one of 77 intents.",
            origin="PolyAI (Casanueva et al. 2020), https://github.com/PolyAI-LDN/task-specific-datasets; "
            "few-shot pools: https://github.com/jianguoz/Few-Shot-Intent-Detection",
            licence="CC BY 4.0",
            terms="Name the authors.",
            counts={
                "examples": len(pools.texts),
                "classes": len(members["query"]),
                **{f"{pool} examples": sum(map(len, classes.values())) for pool, classes in members.items()},
            },
            known_issues=(
                *pools.issues,
                *stand_ins,
                f"The smallest intent of validation has {smallest['validation']} texts left.",
                "Texts are lower-cased; the official files are not.",
                "Labels of neighbouring intents overlap, and some are wrong (Ying and Thomas 2022, *Label "
                "errors in BANKING77*).",
            ),
            personal_data="None known: the questions name nobody.",
            domain="finance",
            commercial=True,
        )
        super().__init__(card, pools.texts, members)
