"""Which example is in which class of which split, as flat arrays, and what can be said from that alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from tasks.source import Source, TaskError

from .report import EXAMPLES, Finding, Place

__all__ = ["Members", "held_apart", "member_findings"]

#: Words in the name of a split that say what it is for.
STAGES = {
    "train": "train",
    "pretrain": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}
ROLES = ("support", "query")
#: A class that is larger than another of its split by this factor is worth a word.
IMBALANCE = 10


@dataclass(frozen=True)
class Members:
    """One row for each (split, class, example).

    Args:
        splits, labels: names.
        split, label: [m] positions in them.
        index: [m] of the example.
    """

    splits: tuple[str, ...]
    labels: tuple[str, ...]
    split: np.ndarray
    label: np.ndarray
    index: np.ndarray

    @classmethod
    def of(cls, source: Source) -> Members:
        """The members of all splits of `source`."""
        labels: dict[str, int] = {}
        parts: list[tuple[int, int, np.ndarray]] = []
        for number, split in enumerate(source.splits):
            for name, indices in source.classes(split).items():
                parts.append((number, labels.setdefault(name, len(labels)), np.asarray(indices, np.int64)))
        sizes = [len(indices) for *_, indices in parts]
        return cls(
            tuple(source.splits),
            tuple(labels),
            np.repeat(np.array([part[0] for part in parts], np.int64), sizes),
            np.repeat(np.array([part[1] for part in parts], np.int64), sizes),
            np.concatenate([np.empty(0, np.int64), *(part[2] for part in parts)]),
        )

    def only(self, examples: np.ndarray) -> Members:
        """The rows of these examples."""
        keep = np.isin(self.index, examples)
        return Members(self.splits, self.labels, self.split[keep], self.label[keep], self.index[keep])

    def of_split(self, split: str) -> np.ndarray:
        """Distinct example indices of a split, ascending."""
        return np.unique(self.index[self.split == self.splits.index(split)])

    def places(self, example: int, split: str | None = None) -> Iterator[Place]:
        """Everywhere that an example stands, or where it does in one split."""
        for row in np.flatnonzero(self.index == example):
            where = self.splits[self.split[row]]
            if split in (None, where):
                yield Place(int(example), self.labels[self.label[row]], where)


def held_apart(members: Members) -> tuple[tuple[str, str], ...]:
    """Pairs of splits that should have nothing in common.

    By their names: two stages (train, validation, test), support and query, train and query, and names that
    say nothing of the kind. Other pairs (`support` and `support_5`, `test` and `test_query`) may be views of
    the same data; they are held apart if they share no example.
    """
    held = {split: members.of_split(split) for split in members.splits}
    return tuple(
        (one, other)
        for one, other in combinations(members.splits, 2)
        if _apart(_words(one), _words(other)) or not len(np.intersect1d(held[one], held[other]))
    )


def _words(split: str) -> tuple[str | None, str | None]:
    """The stage and the role in the name of a split."""
    words = re.split(r"[^a-z]+", split.lower())
    stage = next((STAGES[word] for word in words if word in STAGES), None)
    return stage, next((role for role in ROLES if role in words), None)


def _apart(one: tuple[str | None, str | None], other: tuple[str | None, str | None]) -> bool:
    nothing = (None, None)
    if nothing in (one, other) or {one, other} == {("train", None), (None, "query")}:
        return True
    stages, roles = ({one[k], other[k]} - {None} for k in (0, 1))
    return len(stages) > 1 or len(roles) > 1


def member_findings(
    source: Source, members: Members, apart: tuple[tuple[str, str], ...]
) -> Iterator[Finding]:
    """What classes, splits and indices say without reading an example."""
    yield from _sizes(source)
    yield from _listed_twice(members)
    yield from _shared_classes(source)
    yield from _shared_examples(members, apart)


def _sizes(source: Source) -> Iterator[Finding]:
    for split in source.splits:
        sizes = {name: len(indices) for name, indices in source.classes(split).items()}
        if len(sizes) < 2:
            yield Finding(
                "classes",
                "error",
                f"split {split!r} has fewer than two classes ({len(sizes)}): there is nothing to tell apart.",
                len(sizes),
                "give it at least two classes, or leave the split out.",
            )
        few = [name for name, size in sizes.items() if size < 2]
        if few:
            empty = sum(sizes[name] == 0 for name in few)
            yield Finding(
                "classes",
                "error" if empty else "warning",
                f"classes of split {split!r} with fewer than two examples: {len(few)} ({empty} with none), "
                f"{', '.join(map(repr, few[:EXAMPLES]))}{' …' if len(few) > EXAMPLES else ''}.",
                len(few),
                "leave them out, or add examples: no task can take a support and a query from one.",
            )
        least, most = min(sizes.values(), default=0), max(sizes.values(), default=0)
        if least and most > IMBALANCE * least:
            yield Finding(
                "balance",
                "note",
                f"the largest class of split {split!r} has {most / least:.0f} times the examples of the "
                f"smallest ({most:,} and {least:,}).",
                len(sizes),
                "episodes draw the same number of each class; an accuracy on all examples would not.",
            )


def _listed_twice(members: Members) -> Iterator[Finding]:
    rows = np.stack([members.split, members.label, members.index], axis=1)
    found, times = np.unique(rows, axis=0, return_counts=True)
    if len(repeated := found[times > 1]):
        shown = (
            (Place(int(i), members.labels[c], members.splits[s]),) for s, c, i in repeated[:EXAMPLES].tolist()
        )
        yield Finding(
            "indices",
            "error",
            f"examples listed twice in one class of one split: {len(repeated):,}. A support may hold its own "
            "query.",
            len(repeated),
            "list each example once.",
            tuple(shown),
        )


def _shared_classes(source: Source) -> Iterator[Finding]:
    names = {split: set(source.classes(split)) for split in source.splits}
    for one, other in combinations(source.splits, 2):
        common = names[one] & names[other]
        if common and common not in (names[one], names[other]):
            yield Finding(
                "classes",
                "warning",
                f"splits {one!r} and {other!r} share {len(common)} of their {len(names[one])} and "
                f"{len(names[other])} classes.",
                len(common),
                "make them disjoint in classes (new concepts) or equal (new examples), or say why.",
            )
    same = [pair for pair in combinations(source.splits, 2) if names[pair[0]] & names[pair[1]]]
    if same:
        yield Finding(
            "classes",
            "note",
            "splits with classes in common: " + ", ".join(" and ".join(pair) for pair in same) + ".",
            len(same),
            "with these, results are about new examples, not about new classes.",
        )


def _shared_examples(members: Members, apart: tuple[tuple[str, str], ...]) -> Iterator[Finding]:
    held = {split: members.of_split(split) for split in members.splits}
    for one, other in combinations(members.splits, 2):
        common = np.intersect1d(held[one], held[other])
        if not len(common):
            continue
        leak = (one, other) in apart or (other, one) in apart
        yield Finding(
            "indices",
            "error" if leak else "note",
            f"examples in both split {one!r} and split {other!r}: {len(common):,}.",
            len(common),
            "take them out of one of the two."
            if leak
            else "they are views of the same data: never learn on one and judge on the other.",
            tuple(tuple(members.places(int(i))) for i in common[:EXAMPLES]) if leak else (),
        )


def check_pairs(pairs: tuple[tuple[str, str], ...], splits: tuple[str, ...]) -> None:
    """Raises: a pair names a split that is none."""
    for split in (name for pair in pairs for name in pair):
        if split not in splits:
            raise TaskError(f"there is no split {split!r} to hold apart: use {', '.join(splits)}")
