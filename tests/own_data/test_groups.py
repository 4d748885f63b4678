"""``adapt fit --group``: whom a model serves how well, and a gate."""

from pathlib import Path

import numpy as np
import pytest

import adapt
from adapt.errors import AdaptError
from tasks.own.groups import Grouping
from tests.image_files import tree, write
from tests.processes import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Towns of which one has labels that are half of them wrong, which nothing in the inputs tells."""
    made, rng = tmp_path_factory.mktemp("groups"), np.random.default_rng(0)
    n = 240
    y, town, age = rng.integers(0, 2, n), rng.choice(["here", "there"], n), rng.integers(18, 60, n)
    x = rng.normal(size=(n, 2)) + 4 * y[:, None]
    said = np.where((town == "there") & (rng.random(n) < 0.5), 1 - y, y)
    lines = [f"{a:.3f},{b:.3f},{t},{g},{'yn'[s]}" for (a, b), t, g, s in zip(x, town, age, said, strict=True)]
    (made / "data.csv").write_text("\n".join(["p,q,town,age,label", *lines]), encoding="utf-8")
    texts = [
        f"{'a lovely day' if s else 'what a pity'} in {i},{t},{'yn'[s]}"
        for i, (t, s) in enumerate(zip(town, said, strict=True))
    ]
    (made / "texts.csv").write_text("\n".join(["text,town,label", *texts[:60]]), encoding="utf-8")
    return made


def test_groups_are_on_the_page_and_the_gate_refuses(folder: Path) -> None:
    typed = ["-m", "adapt", "fit", "data.csv", "--ignore", "town", "--group", "town", "--group", "age<=30"]
    done = run([*typed, "--out", "model", "--max-gap", "0.2"], folder)
    assert done.returncode == 2, done.stderr
    assert "shown to be worse than all others by more than 0.2: 'there' by town" in done.stderr
    page = (folder / "model" / "report.html").read_text(encoding="utf-8")
    assert "Whom it serves how well" in page and "up to 30" in page
    done = run([*typed, "--out", "other", "--max-gap", "0.9"], folder)
    assert done.returncode == 0, done.stderr
    asked = ["-m", "adapt", "evaluate", "other", "data.csv", "--group", "town"]
    done = run(asked, folder)
    assert done.returncode == 0 and "demographic parity" in done.stdout and "there: 0.5" in done.stdout
    done = run([*asked, "--max-gap", "0.2"], folder)
    assert done.returncode == 2 and "'there' by town" in done.stderr
    done = run([*asked[:4], "data.csv", "--max-gap", "0.2"], folder)
    assert done.returncode == 2 and "--max-gap needs --group COLUMN" in done.stderr


def test_texts_have_groups_too(folder: Path) -> None:
    answer = adapt.fit_texts(folder / "texts.csv", "text", groups=["town"])
    [found] = answer.about["groups"]
    assert {group["name"] for group in found["groups"]} == {"here", "there"}
    assert sum(group["n"] for group in found["groups"]) == 60


@pytest.mark.parametrize(
    ("group", "says"),
    [
        ("age", "say where to divide it, as in 'age<="),
        ("twon", "did you mean 'town'"),
        ("town<=3", "is no number: leave <= out"),
        ("age<=old", "write a column, or a column and a number"),
        ("p", "holds 2"),
        ("age<=", "write a column, or a column and a number"),
    ],
)
def test_mistakes_say_what_to_do_before_anything_takes_long(folder: Path, group: str, says: str) -> None:
    said: list[str] = []
    with pytest.raises(AdaptError, match=says):
        adapt.fit_table(folder / "data.csv", groups=[group], say=said.append)
    assert not any("trying" in line for line in said)


def test_pictures_have_no_columns(tmp_path: Path) -> None:
    with pytest.raises(AdaptError, match="pictures have no columns"):
        adapt.fit_folder(write(tmp_path / "pictures", tree({"a": 3, "b": 3})), groups=["town"])


def test_where_a_cell_is_empty(folder: Path) -> None:
    class Reader:
        def column(self, path: Path, name: str) -> dict[str, str]:
            return {"line 2": "a", "line 3": "", "line 4": "7"}

    names = ["line 4", "line 2", "line 3"]
    assert Grouping("x").of_examples(Reader(), folder, names) == ["7", "a", "not given"]  # type: ignore[arg-type]
