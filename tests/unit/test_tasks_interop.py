"""Data from elsewhere arrives as it was: examples, labels, splits, and nothing claimed that nobody said."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from adapt.backbones import require
from tasks import (
    ArraySource,
    Card,
    Distribution,
    Source,
    TaskError,
    TextSource,
    from_arrays,
    from_hugging_face,
    from_learn2learn,
    from_torch,
    hugging_face,
)

X = np.arange(24, dtype=np.uint8).reshape(12, 1, 2, 1)
Y = np.array([5, 10, 5, 2] * 3)


def shown(source: Source, split: str = "train") -> dict[str, list[int]]:
    """Class -> first pixel of each of its examples, as bytes."""
    return {
        name: (255 * source.load(rows)[:, 0, 0, 0]).round().int().tolist()
        for name, rows in source.classes(split).items()
    }


EXPECTED = {"2": [6, 14, 22], "5": [0, 4, 8, 12, 16, 20], "10": [2, 10, 18]}  # 10 after 5: numbers, not texts


@pytest.mark.parametrize(
    ("x", "y"),
    [(X, Y), (torch.from_numpy(X), torch.from_numpy(Y)), (X, Y.tolist())],
    ids=["numpy", "torch", "list"],
)
def test_arrays(x: Any, y: Any) -> None:
    source = from_arrays(x, y)
    assert isinstance(source, ArraySource) and source.shape == (1, 2, 1) and shown(source) == EXPECTED
    assert (source.card.licence, source.card.commercial) == ("unknown", None)
    assert source.card.counts == {"examples": 12, "classes": 3}
    episode = Distribution(source, 3, 1, 2).episode(0)
    assert episode.query_x.shape == (6, 1, 2, 1)


def test_arrays_are_not_copied_and_a_card_is_kept() -> None:
    x, card = X.copy(), Card("mine", "", "me", "CC0", "", {}, (), "None.")
    source = from_arrays(x, Y, card=card)
    x[0] = 255
    assert shown(source)["5"][0] == 255 and source.card is card


def test_names_and_texts() -> None:
    named = from_arrays(X, Y, names=[f"n{i}" for i in range(11)])
    assert [*named.classes("train")] == ["n2", "n5", "n10"]
    texts = from_arrays(
        [f"text {i}" for i in range(12)], [f"intent {y}" for y in Y], splits={"a": 1, "b": 1}, by="examples"
    )
    assert isinstance(texts, TextSource) and texts.texts[3] == "text 3"
    assert sorted(np.concatenate([texts.classes(s)["intent 2"] for s in "ab"]).tolist()) == [3, 7, 11]


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(3, 9), min_size=3, max_size=8),
    shares=st.lists(st.floats(0.05, 5), min_size=1, max_size=3),
    by=st.sampled_from(["classes", "examples"]),
    seed=st.integers(0, 2**32),
)
def test_splits_divide_everything_once(sizes: list[int], shares: list[float], by: str, seed: int) -> None:
    y = np.repeat(np.arange(len(sizes)), sizes)
    splits = {f"s{i}": share for i, share in enumerate(shares)}
    source = from_arrays(np.arange(len(y))[:, None] / 1, y, splits=splits, by=by, seed=seed)
    again = from_arrays(np.arange(len(y))[:, None] / 1, y, splits=splits, by=by, seed=seed)
    assert source.digest() == again.digest() and source.splits == tuple(splits)
    members = [(split, name, rows) for split in splits for name, rows in source.classes(split).items()]
    assert sorted(np.concatenate([rows for _, _, rows in members]).tolist()) == [*range(len(y))]
    assert all((y[rows] == int(name)).all() for _, name, rows in members)
    names = {split: {*source.classes(split)} for split in splits}
    if by == "examples":
        assert all(found == {str(i) for i in range(len(sizes))} for found in names.values())
    else:
        assert sum(map(len, names.values())) == len(sizes) and all(names.values())


def test_shares_are_kept_as_well_as_whole_numbers_can() -> None:
    source = from_arrays(np.zeros((100, 1)), np.arange(100), splits={"train": 6, "validation": 1, "test": 3})
    assert [len(source.classes(split)) for split in source.splits] == [60, 10, 30]
    other = from_arrays(np.zeros((100, 1)), np.arange(100), splits={"train": 6, "test": 4}, seed=1)
    assert {*source.classes("train")} != {*other.classes("train")}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: from_arrays(X, Y[:3]), "12 examples and 3 labels"),
        (lambda: from_arrays(X, Y / 2), "labels of type float64"),
        (lambda: from_arrays(X, Y, names=["a"]), "not numbers of the 1 names"),
        (lambda: from_arrays(X, Y, splits={"a": 1}, by="rows"), "by='rows' is unknown"),
        (lambda: from_arrays(X, Y, splits={"a": -1}), "give each split a positive share"),
        (lambda: from_arrays(X, Y, splits=dict.fromkeys("abcd", 1)), "3 of classes cannot be divided"),
        (lambda: from_torch([(X[0], 0), (X[0, 0], 1)]), "examples differ in shape"),
        (lambda: from_learn2learn([1, 2]), "list has no labels_to_indices"),
    ],
)  # fmt: skip
def test_mistakes_are_named(make: Any, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        make()


class Pictures(torch.utils.data.Dataset):
    """As torchvision's data sets without a transform: Pillow images, some grey, some not."""

    def __init__(self, mode: str) -> None:
        self.mode = mode

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.new(
            self.mode, (6 + index, 4), 10 * index if self.mode == "L" else (10 * index, 0, 0)
        ), index % 2


def test_a_torch_dataset() -> None:
    pairs = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    assert shown(from_torch(pairs)) == EXPECTED
    for mode, channels in (("L", 1), ("RGB", 3)):
        source = from_torch(Pictures(mode), size=5)
        assert source.shape == (channels, 5, 5) and shown(source) == {"0": [0, 20], "1": [10, 30]}
    with pytest.raises(TaskError, match="give images one size"):
        from_torch(Pictures("L"))


def test_learn2learn() -> None:
    data = require("learn2learn").data
    meta = data.MetaDataset(torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)))
    assert shown(from_learn2learn(meta)) == EXPECTED
    assert shown(from_learn2learn(data.Taskset(meta, [], num_tasks=1))) == EXPECTED
    filtered = data.FilteredMetaDataset(meta, [2, 10])
    assert shown(from_learn2learn(filtered)) == {name: EXPECTED[name] for name in ("2", "10")}


# --------------------------------------------------------------------------------------------- datasets


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))


def test_texts_of_hugging_face() -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bye", "hi"])}
    )
    parts = {
        "train": datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, 1]}, features=features),
        "test": datasets.Dataset.from_dict({"text": ["d", "e"], "label": [0, 1]}, features=features),
    }
    source = from_hugging_face(datasets.DatasetDict(parts), example="text")
    assert isinstance(source, TextSource) and source.splits == ("train", "test")
    texts = {s: {n: [source.texts[i] for i in rows] for n, rows in source.classes(s).items()} for s in parts}
    assert texts == {"train": {"bye": ["b"], "hi": ["a", "c"]}, "test": {"bye": ["d"], "hi": ["e"]}}
    assert source.card.licence == "unknown" and source.card.commercial is None
    with pytest.raises(TaskError, match="has splits: leave by out"):
        from_hugging_face(datasets.DatasetDict(parts), example="text", by="classes")
    with pytest.raises(TaskError, match="split 'train' has no column 'image': use one of text, label"):
        from_hugging_face(parts["train"])
    divided = from_hugging_face(parts["train"], example="text", splits={"x": 1, "y": 1})
    assert {*divided.classes("x")} | {*divided.classes("y")} == {"bye", "hi"}


def test_images_of_hugging_face() -> None:
    datasets = pytest.importorskip("datasets")
    pictures = [Image.new("L", (4, 4), 10 * i) for i in range(4)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    data = datasets.Dataset.from_dict({"image": pictures, "label": ["x", "y", "x", "y"]}, features=features)
    source = from_hugging_face(data, size=3)
    assert source.shape == (1, 3, 3) and shown(source) == {"x": [0, 20], "y": [10, 30]}


def test_hugging_face_reads_files(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    path = tmp_path / "mine.csv"
    path.write_text("text,label\nhi,0\nho,1\nhu,0\nhe,1\n")
    source = hugging_face(
        "csv", data_files=str(path), example="text", split="train", splits={"a": 1, "b": 1}, by="examples"
    )
    assert isinstance(source, TextSource) and sorted(source.texts) == ["he", "hi", "ho", "hu"]
    assert {*source.classes("a")} == {*source.classes("b")} == {"0", "1"}
    with pytest.raises(TaskError, match=r"data set 'csv' cannot be loaded .*: check path, config and split"):
        hugging_face("csv", data_files=str(tmp_path / "no.csv"), example="text")


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **more: Any) -> Any:
        if name == "datasets":
            raise ImportError(name)
        return real(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(TaskError, match="pip install datasets"):
        hugging_face("anything")
