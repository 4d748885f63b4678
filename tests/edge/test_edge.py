"""Adapting by inferences alone: with small steps the task of exact tangents, in eight bits close to it."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import adapt
from adapt.adapter import FewShotAdapter, Matching
from adapt.edge import EdgeAdapter, quantised, save_edge
from adapt.errors import AdaptError
from adapt.inner import Auto
from adapt.spaces import film
from tests.edge.tasks_of import TASKS, drawn

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("edge")
    save_edge(adapt.load("conv4_glyphs_film"), path, drawn().support_x)
    quantised(path, torch.cat([drawn(index).support_x for index in range(10, 14)]))
    return path


def test_steps_that_vanish_find_the_tangents_task(folder: Path) -> None:
    episode, here = drawn(), adapt.load("conv4_glyphs_film")
    task = here.fit(episode.support_x, episode.support_y)
    there = EdgeAdapter.load(folder, step=0.02).fit(episode.support_x, episode.support_y)
    assert there.z.numpy() == pytest.approx(task.z.numpy(), abs=0.02 * float(task.z.norm()))
    assert there.predict(episode.query_x).tolist() == task.predict(episode.query_x).tolist()
    assert there.passes == 2 * here.state.k + 2


def test_eight_bits_are_adapted_too(folder: Path) -> None:
    """Nothing of the network can be differentiated, and it is a third as large."""
    adapter = EdgeAdapter.load(folder, "network.int8.onnx", step=1.0)
    right, moved = [], []
    for index in range(5):
        episode = drawn(index)
        task = adapter.fit(episode.support_x, episode.support_y)
        moved.append(float(task.z.norm()))
        right.append(float((task.predict(episode.query_x) == episode.query_y.numpy()).mean()))
    assert min(moved) > 0 and np.mean(right) > 0.9
    sizes = [(folder / name).stat().st_size for name in ("network.int8.onnx", "network.onnx")]
    assert sizes[0] < sizes[1] / 2


def test_values_and_one_shot(tmp_path: Path) -> None:
    task, x = TASKS["values"]()
    save_edge(task.adapter, tmp_path, x)
    edge = EdgeAdapter.load(tmp_path, step=0.02)
    there = edge.fit(x, x.sin())
    assert there.predict(x) == pytest.approx(task.predict(x), abs=0.02)
    assert not len(there.classes_)


def test_a_single_example_of_a_class_is_not_adapted_to(folder: Path) -> None:
    task = EdgeAdapter.load(folder).fit(drawn().support_x[::4], [0, 1, 2])
    assert (task.passes, bool(task.z.any())) == (1, False)


def test_texts(tmp_path: Path) -> None:
    task, texts = TASKS["texts"]()
    adapter: FewShotAdapter = task.adapter
    save_edge(adapter, tmp_path, texts)
    quantised(tmp_path, adapter.examples(texts))
    y = [str(label) for label in task.predict(texts)]
    there = EdgeAdapter.load(tmp_path, "network.int8.onnx", step=1.0).fit(adapter.examples(texts), y)
    assert there.predict(adapter.examples(texts[:2])).tolist() == y[:2]


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (torch.zeros(4, 1, 32, 31), "examples of shape"),
        (torch.zeros(4, 32), "examples of shape"),
        (torch.full((4, 1, 32, 32), torch.nan), "NaN or infinity"),
        (255 * torch.ones(4, 1, 32, 32), "trained on values from 0 to 1"),
        (torch.zeros(0, 1, 32, 32), "no examples"),
        (torch.zeros(4, 1, 32, 32, dtype=torch.complex64), "complex"),
        (["a", "b"], "no tokeniser"),
        ([[1, 2], [3]], "array or tensor of numbers"),
        (None, "array or tensor of numbers"),
    ],
)
def test_examples_that_a_graph_does_not_take(folder: Path, x: Any, said: str) -> None:
    edge = EdgeAdapter.load(folder)
    for taken in (lambda: edge.fit(x, [0, 0, 1, 1]), lambda: quantised(folder, x)):
        with pytest.raises(AdaptError, match=said):
            taken()


def test_arrays_bytes_and_other_precisions_are_taken(folder: Path) -> None:
    episode, edge = drawn(), EdgeAdapter.load(folder)
    wanted = edge.fit(episode.support_x, episode.support_y).z.numpy()
    for x in (episode.support_x.numpy(), episode.support_x.double(), episode.support_x.requires_grad_()):
        assert edge.fit(x, episode.support_y).z.numpy() == pytest.approx(wanted, abs=1e-6)
    as_bytes = (255 * episode.support_x.detach()).round().to(torch.uint8)
    assert edge.fit(as_bytes, episode.support_y).z.numpy() == pytest.approx(wanted, abs=0.05)


def test_adapters_that_need_more_than_inferences(tmp_path: Path) -> None:
    adapter, x = adapt.load("conv4_glyphs_film"), drawn().support_x
    with pytest.raises(AdaptError, match=r"replace\(match=None\)"):
        save_edge(adapter.replace(match=Matching()), tmp_path, x)
    with pytest.raises(AdaptError, match="backprop_steps=0"):
        save_edge(adapter.replace(solver=Auto(backprop_steps=3)), tmp_path, x)
    with pytest.raises(AdaptError, match=r"pass a FewShotAdapter, such as task\.adapter"):
        save_edge(adapter.fit(x, drawn().support_y), tmp_path, x)  # type: ignore[arg-type]
    with pytest.raises(AdaptError, match="examples of shape"):
        save_edge(adapter, tmp_path, x[:, :, :9])
    assert not [*tmp_path.iterdir()]


def test_double_precision_becomes_single(tmp_path: Path) -> None:
    task, x = TASKS["values"]()
    save_edge(task.adapter.to("cpu", torch.float64), tmp_path, x)
    assert EdgeAdapter.load(tmp_path, step=0.02).fit(x, x.sin()).predict(x) == pytest.approx(
        task.predict(x), abs=0.02
    )


def test_graphs_of_others(folder: Path, tmp_path: Path) -> None:
    """Of another state, and of another network with the same state; damaged; under another name."""
    x = drawn().support_x
    adapter = adapt.load("conv4_glyphs_film")
    backbone = copy.deepcopy(adapter.backbone)
    with torch.no_grad():
        next(backbone.parameters()).mul_(1.1)
    state = adapter.state._replace(origin=adapter.state.origin + 0.1)
    for other in (
        adapter.replace(state=state),
        FewShotAdapter(backbone, film(backbone, skip=1), adapter.state, input_shape=(1, 32, 32)),
    ):
        other.save_pretrained(tmp_path)
        shutil.copy(folder / "network.onnx", tmp_path)
        with pytest.raises(AdaptError, match="is of another adapter"):
            EdgeAdapter.load(tmp_path)
    (tmp_path / "network.onnx").write_bytes(b"no graph")
    for read in (lambda: EdgeAdapter.load(tmp_path), lambda: quantised(tmp_path, x)):
        with pytest.raises(AdaptError, match=r"network\.onnx"):
            read()
    with pytest.raises(AdaptError, match="does not exist: write it with"):
        EdgeAdapter.load(folder, "other.onnx")
    with pytest.raises(AdaptError, match="does not exist: write it with save_edge"):
        quantised(tmp_path / "none", x)
    for setting in ({"step": 0}, {"threads": 0}, {"threads": "many"}):
        with pytest.raises(AdaptError, match=next(iter(setting))):
            EdgeAdapter.load(folder, **setting)  # type: ignore[arg-type]
