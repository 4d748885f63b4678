"""The rule by which somebody's own data are divided: nothing is lost, nor shared that should not be."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import TaskError
from tasks._own_splits import ENOUGH, LEAST, Divided, Words, divide

WORDS = Words("my/pets", "photo", "photos", "carry it", "call some test", "name none", "look above")


def numbered(counts: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, list[int]]]:
    """Split -> class -> rows, all different, for the number of rows of each."""
    total = 0
    found: dict[str, dict[str, list[int]]] = {}
    for split, classes in counts.items():
        for name, count in classes.items():
            found.setdefault(split, {})[name] = [*range(total, total + count)]
            total += count
    return found


def shape(divided: Divided) -> dict[str, dict[str, int]]:
    return {split: {name: len(rows) for name, rows in of.items()} for split, of in divided.members.items()}


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(1, 12), min_size=2, max_size=60),
    st.sampled_from(["auto", "classes", "examples"]),
    st.integers(0, 10),
)
def test_all_rows_are_in_one_place(counts: list[int], split_by: str, seed: int) -> None:
    data = numbered({"": {f"c{label}": count for label, count in enumerate(counts)}})
    usable = {name: rows for name, rows in data[""].items() if len(rows) > 1}
    if len(usable) < 2 or (split_by == "classes" and len(usable) < LEAST):
        with pytest.raises(TaskError, match=r"^my/pets: "):
            divide(data, split_by, seed, WORDS)
        return
    divided = divide(data, split_by, seed, WORDS)
    members = divided.members
    assert set(divided.singles) == data[""].keys() - usable.keys()
    of_class = {name: [m[name] for m in members.values() if name in m] for name in usable}
    assert {name: sorted(np.concatenate(parts).tolist()) for name, parts in of_class.items()} == usable
    assert members["support"].keys() == members["query"].keys()
    by_classes = split_by == "classes" or (split_by == "auto" and len(usable) >= ENOUGH)
    assert [*members] == (["train", "validation"] if by_classes else []) + ["support", "query"]
    if by_classes:
        parts = [members[split] for split in ("train", "validation", "query")]
        assert sum(map(len, parts)) == len(usable)  # so no class is in two
        shares = [len(part) / len(usable) for part in parts]
        assert shares == pytest.approx([0.6, 0.2, 0.2], abs=1 / len(usable))
        assert min(map(len, parts)) >= (5 if split_by == "auto" else 2)
    for name, support in members["support"].items():
        query = members["query"][name]
        assert len(support) and len(query)
        assert abs(len(support) - 0.6 * (len(support) + len(query))) < 1


def test_the_seed_decides_and_the_order_does_not() -> None:
    counts = {f"c{i:02}": 5 for i in range(ENOUGH)}
    data = numbered({"": counts})
    turned = {"": dict(reversed(data[""].items()))}
    names = {
        key: [*divide(which, "auto", seed, WORDS).members["query"]]
        for key, which, seed in (("a", data, 0), ("b", turned, 0), ("c", data, 1))
    }
    assert names["a"] == names["b"] != names["c"]


GIVEN = {
    "of examples": (
        {"train": {"a": 4, "b": 3, "c": 2}, "validation": {"a": 1, "b": 1}, "test": {"a": 1, "b": 2}},
        {"support": {"a": 4, "b": 3, "c": 2}, "validation": {"a": 1, "b": 1}, "query": {"a": 1, "b": 2}},
    ),
    "validation for test": (
        {"train": {"a": 4, "b": 3}, "validation": {"a": 1, "b": 1}},
        {"support": {"a": 4, "b": 3}, "query": {"a": 1, "b": 1}},
    ),
    "of classes": (
        {"test": {"e": 5, "f": 10}, "train": {"a": 2, "b": 2}},
        {"train": {"a": 2, "b": 2}, "support": {"e": 3, "f": 6}, "query": {"e": 2, "f": 4}},
    ),
}


@pytest.mark.parametrize(("counts", "expected"), GIVEN.values(), ids=GIVEN.keys())
def test_splits_that_the_data_name(
    counts: dict[str, dict[str, int]], expected: dict[str, dict[str, int]]
) -> None:
    divided = divide(numbered(counts), "auto", 0, WORDS)
    assert shape(divided) == expected and divided.singles == ()


def test_singles_of_given_splits_are_named_with_them() -> None:
    counts = {"train": {"a": 2, "b": 2, "c": 1}, "test": {"d": 2, "e": 2, "f": 1}}
    divided = divide(numbered(counts), "auto", 0, WORDS)
    assert divided.singles == ("c of train", "f of test")
    assert shape(divided)["train"] == {"a": 2, "b": 2} and [*divided.members["query"]] == ["d", "e"]


MISTAKES = {
    "one split": ({"train": {"a": 2, "b": 2}}, "auto", "only split is train: call some test .* name none"),
    "no test": (
        {"train": {"a": 2, "b": 2}, "validation": {"c": 2, "d": 2}},
        "auto",
        "no class is of split test: call some test",
    ),
    "partly shared": (
        {"train": {"a": 2, "b": 2}, "test": {"a": 2, "b": 2, "c": 2}},
        "auto",
        "'a' is in train and test, but 'c' is in test only: carry it into one split, or .*split_by=examples",
    ),
    "one shared": (
        {"train": {"a": 2, "b": 2}, "test": {"a": 2, "c": 2}},
        "auto",
        "'a' is in train and test, but 'c' .*: carry it into one split, or name none to divide the photos",
    ),
    "not of classes": (
        {"train": {"a": 2, "b": 2}, "test": {"a": 2, "b": 2}},
        "classes",
        "class 'a' is in train and test: carry it",
    ),
    "not of examples": (
        {"train": {"a": 2, "b": 2}, "test": {"c": 2, "d": 2}},
        "examples",
        "0 classes are in both train and test, .*split_by=classes",
    ),
    "one class of both": (
        {"train": {"a": 2}, "test": {"a": 2}},
        "auto",
        "1 class is in both train and test, and tasks need two: give both the same classes$",
    ),
    "one class of test": (
        {"train": {"a": 2, "b": 2}, "test": {"c": 2, "d": 1}},
        "auto",
        r"split test: there is one class of two photos or more \(1 with a single one\), 'c'",
    ),
    "one class": ({"": {"a": 9}}, "auto", "there is one class, 'a', and tasks need .* or look above"),
    "singles": ({"": {"a": 1, "b": 1}}, "auto", "every class has a single photo, .*: add photos"),
}


@pytest.mark.parametrize(("counts", "split_by", "says"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_contradiction_is_named_with_its_fix(
    counts: dict[str, dict[str, int]], split_by: str, says: str
) -> None:
    with pytest.raises(TaskError, match=f"^my/pets.*{says}"):
        divide(numbered(counts), split_by, 0, WORDS)
