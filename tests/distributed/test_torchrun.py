"""``torchrun -m adapt …``: one run and one table, with the results of one process; where one dies all end,
and any number of others goes on."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import pytest
import torch

from adapt.compare import Comparison
from adapt.files import read_json, read_tensors, write_json
from adapt.tracking import prepare_store
from tests.command_line import TINY, call, start
from tests.distributed.together import finished, together

mlflow = pytest.importorskip("mlflow")

pytestmark = pytest.mark.slow

LEARN = (
    "experiment=meta_sinusoid",
    *("meta.steps=60", "meta.tasks_per_step=5", "meta.validation_tasks=7", "meta.validate_every=5"),
)
ONE = ("tracking=none", "output=one", "hydra.run.dir=run of one")


def state_of(folder: Path) -> dict[str, torch.Tensor]:
    (tensors,) = folder.glob("adapter_model*.safetensors")
    return read_tensors(tensors)


def check_same(folder: Path, name: str) -> None:
    """What ``name`` learned is what one process does, but for rounding."""
    one, found = state_of(folder / "one"), state_of(folder / name)
    assert one.keys() == found.keys()
    for field, value in one.items():
        torch.testing.assert_close(found[field], value, rtol=1e-3, atol=1e-5)


def test_two_learn_in_one_run(root: Path, tmp_path: Path) -> None:
    assert call([*LEARN, *ONE], tmp_path) == 0
    typed = ["-m", "adapt", *LEARN, f"tracking.root={root}", "name=shared", "output=two", "hydra.run.dir=run"]
    first, second = finished(typed, tmp_path, 2)
    assert (first.returncode, second.returncode, second.stdout, second.stderr) == (0, 0, "", "")
    assert first.stdout.count("adapter written to two") == 1
    check_same(tmp_path, "two")
    client = mlflow.MlflowClient(tracking_uri=prepare_store(root))
    (run,) = client.search_runs([client.get_experiment_by_name("shared").experiment_id])
    assert run.info.status == "FINISHED"
    assert len(client.get_metric_history(run.info.run_id, "train/loss")) == 60


def test_who_dies_ends_all_and_another_number_goes_on(tmp_path: Path) -> None:
    longer = [*LEARN, "meta.steps=300"]
    assert call([*longer, *ONE], tmp_path) == 0
    typed = ["-m", "adapt", *longer, "tracking=none", "output=left", "hydra.run.dir=run"]
    processes = together(typed, tmp_path, 3)
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "run" / "checkpoint.safetensors").exists():
            assert time.monotonic() < deadline and processes[0].poll(0.01) is None, processes[0].said
        processes[2].send(signal.SIGKILL)
        ended = [process.wait(60) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [done.returncode for done in ended] == [2, 2, -9]
    for done in ended[:2]:
        assert done.stderr.count("\n") == 1 and "another process of this job has ended" in done.stderr
    assert read_json(tmp_path / "run" / "run.json")["status"] == "failed"
    assert not (tmp_path / "left").exists()

    for done in finished(["-m", "adapt", "resume", "run", "output=left"], tmp_path, 2):
        assert done.returncode == 0, done.stderr
    check_same(tmp_path, "left")


def test_two_compare_as_one_does(tmp_path: Path) -> None:
    typed = [*TINY[:-1], "task.tasks=5"]
    assert call([*typed, "hydra.run.dir=one"], tmp_path) == 0
    for done in finished(["-m", "adapt", *typed, "hydra.run.dir=two"], tmp_path, 2):
        assert done.returncode == 0, done.stderr
    one, two = (
        Comparison.from_dict(read_json(tmp_path / name / "comparison.json")) for name in ("one", "two")
    )
    assert {name: method.score for name, method in two.methods.items()} == {
        name: method.score for name, method in one.methods.items()
    }
    assert two.examples == one.examples
    assert two.environment["processes"] == 2 and "processes" not in one.environment


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["meta.stepz=1"], "error: meta.stepz is not a setting: did you mean steps?\n"),
        (["meta.tasks_per_step=1"], "error: meta.tasks_per_step=1 are fewer than the 2 processes"),
        (["--help"], ""),
    ],
)
def test_mistakes_are_told_once(typed: list[str], said: str, tmp_path: Path) -> None:
    first, second = finished(["-m", "adapt", *LEARN, "tracking=none", *typed], tmp_path, 2)
    assert (first.returncode, second.returncode) == ((2, 0) if said else (0, 0))
    assert first.stderr.startswith(said) and first.stderr.count("\n") == bool(said)
    assert (second.stdout, second.stderr) == ("", "")


def test_work_that_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    first, second = finished(["-m", "adapt", "experiment=pretrain_glyphs", "tracking=none"], tmp_path, 2)
    assert (first.returncode, second.returncode) == (2, 0)
    assert first.stderr == "error: stage=pretrain is the work of one process: start it without torchrun\n"


def test_torchrun_itself(tmp_path: Path) -> None:
    typed = [*LEARN, "meta.steps=5", "tracking=none", "output=made", "hydra.run.dir=run"]
    done = start(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "adapt", *typed], tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "adapter written to made" in done.stdout


def test_a_comparison_of_which_all_tasks_are_done_is_written(tmp_path: Path) -> None:
    """As one that was killed while it drew its figures."""
    typed = [*TINY[:-1], "hydra.run.dir=run"]
    assert call(typed, tmp_path) == 0
    (tmp_path / "run" / "comparison.json").unlink()
    state = read_json(tmp_path / "run" / "run.json")
    write_json(tmp_path / "run" / "run.json", {**state, "status": "running"})
    for done in finished(["-m", "adapt", "resume", "run", "tracking=none"], tmp_path, 2):
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "comparison.json").is_file()
