"""What lies in the working directory is not taken for ours, nor for a library that we use."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tasks.places import _module
from tests import processes
from tests.command_line import TINY, start

ROOT = Path(__file__).parents[2]
LIBRARIES = ("torch", "numpy", "safetensors", "hydra", "omegaconf", "yaml", "rich", "sklearn", "plotly")
TRAP = "open('PROOF', 'a').write(__name__)\nraise SystemExit('not this one')\n"
AGAIN = """
import sys
for name in [name for name in sys.modules if name.partition(".")[0] in ("adapt", "tasks")]:
    del sys.modules[name]
"""
MINE = """
from adapt.baselines import HeadOnly

def method(head):
    from neighbour import said
    print(said)
    return HeadOnly(head)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As somebody else has packed it."""
    for name in ("tasks", "conf"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(TRAP)
    (tmp_path / "conf" / "config.yaml").write_text("nonsense: true\n")
    (tmp_path / "hydra_plugins").mkdir()  # Hydra imports all that it finds in folders of this name
    (tmp_path / "hydra_plugins" / "found.py").write_text(TRAP)
    for name in LIBRARIES:
        (tmp_path / f"{name}.py").write_text(TRAP)
    return tmp_path


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ([sys.executable, "-m", "adapt", "inner.stepz=2"], "did you mean steps?"),
        ([str(Path(sys.executable).parent / "adapt"), "inner.stepz=2"], "did you mean steps?"),
        ([sys.executable, "-Wignore", "-mtasks.audit", "digitz"], "did you mean"),
    ],
    ids=["module", "console script", "audit"],
)
def test_commands_start_in_any_folder(command: list[str], says: str, folder: Path) -> None:
    if not Path(command[0]).exists():
        pytest.skip(f"{command[0]} is not installed")
    if "-mtasks.audit" in command:  # Python itself chooses the package that `-m` names
        (folder / "tasks" / "__init__.py").unlink()
    ended = start(command, folder)
    assert ended.returncode == 2 and ended.stderr.startswith("error: ") and says in ended.stderr
    assert not (folder / "PROOF").exists()


def test_a_library_of_ours_is_found_beside_the_other(folder: Path) -> None:
    for name in LIBRARIES:  # where a program imports libraries from is its own affair
        (folder / f"{name}.py").unlink()
    (folder / "tasks.py").write_text(TRAP)
    code = f"{AGAIN}import adapt, tasks\nfrom tasks.audit import audit\nprint(tasks.__file__)"
    done = processes.run(["-c", code], folder)
    assert (done.stdout.strip(), done.returncode) == (str(ROOT / "tasks" / "__init__.py"), 0), done.stderr
    assert not (folder / "PROOF").exists()


@pytest.mark.parametrize("first", ["tasks.py", "tasks/__init__.py", "sys.modules"])
def test_two_packages_of_one_name_are_one_clear_error(first: str, tmp_path: Path) -> None:
    if first == "sys.modules":
        made = "import types; sys.modules['tasks'] = types.ModuleType('tasks')\n"
    else:
        made = "import tasks\n"
        (tmp_path / first).parent.mkdir(exist_ok=True)
        (tmp_path / first).write_text("mine = True\n")
    done = processes.run(["-c", f"{AGAIN}{made}import adapt"], tmp_path)
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert line.startswith("ImportError: adapt needs its package tasks (") and "rename that one" in line
    assert first == "sys.modules" or str(tmp_path / first) in line


def test_what_the_user_names_comes_from_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "neighbour.py").write_text("said = 'found'\n")
    (tmp_path / "sklearn.py").write_text(TRAP)
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins" / "found.py").write_text(TRAP)
    typed = [*TINY, "allow=[mine]", "method=[]", "+method.own={_target_:mine.method,head:${head}}"]
    done = processes.run(["-m", "adapt", *typed], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "found" in done.stdout and not (tmp_path / "PROOF").exists()


@pytest.mark.parametrize(
    ("typed", "package"),
    [
        ("-m adapt resume x", "adapt"),
        ("-madapt.tracking.sync", "adapt"),
        ("-W error -X dev -um tasks.audit -m x", "tasks"),
        ("-Wm -Xm=1 -m bench.digits adapt", "bench"),
        ("--check-hash-based-pycs -m -m adapt", "adapt"),
        ("script.py -m adapt", ""),
        ("-c import -m adapt", ""),
        ("- -m adapt", ""),
        ("-m", ""),
        ("", ""),
    ],
)
def test_which_module_python_was_started_with(typed: str, package: str) -> None:
    assert _module(typed.split()) == package
