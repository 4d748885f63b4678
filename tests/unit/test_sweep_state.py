"""What is noted of a run, and what a later try at it takes up; how GPUs and threads are dealt out; resume."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

pytest.importorskip("hydra")

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf, open_dict

from adapt.app.commands.resume import started
from adapt.app.config import config_folder
from adapt.app.environment import choose_device, job_number
from adapt.app.stages.state import PROGRESS, STATE, State, begin, resumed
from adapt.errors import AdaptError
from adapt.tracking.journal import JOURNAL, Journal
from tests.command_line import call

CONFIG = {"seed": 0, "task": {"shots": 5, "ways": None}, "limit": float("inf"), "allow": []}


@pytest.fixture
def resuming(tmp_path: Path) -> Iterator[Path]:
    token = resumed.set(tmp_path)
    yield tmp_path
    resumed.reset(token)


def test_a_state_survives_the_disk(tmp_path: Path) -> None:
    state = State("running", ["seed=1"], {"a": {"b": 1}}, "id", 3, "compare")
    assert State.read(tmp_path) is None
    written = state.write(tmp_path, status="finished", score=0.5)
    assert State.read(tmp_path) == written
    assert (written.status, written.score, written.number) == ("finished", 0.5, 3)


def test_a_run_that_is_started_takes_up_nothing(tmp_path: Path) -> None:
    State("running", config=CONFIG).write(tmp_path, config={"seed": 0})
    (tmp_path / PROGRESS).write_text("of another run")

    state, goes_on = begin(tmp_path, State("running", config=CONFIG))
    assert not goes_on and state.status == "running"
    assert not (tmp_path / PROGRESS).exists()


def test_what_mlflow_was_not_sent_of_another_run_is_kept_but_not_taken_up(tmp_path: Path) -> None:
    header = {"uri": None, "root": str(tmp_path), "experiment": "e", "name": "n", "time": 0, "tags": {}}
    journal = Journal.start(tmp_path, header)
    journal.close()

    begin(tmp_path, State("running", config=CONFIG))
    (kept,) = tmp_path.rglob(JOURNAL)
    assert kept.parent.parent == tmp_path / "tracking"
    another = Journal.start(tmp_path, header)
    assert another.header["journal"] != journal.header["journal"]
    another.close()


def test_a_resumed_run_goes_on(resuming: Path) -> None:
    begin(resuming, State("running", config=CONFIG))
    (resuming / PROGRESS).write_text("so far")

    state, goes_on = begin(resuming, State("running", config=CONFIG))
    assert goes_on and state.status == "running"
    assert (resuming / PROGRESS).read_text() == "so far"


def test_a_finished_run_is_not_done_again(resuming: Path) -> None:
    state, _ = begin(resuming, State("running", config=CONFIG))
    state.write(resuming, status="finished", score=0.75)

    again, _ = begin(resuming, State("running", config=CONFIG))
    assert (again.status, again.score) == ("finished", 0.75)


def test_settings_that_changed_are_named(resuming: Path) -> None:
    begin(resuming, State("running", config=CONFIG))
    noted = (resuming / STATE).read_text()

    changed = {**CONFIG, "task": {"shots": 1, "ways": 3}}
    with pytest.raises(
        AdaptError, match=r"task\.shots was 5, is 1; task\.ways was None, is 3\): start a new run"
    ):
        begin(resuming, State("running", config=changed))
    assert (resuming / STATE).read_text() == noted


def test_in_a_sweep_only_its_own_runs_go_on(tmp_path: Path) -> None:
    begin(tmp_path, State("running", config=CONFIG, sweep="first"))
    assert begin(tmp_path, State("running", config=CONFIG, sweep="first"))[1]
    assert not begin(tmp_path, State("running", config={"seed": 1}, sweep="second"))[1]


# ---------------------------------------------------------------------------------------------- sharing


@pytest.fixture
def three_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)


@pytest.mark.usefixtures("three_gpus")
@pytest.mark.parametrize("name", ["cuda", "auto"])
def test_gpus_are_dealt_out_in_turn(name: str) -> None:
    assert [str(choose_device(name, job)) for job in range(5)] == [
        "cuda:0",
        "cuda:1",
        "cuda:2",
        "cuda:0",
        "cuda:1",
    ]
    assert str(choose_device(name)) == "cuda"


@pytest.mark.usefixtures("three_gpus")
@pytest.mark.parametrize("name", ["cuda:1", "cuda:0", "cpu"])
def test_a_device_that_was_named_is_obeyed(name: str) -> None:
    assert [str(choose_device(name, job)) for job in (None, 0, 1, 2)] == [name] * 4


def test_without_a_gpu_nothing_is_dealt_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert str(choose_device("auto", 1)) == "cpu"


@pytest.mark.parametrize(
    ("launcher", "mode", "expected"),
    [
        ("joblib", RunMode.MULTIRUN, 4),
        ("submitit_local", RunMode.MULTIRUN, 4),
        ("slurm", RunMode.MULTIRUN, 4),
        ("", RunMode.MULTIRUN, None),
        ("joblib", RunMode.RUN, None),
    ],
)
def test_who_runs_beside_others(
    launcher: str, mode: RunMode, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("config", [f"launcher={launcher}"] if launcher else [], return_hydra_config=True)
    with open_dict(config):
        config.hydra.mode, config.hydra.job.num = mode, 4
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    assert job_number() is None
    HydraConfig.instance().set_config(config)
    assert job_number() == expected


# ----------------------------------------------------------------------------------------------- resume


def hydra_yaml(folder: Path, name: str, mode: str, *typed: str) -> None:
    own = {"path": "/own conf", "provider": "command-line", "schema": "file"}
    runtime = {"cwd": "/here", "config_sources": [{"path": "hydra.conf", "provider": "hydra"}, own]}
    overrides = {"task": ["experiment=mine", "seed=0,1"], "hydra": [*typed, f"hydra.mode={mode}"]}
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    noted = {"mode": mode, "runtime": runtime, "overrides": overrides, "job": {"config_name": "config"}}
    OmegaConf.save(OmegaConf.create({"hydra": {**noted, "run": {"dir": "${now:%Y}"}}}), folder / name)


def test_a_run_is_started_as_it_was_typed_into_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "it's"
    hydra_yaml(folder, ".hydra/hydra.yaml", "RUN", "hydra.run.dir=elsewhere", "hydra.job.name=x")

    found = started(folder)
    assert (found.sweep, found.cwd) == (False, Path("/here"))
    assert found.arguments == [
        "--config-name", "config", "--config-dir", "/own conf", "experiment=mine", "seed=0,1",
        "hydra.job.name=x", "hydra.mode=RUN",
        f"hydra.run.dir='{tmp_path}/it\\'s'",
    ]  # fmt: skip


def test_a_sweep_is_started_as_a_whole(tmp_path: Path) -> None:
    hydra_yaml(tmp_path, "multirun.yaml", "MULTIRUN", "hydra.sweep.dir=elsewhere")
    hydra_yaml(tmp_path, "1/.hydra/hydra.yaml", "MULTIRUN")

    found = started(tmp_path)
    assert found.sweep and found.arguments[0] == "--multirun"
    assert found.arguments[-1] == f"hydra.sweep.dir='{tmp_path}'"
    with pytest.raises(AdaptError, match=f"one run of a sweep: resume all of it.*with {tmp_path}$"):
        started(tmp_path / "1")


def test_what_cannot_be_resumed_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["resume", "nowhere"], tmp_path) == 2
    assert f"error: {tmp_path / 'nowhere'} is not the folder of a run or a sweep" in capsys.readouterr().err

    hydra_yaml(tmp_path, ".hydra/hydra.yaml", "RUN")
    assert call(["resume", "."], tmp_path) == 2
    assert "was started in /here, which does not exist any more" in capsys.readouterr().err

    State("finished").write(tmp_path)
    assert call(["resume", "."], tmp_path) == 0
    assert f"{tmp_path} is finished: there is nothing to do" in capsys.readouterr().out
