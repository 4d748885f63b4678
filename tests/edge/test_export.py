"""A fitted task as one file: ONNX Runtime and torch's program say what the task says, of any number."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from adapt.adapter import export
from adapt.errors import AdaptError
from adapt.heads import LaplacianShot
from tests.edge.tasks_of import TASKS, drawn
from tests.helpers import make_adapter

runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

pytestmark = pytest.mark.slow


def check_close(found: np.ndarray, wanted: np.ndarray) -> None:
    assert found == pytest.approx(wanted, abs=1e-4 * (1 + float(np.abs(wanted).max())))


@pytest.mark.parametrize("name", TASKS)
def test_onnx_runtime_says_what_the_task_says(name: str, tmp_path: Path) -> None:
    task, x = TASKS[name]()
    path = task.export(tmp_path / "task.onnx", x[:1])
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for some in (x, x[1:2], x[:3]):
        fed = task.adapter.examples(some).numpy()
        check_close(session.run(None, {"x": fed})[0], task.logits(some).numpy())
    said = session.get_modelmeta().custom_metadata_map
    assert json.loads(said["classes"]) == task.classes_.tolist()
    assert said["outputs"] == ("values" if name == "values" else "logits")


@pytest.mark.parametrize("name", ["digits", "texts", "values"])
def test_a_program_of_torch_says_what_the_task_says(name: str, tmp_path: Path) -> None:
    task, x = TASKS[name]()
    path = task.export(tmp_path / "task.pt2", x, format="torch.export")
    program = torch.export.load(path).module()
    check_close(program(task.adapter.examples(x[:3])).detach().numpy(), task.logits(x[:3]).numpy())


def test_what_cannot_be_exported_is_refused_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, x = TASKS["digits"]()
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "task.onnx", "", None, "a\0b"):
        with pytest.raises(AdaptError, match=r"names no file|is a folder|lies below a file"):
            task.export(path, x)  # type: ignore[arg-type]
    (tmp_path / "file").unlink()
    with pytest.raises(AdaptError, match=r"format='onxx' is not known: choose onnx, torch\.export"):
        task.export(tmp_path / "task.onnx", x, format="onxx")  # type: ignore[arg-type]
    episode = drawn()
    together = task.adapter.replace(head=LaplacianShot()).fit(episode.support_x, episode.support_y)
    with pytest.raises(AdaptError, match="predicts examples together"):
        together.export(tmp_path / "task.onnx", x)
    monkeypatch.setattr(export, "merged", lambda task: nn.Sequential(nn.Flatten(), nn.Linear(1024, 3)))
    with pytest.raises(AdaptError, match="computes something else"):
        task.export(tmp_path / "task.onnx", x)
    assert not [*tmp_path.iterdir()]


def test_other_precisions_become_single(tmp_path: Path) -> None:
    task, x = TASKS["digits"]()
    path = task.to("cpu", torch.bfloat16).export(tmp_path / "task.onnx", x[:2])
    with torch.autocast("cpu", torch.bfloat16):
        task.export(tmp_path / "mixed.onnx", x[:2])
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(None, {"x": x.numpy()})[0]
    assert (found.argmax(1) == task.logits(x).argmax(1).numpy()).mean() > 0.9


class Looking(nn.Module):
    """Goes one way or another by the values that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x) if float(x.sum()) > 0 else -self.norm(x)


def test_a_network_that_looks_at_values_says_so(tmp_path: Path) -> None:
    adapter = make_adapter(Looking()).replace(input_shape=(4,))
    x = torch.rand(6, 4, generator=torch.Generator().manual_seed(0))
    task = adapter.fit(x, [0, 0, 0, 1, 1, 1])
    with pytest.raises(AdaptError, match="this network cannot be exported: "):
        task.export(tmp_path / "task.onnx", x)
