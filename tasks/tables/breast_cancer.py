"""Breast cancer (scikit-learn's copy of a UCI dataset), and how to learn for it from rows without labels.

Training tasks are STUNT: Nam et al. (2023), *STUNT: Few-shot Tabular Learning with Self-generated Tasks from
Unlabeled Tables*, section 3.1. For a random subset S of the columns,

    label = cluster of x_S by k-means ,   x_j ← x_j of another row, for each j in S

so that a task is to tell from the other columns what S would have said. Difference: two clusters, as there
are two diagnoses, and of those subsets alone that give each cluster a quarter of the rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from tasks._settings import check_setting, least
from tasks.functions import SPLITS
from tasks.grouped import GroupArrays, GroupDraw
from tasks.source import Card, TaskError

__all__ = ["BreastCancer"]

VERSION = "1"  # to be raised with any change to what is drawn
SPLIT_SEED = 0  # fixed: the pools belong to the dataset, not to an experiment
SHARES = (0.5, 0.2)  # of the rows, for training and validation; the rest is for testing
COLUMNS = (0.2, 0.5)  # least and greatest share of the columns in S, as in the paper
LEAST = 0.25  # share of the rows in the smaller cluster
NAMES = {"benign": 1, "malignant": 0}  # numbers in scikit-learn's copy


class BreastCancer:
    """Benign or malignant, from 30 measurements of cell nuclei; 569 rows, standardised.

    "train" holds self-made tasks over half of the rows, whose diagnoses are not used; "validation" and "test"
    one group each, with diagnoses, over other rows. Means and standard deviations are of the training rows.

    Args:
        generated: number of self-made tasks.

    Example:
        >>> cancer = BreastCancer()
        >>> cancer.shape, dict(cancer.groups("test"))
        ((30,), {'test rows': 64})
    """

    grouped: ClassVar[bool] = True
    regression: ClassVar[bool] = False
    splits: ClassVar[tuple[str, ...]] = SPLITS

    def __init__(self, generated: int = 1000) -> None:
        check_setting("breast_cancer: generated", generated, least(1, most=10**6))
        try:  # heavy, and needed by this source only
            from sklearn.datasets import load_breast_cancer
        except ImportError as error:
            raise TaskError("breast cancer data comes with scikit-learn: pip install scikit-learn") from error

        raw = load_breast_cancer()
        parts: dict[str, dict[str, np.ndarray]] = {split: {} for split in SPLITS}
        rng = np.random.default_rng(SPLIT_SEED)
        for name, number in NAMES.items():
            shuffled = rng.permutation(np.flatnonzero(raw.target == number))
            cuts = np.round(np.cumsum(SHARES) * len(shuffled)).astype(int)
            for split, rows in zip(SPLITS, np.split(shuffled, cuts), strict=True):
                parts[split][name] = np.sort(rows)
        known = raw.data[np.concatenate([*parts["train"].values()])]  # [n, 30]
        mean, deviation = known.mean(0), known.std(0)
        rows = ((raw.data - mean) / deviation).astype(np.float32)
        counts = {f"{split} rows": sum(map(len, by.values())) for split, by in parts.items()}
        self.card = _card({"rows": len(rows), "columns": rows.shape[1], "classes": 2, **counts})
        self.name = self.card.name
        self.shape = rows.shape[1:]
        self._labelled = GroupArrays(
            self.card, rows, {split: {f"{split} rows": parts[split]} for split in SPLITS[1:]}
        )
        # In the order of the file, from which nothing can be told about the diagnosis.
        self._pool = np.sort(np.concatenate([*parts["train"].values()]))
        self._rows = rows[self._pool]
        self._generated = {f"columns {number}": number for number in range(generated)}
        self._made: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # tasks are met again and again

    def groups(self, split: str) -> Mapping[str, int | None]:
        """Group -> the size of its smallest class, or a bound on it."""
        if split == "train":
            return dict.fromkeys(self._generated, self._least)
        if split not in self.splits:
            raise TaskError(f"{self.name} has no split {split!r}: use one of {', '.join(self.splits)}")
        return self._labelled.groups(split)

    def sample(self, rng: np.random.Generator, group: str, shots: int, queries: int) -> GroupDraw:
        """Rows of both classes; see `GroupSource.sample`."""
        if group not in self._generated:
            return self._labelled.sample(rng, group, shots, queries)
        columns, clusters = self._task(self._generated[group])
        names = ("cluster 1", "cluster 2")
        members = {name: np.flatnonzero(clusters == c) for c, name in enumerate(names)}
        x = self._rows.copy()
        for j in columns:
            x[:, j] = rng.permutation(x[:, j])
        drawn = GroupArrays(self.card, x, {"train": {group: members}}).sample(rng, group, shots, queries)
        return drawn._replace(
            support_rows=self._pool[drawn.support_rows], query_rows=self._pool[drawn.query_rows]
        )

    def digest(self) -> str:
        """sha256 (hex) of version, rows, splits and settings."""
        decisive = (VERSION, COLUMNS, LEAST, len(self._generated), self._labelled.digest())
        return hashlib.sha256(repr(decisive).encode() + self._rows.astype("<f4").tobytes()).hexdigest()

    @property
    def _least(self) -> int:
        return int(np.ceil(LEAST * len(self._rows)))

    def _task(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Columns S and the cluster, 0 or 1, of every training row."""
        if number not in self._made:
            self._made[number] = self._make(number)
        return self._made[number]

    def _make(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        from sklearn.cluster import KMeans

        rng = np.random.default_rng([SPLIT_SEED, number])
        width = self._rows.shape[1]
        while True:
            size = round(rng.uniform(*COLUMNS) * width)
            columns = rng.choice(width, size, replace=False)
            means = KMeans(2, n_init=1, random_state=int(rng.integers(2**31)))
            clusters = means.fit_predict(self._rows[:, columns])
            if np.bincount(clusters, minlength=2).min() >= self._least:
                return columns, clusters


def _card(counts: dict[str, int]) -> Card:
    return Card(
        name="breast_cancer",
        description=(
            "30 measurements of the cell nuclei in a digitised image of a fine-needle aspirate of a breast "
            "mass, benign or malignant."
        ),
        origin=(
            "W. Wolberg, O. Mangasarian, N. Street, W. Street (1995), Breast Cancer Wisconsin (Diagnostic), "
            "UCI Machine Learning Repository, https://archive.ics.uci.edu/dataset/17; scikit-learn's copy."
        ),
        licence="CC BY 4.0",
        terms="Share and adapt for any purpose, with credit to the authors.",
        counts=counts,
        known_issues=(
            "Tasks are drawn from few rows: test tasks share rows, so their spread says nothing about other "
            "patients or hospitals.",
            "The columns are means, errors and extremes of ten measurements and strongly correlated.",
            "A small study of one hospital from 1993: no basis for a decision about anybody.",
        ),
        personal_data="Health data of patients, published without names or identifiers.",
        domain="healthcare",
        commercial=True,
    )
