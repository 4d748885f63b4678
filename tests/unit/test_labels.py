"""As many classes as there are distinct labels, whatever labels are, or an error that names them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import adapt
from adapt import AdaptError, FewShotAdapter
from tasks import ArraySource, TaskError, from_arrays
from tasks.readers.labels import classes_of, positions, read_labels
from tests.label_cases import KEPT, REFUSED

X = np.arange(4, dtype=np.float32)[:, None]


@pytest.fixture
def images(adapter: FewShotAdapter) -> torch.Tensor:
    """Four that are easily told apart."""
    return torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("labels", "classes"), KEPT.values(), ids=KEPT.keys())
def test_labels_are_kept_apart_scored_and_saved(
    adapter: FewShotAdapter, images: torch.Tensor, tmp_path: Path, labels: Any, classes: list[Any]
) -> None:
    task = adapter.fit(images, labels)
    assert task.classes_.tolist() == classes
    assert [type(label) for label in task.classes_.tolist()] == [type(label) for label in classes]
    found = task.logits(images).argmax(-1).tolist()
    right = sum(classes[i] == label for i, label in zip(found, _plain(labels), strict=True))
    assert task.score(images, labels) == right / 4
    task.save_pretrained(tmp_path)
    loaded = adapt.load(tmp_path, backbone=adapter.backbone)
    assert loaded.classes_.tolist() == classes and loaded.classes_.dtype == task.classes_.dtype
    assert loaded.score(images, labels) == right / 4


def _plain(labels: Any) -> list[Any]:
    if isinstance(labels, torch.Tensor):
        return labels.to_dense().double().tolist()
    plain = [label.as_py() if hasattr(label, "as_py") else label for label in labels]  # of Arrow
    return [label.item() if isinstance(label, torch.Tensor) else label for label in plain]


@pytest.mark.parametrize(("labels", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_labels_that_cannot_be_kept_are_named(
    adapter: FewShotAdapter, images: torch.Tensor, labels: Any, message: str
) -> None:
    with pytest.raises(AdaptError, match=message):
        adapter.fit(images, labels)
    if isinstance(labels, type(x for x in ())):
        return  # it is spent
    task = adapter.fit(images, [0, 1, 0, 1])
    with pytest.raises(AdaptError, match=message):
        task.score(images, labels)


@pytest.mark.parametrize(("labels", "classes"), KEPT.values(), ids=KEPT.keys())
def test_sources_have_a_class_for_every_label(labels: Any, classes: list[Any]) -> None:
    if isinstance(classes[0], float):
        with pytest.raises(TaskError, match=r"labels of type float\d+ are no classes"):
            from_arrays(X, labels)
        return
    source = from_arrays(X, labels)
    assert isinstance(source, ArraySource)
    found = source.classes("train")
    assert [*found] == [str(name) for name in classes]
    for name, rows in zip(classes, found.values(), strict=True):
        assert rows.tolist() == [row for row, label in enumerate(_plain(labels)) if label == name]


@pytest.mark.parametrize(("labels", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_sources_refuse_the_same_labels(labels: Any, message: str) -> None:
    if isinstance(labels, type(x for x in ())):
        labels = (label for label in "abab")
    with pytest.raises(TaskError, match=message):
        from_arrays(X, labels)


@pytest.mark.parametrize(
    ("fitted", "scored"),
    [
        (torch.tensor([0.1, 0.2] * 2), [0.1, 0.2] * 2),
        ([0.1, 0.2] * 2, torch.tensor([0.1, 0.2] * 2)),
        ([0.1, 0.2] * 2, np.array([0.1, 0.2] * 2, np.float16)),
        ([0, 1] * 2, [0.0, 1.0] * 2),
        ([0.0, 1.0] * 2, torch.tensor([0, 1] * 2)),
        ([False, True] * 2, [0, 1] * 2),
        (torch.tensor([0, 1] * 2), [False, True] * 2),
        (np.array([0, 1] * 2, np.uint8), [0, 1] * 2),
        ([2**63, 2**63 + 1] * 2, np.array([2**63, 2**63 + 1] * 2, np.uint64)),
        (["a", "b"] * 2, np.array(["a", "b"] * 2, object)),
        (["a", "b"] * 2, [np.str_("a"), np.str_("b")] * 2),
    ],
    ids=repr,
)  # fmt: skip
def test_the_same_labels_in_another_type_score_the_same(
    adapter: FewShotAdapter, images: torch.Tensor, fitted: Any, scored: Any
) -> None:
    task = adapter.fit(images, fitted)
    right = (task.logits(images).argmax(-1) == torch.tensor([0, 1, 0, 1])).float().mean().item()
    assert right > 0.5
    assert task.score(images, scored) == task.score(images, fitted) == right


@pytest.mark.parametrize(
    ("fitted", "scored", "message"),
    [
        ([0, 1] * 2, ["0", "1"] * 2, "y holds strings, such as '0', but the classes are whole numbers"),
        (["0", "1"] * 2, [0, 1] * 2, "y holds whole numbers, such as 0, but the classes are strings"),
        (["0", "1"] * 2, [0.0, 1.0] * 2, "y holds numbers, such as 0.0, but the classes are strings"),
        (["True", "False"] * 2, [True, False] * 2, "y holds booleans, such as True, but .* strings"),
        ([1, 2] * 2, [True, False] * 2, "y holds booleans, such as True, but the classes are whole numbers"),
        ([True, False] * 2, [1, 2] * 2, "y holds whole numbers, such as 1, but the classes are booleans"),
        (["a", "b"] * 2, ["A", "B"] * 2, "y holds none of the classes .*: it has 'A', 'B', and they are 'a'"),
        ([0, 1] * 2, [5] * 4, "y holds none of the classes of this task: it has 5, and they are 0, 1"),
        ([1.0, 1.0 + 2**-40] * 2, np.ones(4, np.float32), "1.0 and 1.0000000000009095 are one number"),
    ],
    ids=repr,
)  # fmt: skip
def test_labels_of_another_kind_are_no_score_of_zero(
    adapter: FewShotAdapter, images: torch.Tensor, fitted: Any, scored: Any, message: str
) -> None:
    with pytest.raises(AdaptError, match=message):
        adapter.fit(images, fitted).score(images, scored)


def test_a_label_that_is_no_class_counts_as_wrong(adapter: FewShotAdapter, images: torch.Tensor) -> None:
    task = adapter.fit(images, ["a", "b"] * 2)
    predicted = task.predict(images).tolist()
    truth = [predicted[0], "c", predicted[2], "d"]
    assert task.score(images, truth) == 0.5


VALUES = st.one_of(
    st.lists(st.text(max_size=3), min_size=1, max_size=12),
    st.lists(st.integers(-(2**66), 2**66), min_size=1, max_size=12),
    st.lists(st.one_of(st.integers(-9, 9), st.text("01", max_size=2), st.none()), min_size=1, max_size=12),
    st.lists(st.one_of(st.booleans(), st.sampled_from([0, 1, 0.5])), min_size=1, max_size=12),
    st.lists(st.floats(), min_size=1, max_size=12),
    st.lists(st.one_of(st.floats(), st.integers()), min_size=1, max_size=12),
)


@settings(max_examples=300, deadline=None)
@given(VALUES)
def test_as_many_classes_as_distinct_labels(values: list[Any]) -> None:
    try:
        labels = read_labels(values, len(values), ValueError)
    except ValueError as error:
        assert str(error).startswith("y")
        return
    classes, index = classes_of(labels)
    assert len(classes) == len({*values}) and classes[index].tolist() == values
    assert positions(read_labels(values, None, ValueError), classes, ValueError).tolist() == index.tolist()


def test_names_of_classes_are_distinct_too() -> None:
    with pytest.raises(TaskError, match="two names are 'a': give each class a name of its own"):
        from_arrays(X, [0, 1, 0, 1], names=["a", "a"])
