"""The contract of task sources, for every row of the tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pytest
import torch

from tasks import (
    FunctionSource,
    Source,
    TaskError,
    TextSource,
)
from tests.conformance.task_tables import (
    FUNCTIONS,
    SOURCES,
    TEXTS,
)

#: An example: where it is, as (split, class name).
Places = dict[int, list[tuple[str, str]]]


def check_card(source: Source | FunctionSource) -> None:
    assert source.name == source.card.name
    assert json.loads(json.dumps(source.card.to_dict())) == source.card.to_dict()
    assert source.card.licence and source.card.origin


def places(source: Source) -> Places:
    """Of every example; classes are checked on the way."""
    found: Places = {}
    assert len(source.splits) == len(set(source.splits)) > 0
    for split in source.splits:
        classes = source.classes(split)
        assert len(classes) >= 2
        for label, indices in classes.items():
            assert indices.dtype == np.int64 and indices.ndim == 1 and len(indices) >= 1
            for index in indices.tolist():
                found.setdefault(index, []).append((split, label))
    with pytest.raises(ValueError, match="no such split"):
        source.classes("no such split")
    return found


def check_same(source: Source, again: Source) -> None:
    """Two sources made alike are the same."""
    assert again.digest() == source.digest() == source.digest()
    assert len(source.digest()) == 64 and int(source.digest(), 16) >= 0
    for split in source.splits:
        assert [*again.classes(split)] == [*source.classes(split)]


def check_loading(source: Source, again: Source, indices: Sequence[int], dtype: torch.dtype) -> None:
    chosen = np.array(sorted(indices)[:: max(len(indices) // 20, 1)])
    x = source.load(chosen)
    if dtype == torch.int64:  # as long as the longest of these rows
        assert len(x) == len(chosen) and 1 <= x.shape[1] <= source.shape[0]
        assert x.shape[1] == 1 or bool(x[:, -1].any())
    else:
        assert x.shape == (len(chosen), *source.shape)
    assert x.dtype == dtype
    assert bool(torch.isfinite(x).all())
    assert torch.equal(source.load(chosen[::-1].copy()), x.flip(0))
    assert source.load(chosen[:0]).shape == (0, *(source.shape if dtype == torch.float32 else (1,)))
    source.load(chosen).zero_()
    assert torch.equal(source.load(chosen), x)  # what was handed out is a copy
    assert torch.equal(again.load(chosen), x)


@pytest.mark.parametrize("name", SOURCES)
def test_source_keeps_its_contract(name: str) -> None:
    source, again = SOURCES[name](), SOURCES[name]()
    assert isinstance(source, Source)
    check_card(source)
    found = places(source)
    for index, where in found.items():
        assert len(where) == 1, f"example {index} is in {where}"
    assert all(len(rows) >= 2 for split in source.splits for rows in source.classes(split).values())
    check_loading(source, again, [*found], torch.float32)
    check_same(source, again)


def tokenise(texts: Sequence[str]) -> np.ndarray:
    """Code points of the first twelve characters, padded with zeros."""
    cut = "".join(text[:12].ljust(12, "\0") for text in texts)
    return np.frombuffer(cut.encode("utf-32-le"), "<i4").reshape(-1, 12)


@pytest.mark.parametrize("name", TEXTS)
def test_text_source_keeps_its_contract(name: str) -> None:
    source, again = TEXTS[name](), TEXTS[name]()
    assert isinstance(source, Source) and isinstance(source, TextSource) and isinstance(again, TextSource)
    check_card(source)
    assert source.card.domain or source.name not in ("banking77", "clinc150", "fewrel")
    found = places(source)
    folded = [" ".join(source.texts[index].split()).casefold() for index in found]
    assert all(folded) and len({*folded}) == len(folded)  # nobody is asked what he was told
    # A pool may be part of another, or be made of the same texts in other splits, but not of their labels.
    for index, where in found.items():
        assert len({split for split, _ in where}) == len(where), f"text {index} is twice in {where}"
        assert len({label for _, label in where}) == 1, f"text {index} has two labels in {where}"
    for a, b in permutations(source.splits, 2):
        if (a.startswith("support") and b == "query") or {a, b} <= {"train", "validation", "test"}:
            assert not [where for where in found.values() if {a, b} <= {split for split, _ in where}]
    check_same(source, again)
    with pytest.raises(TaskError, match=r"encoded\(tokenise\)"):
        source.load(np.array([0]))

    ids, ids_again = source.encoded(tokenise), again.encoded(tokenise)
    check_loading(ids, ids_again, [*found], torch.int64)
    check_same(ids, ids_again)
    assert ids.card is source.card
    assert places(ids) == found
    some = [*found][:: max(len(found) // 20, 1)]
    loaded = ids.load(np.array(some))
    expected = tokenise([source.texts[i] for i in some])
    assert loaded.tolist() == expected[:, : loaded.shape[1]].tolist()
    assert not expected[:, loaded.shape[1] :].any()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_source_keeps_its_contract(name: str) -> None:
    source, again = FUNCTIONS[name](), FUNCTIONS[name]()
    assert isinstance(source, FunctionSource) and not isinstance(source, Source)
    assert source.regression is True
    check_card(source)
    assert source.splits == again.splits == ("train", "validation", "test")

    def draw(source: FunctionSource, seed: int) -> tuple[list[np.ndarray], dict[str, float]]:
        *arrays, parameters = source.draw(np.random.default_rng(seed), 3, 4)
        return arrays, parameters

    for seed in range(20):
        arrays, parameters = draw(source, seed)
        for k, n in ((0, 3), (2, 4)):
            assert arrays[k].shape == (n, *source.shape)
            assert arrays[k + 1].shape == (n, source.outputs)
        assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in arrays)
        assert all(type(value) is float and np.isfinite(value) for value in parameters.values())
        copies, (others, same) = [array.copy() for array in arrays], draw(again, seed)
        assert same == parameters != draw(source, seed + 20)[1]
        for array in arrays:
            array[:] = 0  # what was handed out is the caller's
        assert all(map(np.array_equal, copies, others))
        assert all(map(np.array_equal, copies, draw(source, seed)[0]))

    assert again.digest() == source.digest() == source.digest()
    assert len(source.digest()) == 64 and int(source.digest(), 16) >= 0
