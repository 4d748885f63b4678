"""The audit finds what was planted, and as much of it as an independent count."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import ArraySource, Gridworld, Sinusoid, TaskError
from tasks.audit import audit, contents
from tests.audited import CARD, POOLS, found, members, noise, pictures, places, the

# ------------------------------------------------------------------------------------------- nothing wrong


def test_a_clean_source_has_no_findings_but_which_splits_share_classes() -> None:
    report = audit(ArraySource(CARD, noise(), POOLS))
    assert [(finding.severity, finding.check) for finding in report.findings] == [("note", "classes")]
    assert "support and query" in report.findings[0].what
    assert report.ok and report.kind == "arrays" and report.examined == report.total == 80
    assert report.apart == (("support", "query"),)
    assert report.splits["support"] == {
        "classes": 2,
        "examples": 40,
        "smallest class": 20,
        "largest class": 20,
    }
    assert report.digest == ArraySource(CARD, noise(), POOLS).digest()
    assert report.card == CARD.to_dict()


def test_the_report_is_the_same_every_time_and_is_json() -> None:
    source = ArraySource(CARD, noise(), members(train={"a": range(40), "b": range(30, 70)}))
    report = audit(source)
    assert report == audit(source)
    read = json.loads(json.dumps(report.to_dict()))
    assert read["ok"] is False and read["findings"][0]["examples"][0][0] == {
        "index": 30,
        "label": "a",
        "split": "train",
    }


# --------------------------------------------------------------------------------------------------- leaks


def test_a_copy_in_the_other_split_is_a_leak() -> None:
    x = noise()
    x[45] = x[3]
    report = audit(ArraySource(CARD, x, POOLS))
    leak = the(report, "duplicates")
    assert (leak.severity, leak.count, places(leak)) == ("error", 1, [(3, 45)])
    assert [(p.label, p.split) for p in leak.examples[0]] == [("a", "support"), ("a", "query")]
    assert not report.ok and report.findings[0] is leak
    assert not found(report, "labels")


def test_one_leak_among_many_examples_is_a_warning() -> None:
    x = noise(400)
    x[399] = x[0]
    pools = members(support={"a": range(200), "c": []}, query={"a": range(200, 400), "c": []})
    assert the(audit(ArraySource(CARD, x, pools)), "duplicates").severity == "warning"  # one of 200
    x[396:398] = x[1:3]
    assert the(audit(ArraySource(CARD, x, pools)), "duplicates").severity == "error"  # more than 1 %


def test_one_example_in_two_splits() -> None:
    both = members(
        train={"a": range(20), "b": range(20, 40)},
        test={"a": range(18, 30), "b": range(40, 60)},
        train_5={"a": range(5), "b": range(20, 25)},
    )
    report = audit(ArraySource(CARD, noise(60), both))
    leak, again, view = found(report, "indices")
    assert (leak.severity, leak.count) == ("error", 12)
    assert places(leak)[0] == (18, 18) and "'train' and split 'test'" in leak.what
    assert (again.severity, again.count) == ("error", 5) and "'test' and split 'train_5'" in again.what
    assert (view.severity, view.count) == ("note", 10) and "'train' and split 'train_5'" in view.what
    assert report.apart == (("train", "test"), ("test", "train_5"))
    asked = audit(ArraySource(CARD, noise(60), both), apart=[("train", "train_5")])
    assert [finding.severity for finding in found(asked, "indices")] == ["error", "note", "note"]
    assert "'train' and split 'train_5'" in found(asked, "indices")[0].what
    with pytest.raises(TaskError, match="no split 'tset' to hold apart: use train, test, train_5"):
        audit(ArraySource(CARD, noise(60), both), apart=[("train", "tset")])


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ("train", "test", True),
        ("pretrain", "validation", True),
        ("support", "query", True),
        ("train_support", "train_query", True),
        ("train_support", "test_support", True),
        ("all_support", "test_query", True),
        ("train", "query", True),
        ("hospital", "clinic", True),
        ("test", "clinic", True),
        ("support", "support_5", False),
        ("test", "test_query", False),
        ("train", "support", False),
        ("all_support", "train_support", False),
        ("validation", "support", False),
    ],
)
def test_which_splits_are_apart_by_name(one: str, other: str, apart: bool) -> None:
    """Of splits that share an example: those that share none are always apart."""
    for names in ((one, other), (other, one)):
        shared = {name: {"a": range(10), "b": range(10, 20)} for name in names}
        assert (audit(ArraySource(CARD, noise(), members(**shared))).apart == (names,)) is apart
    disjoint = {one: {"a": range(10)}, other: {"a": range(10, 20)}}
    assert audit(ArraySource(CARD, noise(), members(**disjoint))).apart == ((one, other),)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_counts_are_those_of_comparing_all_pairs(data: Any) -> None:
    n = data.draw(st.integers(4, 14))
    x = np.array(data.draw(st.lists(st.integers(0, 5), min_size=n, max_size=n)), np.float32)[:, None]
    splits: dict[str, dict[str, np.ndarray]] = {}
    of: dict[int, set[tuple[str, str]]] = defaultdict(set)
    for split in ("train", "test"):
        rows = data.draw(st.lists(st.integers(0, n - 1), min_size=2, max_size=n, unique=True))
        cut = data.draw(st.integers(1, len(rows) - 1))
        splits[split] = {"a": np.array(rows[:cut]), "b": np.array(rows[cut:])}
        for name, part in splits[split].items():
            for row in part.tolist():
                of[row].add((split, name))
    report = audit(ArraySource(CARD, x, splits))
    held = {split: {row for row in of if any(s == split for s, _ in of[row])} for split in splits}
    assert sum(finding.count for finding in found(report, "indices")) == len(held["train"] & held["test"])
    only = {split: held[split] - held[other] for split, other in (("train", "test"), ("test", "train"))}
    leaked = [j for j in only["test"] if any(x[i] == x[j] for i in only["train"])]
    repeats = {s: len(rows) - len({float(x[i, 0]) for i in rows}) for s, rows in held.items()}
    counts = {finding.what.split(":")[0]: finding.count for finding in found(report, "duplicates")}
    expected = {"examples of split 'test' that repeat one of split 'train'": len(leaked)}
    expected |= {f"examples of split {s!r} that repeat another of it": repeats[s] for s in held}
    assert counts == {what: count for what, count in expected.items() if count}
    classes: dict[float, set[str]] = defaultdict(set)
    for row, where in of.items():
        classes[float(x[row, 0])] |= {name for _, name in where}
    conflicts = sum(len(names) > 1 for names in classes.values())
    assert sum(finding.count for finding in found(report, "labels")) == conflicts


# --------------------------------------------------------------------------------- labels, numbers, classes


def test_one_content_under_two_classes() -> None:
    x = noise()
    x[25] = x[2]
    report = audit(ArraySource(CARD, x, POOLS))
    conflict = the(report, "labels")
    assert (conflict.severity, conflict.count, places(conflict)) == ("error", 1, [(2, 25)])
    assert {place.label for place in conflict.examples[0]} == {"a", "b"}


def test_repeats_within_a_split() -> None:
    x = noise()
    x[1] = x[2] = x[0]
    repeats = the(audit(ArraySource(CARD, x, POOLS)), "duplicates")
    assert (repeats.severity, repeats.count, places(repeats)) == ("warning", 2, [(0, 1), (0, 2)])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none(value: float) -> None:
    x = noise()
    x[[4, 70], 3] = value
    broken = the(audit(ArraySource(CARD, x, POOLS)), "numbers")
    assert (broken.severity, broken.count, places(broken)) == ("error", 2, [(4,), (70,)])


def test_classes_that_are_empty_small_large_or_listed_twice() -> None:
    odd = members(
        train={"none": [], "one": [0], "few": [1, 2], "many": range(3, 30), "twice": [30, 31, 30]},
        test={"only": range(40, 60)},
    )
    report = audit(ArraySource(CARD, noise(), odd))
    small, lonely = found(report, "classes")
    assert (small.severity, small.count) == ("error", 2) and "'none', 'one'" in small.what
    assert lonely.severity == "error" and "split 'test' has fewer than two classes (1)" in lonely.what
    twice = the(report, "indices")
    assert (twice.severity, places(twice)) == ("error", [(30,)])
    odd["train"].pop("none")
    report = audit(ArraySource(CARD, noise(), odd))
    assert "27 times" in the(report, "balance").what
    assert {finding.severity for finding in found(report, "classes")} == {"warning", "error"}


def test_splits_that_share_some_of_their_classes() -> None:
    some = members(train={"a": range(10), "b": range(10, 20)}, test={"b": range(20, 30), "c": range(30, 40)})
    first, second = found(audit(ArraySource(CARD, noise(), some)), "classes")
    assert (first.severity, first.count) == ("warning", 1)
    assert second.severity == "note"


# ------------------------------------------------------------------------------------------- card and licence


def test_cards() -> None:
    empty = replace(CARD, origin=" ", licence="", domain="", personal_data="", counts={"examples": 90})
    report = audit(ArraySource(replace(empty, commercial=None), noise(), POOLS))
    needed, wanted, count = found(report, "card")
    assert needed.severity == "error" and needed.what == "the card says nothing of: origin, licence."
    assert wanted.severity == "warning" and "personal data, domain" in wanted.what
    assert count.severity == "note" and "90 examples, the splits hold 80" in count.what
    assert the(report, "licence").severity == "note"
    fewer = audit(ArraySource(replace(CARD, counts={"examples": 70}), noise(), POOLS))
    assert the(fewer, "card").severity == "warning"
    assert "no number" in the(audit(ArraySource(replace(CARD, counts={}), noise(), POOLS)), "card").what


def test_a_licence_without_commercial_use_is_a_warning() -> None:
    report = audit(ArraySource(replace(CARD, licence="CC BY-NC 4.0", commercial=False), noise(), POOLS))
    assert the(report, "licence").severity == "warning" and "CC BY-NC 4.0" in the(report, "licence").what


# --------------------------------------------------------------------------------- drawn tasks, large sources


def test_functions_have_a_card_and_a_digest() -> None:
    report = audit(Sinusoid())
    assert report.kind == "drawn" and report.digest == Sinusoid().digest() and report.splits == {}
    assert "tasks are drawn" in the(report, "examples").what


def test_groups_in_two_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Gridworld()
    report = audit(source)
    assert not found(report, "groups")
    assert report.splits["test"] == {"groups": len(source.groups("test"))}
    monkeypatch.setattr(Gridworld, "groups", lambda *_: {"one": None})
    assert {finding.severity for finding in found(audit(source), "groups")} == {"error"}


def test_a_sample_is_said_seeded_and_a_lower_bound() -> None:
    x = noise()
    x[40:] = x[:40]
    whole, part = (audit(ArraySource(CARD, x, POOLS), sample=n) for n in (80, 50))
    assert the(whole, "duplicates").count == 40
    assert 0 < the(part, "duplicates").count < 40
    assert (part.examined, part.total) == (50, 80)
    assert part == audit(ArraySource(CARD, x, POOLS), sample=50)
    assert part != audit(ArraySource(CARD, x, POOLS), sample=50, seed=1)
    assert any("random sample (seed 0) of 50 of 80" in sentence for sentence in part.method)
    with pytest.raises(TaskError, match="sample=0"):
        audit(Sinusoid(), sample=0)


def test_batches_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    x = pictures()
    x[50], x[70] = x[7], x[20]
    whole = audit(ArraySource(CARD, x, POOLS))
    monkeypatch.setattr(contents, "BATCH", 7)
    assert audit(ArraySource(CARD, x, POOLS)) == whole


def test_a_source_that_returns_something_else() -> None:
    class Short(ArraySource):
        def load(self, indices: np.ndarray) -> torch.Tensor:
            return super().load(indices)[1:]

    with pytest.raises(TaskError, match=r"planted: load returned shape .* return one row for each index"):
        audit(Short(CARD, noise(shape=(1, 16, 16)), POOLS))


def test_at_most_five_examples_and_all_pairs_of_splits() -> None:
    x = noise()
    x[10:20] = x[0:10]
    x[60:70] = x[40:50] = x[20:30]
    report = audit(ArraySource(CARD, x, POOLS))
    for finding in report.findings:
        assert len(finding.examples) <= 5
    pairs = {tuple(sorted(pair)) for pair in combinations(("support", "query"), 2)}
    assert {tuple(sorted(pair)) for pair in report.apart} == pairs
