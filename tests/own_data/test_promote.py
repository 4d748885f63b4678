"""Versions that ``adapt fit`` made: the gate judges them on labelled examples, and says what stopped them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.processes import run

pytest.importorskip("mlflow")
CLASSES = np.array(["x", "y", "z"])


def write(path: Path, n: int, seed: int, *, wrong: float = 0.0, towns: bool = True) -> None:
    """Classes around means of their own; of ``there`` a share of the labels is wrong, as in the data of a
    careless town."""
    rng = np.random.default_rng(seed)
    y, town = rng.integers(0, 3, n), rng.choice(["here", "there"], n)
    x = rng.normal(size=(n, 3)) + 4 * np.eye(3)[y] + 6.0 * (town == "there")[:, None]
    said = np.where((town == "there") & (rng.random(n) < wrong), (y + 1) % 3, y)
    lines = [
        f"{a:.3f},{b:.3f},{c:.3f},{t},{label}"
        for (a, b, c), t, label in zip(x, town, CLASSES[said], strict=True)
    ]
    path.write_text("\n".join(["a,b,c,town,label", *lines]), encoding="utf-8")


@pytest.fixture
def fitted(empty_store: Path, tmp_path: Path) -> Callable[..., str]:
    shutil.copytree(empty_store, tmp_path, dirs_exist_ok=True)
    write(tmp_path / "test.csv", 900, seed=99)

    def fit(name: str, n: int, seed: int, **more: float) -> str:
        write(tmp_path / "train.csv", n, seed, **more)
        typed = ["fit", "train.csv", "--out", f"m{seed}", "--register", name, "--method", "head"]
        done = run(["-m", "adapt", *typed], tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stderr

    return fit


def test_as_good_passes_and_worse_on_a_group_is_stopped_for_it(
    fitted: Callable[..., str], tmp_path: Path
) -> None:
    fitted("mine", 300, 1)
    fitted("mine", 300, 2)
    typed = ["-m", "adapt", "promote", "mine", "--data", "test.csv", "--group", "town", "tracking.root=."]
    done = run([*typed, "--tolerance", "0.03"], tmp_path)
    assert done.returncode == 0 and "champion is version 2" in done.stdout, done.stdout + done.stderr
    fitted("mine", 300, 3, wrong=0.9)  # learned from labels that are wrong in one town
    done = run([*typed, "--tolerance", "0.03"], tmp_path)
    assert done.returncode == 2 and "group town=there" in done.stderr, done.stdout + done.stderr
    assert "−log p" in done.stderr and "group town=here" not in done.stderr
    shown = run(["-m", "adapt", "history", "mine", "tracking.root=."], tmp_path).stdout
    assert "refused" in shown and "town=there" in "".join(shown.split("│")).replace("\n", "").replace(" ", "")


def test_mistakes_say_what_to_do(fitted: Callable[..., str], tmp_path: Path) -> None:
    fitted("mine", 60, 1)
    fitted("mine", 60, 2)
    typed = ["-m", "adapt", "promote", "mine", "tracking.root=."]
    done = run(typed, tmp_path)
    assert done.returncode == 2 and "--data test.csv" in done.stderr, done.stderr
    done = run([*typed, "--group", "town"], tmp_path)
    assert done.returncode == 2 and "--group needs --data DATA" in done.stderr
    done = run([*typed, "--data", "tset.csv"], tmp_path)
    assert done.returncode == 2 and "did you mean" in done.stderr, done.stderr


def test_a_few_examples_show_nothing(fitted: Callable[..., str], tmp_path: Path) -> None:
    fitted("mine", 60, 1)
    fitted("mine", 60, 2)
    write(tmp_path / "few.csv", 30, seed=5)
    typed = ["-m", "adapt", "promote", "mine", "--data", "few.csv", "tracking.root=."]
    done = run(typed, tmp_path)
    assert done.returncode == 2 and "30 examples: fewer than 600 show little" in done.stderr, done.stderr
