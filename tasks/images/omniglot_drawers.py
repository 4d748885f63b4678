"""Omniglot by drawer: the same characters in the hands of different people."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tasks._settings import check_setting, least
from tasks.grouped import GroupArrays
from tasks.images import _pictures, omniglot
from tasks.source import TaskError

__all__ = ["OmniglotDrawers"]

ALPHABETS = ("Japanese_(hiragana)", "Japanese_(katakana)", "Korean")
DRAWERS = {"train": 12, "validation": 4, "test": 4}  # of each alphabet
SEED = 0  # fixed: sets and splits belong to the source, not to an experiment


class OmniglotDrawers(GroupArrays):
    """Drawings of one person, bright ink on black, [1, size, size] in [0, 1]; a group is a person.

    Lake, Salakhutdinov, Tenenbaum (2015), as :class:`tasks.Omniglot`. Twenty people drew each alphabet, each
    character once. So a character cannot be in both the support and the queries of a person, and classes
    cannot be characters. They are sets of characters, the same for everybody, as a coarse class of CIFAR-100
    is a set of fine ones: the characters of each alphabet are dealt out to `sets` sets by a fixed seed, and
    set k of all alphabets is class k. What a support of one person shows is then not what the characters look
    like, for queries are others, but how that person draws. A head that is fitted to the support alone is
    therefore at chance: these tasks are for features that learned the sets from other people.

    Which of two alphabets' people are the same is not known; they count as different. The people of each
    alphabet are divided: 12 for `train`, 4 for `validation` and 4 for `test`.

    Args:
        alphabets: names of alphabets of either official set; the more, the more people, and the more
            characters in a class.
        sets: classes.
        size: side of an image in pixels.
        root: as for :class:`tasks.Omniglot`.
        download: as for :class:`tasks.Omniglot`.

    Raises:
        TaskError: the archives are not there, an alphabet is unknown, or too small for so many sets.

    Example:
        >>> [*OmniglotDrawers().groups("test")][0]  # doctest: +SKIP
        'Japanese_(hiragana)/drawer 01'
    """

    def __init__(
        self,
        alphabets: Sequence[str] = ALPHABETS,
        sets: int = 10,
        size: int = 28,
        root: str | None = None,
        download: bool = False,
    ) -> None:
        _pictures.check_size("omniglot_drawers", size)
        check_setting("omniglot_drawers: sets", sets, least(2, most=25))
        if isinstance(alphabets, str) or not len(alphabets) or len({*alphabets}) < len(alphabets):
            raise TaskError(f"omniglot_drawers: alphabets={alphabets!r}: give a list of names, each once")
        _, data = omniglot.decoded(size, root, download)
        of_class = np.array([str(name).split("/")[0] for name in data["names"]])
        known = sorted({*of_class.tolist()})
        members: dict[str, dict[str, dict[str, np.ndarray]]] = {split: {} for split in DRAWERS}
        for name in alphabets:
            if name not in known:
                raise TaskError(
                    f"omniglot_drawers: alphabet {name!r} is unknown: use some of {', '.join(known)}"
                )
            characters = np.flatnonzero(of_class == name)
            if len(characters) < 2 * sets:
                raise TaskError(
                    f"omniglot_drawers: {name} has {len(characters)} characters, too few for {sets} sets of "
                    f"two: use sets<={len(characters) // 2}, or other alphabets"
                )
            for split, groups in _dealt(str(name), characters, sets).items():
                members[split].update(groups)
        rows = len(alphabets) * 20
        counts = {
            "examples": sum(len(pool) for of in members.values() for g in of.values() for pool in g.values()),
            "classes": sets,
            "people": rows,
            **{f"{split} groups": len(groups) for split, groups in members.items()},
        }
        super().__init__(omniglot.card("omniglot_drawers", counts, ISSUES), data["images"], members)


def _dealt(alphabet: str, characters: np.ndarray, sets: int) -> dict[str, dict[str, dict[str, np.ndarray]]]:
    """Split -> person -> set -> rows; 20 rows of a character follow each other, person by person."""
    rng = np.random.default_rng([SEED, *alphabet.encode()])
    parts = np.array_split(rng.permutation(characters), sets)
    people = np.split(rng.permutation(20), np.cumsum([*DRAWERS.values()])[:-1])
    return {
        split: {
            f"{alphabet}/drawer {person + 1:02d}": {
                f"set {number + 1:02d}": np.sort(part) * 20 + person for number, part in enumerate(parts)
            }
            for person in sorted(numbers.tolist())
        }
        for split, numbers in zip(DRAWERS, people, strict=True)
    }


ISSUES = (
    "Classes are sets of characters that have nothing in common but that they were dealt out together.",
    "Somebody who drew several alphabets counts as several people, who may be in different splits.",
    "All splits show the same characters; what differs is who drew them.",
)
