"""The wheel, installed into a folder of its own and used in an empty one, without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from adapt.compare import Comparison
from adapt.files import read_json
from tests import processes
from tests.command_line import TINY

pytest.importorskip("mlflow")

ROOT = Path(__file__).resolve().parents[2]
SMALL = [override for override in TINY if not override.startswith(("tracking", "hydra"))]
#: An editable installation puts the checkout on the path of every interpreter: taken off again.
WITHOUT_CHECKOUT = f"""
import sys
sys.path[:] = [place for place in sys.path if place not in ("", {str(ROOT)!r})]
"""
MINE = """# @package _global_
# Of my own.
defaults:
  - override /head: ridge
name: mine
task:
  shots: 1
"""


def checked(command: Sequence[str | Path], folder: Path, **environment: str) -> str:
    """What a new process says that must succeed."""
    ended = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def installed(arguments: Sequence[str], folder: Path, site: Path) -> str:
    """What ``python ARGUMENTS`` says with the wheel, for which it must succeed; its imports are done."""
    ended = processes.run(arguments, folder, site=site)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the wheel is installed; its dependencies are those of this interpreter."""
    pytest.importorskip("hatchling", reason="building the wheel needs hatchling: pip install hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    checked([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], ROOT)
    (wheel,) = folder.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    checked([*pip, "--no-deps", "--no-index", "--target", folder / "site", wheel], folder)
    (folder / "site" / "sitecustomize.py").write_text(WITHOUT_CHECKOUT, encoding="utf-8")
    return folder / "site"


@pytest.mark.slow
def test_installed_wheel_in_an_empty_folder(site: Path, tmp_path: Path) -> None:
    where = "import adapt, tasks; print(adapt.__file__, tasks.__file__)"
    new = checked([sys.executable, "-c", where], tmp_path, PYTHONPATH=str(site))
    for path in (new + installed(["-c", where], tmp_path, site)).split():
        assert Path(path).is_relative_to(site), "the checkout was used"

    listed = checked([site / "bin" / "adapt", "list"], tmp_path, PYTHONPATH=str(site))
    shipped = sorted((ROOT / "conf").glob("*/*.yaml"))
    assert [path.stem for path in shipped if f"  {path.stem} " not in listed] == []
    assert {*tmp_path.iterdir()} == set()

    said = installed([str(site / "bin" / "adapt"), "experiment=quickstart", *SMALL], tmp_path, site)
    assert "quickstart: digits, 2-way 5-shot, 2 tasks" in said
    left = {path.name for path in tmp_path.iterdir()} - {"mlflow.db.lock"}
    assert left == {"outputs", "mlflow.db", "mlruns"}
    (result,) = tmp_path.glob("outputs/quickstart/*/comparison.json")
    assert Comparison.from_dict(read_json(result)).methods["forward"].n == 2
    assert [*tmp_path.glob("mlruns/**/comparison.json")] != []


@pytest.mark.slow
def test_installed_wheel_sweeps_over_an_experiment_of_ones_own(site: Path, tmp_path: Path) -> None:
    config = tmp_path / "my_conf" / "experiment" / "mine.yaml"
    config.parent.mkdir(parents=True)
    config.write_text(MINE, encoding="utf-8")
    own = ["--config-dir", "my_conf", "experiment=mine"]

    adapt = str(site / "bin" / "adapt")
    installed([adapt, "-m", *own, "seed=0,1", "tracking=none", *SMALL], tmp_path, site)

    assert {path.name for path in tmp_path.iterdir()} == {"my_conf", "outputs"}
    found = [
        Comparison.from_dict(read_json(p)) for p in sorted(tmp_path.glob("outputs/mine/*/?/comparison.json"))
    ]
    assert [(result.seed, result.task["shots"]) for result in found] == [(0, 1), (1, 1)]
    shown = installed([adapt, "show", *own], tmp_path, site)
    assert shown.startswith("Of my own.\n") and "  head=ridge " in shown


@pytest.mark.slow
def test_three_kinds_of_user_with_data_of_their_own(site: Path, tmp_path: Path) -> None:
    """The one types four verbs, another compares on a test set of his own, a third writes five lines."""
    import numpy as np
    from PIL import Image

    for name, shade in (("dark", 40), ("light", 200)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for n in range(6):
            picture = Image.fromarray(np.full((40, 30, 3), shade + n, np.uint8))
            picture.save(tmp_path / "pictures" / name / f"{n}.png")

    def adapt(*arguments: str) -> str:
        return installed([str(site / "bin" / "adapt"), *arguments], tmp_path, site)

    adapt("fit", "pictures", "--out", "model")
    said = adapt("predict", "model", "pictures/dark/1.png", "pictures/light/2.png").splitlines()
    assert [line.split(",")[1] for line in said] == ["prediction", "dark", "light"]
    assert adapt("evaluate", "model", "pictures").startswith("100.0 % right")
    assert "12 pictures of 2 classes" in (tmp_path / "model" / "report.html").read_text(encoding="utf-8")

    pets = [f"{'cat' if n % 2 else 'dog'},{3 + 4 * (n % 2) + n % 5},{n % 3}" for n in range(60)]
    for name, part in (("pets", pets[:20]), ("pets_test", pets[20:])):
        (tmp_path / f"{name}.csv").write_text("\n".join(["kind,kilos,colour", *part]), encoding="utf-8")
    said = adapt(
        "experiment=own_table", "task.train_file=pets.csv", "task.test_file=pets_test.csv",
        "task.source.label=kind", "method=[head,linear]", "tracking=none",
    )  # fmt: skip
    assert "40 test examples" in said or "bootstrap" in said

    rows = [f"{n % 7},{n % 3},{n % 7 + 2 * (n % 3)}.5" for n in range(63)]
    (tmp_path / "table.csv").write_text("\n".join(["a,b,y", *rows]), encoding="utf-8")
    code = """
import adapt
answer = adapt.fit_table("table.csv", target="y", kind="values")
answer.save("line")
print(adapt.load("line").classes_, round(answer.request({"a": 3, "b": 1}).labels[0], 1))
"""
    assert installed(["-c", code], tmp_path, site).split() == ["[]", "5.5"]
