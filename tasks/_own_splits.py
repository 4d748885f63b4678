"""How the classes and examples of somebody's own data are divided into splits, for data of any kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tasks._settings import SEED, check_setting
from tasks.source import TaskError

__all__ = ["ENOUGH", "WAYS", "Divided", "Words", "check", "divide"]

WAYS = ("auto", "classes", "examples", "nothing", "pools")
#: With these no class is held back.
WHOLE = ("nothing", "pools")
SPLITS = ("train", "validation", "test")
#: Classes from which on `auto` divides them: a fifth, for test, is then five, as many as a usual task has.
ENOUGH = 25
#: Classes from which on each part has two.
LEAST = 10
SUPPORT_SHARE = 0.6  # of the examples of a test class

#: Class name, in the order of names -> its rows, int64, in order.
Members = dict[str, np.ndarray]
Given = Mapping[str, Mapping[str, Sequence[int]]]


@dataclass(frozen=True)
class Words:
    """How messages call the data, and what they advise.

    Args:
        place: where the data are.
        one, many: an example, and several.
        move: how a class gets into another split, as in "move its folder".
        test: how a class gets into test, as in "add a folder test".
        anew: what to do for splits as if the data named none.
        alone: the likeliest reason for a single class.
    """

    place: str
    one: str
    many: str
    move: str
    test: str
    anew: str
    alone: str


@dataclass(frozen=True)
class Divided:
    """Splits; a sentence on how they were made; the classes left out for having a single example; and which
    splits are training sets as the data have them (`tasks.FixedTasks`)."""

    members: dict[str, Members]
    how: str
    singles: tuple[str, ...] = ()
    published: tuple[str, ...] = ()


def check(split_by: str, seed: int) -> None:
    """Raise TaskError for settings that make no sense."""
    if split_by not in WAYS:
        raise TaskError(f"task.source.split_by={split_by} is unknown: use one of {', '.join(WAYS)}")
    check_setting("task.source.seed", seed, SEED)


def divide(given: Given, split_by: str, seed: int, words: Words) -> Divided:
    """Splits of which `support` and `query` are two: they share classes, not examples. Only where `split_by`
    is "nothing", and the data name no splits, all examples are one split, `all`.

    Data that name no splits, `given` as `{"": classes}`: 60, 20 and 20 of 100 classes are `train`,
    `validation` and test if `split_by` is "classes", and all are test if it is "examples"; "auto" is classes
    if there are 25 or more. `support` and `query` are 60 and 40 of 100 examples of each class of test.

    Data that name `train`, `validation` and `test`: they decide. If every class of test is in train too,
    `support` is train and `query` is test (or validation, where there is no test), and `validation` stays
    what it is. Else they are splits of classes, which share none, and test is divided as above.

    A class of a single example cannot be in both support and queries of a task: it is left out.

    Args:
        given: split ("" if the data name none) -> class -> rows.
        split_by: "auto", "classes", "examples", "nothing" or "pools"; with the last two no class is held
            back, and splits that the data name of the same classes are a training set and its test set. Of
            data that name none, "nothing" divides nothing, and "pools" is "examples".
        seed: of the division.
        words: for messages.

    Raises:
        TaskError: too few classes or examples, or splits that contradict each other or `split_by`.

    Example:
        >>> words = Words("pets", "image", "images", "move it", "add test", "name none", "is it?")
        >>> rows = {"cat": [0, 1, 2, 3, 4], "dog": [5, 6, 7]}
        >>> found = divide({"": rows}, "auto", 0, words).members
        >>> {split: [len(rows) for rows in classes.values()] for split, classes in found.items()}
        {'support': [3, 2], 'query': [2, 1]}
    """
    if [*given] != [""]:
        return _of_given(given, split_by, seed, words)
    classes, singles = _without_singles(given[""], words, words.place)
    if split_by == "auto":
        split_by = "classes" if len(classes) >= ENOUGH else "examples"
    if split_by == "pools":
        split_by = "examples"
    if split_by == "nothing":
        return Divided({"all": _rows(classes)}, f"All {words.many} of all classes are one split.", singles)
    if split_by == "examples":
        how = f"Support and query share their classes: 60 and 40 of 100 {words.many} of each, by the seed."
        return Divided(_pools(classes, seed), how, singles)
    if len(classes) < LEAST:
        raise TaskError(
            f"{words.place}: {len(classes)} classes are too few to divide between train, validation and "
            f"test: set task.source.split_by=examples, or add classes until there are {LEAST}"
        )
    names = [*classes]
    order = np.random.default_rng(seed).permutation(len(names))
    cuts = [round(0.6 * len(names)), round(0.8 * len(names))]
    train, validation, test = (
        {names[i]: classes[names[i]] for i in sorted(part.tolist())} for part in np.split(order, cuts)
    )
    how = (
        "Classes are divided by the seed: 60 % train, 20 % validation, 20 % both support and query, 60 : 40."
    )
    return Divided({"train": train, "validation": validation, **_pools(test, seed)}, how, singles)


def _of_given(given: Given, split_by: str, seed: int, words: Words) -> Divided:
    parts = {split: given[split] for split in SPLITS if split in given}
    query = "test" if "test" in parts else "validation"
    if query not in parts or len(parts) < 2:
        raise TaskError(
            f"{words.place}: the only split is {' and '.join(parts)}: {words.test} for what is measured on "
            f"and train for the rest, or {words.anew} to divide the {words.many} anew"
        )
    train, test = parts.get("train", {}), parts[query]
    either = split_by in ("auto", *WHOLE)
    if split_by == "classes" or (either and not test.keys() <= train.keys()):
        return _of_classes(parts, seed, words)
    common = sorted(test.keys() & train.keys())
    if len(common) < 2:
        raise TaskError(
            f"{words.place}: {len(common)} {'class is' if len(common) == 1 else 'classes are'} in both train "
            f"and {query}, and tasks need two: give both the same classes"
            + (", or set task.source.split_by=classes" if split_by == "examples" else "")
        )
    held = {"validation": _rows(parts["validation"])} if {"test", "validation"} <= parts.keys() else {}
    how = f"The data name the splits, of {words.many}: support is train, and query is {query}."
    published = ("support",) if split_by in WHOLE else ()
    members = {"support": _rows(train), **held, "query": _rows({name: test[name] for name in common})}
    return Divided(members, how, published=published)


def _of_classes(parts: Given, seed: int, words: Words) -> Divided:
    """Splits that share no class."""
    if "test" not in parts:
        raise TaskError(f"{words.place}: no class is of split test: {words.test} for those that are asked")
    counts = Counter(name for classes in parts.values() for name in classes)
    shared = min((name for name, count in counts.items() if count > 1), default=None)
    if shared is not None:
        holders = " and ".join(split for split, classes in parts.items() if shared in classes)
        alone = min((name for name in parts["test"] if counts[name] == 1), default=None)
        others = "" if alone is None else f", but {alone!r} is in test only"
        fix = f"{words.anew} to divide the {words.many} anew"
        if len(parts["test"].keys() & parts.get("train", {}).keys()) > 1:
            fix = "set task.source.split_by=examples to use the classes that train and test have in common"
        raise TaskError(
            f"{words.place}: class {shared!r} is in {holders}{others}: {words.move} into one split, or {fix}"
        )
    usable: dict[str, Members] = {}
    singles: list[str] = []
    for split, classes in parts.items():
        usable[split], found = _without_singles(classes, words, f"{words.place}, split {split}")
        singles += [f"{name} of {split}" for name in found]
    test = usable.pop("test")
    how = "The data name the splits, of classes; those of test are in both support and query, 60 : 40."
    return Divided({**usable, **_pools(test, seed)}, how, tuple(singles))


def _without_singles(
    classes: Mapping[str, Sequence[int]], words: Words, place: str
) -> tuple[Members, tuple[str, ...]]:
    """Classes with two examples or more: one for a support, one for a query."""
    kept = _rows({name: rows for name, rows in classes.items() if len(rows) >= 2})
    if not kept:
        raise TaskError(
            f"{place}: every class has a single {words.one}, and tasks need two or more of each: add "
            f"{words.many}"
        )
    singles = tuple(sorted(classes.keys() - kept.keys()))
    if len(kept) < 2:
        several = f" of two {words.many} or more ({len(singles)} with a single one)" if singles else ""
        raise TaskError(
            f"{place}: there is one class{several}, {next(iter(kept))!r}, and tasks need two or more: add "
            f"another, or {words.alone}"
        )
    return kept, singles


def _pools(classes: Mapping[str, Sequence[int] | np.ndarray], seed: int) -> dict[str, Members]:
    """`support` and `query`: about 60 and 40 of 100 examples of each class, at least one each."""
    rng = np.random.default_rng(seed)
    support, query = {}, {}
    for name in sorted(classes):
        order = rng.permutation(classes[name])
        cut = min(max(round(SUPPORT_SHARE * len(order)), 1), len(order) - 1)
        support[name], query[name] = np.sort(order[:cut]), np.sort(order[cut:])
    return {"support": support, "query": query}


def _rows(classes: Mapping[str, Sequence[int] | np.ndarray]) -> Members:
    return {name: np.sort(np.array(classes[name], np.int64)) for name in sorted(classes)}
