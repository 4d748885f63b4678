"""Files of intents, as the two sources of intents read them: CSV with the columns text and label."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence

from tasks.data import DataFile, fetch
from tasks.readers.regular import read_regular
from tasks.text._pools import Members, Pools

__all__ = ["Rows", "read", "shot_pools"]

#: (text, class name)
Rows = list[tuple[str, str]]


def read(file: DataFile, root: str | os.PathLike[str] | None) -> Rows:
    """All rows of a verified file.

    Raises:
        TaskError: the file is not there or is another one.
    """
    lines = io.StringIO(read_regular(fetch(file, root=root)).decode("utf-8"), newline="")
    return [(row["text"], row["label"]) for row in csv.DictReader(lines)]


def shot_pools(
    pools: Pools, of: str, ten: Sequence[tuple[str, str]], five: Sequence[tuple[str, str]]
) -> tuple[dict[str, Members], tuple[str, ...]]:
    """`{of}_5` within `{of}_10` within `of`, as the files list them, and what the card should say of them."""
    tens, others_of_ten = pools.shots(of, ten, 10)
    fives, others_of_five = pools.shots(of, five, 5, tens)
    issues = tuple(
        f"{count} of {of}_{shots}: the text listed is also in another pool, so another of its intent stands "
        "in."
        for shots, count in ((10, others_of_ten), (5, others_of_five))
        if count
    )
    return {f"{of}_5": fives, f"{of}_10": tens}, issues
