"""Data that come as training sets and a test set: which places are which, and what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tasks._own_splits import Members
from tasks.source import TaskError

__all__ = ["Places", "called", "names_of", "places_of", "tested"]


class Places(NamedTuple):
    """The training sets and their test set; None and one place where all data are in that."""

    training: tuple[str, ...]
    test: str | None


def places_of(what: str, whole: Any, train: Any, test: Any) -> Places:
    """What `task.file`, `task.train_file` and `task.test_file` mean together.

    Args:
        what: "file" or "root".
        whole, train, test: what they are set to; `train` may be a list.

    Raises:
        TaskError: they contradict each other, or nothing is set.

    Example:
        >>> places_of("file", "a.csv", None, None), places_of("file", None, ["a.csv", "b.csv"], "c.csv")
        (Places(training=('a.csv',), test=None), Places(training=('a.csv', 'b.csv'), test='c.csv'))
    """
    sets = (
        ()
        if train is None
        else (train,)
        if isinstance(train, str) or not isinstance(train, Sequence)
        else train
    )
    sets = tuple(sets)
    if train is not None and not sets:
        raise TaskError(f"task.train_{what} is an empty list: name at least one")
    if whole is not None and sets:
        raise TaskError(f"task.{what} and task.train_{what} are both set: leave one out")
    sets = sets or (() if whole is None else (whole,))
    if not sets and test is not None:
        raise TaskError(f"task.test_{what} is set, and task.train_{what} is not: name what is learned from")
    if len({*map(str, sets)}) < len(sets):
        raise TaskError(f"task.train_{what} names a training set twice: name each once")
    if len(sets) > 1 and test is None:
        raise TaskError(
            f"task.train_{what} names {len(sets)} training sets, which are tasks of one test set: set "
            f"task.test_{what}, or name one"
        )
    if test is not None and str(test) in map(str, sets):
        raise TaskError(
            f"task.train_{what} and task.test_{what} are the same: queries must be of other examples"
        )
    return Places(sets, test)


def names_of(number: int) -> tuple[str, ...]:
    """Names of the splits that so many training sets are."""
    return ("support",) if number == 1 else tuple(f"support {place + 1}" for place in range(number))


def tested(
    training: Sequence[Mapping[str, Sequence[int] | np.ndarray]],
    test: Mapping[str, Sequence[int] | np.ndarray],
    place: Any,
) -> tuple[dict[str, Members], list[str]]:
    """Splits, and sentences on the test examples that no task can ask for.

    Args:
        training: class -> rows, of each training set.
        test: class -> rows.
        place: of the test set, for messages.

    Raises:
        TaskError: they have no two classes, or none in common.
    """
    classes = {*training[0]}
    if len(classes) < 2:
        only = f"one class, {min(classes)!r}" if classes else "no class"
        raise TaskError(f"the training set has {only}, and tasks need two or more: add another")
    strange = sorted({*test} - classes)
    if len(strange) == len(test):
        raise TaskError(
            f"{place}: no class of the test set is in the training set (it has {', '.join(strange[:3])}, …; "
            "there "
            f"are {', '.join(sorted(classes)[:3])}, …): give both the same classes"
        )
    notes = []
    if strange:
        number = sum(len(test[name]) for name in strange)
        notes.append(
            f"{number} test examples are of classes that the training set does not have, and were left out "
            f"(the first: {strange[0]!r})."
        )
    splits = {split: _rows(found) for split, found in zip(names_of(len(training)), training, strict=True)}
    splits["query"] = _rows({name: rows for name, rows in test.items() if name in classes})
    return splits, notes


def _rows(classes: Mapping[str, Sequence[int] | np.ndarray]) -> Members:
    return {name: np.sort(np.array(classes[name], np.int64)) for name in sorted(classes)}


def called(path: Path) -> str:
    """A name for the data of a training set: `banking77/train_5.csv` are those of banking77."""
    part = path.resolve().stem if path.suffix else path.resolve().name
    generic = part.lower().startswith(("train", "support", "data"))
    return path.resolve().parent.name or part if generic else part
