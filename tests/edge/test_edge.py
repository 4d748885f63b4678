"""Adapting by inferences alone: with small steps the task of exact tangents, in eight bits close to it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import adapt
from adapt.adapter import FewShotAdapter
from adapt.edge import EdgeAdapter, quantised, save_edge
from adapt.errors import AdaptError
from adapt.inner import GaussNewton
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


def test_mistakes(folder: Path, tmp_path: Path) -> None:
    edge = EdgeAdapter.load(folder)
    for x in (torch.zeros(4, 1, 32, 31), torch.zeros(4, 32, 32), torch.full((4, 1, 32, 32), torch.nan)):
        with pytest.raises(AdaptError, match="the graph takes finite tensor"):
            edge.fit(x, [0, 0, 1, 1])
    with pytest.raises(AdaptError, match="does not exist: write it with"):
        EdgeAdapter.load(folder, "other.onnx")
    with pytest.raises(AdaptError, match="does not exist: write it with save_edge"):
        quantised(tmp_path, torch.zeros(2, 1, 32, 32))
    with pytest.raises(AdaptError, match="step=0"):
        EdgeAdapter.load(folder, step=0)
    other = adapt.load("conv4_glyphs_film").replace(solver=GaussNewton(steps=2))
    moved = other.state._replace(origin=other.state.origin + 0.1)
    other.replace(state=moved).save_pretrained(tmp_path)
    shutil.copy(folder / "network.onnx", tmp_path)
    with pytest.raises(AdaptError, match="is of another adapter"):
        EdgeAdapter.load(tmp_path)
    (tmp_path / "network.onnx").write_bytes(b"no graph")
    with pytest.raises(AdaptError, match="cannot be read by ONNX Runtime"):
        EdgeAdapter.load(tmp_path)
