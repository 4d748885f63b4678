"""The in-memory source, and what importing the package costs."""

from __future__ import annotations

import doctest
import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks import ArraySource, Card, Source, TaskError

CARD = Card("toy", "noise", "here", "CC0", "none", {"examples": 4}, ("tiny",), "none")


def toy(examples: np.ndarray | None = None, names: str = "ab", split: str = "train") -> ArraySource:
    if examples is None:
        examples = np.arange(16, dtype=np.uint8).reshape(4, 1, 2, 2)
    return ArraySource(CARD, examples, {split: {names[0]: np.array([0, 1]), names[1]: np.array([2, 3])}})


def test_is_a_source() -> None:
    source = toy()
    assert isinstance(source, Source)
    assert (source.name, source.splits, source.shape) == ("toy", ("train",), (1, 2, 2))


def test_bytes_are_read_as_fractions_and_floats_as_they_are() -> None:
    x = np.array([[0.0], [2.5]], dtype=np.float64)
    one_class = {"train": {"a": np.array([0, 1])}}
    assert torch.equal(ArraySource(CARD, x, one_class).load(np.array([1, 0])), torch.tensor([[2.5], [0.0]]))
    assert torch.equal(toy().load(np.array([3])), torch.arange(12, 16).reshape(1, 1, 2, 2) / 255)


def test_loaded_examples_can_be_changed_without_changing_the_source() -> None:
    source = ArraySource(CARD, np.ones((1, 3), np.float32), {"train": {"a": np.array([0])}})
    source.load(np.array([0])).zero_()
    assert source.load(np.array([0])).sum() == 3


def test_indices_cannot_be_changed_by_a_caller() -> None:
    with pytest.raises(ValueError, match="read-only"):
        toy().classes("train")["a"][0] = 3


def test_digest_sees_pixels_names_and_splits() -> None:
    pixels = np.arange(16, dtype=np.uint8).reshape(4, 1, 2, 2)
    pixels[3, 0, 1, 1] += 1
    others = [toy(pixels), toy(names="ac"), toy(names="ba"), toy(split="test")]
    assert toy().digest() == toy().digest()
    assert len({source.digest() for source in [toy(), *others]}) == 5


def test_errors_name_the_fix() -> None:
    with pytest.raises(TaskError, match="toy has no split 'tset': use one of train"):
        toy().classes("tset")
    with pytest.raises(TaskError, match=r"class 'a' of split 'train' .* use indices 0\.\.1"):
        ArraySource(CARD, np.zeros((2, 1)), {"train": {"a": np.array([2])}})
    with pytest.raises(TaskError, match="no splits"):
        ArraySource(CARD, np.zeros((2, 1)), {})


def test_card_is_json() -> None:
    assert json.loads(json.dumps(CARD.to_dict())) == CARD.to_dict()


ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "tasks").rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings_run(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0


def test_import_is_light() -> None:
    heavy = "{'matplotlib', 'PIL', 'sklearn', 'scipy', 'adapt'}"
    code = f"import sys, tasks; print(sorted({heavy} & {{*sys.modules}}))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
