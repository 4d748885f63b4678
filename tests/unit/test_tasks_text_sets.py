"""Public sets of texts: pools that share no text, topics, markers, and what is said of what is missing."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import Banking77, Clinc150, Distribution, FewRel, TaskError, TextSource
from tasks.text._pools import Pools
from tasks.text.fewrel import marked
from tasks.text.source import same

ALL_TOPICS = (
    *("banking", "credit_cards", "kitchen_and_dining", "home", "auto_and_commute"),
    *("travel", "utility", "work", "small_talk", "meta"),
)
clinc, banking, fewrel = cache(Clinc150), cache(Banking77), cache(FewRel)


def written(file: Path) -> list[tuple[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        return [(row["text"], row["label"]) for row in csv.DictReader(lines)]


def held(source: TextSource, split: str) -> set[tuple[str, str]]:
    """(text, class name), all of them different."""
    pairs = [(source.texts[i], name) for name, rows in source.classes(split).items() for i in rows]
    assert len({same(text) for text, _ in pairs}) == len(pairs)
    return {*pairs}


def texts(source: TextSource, split: str) -> set[str]:
    return {same(text) for text, _ in held(source, split)}


# ------------------------------------------------------------------------------------------ pools

WORDS = st.sampled_from(["a", "A", "b", " b", "c", "d", "e", "f"])
ROWS = st.lists(st.tuples(WORDS, st.sampled_from("xy")))


@settings(deadline=None, max_examples=50)
@given(ROWS, ROWS, ROWS)
def test_pools_share_no_text_and_lose_none(
    test: list[tuple[str, str]], valid: list[tuple[str, str]], train: list[tuple[str, str]]
) -> None:
    given_rows = {"test": test, "valid": valid, "train": train}
    pools = Pools(given_rows)
    seen: set[str] = set()
    lost = 0
    for name, rows in given_rows.items():
        indices = sorted(i for members in pools.members[name].values() for i in members)
        kept = [pools.texts[i] for i in indices]
        assert [same(text) for text in kept] == [
            *dict.fromkeys(same(text) for text, _ in rows if same(text) not in seen)
        ]
        for label, members in pools.members[name].items():
            assert {(pools.texts[i], label) for i in members} <= {*rows}
        seen.update(map(same, kept))
        lost += len(rows) - len(kept)
    assert len(pools.texts) == len(seen) == len({same(text) for text, _ in test + valid + train})
    assert sum(int(issue.split()[0]) for issue in pools.issues) == lost


def test_what_left_the_pool_is_replaced_in_its_shots() -> None:
    train = [(text, "x") for text in "abcd"] + [(text, "y") for text in "efgh"]
    pools = Pools({"test": [("A", "y")], "train": train})
    two, others = pools.shots("train", [(text, label) for text, label in train if text in "abef"], 2)
    assert [[pools.texts[i] for i in two[label]] for label in "xy"] == [["b", "c"], ["e", "f"]]
    assert others == 1
    one, others = pools.shots("train", [("a", "x"), ("f", "y")], 1, two)
    assert [[pools.texts[i] for i in one[label]] for label in "xy"] == [["b"], ["f"]]
    assert others == 1


# ------------------------------------------------------------------------------------------ intents


@pytest.mark.parametrize(("source", "folder"), [(banking, "banking77"), (clinc, "clinc150")])
def test_official_pools(data: Path, source: Callable[[], TextSource], folder: str) -> None:
    found, files = source(), data / "intents" / folder
    validation = "validation" if folder == "banking77" else "validation_pool"
    test, valid, train, tens, fives = (
        written(files / f"{name}.csv") for name in ("test", "valid", "train", "train_10", "train_5")
    )
    in_test, in_valid = ({same(text) for text, _ in rows} for rows in (test, valid))
    # What is measured on is whole; repeats within a file are one text.
    assert texts(found, "query") == in_test and held(found, "query") <= {*test}
    assert texts(found, validation) == in_valid - in_test and held(found, validation) <= {*valid}
    assert texts(found, "support") == {same(text) for text, _ in train} - in_test - in_valid
    assert held(found, "support") <= {*train}
    assert held(found, "support_5") <= held(found, "support_10") <= held(found, "support")
    for split, shots, listed in (("support_5", 5, fives), ("support_10", 10, tens)):
        assert {*map(len, found.classes(split).values())} == {shots}
        assert held(found, split) >= {row for row in listed if same(row[0]) not in in_test | in_valid}
    assert [*found.classes("query")] == sorted({label for _, label in test})


def test_what_banking77_left_out_is_on_its_card(data: Path) -> None:
    files = data / "intents" / "banking77"
    card = banking().card
    rows = {name: written(files / f"{name}.csv") for name in ("test", "valid", "train")}
    total = sum(map(len, rows.values()))
    assert card.counts["examples"] == len({same(text) for part in rows.values() for text, _ in part})
    left_out = [issue for issue in card.known_issues if "left out" in issue]
    assert sum(int(issue.split()[0]) for issue in left_out) == total - card.counts["examples"]
    repeats = len(rows["valid"]) - len({same(text) for text, _ in rows["valid"]})
    of_valid = sum(int(issue.split()[0]) for issue in left_out if "of validation" in issue)
    assert of_valid == repeats + len({same(t) for t, _ in rows["valid"]} & {same(t) for t, _ in rows["test"]})
    smallest = min(map(len, banking().classes("validation").values()))
    assert any(f"smallest intent of validation has {smallest} " in issue for issue in card.known_issues)
    assert (card.domain, card.commercial, banking().name) == ("finance", True, "banking77")


def test_official_benchmark_can_be_drawn(data: Path) -> None:
    source = banking().encoded(lambda lines: np.array([[len(line)] for line in lines]))
    tasks = Distribution(source, 77, 5, 39, "support_5", "query")
    assert len(tasks.episode(0).query_y) == 77 * 39
    with pytest.raises(TaskError, match="share no example"):
        Distribution(source, 77, 5, 5, "support_5", "support")


def test_topics_of_clinc150_are_in_one_split(data: Path) -> None:
    source = clinc()
    topics = json.loads((data / "intents" / "clinc150" / "domains.json").read_text())
    validation = {*topics["utility"], *topics["work"]}
    assert {*source.classes("validation")} == validation
    assert {*source.classes("train")} == {i for group in topics.values() for i in group} - validation
    assert held(source, "train") | held(source, "validation") == held(source, "support")


def test_topics_and_intents_can_be_left_out(data: Path) -> None:
    everything = clinc()
    source = Clinc150(without=["banking", "credit_cards", "exchange_rate"])
    topics = json.loads((data / "intents" / "clinc150" / "domains.json").read_text())
    gone = {*topics["banking"], *topics["credit_cards"], "exchange_rate"}
    for split in everything.splits:
        assert held(source, split) == {row for row in held(everything, split) if row[1] not in gone}
    assert not {*source.classes("query")} & {*banking().classes("query")}  # so nothing of it was seen
    assert source.digest() != everything.digest()
    assert "exchange_rate" in source.card.known_issues[0]
    assert "validation" not in Clinc150(without=["work", "utility"]).splits


@pytest.mark.parametrize(
    ("without", "says"),
    [
        (["bankin"], "'bankin' is neither a topic nor an intent: did you mean 'banking'"),
        (["zzz"], "topics are banking, credit_cards"),
        ("banking", r"should be a list .*\[banking\]"),
        (
            [*ALL_TOPICS],
            "leaves out all intents",
        ),
    ],
)
def test_what_cannot_be_left_out_is_named(data: Path, without: list[str], says: str) -> None:
    with pytest.raises(TaskError, match=says):
        Clinc150(without=without)


def test_out_of_scope_queries_are_encoded_but_of_no_class(data: Path) -> None:
    source = clinc()
    encoded = source.encoded(lambda lines: np.array([[len(line), ord(line[0])] for line in lines]))
    of_classes = {i for split in source.splits for rows in source.classes(split).values() for i in rows}
    for split, file in (("train", "oos_train"), ("validation", "oos_valid"), ("test", "oos_test")):
        indices = source.out_of_scope(split)
        rows = written(data / "intents" / "clinc150" / f"{file}.csv")
        assert [source.texts[i] for i in indices] == [text for text, _ in rows]
        assert not of_classes & {*indices.tolist()}
        assert encoded.load(indices).tolist() == [[len(text), ord(text[0])] for text, _ in rows]
        indices[:] = 0  # the caller's own
        assert source.out_of_scope(split).any()
    with pytest.raises(TaskError, match="'query': use train, validation or test"):
        source.out_of_scope("query")


def test_missing_files_are_named(tmp_path: Path) -> None:
    for source, file in (
        (Clinc150, "intents/clinc150/domains.json"),
        (Banking77, "intents/banking77/test.csv"),
        (FewRel, "fewrel/val_wiki.json"),
    ):
        with pytest.raises(TaskError, match=file):
            source(root=tmp_path)


# ------------------------------------------------------------------------------------------ relations


@pytest.mark.parametrize(
    ("first", "second", "text"),
    [
        ([1], [3], "a [E1] b [/E1] c [E2] d [/E2] e"),
        ([3], [1], "a [E2] b [/E2] c [E1] d [/E1] e"),  # reversed
        ([2, 1, 1], [4], "a [E1] b c [/E1] d [E2] e [/E2]"),  # any order, repeated
        ([0, 2], [3], "[E1] a b c [/E1] [E2] d [/E2] e"),  # a gap; side by side
        ([1, 2, 3], [2], "a [E1] b [E2] c [/E2] d [/E1] e"),  # one within the other
        ([2], [1, 2, 3], "a [E2] b [E1] c [/E1] d [/E2] e"),
        ([1], [1, 2], "a [E2] [E1] b [/E1] c [/E2] d e"),  # the same start
        ([2], [1, 2], "a [E2] b [E1] c [/E1] [/E2] d e"),  # the same end
        ([1], [1], "a [E1] [E2] b [/E2] [/E1] c d e"),  # the same tokens
        ([0, 1, 2], [2, 3], "[E1] a b [E2] c [/E1] d [/E2] e"),  # crossing
    ],
)
def test_markers_stand_around_their_tokens(first: list[int], second: list[int], text: str) -> None:
    assert marked([*"abcde"], first, second) == text


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_markers_can_be_read_back(data: st.DataObject) -> None:
    tokens = data.draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=6))
    span = st.lists(st.integers(0, len(tokens) - 1), min_size=1)
    first, second = data.draw(span), data.draw(span)
    words = marked(tokens, first, second).split()
    assert [word for word in words if word[0] != "["] == tokens
    for name, numbers in (("E1", first), ("E2", second)):
        inside = words[words.index(f"[{name}]") : words.index(f"[/{name}]")]
        before = words[: words.index(f"[{name}]")]
        start = sum(word[0] != "[" for word in before)
        length = sum(word[0] != "[" for word in inside)
        assert (start, start + length - 1) == (min(numbers), max(numbers))


@pytest.mark.parametrize("numbers", [[], [5], [-1]])
def test_things_outside_the_sentence_are_refused(numbers: list[int]) -> None:
    with pytest.raises(TaskError, match=r"thing E2 spans the tokens .* of a sentence of 5: .*0\.\.4"):
        marked([*"abcde"], [0], numbers)


def test_relations_are_in_one_split_and_each_sentence_keeps_its_words(data: Path) -> None:
    source = fewrel()
    assert source.splits == ("train", "validation", "test")
    assert [len(source.classes(split)) for split in source.splits] == [11, 5, 10]
    wiki = json.loads(gzip.decompress((data / "fewrel" / "val_wiki.json.gz").read_bytes()))
    labels = [(split, name) for split in ("train", "validation") for name in source.classes(split)]
    names = {name.split("(")[-1].rstrip(")"): (split, name) for split, name in labels}
    assert {*names} == {*wiki}
    for number, (split, name) in names.items():
        sentences = {" ".join(row["tokens"]) for row in wiki[number]}
        for i in source.classes(split)[name][::50]:
            words = source.texts[i].split(" ")
            assert all(words.count(marker) == 1 for marker in ("[E1]", "[/E1]", "[E2]", "[/E2]"))
            assert " ".join(word for word in words if word[:2] not in ("[E", "[/")) in sentences
    assert [*source.classes("test")] == sorted(source.classes("test"))


def test_marked_things_are_those_that_the_file_names(data: Path) -> None:
    row = json.loads(gzip.decompress((data / "fewrel" / "val_pubmed.json.gz").read_bytes()))["occurs_in"][0]
    source = fewrel()
    text = source.texts[source.classes("test")["occurs in"][0]]
    for name, thing in (("E1", row["h"]), ("E2", row["t"])):
        assert text.split(f"[{name}] ")[1].split(f" [/{name}]")[0].lower() == thing[0].lower()


def test_without_markers_a_sentence_is_there_once(data: Path) -> None:
    plain, source = fewrel(markers=False), fewrel()
    sentences = [same(text) for text in plain.texts]
    assert len({*sentences}) == len(sentences) < len(source.texts)
    assert not any("[E1]" in text for text in plain.texts)
    rows = sum(
        len(rows)
        for part in ("wiki", "pubmed")
        for rows in json.loads(gzip.decompress((data / f"fewrel/val_{part}.json.gz").read_bytes())).values()
    )
    assert plain.card.known_issues[0].startswith(f"{rows - len(sentences)} of {rows} rows repeat")
    assert plain.digest() != source.digest()
