"""German credit: will a loan be paid back? A task is what the loan is for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tasks._csv import read_csv
from tasks.data import DataFile, fetch
from tasks.grouped import GroupArrays
from tasks.source import Card, TaskError
from tasks.tables._columns import encode

__all__ = ["GermanCredit"]

FILE = DataFile(
    "credit/german_credit.csv", ("aca9f9a4488ad110a3c0daa2f161c515bc94f02770344e8fab1e65a426191c20",)
)
TARGET, PURPOSE, CLASSES = "target", "purpose", ("bad", "good")
#: Columns that must not decide.
PROTECTED = ("status_and_sex", "age", "is_foreign_worker")
YOUNG = 25  # years; up to it somebody is young, as Kamiran and Calders (2009) have it
#: Split -> task -> purposes. Those of few loans go with others that are like them.
TASKS = {
    "train": {
        "radio or television": ("radio/television",),
        "household": ("furniture/equipment", "domestic appliances", "repairs"),
    },
    "validation": {"used car": ("car (used)",), "education": ("education", "retraining")},
    "test": {"new car": ("car (new)",), "business": ("business", "others")},
}
MOST_CATEGORIES = 20


class GermanCredit(GroupArrays):
    """Good or bad, of 1,000 loans of a German bank; a task is a purpose.

    Hofmann (1994), *Statlog (German Credit Data)*. Numbers are standardised, names become 0 and 1, both as
    the training tasks have them. Protected attributes (sex, with marital status; age; foreign worker) are no
    inputs unless they are asked for, and can be looked up for any row either way.

    Args:
        protected: whether protected attributes are inputs.
        root: folder of the data sets, which holds `credit/german_credit.csv`; None: `$ADAPT_DATA`, else
            `~/.cache/adapt`.

    Attributes:
        columns: the name of each number of a row ``[D]``.

    Raises:
        TaskError: the file is not there or is another one.

    Example:
        >>> GermanCredit().groups("test")  # doctest: +SKIP
        {'new car': 89, 'business': 39}
    """

    def __init__(self, protected: bool = False, root: str | None = None) -> None:
        if not isinstance(protected, bool):
            raise TaskError(f"german_credit: protected={protected!r} is neither true nor false")
        table = read_csv(str(fetch(FILE, root=root)))
        purposes, labels = (np.array(table.column(name, "a column")) for name in (PURPOSE, TARGET))
        members = {
            split: {
                task: {name: np.flatnonzero(np.isin(purposes, kinds) & (labels == name)) for name in CLASSES}
                for task, kinds in tasks.items()
            }
            for split, tasks in TASKS.items()
        }
        known = np.concatenate([rows for own in members["train"].values() for rows in own.values()])
        left_out = {TARGET, PURPOSE} | (set() if protected else {*PROTECTED})
        names = [name for name in table.header if name not in left_out]
        found = encode(table, names, np.sort(known), set(), MOST_CATEGORIES)
        self.columns = tuple(found.names)
        self._table = table
        super().__init__(_card(len(labels), found.notes), found.inputs, members)

    def protected(self, attribute: str, rows: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """What an attribute says of rows of the file (None: all), as two groups: ``[n]`` of text.

        Args:
            attribute: "sex" (female, male), "age" (young: up to 25 years; older), or "foreign" (yes, no).

        Raises:
            TaskError: another attribute.
        """
        if attribute not in _GROUPS:
            raise TaskError(f"german_credit has no attribute {attribute!r}: use {', '.join(_GROUPS)}")
        column, group = _GROUPS[attribute]
        cells = self._table.column(column, "a protected attribute")
        every = np.array([group(cell) for cell in cells])
        return every if rows is None else every[np.asarray(rows, np.int64)]


_GROUPS = {
    "sex": ("status_and_sex", lambda cell: cell.partition(" ")[0]),
    "age": ("age", lambda cell: "young" if float(cell) <= YOUNG else "older"),
    "foreign": ("is_foreign_worker", lambda cell: cell),
}


def _card(rows: int, notes: Sequence[str]) -> Card:
    return Card(
        name="german_credit",
        description="Loans of a German bank around 1990, by whether they were good or bad risks.",
        origin=(
            "H. Hofmann (1994), Statlog (German Credit Data), UCI Machine Learning Repository, "
            "https://archive.ics.uci.edu/dataset/144; codes written out."
        ),
        licence="CC BY 4.0",
        terms="Share and adapt for any purpose, with credit to the author.",
        counts={
            "rows": rows,
            "classes": len(CLASSES),
            **{f"{split} tasks": len(tasks) for split, tasks in TASKS.items()},
        },
        known_issues=(
            *notes,
            "Bad loans were sampled more often than there are: rates are not those of a bank.",
            "Only loans that were granted: nobody knows of those that were refused.",
            "Nearly all were foreign workers by its code, which is doubtful (Grömping 2019, South German "
            "Credit Data); sex is coded together with marital status.",
            "To call a bad loan good costs five times as much as the reverse, says its author.",
        ),
        personal_data="Of persons, without names; sex, age and origin are among the columns.",
        domain="finance",
        commercial=True,
    )
