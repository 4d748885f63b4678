"""The contract of task sources, for every row of the tables."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tasks import (
    FunctionSource,
    Source,
)
from tests.conformance.tables import (
    FUNCTIONS,
    SOURCES,
)


@pytest.mark.parametrize("name", SOURCES)
def test_source_keeps_its_contract(name: str) -> None:
    source, again = SOURCES[name](), SOURCES[name]()
    assert isinstance(source, Source)
    assert source.name == source.card.name
    assert json.loads(json.dumps(source.card.to_dict())) == source.card.to_dict()
    assert source.card.licence and source.card.origin
    assert len(source.splits) == len(set(source.splits)) > 0

    seen: dict[int, tuple[str, str]] = {}
    for split in source.splits:
        classes = source.classes(split)
        assert len(classes) >= 2
        for label, indices in classes.items():
            assert indices.dtype == np.int64 and indices.ndim == 1 and len(indices) >= 2
            for index in indices.tolist():
                assert index not in seen, f"example {index} is in {seen.get(index)} and in {(split, label)}"
                seen[index] = (split, label)
    chosen = np.array(sorted(seen)[:: max(len(seen) // 20, 1)])
    x = source.load(chosen)
    assert x.shape == (len(chosen), *source.shape)
    assert x.dtype == torch.float32
    assert bool(torch.isfinite(x).all())
    assert torch.equal(source.load(chosen[::-1].copy()), x.flip(0))
    assert source.load(chosen[:0]).shape == (0, *source.shape)
    source.load(chosen).zero_()
    assert torch.equal(source.load(chosen), x)  # what was handed out is a copy

    assert again.digest() == source.digest() == source.digest()
    assert len(source.digest()) == 64 and int(source.digest(), 16) >= 0
    assert torch.equal(again.load(chosen), x)
    for split in source.splits:
        assert [*again.classes(split)] == [*source.classes(split)]
    with pytest.raises(ValueError, match="no such split"):
        source.classes("no such split")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_source_keeps_its_contract(name: str) -> None:
    source, again = FUNCTIONS[name](), FUNCTIONS[name]()
    assert isinstance(source, FunctionSource) and not isinstance(source, Source)
    assert source.regression is True
    assert source.name == source.card.name
    assert json.loads(json.dumps(source.card.to_dict())) == source.card.to_dict()
    assert source.card.licence and source.card.origin
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
