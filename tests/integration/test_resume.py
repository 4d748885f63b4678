"""Meta-training that is killed, at any moment, and goes on from its last checkpoint."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from adapt.files import read_metadata, read_tensors
from tests.command_line import call, start

CHECKPOINT, RESULT = "checkpoint.safetensors", "adapter/adapter_model.safetensors"
TINY = (
    "experiment=meta_glyphs", "tracking=none", "task.source.max_classes=40", "task.ways=2", "task.shots=2",
    "task.queries=2", "meta.k=2", "meta.basis_tasks=2", "meta.tasks_per_step=1", "meta.validation_tasks=1",
    "meta.ema=0.5", "meta.nested=[1,2]",
)  # fmt: skip


def command(folder: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "adapt", *TINY, f"hydra.run.dir={folder}", *more]


def kill_when_there(folder: Path, moment: float, *more: str) -> None:
    """Start a run, and kill it ``moment`` seconds after its first checkpoint."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command(folder, *more), env=environment, stdout=quiet, stderr=quiet)
    try:
        deadline = time.monotonic() + 240
        while not (folder / CHECKPOINT).is_file():
            assert process.poll() is None and time.monotonic() < deadline, "no checkpoint"
            time.sleep(0.01)
        time.sleep(moment)
        assert process.poll() is None, "finished before it could be killed: give it more steps"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    more = ("meta.steps=60", "meta.validate_every=2")
    kill_when_there(tmp_path / "killed", 0.3, *more)
    assert not (tmp_path / "killed" / RESULT).exists()
    for name, again in (("resumed", (f"resume={tmp_path / 'killed'}",)), ("whole", ())):
        done = start(command(tmp_path / name, *more, *again), tmp_path)
        assert done.returncode == 0, done.stderr
    resumed, whole = (read_tensors(tmp_path / name / RESULT) for name in ("resumed", "whole"))
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    assert read_metadata(tmp_path / "resumed" / CHECKPOINT) == read_metadata(tmp_path / "whole" / CHECKPOINT)


@pytest.mark.slow
def test_no_moment_of_being_killed_spoils_a_checkpoint(tmp_path: Path) -> None:
    """One run after the other goes on where the last was killed, writing all the time."""
    more = ("meta.steps=100000", "meta.validate_every=1")
    moments = np.random.default_rng().uniform(0.0, 0.5, 4)  # another try in every run of the tests
    steps, resume = [], ()
    for index, moment in enumerate(moments):
        folder = tmp_path / str(index)
        kill_when_there(folder, float(moment), *more, *resume)
        tensors = read_tensors(folder / CHECKPOINT)
        assert tensors["state.origin"].shape == tensors["best.origin"].shape
        steps.append(int(read_metadata(folder / CHECKPOINT)["counters"].split('"step": ')[1].split(",")[0]))
        resume = (f"resume={folder}",)  # type: ignore[assignment]
    assert steps == sorted(steps)


def test_a_folder_without_a_checkpoint_cannot_be_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call([*TINY, f"resume={tmp_path}", f"hydra.run.dir={tmp_path / 'run'}"], tmp_path) == 2
    assert f"error: resume={tmp_path}: there is no {CHECKPOINT} in it" in capsys.readouterr().err
