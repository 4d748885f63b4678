"""The MLflow run of a sweep: what it is opened with, and how it ends. The store is a stand-in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hydra")
pytest.importorskip("matplotlib")

from hydra import compose, initialize_config_dir
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

import adapt.app.main  # noqa: F401  (registers the schema of the config)
from adapt.app.config import config_folder
from adapt.app.stages.state import SWEEP, resumed, sweep_of
from adapt.app.sweeps import callback
from adapt.errors import AdaptError
from adapt.files import read_json


class Recorder:
    """Stands for :func:`adapt.tracking.track`: what runs were opened with, and what ended them."""

    def __init__(self) -> None:
        self.opened: list[dict[str, Any]] = []
        self.ended: list[BaseException | None] = []
        self.synced: list[list[Path]] = []
        self.run_id, self.resumed = "mlflow id", False
        self.tags: dict[str, str] = {}

    @contextmanager
    def track(self, settings: Any, name: str, **more: Any) -> Iterator[Recorder]:
        self.opened.append({"settings": settings, "name": name, **more})
        try:
            yield self
        except BaseException as error:
            self.ended.append(error)
            raise
        self.ended.append(None)

    def log_metrics(self, values: dict[str, float]) -> None:
        self.metrics = values

    def log_tags(self, tags: dict[str, str]) -> None:
        self.tags |= tags

    def log_files(self, files: list[Path]) -> None:
        self.files = files


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    found = Recorder()
    monkeypatch.setattr(callback, "track", found.track)
    monkeypatch.setattr(callback, "sync", found.synced.append)
    yield found
    callback.close(None)


def multirun(folder: Path, *overrides: str) -> DictConfig:
    """What Hydra hands to callbacks when a sweep begins."""
    fixed = [text for text in overrides if "," not in text]
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("config", fixed, return_hydra_config=True)
    with open_dict(config):
        config.hydra.mode = RunMode.MULTIRUN
        config.hydra.sweep.dir = str(folder)
        config.hydra.runtime.cwd = "/"
        config.hydra.overrides.task = list(overrides)
    return config


def test_what_runs_share_and_what_they_differ_in(tmp_path: Path, recorder: Recorder) -> None:
    overrides = (
        "experiment=quickstart",
        "head@support_head=ridge,prototype",
        "task.shots=1,5",
        "backbone=conv4,resnet12",
        "seed=3",
        "method.forward.k=2,4",
    )
    callback.SweepSummary().on_multirun_start(multirun(tmp_path, *overrides))

    (opened,) = recorder.opened
    assert opened["name"] == "quickstart" and opened["tags"] == {"sweep": "true"}
    assert opened["overrides"] == [*overrides] and opened["folder"] == tmp_path
    config = opened["config"]
    assert (config["task"]["shots"], config["backbone"], config["method"]["forward"]["k"]) == (
        "1,5", "conv4,resnet12", "2,4",
    )  # fmt: skip
    assert config["support_head"] == "ridge,prototype"
    assert recorder.tags["mlflow.runName"] == "quickstart sweep"
    assert (config["seed"], config["task"]["ways"]) == (3, 5) and "hydra" not in config


def test_what_an_experiment_sweeps_by_itself_counts_too(tmp_path: Path, recorder: Recorder) -> None:
    callback.SweepSummary().on_multirun_start(multirun(tmp_path, "experiment=digits", "seed=4,5"))

    config = recorder.opened[0]["config"]
    assert (config["task"]["shots"], config["seed"]) == ("1,5,10", "4,5")


def test_runs_find_their_sweep(tmp_path: Path, recorder: Recorder) -> None:
    config = multirun(tmp_path, "seed=0,1", "task.ways=3", "+method.forward.k=2,4")
    assert sweep_of(config.hydra) is None
    callback.SweepSummary().on_multirun_start(config)

    found = sweep_of(config.hydra)
    assert found is not None and (found.folder, found.run_id) == (tmp_path, "mlflow id")
    assert found.label(["seed=1", "task.ways=3", "+method.forward.k=4"]) == "seed=1 +method.forward.k=4"
    assert found.id == read_json(tmp_path / SWEEP)["id"]
    with open_dict(config):
        config.hydra.mode = RunMode.RUN
    assert sweep_of(config.hydra) is None


@pytest.mark.parametrize(
    ("error", "status"), [(None, "finished"), (KeyboardInterrupt(), "killed"), (AdaptError("no"), "failed")]
)
def test_how_it_ends(error: BaseException | None, status: str, tmp_path: Path, recorder: Recorder) -> None:
    callback.SweepSummary().on_multirun_start(multirun(tmp_path))
    assert read_json(tmp_path / SWEEP)["status"] == "running" and not recorder.ended

    callback.close(error)
    callback.close(KeyboardInterrupt())  # it is over
    assert recorder.ended == [error] and read_json(tmp_path / SWEEP)["status"] == status
    assert recorder.synced == ([[tmp_path]] if status == "killed" else [])


def test_a_sweep_that_was_left_open_does_not_stay_open(tmp_path: Path, recorder: Recorder) -> None:
    for name in ("first", "second"):
        callback.SweepSummary().on_multirun_start(multirun(tmp_path / name))

    assert isinstance(recorder.ended[0], AdaptError) and len(recorder.ended) == 1
    assert [read_json(tmp_path / name / SWEEP)["status"] for name in ("first", "second")] == [
        "failed",
        "running",
    ]


def test_only_a_resume_goes_on_with_a_sweep(tmp_path: Path, recorder: Recorder) -> None:
    ids = []
    for resuming in (None, tmp_path, None):
        token = resumed.set(resuming)
        callback.SweepSummary().on_multirun_start(multirun(tmp_path))
        resumed.reset(token)
        ids.append(read_json(tmp_path / SWEEP)["id"])
        callback.close(KeyboardInterrupt())

    assert ids[0] == ids[1] != ids[2]


def test_a_mistake_in_the_settings_of_tracking_is_left_to_the_runs(
    tmp_path: Path, recorder: Recorder
) -> None:
    callback.SweepSummary().on_multirun_start(multirun(tmp_path, "tracking.root=7"))

    assert not recorder.opened[0]["settings"].enabled


def test_callback_is_pickled_for_other_processes_while_a_sweep_is_open(
    tmp_path: Path, recorder: Recorder
) -> None:
    cloudpickle = pytest.importorskip("cloudpickle")
    summary = callback.SweepSummary()
    summary.on_multirun_start(multirun(tmp_path))

    assert isinstance(cloudpickle.loads(cloudpickle.dumps(summary)), callback.SweepSummary)


@pytest.mark.parametrize("typed", ["tracking.uri=http://localhost:1", "tracking=none"])
def test_runs_are_closed_for_their_killed_processes_only_where_the_store_is_at_hand(
    typed: str, tmp_path: Path, recorder: Recorder
) -> None:
    callback.SweepSummary().on_multirun_start(multirun(tmp_path, typed))

    callback.close(KeyboardInterrupt())
    assert recorder.synced == []


@pytest.mark.parametrize("before", [None, "0"])
def test_the_environment_is_as_before_when_a_sweep_has_ended(
    before: str | None, tmp_path: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its workers import nothing from the working directory; what this process starts later may."""
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    if before is not None:
        monkeypatch.setenv("PYTHONSAFEPATH", before)
    callback.SweepSummary().on_multirun_start(multirun(tmp_path, "experiment=quickstart", "seed=1,2"))
    assert os.environ["PYTHONSAFEPATH"] == "1"
    callback.close(None)
    assert os.environ.get("PYTHONSAFEPATH") == before
