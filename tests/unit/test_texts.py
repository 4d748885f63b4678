"""A list of texts is one, and what can merely be run through like one is named."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn

from adapt import AdaptError, FewShotAdapter
from adapt.adapter import initial_state
from adapt.backbones import Texts
from adapt.spaces import film
from tasks import Card, TaskError, TextSource, from_arrays

TEXTS = ["a", "bb", "a", "bb"]


class Reader(nn.Module):
    """Features are the embedding of the number of letters."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(100, 4)
        self.norm = nn.LayerNorm(4)

    def tokenise(self, texts: Sequence[str]) -> np.ndarray:
        assert type(texts) is list and all(type(text) is str for text in texts)
        return np.array([[len(text)] for text in texts])

    def forward(self, ids: Tensor) -> Tensor:
        return self.norm(self.table(ids).mean(1))


@pytest.fixture(scope="module")
def adapter() -> FewShotAdapter:
    torch.manual_seed(0)
    backbone = Reader().eval().requires_grad_(False)
    space = film(backbone)
    return FewShotAdapter(backbone, space, initial_state(space.initial, torch.eye(space.size)[:, :2]))


class Encoded(UserDict):  # type: ignore[type-arg]
    """As transformers' BatchEncoding is."""


LISTS: dict[str, Any] = {
    "list": TEXTS,
    "tuple": tuple(TEXTS),
    "array": np.array(TEXTS),
    "array of objects": np.array(TEXTS, object),
    "strings of numpy": [np.str_(text) for text in TEXTS],
    "column": pd.Series(TEXTS),
    "column of objects": pd.Series(TEXTS, dtype=object),
    "nullable column": pd.Series(TEXTS, dtype="string"),
    "column of categories": pd.Series(TEXTS, dtype="category"),
    "index": pd.Index(TEXTS),
    "Arrow": pa.array(TEXTS),
}


@pytest.mark.parametrize("texts", LISTS.values(), ids=LISTS.keys())
def test_lists_of_texts(adapter: FewShotAdapter, texts: Any) -> None:
    task = adapter.fit(texts, [1, 2, 1, 2])
    assert task.predict(texts).tolist() == [1, 2, 1, 2] and task.score(texts, [1, 2, 1, 2]) == 1
    source = from_arrays(texts, [1, 2, 1, 2])
    assert isinstance(source, TextSource) and source.texts == TEXTS


NO_LISTS: dict[str, tuple[Any, str]] = {
    "one text": ("abba", r"is one text \(a string\): pass a list of texts, \[\w+\]"),
    "bytes": (b"abba", "is bytes: pass a list of texts, decoded"),
    "list of bytes": ([b"a", b"bb", b"a", b"bb"], r"\w+\[0\] is a bytes \(b'a'\): decode it"),
    "array of bytes": (np.array([b"a", b"bb"] * 2), r"\w+\[0\] is a bytes_ \(.*\): decode it"),
    "set": ({"a", "b", "c", "d"}, "is a set, which has no order: pass a list"),
    "frozen set": (frozenset("abcd"), "is a frozenset, which has no order"),
    "generator": ((text for text in TEXTS), r"is a generator, which can be read only once: pass list\(\w+\)"),
    "dict": ({"a": 1, "b": 2, "c": 3, "d": 4}, r"is a dict, whose keys are no examples: pass \w+\['a'\]"),
    "tokeniser's dict": (
        Encoded(input_ids=[[1], [2]], attention_mask=[[1], [1]]),
        r"is a Encoded, .*: pass \w+\['input_ids'\], or the texts themselves",
    ),
    "table": (
        pd.DataFrame({"text": TEXTS, "label": [1, 2, 1, 2]}),
        r"is a DataFrame, a table: pass one column of it, \w+\['text'\]",
    ),
    "array of two axes": (np.array(TEXTS)[:, None], r"has shape \(4, 1\): pass one text per example"),
    "None": (["a", "bb", None, "bb"], r"\w+\[2\] is None: every example needs a text"),
    "NaN": (["a", float("nan"), "a", "bb"], r"\w+\[1\] is nan: every example needs a text"),
    "column with a gap": (pd.Series(["a", None, "a", "bb"]), r"\w+\[1\] is nan: every example needs"),
    "nullable column with a gap": (
        pd.Series(["a", None, "a", "bb"], dtype="string"),
        r"\w+\[1\] is <NA>: every example needs a text",
    ),
    "a number": (["a", "bb", 3, "bb"], r"\w+\[2\] is a int \(3\): every example is one string"),
    "a pair": (["a", ("bb", "c"), "a", "bb"], r"\w+\[1\] is a tuple .*: every example is one string"),
    "half a character": (["a", "bb", "caf\udce9", "bb"], r"\w+\[2\] holds half a character"),
}


@pytest.mark.parametrize(("texts", "message"), NO_LISTS.values(), ids=NO_LISTS.keys())
def test_what_is_no_list_of_texts_is_named(adapter: FewShotAdapter, texts: Any, message: str) -> None:
    task = adapter.fit(TEXTS, [1, 2, 1, 2])
    for use in (lambda: adapter.fit(texts, [1, 2, 1, 2]), lambda: task.predict(texts)):
        with pytest.raises(AdaptError, match=rf"^x.*{message}|^{message}"):
            use()
    with pytest.raises(TaskError, match=message):
        from_arrays(texts, [1, 2, 1, 2])
    card = Card("demo", "", "us", "CC0", "", {}, (), "None.")
    with pytest.raises(TaskError, match=f"demo: .*{message}|demo: {message}"):
        TextSource(card, texts, {"train": {"a": [0]}})
    network = Texts(nn.Embedding(2, 2), lambda *_, **__: {"input_ids": [[1]]}, pad=0)
    with pytest.raises(AdaptError, match=message):
        network.tokenise(texts)


def test_empty_texts_are_texts(adapter: FewShotAdapter) -> None:
    task = adapter.fit(["", "bb", "", "bb"], [1, 2, 1, 2])
    assert task.predict([""]).tolist() == [1]
    assert task.predict([]).shape == (0,) and task.predict_proba(np.array([], dtype=str)).shape == (0, 2)
    with pytest.raises(TaskError, match="text 1 is blank: leave it out"):
        from_arrays(["a", ""], [0, 1])


def test_a_backbone_of_numbers_names_what_it_cannot_read() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3)).requires_grad_(False)
    space = film(network)
    adapter = FewShotAdapter(network, space, initial_state(space.initial, torch.eye(space.size)[:, :2]))
    table = pd.DataFrame({"a": [0.0, 1.0, 0.1, 0.9], "b": [1, 0, 1, 0]})
    task = adapter.fit(table, [1, 2, 1, 2])
    assert torch.equal(task.logits(table), task.logits(table.to_numpy()))
    for x, message in (
        ({"a": [1.0]}, r"x is a dict, whose keys are no examples: pass x\['a'\]"),
        ({1.0, 2.0}, "x is a set, which has no order"),
        (pd.DataFrame({"a": ["x"], "b": [1]}), r"x is a DataFrame, a table: pass one column"),
        (["a", "b"], "x holds texts, but this backbone takes numbers"),
        ((row for row in [[0.0, 1.0]]), "x is a generator"),
    ):
        with pytest.raises(AdaptError, match=message):
            task.predict(x)
