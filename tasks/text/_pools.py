"""Pools of labelled texts that share no text: what an earlier pool has, later ones have not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tasks.text.source import same

__all__ = ["Members", "Pools"]

#: Class name -> indices of its texts.
Members = dict[str, list[int]]


class Pools:
    """Texts and who holds them.

    Queries come first, so that what the two sides share is taken from the side that learns.

    Args:
        pools: name -> rows (text, class name), the pool that keeps its texts first.

    Attributes:
        texts: every text that was kept, once.
        members: pool -> class name (in the order of names) -> indices into `texts`.
        issues: one sentence for each kind of text that was left out, with its number.

    Example:
        >>> pools = Pools({"test": [("Hi", "a")], "train": [("hi ", "a"), ("hey", "a"), ("Hey", "a")]})
        >>> pools.texts, pools.members["train"]
        (['Hi', 'hey'], {'a': [1]})
        >>> for issue in pools.issues:
        ...     print(issue)
        1 row of train is a repeat of another row of train: left out.
        1 row of train is also in test: left out of train.
    """

    def __init__(self, pools: Mapping[str, Sequence[tuple[str, str]]]) -> None:
        self.texts: list[str] = []
        self.members: dict[str, Members] = {}
        self._index: dict[str, int] = {}
        holder: dict[
            str, str
        ] = {}  # what texts have in common with their repeats -> the pool that keeps them
        issues: list[str] = []
        for pool, rows in pools.items():
            self.members[pool] = {name: [] for name in sorted({name for _, name in rows})}
            lost = dict.fromkeys([pool, *self.members], 0)
            for text, name in rows:
                key = same(text)
                if key in holder:
                    lost[holder[key]] += 1
                    continue
                holder[key] = pool
                self._index[key] = len(self.texts)
                self.members[pool][name].append(len(self.texts))
                self.texts.append(text)
            for other, count in lost.items():
                if count:
                    issues.append(_issue(count, pool, other))
        self.issues = tuple(issues)

    def shots(
        self, pool: str, rows: Iterable[tuple[str, str]], count: int, within: Members | None = None
    ) -> tuple[Members, int]:
        """The part of `pool` that `rows` lists, and how many of its texts are others than listed.

        Where a listed text was left out of `pool`, the first of its class that is not listed stands in, so
        that each class keeps `count`; it is taken from `within`, a larger part of the same pool.
        """
        rows = list(rows)
        listed = {self._index[same(text)] for text, _ in rows if same(text) in self._index}
        found = {name: [i for i in held if i in listed] for name, held in self.members[pool].items()}
        kept = {name: found[name] for name in sorted({name for _, name in rows})}
        others = 0
        for name, held in kept.items():
            spare = [i for i in (within or self.members[pool])[name] if i not in listed]
            stand_ins = spare[: count - len(held)]
            held.extend(stand_ins)
            others += len(stand_ins)
        return kept, others


def _issue(count: int, pool: str, other: str) -> str:
    rows, are = ("row", "is") if count == 1 else ("rows", "are")
    if other == pool:
        repeats = "a repeat of another row" if count == 1 else "repeats of other rows"
        return f"{count} {rows} of {pool} {are} {repeats} of {pool}: left out."
    return f"{count} {rows} of {pool} {are} also in {other}: left out of {pool}."
