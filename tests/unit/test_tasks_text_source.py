"""Sources of texts: what they refuse, and what a tokeniser may make of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import ArraySource, Card, Distribution, TaskError, TextSource
from tasks.text.source import same

CARD = Card("demo", "", "us", "CC0", "", {}, (), "None.")
TEXTS = ["hi", "hello there", "bye", "so long"]
MEMBERS = {"train": {"greet": [0, 1], "part": [2, 3]}}


def tokenise(texts: Sequence[str]) -> np.ndarray:
    """Code points, padded to the longest with zeros."""
    ids = np.zeros((len(texts), max(map(len, texts))), np.int64)
    for row, text in zip(ids, texts, strict=True):
        row[: len(text)] = [*map(ord, text)]
    return ids


def demo(texts: Any = TEXTS, members: Any = MEMBERS) -> TextSource:
    return TextSource(CARD, texts, members)


def test_encoded_holds_the_rows_of_the_tokeniser() -> None:
    source = demo()
    encoded = source.encoded(tokenise)
    assert isinstance(encoded, ArraySource)
    assert encoded.shape == (len("hello there"),)
    assert encoded.splits == source.splits
    assert encoded.card is source.card
    rows = encoded.load(encoded.classes("train")["part"])
    assert rows.dtype == torch.int64
    assert ["".join(map(chr, filter(None, row))) for row in rows.tolist()] == ["bye", "so long"]


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint8, np.int64])
def test_ids_of_any_integer_type_become_int64(dtype: type) -> None:
    encoded = demo().encoded(lambda texts: np.arange(len(texts), dtype=dtype)[:, None])
    x = encoded.load(np.array([3, 1]))
    assert x.dtype == torch.int64 and x.tolist() == [[3], [1]]


def test_what_the_tokeniser_keeps_is_not_ours_to_change() -> None:
    ids = np.arange(4)[:, None]
    encoded = demo().encoded(lambda _: ids)
    ids[:] = 7
    assert encoded.load(np.array([2])).item() == 2


@pytest.mark.parametrize(
    ("encode", "says"),
    [
        (
            lambda texts: np.zeros((len(texts) - 1, 3), int),
            r"shape \(3, 3\) of 4 texts: .* return \[4",
        ),
        (lambda texts: np.zeros(len(texts), int), r"shape \(4,\)"),
        (lambda texts: np.zeros((len(texts), 0), int), r"shape \(4, 0\)"),
        (lambda texts: np.zeros((len(texts), 2)), "float64 where token ids should be: return integers"),
        (lambda texts: np.array([["a"]] * len(texts)), "token ids"),
        (lambda texts: np.zeros((len(texts), 2), bool), "bool where token ids"),
        (lambda texts: np.full((len(texts), 2), -100), "token id -100: ids start at 0"),
    ],
)
def test_a_tokeniser_that_returns_something_else_is_refused(
    encode: Callable[[Sequence[str]], np.ndarray], says: str
) -> None:
    with pytest.raises(TaskError, match=rf"demo: .*{says}"):
        demo().encoded(encode)


@pytest.mark.parametrize(
    ("texts", "members", "says"),
    [
        ("hello", MEMBERS, r"texts is one text \(a string\): pass a list"),
        (["hi", None, "bye", "so long"], MEMBERS, r"texts\[1\] is None: every example"),
        (["hi", float("nan"), "bye", "so long"], MEMBERS, r"texts\[1\] is nan: every example"),
        (["hi", "there", " \n", "so long"], MEMBERS, "text 2 is blank: leave it out"),
        (
            TEXTS,
            {"train": {"greet": [0, 4]}},
            r"'greet' of split 'train' points outside .* use indices 0\.\.3",
        ),
        (TEXTS, {"train": {"greet": [-1]}}, "points outside"),
        (TEXTS, {"train": {"greet": [0.5]}}, "class 'greet' of split 'train' .*whole numbers"),
        (TEXTS, {"train": {"greet": [[0, 1]]}}, "list of indices"),
        (TEXTS, {"train": {"greet": ["0"]}}, "whole numbers"),
        (TEXTS, {"train": {"greet": [True, False]}}, "whole numbers"),
        (TEXTS, {}, "no splits"),
    ],
)
def test_what_makes_no_source_is_refused(texts: Any, members: Any, says: str) -> None:
    with pytest.raises(TaskError, match=says):
        demo(texts, members)


def test_texts_are_no_tensors() -> None:
    with pytest.raises(TaskError, match=r"demo holds texts.*encoded\(tokenise\)"):
        demo().load(np.array([0]))
    assert demo().shape == ()
    with pytest.raises(TaskError, match="no split 'test': use one of train"):
        demo().classes("test")


@pytest.mark.parametrize(
    ("texts", "members"),
    [
        (["hi", "hello there", "bye", "so Long"], MEMBERS),  # a letter
        (["hi", "hello there", "bye", "so long", "more"], MEMBERS),
        (["hih", "ello there", "bye", "so long"], MEMBERS),  # a border
        (TEXTS, {"train": {"greet": [1, 0], "part": [2, 3]}}),  # another order
        (TEXTS, {"train": {"greets": [0, 1], "part": [2, 3]}}),
        (TEXTS, {"test": {"greet": [0, 1], "part": [2, 3]}}),
        (TEXTS, {"train": {"greet": [0], "part": [1, 2, 3]}}),
    ],
)
def test_digest_tells_different_sources_apart(texts: list[str], members: Any) -> None:
    assert demo(texts, members).digest() != demo().digest()


def test_digest_is_that_of_the_content() -> None:
    assert demo([*TEXTS]).digest() == demo(tuple(TEXTS)).digest()
    other = TextSource(Card("other", "", "", "", "", {}, (), ""), TEXTS, MEMBERS)
    assert other.digest() == demo().digest()  # the card decides no result


def test_changing_the_list_that_was_given_changes_nothing() -> None:
    texts = [*TEXTS]
    source = demo(texts)
    texts[0] = "changed"
    assert source.texts == TEXTS


def test_episodes_are_drawn_of_encoded_texts() -> None:
    tasks = Distribution(demo().encoded(tokenise), ways=2, shots=1, queries=1)
    episode = tasks.episode(3)
    drawn = [*episode.meta.support_indices, *episode.meta.query_indices]
    assert sorted(drawn) == [0, 1, 2, 3]
    assert torch.equal(episode.support_x, torch.from_numpy(tokenise(TEXTS)[episode.meta.support_indices]))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip), min_size=1))
def test_every_text_can_be_held(texts: list[str]) -> None:
    source = demo(texts, {"train": {"all": [*range(len(texts))]}})
    assert source.texts == texts
    assert len(source.digest()) == 64


@settings(deadline=None, max_examples=50)
@given(st.text(), st.sampled_from([" ", "\n", "\t", "\u00a0", "  "]))
def test_same_ignores_case_and_white_space_only(text: str, space: str) -> None:
    assert same(text.replace(" ", space)) == same(f" {text} ") == same(same(text))
    assert same("straße") == same("STRASSE")
    assert same("a b") != same("ab") and same("a") != same("á")


def test_rows_are_as_long_as_the_longest_of_them() -> None:
    texts = ["a", "bb", "cccc", "dd dd"]
    source = TextSource(CARD, texts, {"train": {"x": [0, 1], "y": [2, 3]}})
    pad = 7
    width = max(map(len, texts))
    ids = source.encoded(
        lambda lines: np.array([[1] * len(t) + [pad] * (width - len(t)) for t in lines]), pad
    )
    assert ids.shape == (5,)
    for rows in ([0], [0, 1], [1, 2], [3, 0], []):
        loaded = ids.load(np.array(rows, np.int64))
        longest = max((len(texts[row]) for row in rows), default=1)
        assert loaded.shape == (len(rows), longest) and loaded.is_contiguous()
        assert (loaded == 1).sum(1).tolist() == [len(texts[row]) for row in rows]


def test_rows_of_nothing_but_padding_keep_a_column() -> None:
    source = TextSource(CARD, ["a", "b"], {"train": {"x": [0], "y": [1]}})
    assert source.encoded(lambda lines: np.full((2, 3), 5), pad=5).load(np.array([0, 1])).shape == (2, 1)
