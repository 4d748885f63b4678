"""A run that is killed at moments nobody chose, and resumed each time, ends as if it had not been."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from adapt.app.stages.state import RUN, kept
from adapt.compare import Comparison
from adapt.files import read_json, write_json
from adapt.tracking import prepare_store
from tests.command_line import call
from tests.processes import Process
from tests.tracked import runs

pytest.importorskip("hydra")
mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.slow

KILLS = 2
SMALL = (
    "method=[head,forward]", "task.tasks=12", "task.ways=2", "task.queries=3", "energy=none",
    "figures=false", "memory=false",
)  # fmt: skip


def result(folder: Path) -> dict[str, Any]:
    found = Comparison.from_dict(read_json(folder / "comparison.json"))
    return {name: (method.score, method.forward_equivalents) for name, method in found.methods.items()}


def test_random_kills(root: Path, tmp_path: Path) -> None:
    seed = int(os.environ.get("ADAPT_KILLS", random.SystemRandom().getrandbits(32)))
    print(f"ADAPT_KILLS={seed} repeats the moments")
    moments = random.Random(seed)
    typed = [*SMALL, "name=kills", f"tracking.root={root}", "hydra.run.dir=run"]
    Process(["-c", "pass"], tmp_path).wait(120)  # whatever takes time once only
    started = time.monotonic()
    whole = Process(["-m", "adapt", *SMALL, "tracking=none", "hydra.run.dir=whole"], tmp_path).wait(120)
    usual = time.monotonic() - started
    assert whole.returncode == 0, whole.stderr

    for kill in range(KILLS):
        begun = (tmp_path / "run" / "run.json").exists()
        process = Process(["-m", "adapt", *(["resume", "run"] if begun else typed)], tmp_path)
        moment = moments.uniform(0, usual)
        print(f"kill {kill}: after {moment:.3f} s")
        process.poll(moment)
        process.kill()
        assert process.returncode in (0, -9), process.said
    assert call(["resume", "run"] if (tmp_path / "run" / "run.json").exists() else typed, tmp_path) == 0

    assert result(tmp_path / "run") == result(tmp_path / "whole")
    assert read_json(tmp_path / "run" / "run.json")["status"] == "finished"
    found = runs(mlflow.MlflowClient(tracking_uri=prepare_store(root)), "kills")
    assert {run.info.status for run in found} == {"FINISHED"}
    methods = ("forward", "logistic", "prototype", "ridge")
    title = found[0].info.run_name.partition(" · seed")[0] + " · seed 0"
    assert {run.info.run_name for run in found} == {title, *(f"{title} · {name}" for name in methods)}
    assert len(found) == 5
    assert not (tmp_path / "run" / "tracking").exists()


@pytest.mark.parametrize("many", [False, True])
def test_what_hydra_was_writing_is_not_needed_by_a_second_resume(
    many: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A resume starts Hydra, which writes its notes in place: a kill leaves half of them."""
    typed = [
        *SMALL,
        "tracking=none",
        "method=head",
        "task.tasks=1",
        f"hydra.{'sweep' if many else 'run'}.dir=run",
    ]
    assert call([*(["-m"] if many else []), *typed], tmp_path) == 0
    state = tmp_path / "run" / ("sweep.json" if many else "run.json")
    write_json(state, {**read_json(state), "status": "running"})
    path = tmp_path / "run" / ("multirun.yaml" if many else ".hydra/hydra.yaml")
    whole = path.read_text()

    path.write_text(whole[:40])
    capsys.readouterr()
    assert call(["resume", "run"], tmp_path) == 2
    assert capsys.readouterr().err == (
        f"error: {path} is not whole: what was started there was killed before it began, so start it again\n"
    )
    path.write_text(whole)
    assert call(["resume", "run"], tmp_path) == 0
    path.write_text(whole[: len(whole) // 2])
    write_json(state, {**read_json(state), "status": "running"})
    assert call(["resume", "run"], tmp_path) == 0
    assert read_json(state)["status"] == "finished"


def test_a_new_run_in_a_used_folder_is_what_is_resumed(tmp_path: Path) -> None:
    state = tmp_path / "run" / "run.json"
    copy = kept(tmp_path / "run" / RUN)
    copy.parent.mkdir(parents=True)
    copy.write_text("of an earlier run")
    typed = [*SMALL, "tracking=none", "method=head", "task.tasks=1", "hydra.run.dir=run"]
    assert call(typed, tmp_path) == 0
    assert not copy.exists()
    noted = (tmp_path / "run" / RUN).read_text()
    write_json(state, {**read_json(state), "status": "running"})
    assert call(["resume", "run"], tmp_path) == 0
    assert copy.read_text() == noted
