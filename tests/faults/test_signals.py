"""SIGTERM and Ctrl+C at the worst of moments: none is lost, and none is taken for a failure."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

pytest.importorskip("hydra")

from adapt.files import read_json
from tests.command_line import TINY
from tests.processes import Process, run

if sys.platform == "win32":
    pytest.skip("sends signals", allow_module_level=True)

#: What happens inside a stage, or a module that it imports; then the stage would go on for a minute.
STAGE = """
import os, signal, sys, time
import adapt.app.main, adapt.app.stages.run as running
from adapt.app.config import Stage
from adapt.app.progress import progress
from adapt.errors import AdaptError
from adapt.tracking import TrackingSettings, track
me, number = os.getpid(), getattr(signal, sys.argv.pop(1))

class Dying:
    def __del__(self):
        os.kill(me, number)
        time.sleep(0.01)

def swallow():
    try:
        os.kill(me, number)
        time.sleep(0.01)
    except:
        pass

def transform(kind):
    try:
        os.kill(me, number)
        time.sleep(0.01)
    except BaseException:
        raise kind("half imported") from None

def stage(config, session):
    with track(TrackingSettings(enabled=False), "stage"):
        {what}
    return 1.0

running.STAGES[Stage.compare] = stage
sys.argv[0] = "adapt"
adapt.app.main.main()
"""
CASES = {
    "in a destructor, which ignores exceptions": "Dying(); time.sleep(60)",
    "where a bare except swallows it, then an item": "swallow(); [*progress('x')(range(3)), time.sleep(60)]",
    "where a bare except swallows it, then the end": "swallow()",
    "where an import makes another error of it": "transform(RuntimeError)",
    "where it is raised": "os.kill(me, number); time.sleep(60)",
}


@pytest.mark.parametrize("what", CASES.values(), ids=CASES)
def test_a_signal_ends_the_run_wherever_it_comes(what: str, tmp_path: Path) -> None:
    number, code, said = ("SIGTERM", 143, "terminated") if len(what) % 2 else ("SIGINT", 130, "interrupted")
    ended = run(["-c", STAGE.replace("{what}", what), number, *TINY], tmp_path, 50)
    assert (ended.returncode, ended.stderr) == (code, f"{said}\n")
    assert read_json(tmp_path / "run" / "run.json")["status"] == "running", "it did not fail, and may go on"


def test_it_ends_a_sweep_and_not_one_run_of_it(tmp_path: Path) -> None:
    typed = ["-m", *TINY, "seed=0,1", "hydra.sweep.dir=sweep"]
    code = STAGE.replace("{what}", "swallow(); transform(AdaptError)")
    ended = run(["-c", code, "SIGTERM", *typed], tmp_path, 50)
    assert (ended.returncode, ended.stderr) == (143, "terminated\n")
    assert read_json(tmp_path / "sweep" / "sweep.json")["status"] == "killed"
    assert read_json(tmp_path / "sweep" / "0" / "run.json")["status"] == "running"
    assert not (tmp_path / "sweep" / "1").exists()


#: Nothing that is raised gets out of here.
DEAF = """
import sys, time
from adapt.interrupts import listening
with listening():
    while True:
        try:
            print("here", flush=True)
            time.sleep(60)
        except BaseException:
            pass
"""


def test_a_second_signal_ends_what_does_not_end(tmp_path: Path) -> None:
    process = Process(["-c", DEAF], tmp_path)
    for heard in (1, 2):
        while process.said[0].count("here") < heard:
            assert process.poll(0.01) is None
        process.send(signal.SIGTERM)
        if heard == 1:
            process.send(signal.SIGTERM)  # the same, which a scheduler sends to the group as well
            assert process.poll(1.2) is None
    assert process.wait(30).returncode == -signal.SIGTERM


def test_what_is_ignored_stays_ignored_and_what_was_there_comes_back(tmp_path: Path) -> None:
    code = """
import os, signal
from adapt.interrupts import listening
signal.signal(signal.SIGINT, signal.SIG_IGN)
with listening() as mine, listening() as nested:
    os.kill(os.getpid(), signal.SIGINT)
    assert mine and not nested
assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
"""
    ended = run(["-c", code], tmp_path, 30)
    assert (ended.returncode, ended.stderr) == (0, "")


#: The store is slow, and the signal comes while the run is being opened.
OPENING = """
import os, signal, sys
import adapt.app.main, adapt.tracking.run as tracked
def interrupted():
    os.kill(os.getpid(), signal.SIGTERM)
    import time; time.sleep(60)
own = tracked.Sender.start
tracked.Sender.start = lambda sender: (own(sender), interrupted())
sys.argv[0] = "adapt"
adapt.app.main.main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("many", [False, True])
def test_a_run_that_is_interrupted_while_it_is_opened_is_closed(
    many: bool, root: Path, tmp_path: Path
) -> None:
    mlflow = pytest.importorskip("mlflow")
    name = f"opening{many}"
    typed = [*TINY, "tracking=mlflow", f"tracking.root={root}", f"name={name}", "hydra.sweep.dir=sweep"]
    ended = run(["-c", OPENING, *(["-m"] if many else []), *typed], tmp_path, 50)
    assert (ended.returncode, ended.stderr) == (143, "terminated\n")
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{root}/mlflow.db")
    (found,) = client.search_runs([client.get_experiment_by_name(name).experiment_id])
    assert found.info.status == "KILLED"
