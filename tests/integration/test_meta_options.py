"""Every option of meta-training from the command line: regression, each in about a second."""

from __future__ import annotations

from pathlib import Path

import pytest

import adapt
from adapt.inner import SquaredError
from tasks import FunctionTasks, Sinusoid
from tests.command_line import call

TINY = (
    "stage=meta", "tracking=none", "backbone=mlp", "space=full", "head=direct", "head@support_head=direct",
    "task=sinusoid", "task.support_split=train", "task.queries=5", "meta.steps=4", "meta.tasks_per_step=3",
    "meta.validate_every=2", "meta.validation_tasks=4", "meta.basis_tasks=3", "hydra.run.dir=run",
)  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        ("meta=outer", "meta.k=3", "meta.nested=[1,2]", "meta.ema=0.5", "meta.patience=1"),
        ("meta=first_order", "meta.k=3"),
        ("meta=maml", "inner=backprop", "inner.steps=2"),
        ("meta=reptile", "inner=backprop", "inner.steps=2"),
    ],
)
def test_an_adapter_is_written(
    options: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = call([*TINY, *options], tmp_path)
    said = capsys.readouterr()
    assert code == 0, said.err
    assert "adapter written to" in said.out and "validation/mse" in said.out
    adapter = adapt.load(tmp_path / "run" / "adapter")
    assert isinstance(adapter.loss, SquaredError) and adapter.support_head.supports_regression
    training = adapter.info["training"]
    assert training["validation/loss"] == training["validation/mse"]
    assert ("validation/mse_k1" in training) == ("meta.nested=[1,2]" in options)
    episode = FunctionTasks(Sinusoid(), support_split="test").episode(0)
    assert adapter.fit(*episode[:2]).predict(episode[2]).shape == episode[3].shape


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("head=logistic", "head=Logistic classifies"),
        ("head@support_head=prototype", "support_head=Prototype classifies"),
        ("stage=pretrain", "stage=pretrain needs meta=pretraining"),
        ("meta.moves=nothing", "meta.moves=nothing matches none of"),
        ("meta.gradient=wrong", "choose exact, first_order, reptile"),
    ],
)
def test_what_does_not_fit_together_is_said_in_one_line(
    override: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call([*TINY, override], tmp_path) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ") and said in line


def test_what_could_not_be_saved_is_not_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A head of one's own, which no saved adapter can name."""
    (tmp_path / "heads_of_mine.py").write_text(
        "from adapt.heads import Direct\nclass Mine(Direct):\n    pass\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    code = call([*TINY, "head._target_=heads_of_mine.Mine", "allow=[heads_of_mine]"], tmp_path)
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert code == 2 and "Mine cannot be saved: only direct" in line
    assert not [*tmp_path.rglob("*.safetensors")], "nothing was trained"


def test_pretraining_needs_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = [name for name in TINY if not name.startswith(("meta.", "stage="))]
    assert call([*overrides, "stage=pretrain", "meta=pretraining"], tmp_path) == 2
    assert "has none: use stage=meta" in capsys.readouterr().err
