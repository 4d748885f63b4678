"""Runs that are interrupted, at any moment, and go on: meta-training from its last checkpoint, and all others
as `resume` finds them."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from adapt.compare import Comparison
from adapt.files import read_json, read_metadata, read_tensors, shipped, write_json
from tests.command_line import call
from tests.helpers import tensors_in
from tests.processes import Process, run

CHECKPOINT, RESULT = "checkpoint.safetensors", "adapter"
TINY = (
    "experiment=meta_glyphs", "tracking=none", "task.source.max_classes=40", "task.ways=2", "task.shots=2",
    "task.queries=2", "meta.k=2", "meta.basis_tasks=2", "meta.tasks_per_step=1", "meta.validation_tasks=1",
    "meta.ema=0.5", "meta.nested=[1,2]",
)  # fmt: skip


SMALL = (
    "tracking=none", "energy=none", "figures=false", "memory=false",
    "method=forward", "task.tasks=2", "task.ways=2", "task.queries=2",
)  # fmt: skip


def typed(folder: Path, *more: str) -> list[str]:
    return ["-m", "adapt", *TINY, f"hydra.run.dir={folder}", *more]


def kill_when_there(folder: Path, moment: float, *more: str) -> None:
    """Start a run, and kill it ``moment`` seconds after its first checkpoint."""
    process = Process(typed(folder, *more), folder.parent)
    try:
        deadline = time.monotonic() + 240
        while not (folder / CHECKPOINT).is_file():
            assert process.poll(0.01) is None and time.monotonic() < deadline, "no checkpoint"
        assert process.poll(moment) is None, "finished before it could be killed: give it more steps"
    finally:
        process.kill()


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    more = ("meta.steps=40", "meta.validate_every=2")
    kill_when_there(tmp_path / "killed", 0.2, *more)
    assert not (tmp_path / "killed" / RESULT).exists()
    for name, again in (("resumed", (f"resume={tmp_path / 'killed'}",)), ("whole", ())):
        done = run(typed(tmp_path / name, *more, *again), tmp_path)
        assert done.returncode == 0, done.stderr
    assert call(["resume", "killed"], tmp_path) == 0  # goes on in its own folder
    resumed, in_place, whole = (
        read_tensors(tensors_in(tmp_path / name / RESULT)) for name in ("resumed", "killed", "whole")
    )
    assert resumed.keys() == in_place.keys() == whole.keys()
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    assert all(torch.equal(in_place[name], whole[name]) for name in whole)
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


@pytest.mark.slow
def test_resume_repeats_what_was_typed_where_it_was_typed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A comparison that was interrupted after its tasks were done, in another directory, with a config of
    one's own and a path relative to that directory."""
    there, own = tmp_path / "there", tmp_path / "there" / "conf" / "experiment" / "mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("# @package _global_\n# Mine.\ntask:\n  shots: 3\n")
    shutil.copytree(shipped("conv4_glyphs_film"), there / "mine")
    typed = ["--config-dir", "conf", "experiment=mine", "adapter=mine", *SMALL, r"hydra.run.dir='it\'s'"]
    assert call(typed, there) == 0
    folder = there / "it's"
    before = Comparison.from_dict(read_json(folder / "comparison.json"))

    interrupted = {**read_json(folder / "run.json"), "status": "running"}
    write_json(folder / "run.json", interrupted)
    (folder / "comparison.json").unlink()
    assert call(["resume", str(folder)], tmp_path) == 0
    after = Comparison.from_dict(read_json(folder / "comparison.json"))
    assert after.methods == before.methods and after.task["shots"] == 3
    assert {path.name for path in tmp_path.iterdir()} == {"there"}

    write_json(folder / "run.json", interrupted)
    own.write_text("# @package _global_\n# Mine.\ntask:\n  shots: 2\n")
    assert call(["resume", str(folder)], tmp_path) == 2
    assert "was started with other settings (task.shots was 3, is 2)" in capsys.readouterr().err


@pytest.mark.slow
def test_a_sweep_that_was_recorded_when_modules_had_other_names_goes_on(tmp_path: Path) -> None:
    assert call(["-m", *SMALL, "seed=0,1", "hydra.sweep.dir=sweep"], tmp_path) == 0
    folder = tmp_path / "sweep"
    for path in (folder / "multirun.yaml", *folder.glob("*/.hydra/hydra.yaml")):
        text = path.read_text(encoding="utf-8")
        assert "adapt.app.sweeps.callback.SweepSummary" in text
        path.write_text(text.replace("adapt.app.sweeps.callback.", "adapt.app.sweep."), encoding="utf-8")
    write_json(folder / "sweep.json", {**read_json(folder / "sweep.json"), "status": "running"})
    (folder / "1" / "run.json").unlink()

    assert call(["resume", "sweep"], tmp_path) == 0
    assert read_json(folder / "sweep.json")["status"] == "finished"
    assert read_json(folder / "1" / "run.json")["status"] == "finished"
