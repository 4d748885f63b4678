"""Predicting in parts: the same values, the same errors, and memory that does not grow."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from adapt import AdaptError, FewShotAdapter, FittedTask
from adapt.backbones import own
from tests.misbehaving import Tokens


class Counting(nn.Module):
    """Features of flattened examples; it keeps how many came at a time."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, 6)
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        return torch.tanh(self.linear(x.flatten(1)))


def task_of(shape: Sequence[int], **known: Any) -> tuple[FittedTask, Counting]:
    torch.manual_seed(0)
    network, info = own(Counting(int(np.prod(shape))), input_shape=shape, **known)
    adapter = FewShotAdapter.of(network)
    assert adapter.backbone is network and info.input_shape == tuple(shape)
    x = torch.rand(6, *shape, generator=torch.Generator().manual_seed(1))
    task = adapter.fit(x, ["a", "b"] * 3)
    network.seen.clear()
    return task, network


def rows(n: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(2).random((n, *shape)).astype(np.float32)


PICTURES = (rows(9, 3, 4, 4) * 255).astype(np.uint8)
#: Every kind of input, as (shape, what is known, nine examples).
INPUTS: dict[str, tuple[tuple[int, ...], dict[str, Any], Any]] = {
    "array": ((4,), {}, rows(9, 4)),
    "float64 array": ((4,), {}, rows(9, 4).astype(np.float64)),
    "tensor": ((4,), {}, torch.from_numpy(rows(9, 4))),
    "nested lists": ((4,), {}, rows(9, 4).tolist()),
    "list of arrays": ((4,), {}, [*rows(9, 4)]),
    "tuple of tensors": ((4,), {}, tuple(torch.from_numpy(rows(9, 4)))),
    "table": ((4,), {}, pd.DataFrame(rows(9, 4))),
    "dataset": ((4,), {}, torch.utils.data.TensorDataset(torch.from_numpy(rows(9, 4)))),
    "loader": ((4,), {}, torch.utils.data.DataLoader(rows(9, 4), batch_size=4)),  # type: ignore[arg-type]
    "bytes": ((3, 4, 4), {"value_range": [-1, 1]}, PICTURES),
    "bytes, channels last": ((3, 4, 4), {}, PICTURES.transpose(0, 2, 3, 1)),
    "list of bytes": ((3, 4, 4), {"value_range": [0, 1]}, [*PICTURES]),
    "Pillow images": ((3, 4, 4), {}, [Image.fromarray(it.transpose(1, 2, 0)) for it in PICTURES]),
}


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("size", [1, 2, 4, 9, 100])
def test_parts_have_the_values_of_the_whole(name: str, size: int) -> None:
    shape, known, x = INPUTS[name]
    task, network = task_of(shape, **known)
    expected = task.logits(x, batch_size=9)
    network.seen.clear()
    found = task.logits(x, batch_size=size)
    assert torch.allclose(found, expected, atol=1e-6) and len(found) == 9
    assert max(network.seen) <= max(size, 2)  # the contract is looked at on two
    assert (task.predict(x, batch_size=size) == task.classes_[expected.argmax(1)]).all()
    assert np.allclose(task.predict_proba(x, batch_size=size).sum(1), 1)
    assert task.score(x, task.predict(x), batch_size=size) == 1


def test_texts_in_parts_are_padded_by_themselves() -> None:
    torch.manual_seed(0)
    texts = ["ab", "cdefg", "h", "ijk", "lm"]
    adapter = FewShotAdapter.of(Tokens(masked=True))
    task = adapter.fit(texts[:4], [0, 1, 0, 1])
    for x in (texts, tuple(texts), np.array(texts), pd.Series(texts)):
        found = task.logits(x, batch_size=2)
        assert torch.allclose(found, task.logits(texts, batch_size=5), atol=1e-5)


def test_by_default_memory_does_not_grow_with_the_number_of_examples() -> None:
    task, network = task_of((3, 32, 32))
    task.predict(np.zeros((1000, 3, 32, 32), np.float32))
    assert max(network.seen) < 100 and sum(network.seen) >= 1000
    small, network = task_of((4,))
    small.predict(np.zeros((1000, 4), np.float32))
    assert 1000 in network.seen  # what is small goes at once


def test_log_probabilities() -> None:
    task, _ = task_of((4,))
    x = rows(5, 4)
    assert np.allclose(task.predict_log_proba(x, batch_size=2), np.log(task.predict_proba(x)), atol=1e-6)
    sure = task.predict_log_proba(1e4 * x)
    assert np.isfinite(sure).all()


FAULTS: dict[str, tuple[Callable[[np.ndarray], Any], str]] = {
    "NaN": (lambda x: np.where(np.arange(9)[:, None] == 7, np.nan, x), r"x\[7\] holds NaN"),
    "NaN in a list": (lambda x: [*np.where(np.arange(9)[:, None] == 5, np.nan, x)], r"x\[5\] holds NaN"),
    "another shape": (
        lambda x: [*x[:8], np.zeros(3, np.float32)],
        r"x\[0\] has shape \(4,\) and x\[8\] has \(3,\)",
    ),
    "wrong shape": (lambda x: x[:, :3], r"shape \(3,\) but this backbone takes \(4,\)"),
    "texts": (lambda x: ["a"] * 9, r"x holds texts, but this backbone takes numbers"),
}


@pytest.mark.parametrize(("make", "message"), FAULTS.values(), ids=FAULTS)
def test_errors_name_the_example_among_all(make: Callable[[np.ndarray], Any], message: str) -> None:
    task, _ = task_of((4,))
    for size in (2, None):
        with pytest.raises(AdaptError, match=message):
            task.predict(make(rows(9, 4)), batch_size=size)


@pytest.mark.parametrize("listed", [False, True])
def test_a_dark_part_of_bright_pictures_is_none_of_black_ones(listed: bool) -> None:
    task, _ = task_of((3, 4, 4))
    x = PICTURES.copy()
    x[2:4] = 1
    for size in (1, 2, 9):
        given = [*x] if listed else x
        assert torch.allclose(task.logits(given, batch_size=size), task.logits(x), atol=1e-6)
        with pytest.raises(AdaptError, match="all of them 0 or 1"):
            task.predict([*np.minimum(x, 1)] if listed else np.minimum(x, 1), batch_size=size)


@pytest.mark.parametrize("size", [0, -1, 2.5, "3", True])
def test_no_number_of_examples(size: Any) -> None:
    task, _ = task_of((4,))
    for use in (task.predict, task.predict_proba, task.predict_log_proba, task.logits):
        with pytest.raises(AdaptError, match=rf"batch_size={re.escape(repr(size))}"):
            use(rows(3, 4), batch_size=size)


def test_none_are_none() -> None:
    task, _ = task_of((4,))
    for x in ([], np.zeros((0, 4)), torch.zeros(0, 4)):
        assert task.predict(x, batch_size=2).shape == (0,)
        assert task.predict_log_proba(x).shape == (0, 2)
