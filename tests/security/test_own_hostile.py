"""Data made to do harm, fitted, evaluated and predicted; and where the results are written."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import adapt
from adapt.app.commands.predict import write
from adapt.errors import AdaptError
from adapt.own_data import Answer, Predictions
from adapt.own_data.answer import PAGE
from adapt.tracking.locks import exclusive
from tests.command_line import call

EVIL = "<script>alert(1)</script>\x1b]0;t\x07"


def table(path: Path, labels: tuple[str, str] = ("a", "b"), **columns: Any) -> Path:
    """Two classes, told apart by z."""
    rng = np.random.default_rng(0)
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["label", "z", *columns])
        for row in range(24):
            more = [values[row % len(values)] for values in columns.values()]
            rows.writerow([labels[row % 2], f"{rng.normal(4 * (row % 2)):.3f}", *more])
    return path


def shapes(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("dots", "blank"):
        (root / name).mkdir(parents=True)
        for n in range(3):
            image = np.full((32, 32), 250 - n, np.uint8)
            image[rng.integers(32, size=40), rng.integers(32, size=40)] = 0 if name == "dots" else 240
            Image.fromarray(image).save(root / name / f"{n}.png")
    return root


def fit_shapes(root: Path) -> Answer:
    return adapt.fit_folder(root, backbone="conv4_glyphs", method="head")


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> Answer:
    return adapt.fit_table(table(tmp_path_factory.mktemp("small") / "t.csv"), method="head")


# ------------------------------------------------------------------------------------------ pictures


@pytest.mark.parametrize(
    "content",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\nshowpage\n%%EOF\n",
        b"8BPS\0\1" + bytes(20),
        b"SIMPLE  =                    T",
    ],
    ids=["EPS", "PSD", "FITS"],
)
def test_only_formats_of_pictures_are_decoded(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of EPS Pillow makes pixels by a program that runs what stands in it."""
    answer = fit_shapes(shapes(tmp_path / "shapes"))
    opened: list[Any] = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", opened.append)
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    with pytest.raises(AdaptError, match="cannot be read"):
        answer.predict(path)
    with pytest.raises(AdaptError, match="cannot be read"):
        answer.request(content)
    assert not opened


def test_names_that_are_no_utf_8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = shapes(tmp_path / "shapes")
    os.rename(os.fsencode(root / "dots" / "0.png"), os.fsencode(root / "dots") + b"/\xff\x1b.png")
    answer = fit_shapes(root)
    answer.save(tmp_path / "model")
    found = Answer.load(tmp_path / "model").predict(root)
    assert sum("\N{REPLACEMENT CHARACTER}" in name for name in found.names) == 1
    found.to_csv().encode()
    os.rename(os.fsencode(root / "dots"), os.fsencode(root) + b"/\xff")
    with pytest.raises(AdaptError, match=r"the name of a class .* rename it"):
        fit_shapes(root)


# ------------------------------------------------------------------------------------------ tables


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (["1e308", "-1e308"], "too large"),
        (["1e200", "-1e200", "3"], "too large"),
    ],
)
def test_numbers_that_cannot_be_calculated_with(column: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(AdaptError, match=said):
        adapt.fit_table(table(tmp_path / "t.csv", x=column), method="head")


def test_a_cell_far_from_all_that_was_learned(answer: Answer) -> None:
    with pytest.raises(AdaptError, match="row, line 1: the number in column 'z' is too far"):
        answer.request({"z": 1e300})
    assert answer.request({"z": 1e-320}).labels == ["a"]


@pytest.mark.parametrize("encoding", ["\0", "idna", "punycode", "rot13", "zip", "undefined", "no such"])
def test_encodings(encoding: str, tmp_path: Path) -> None:
    with pytest.raises(AdaptError, match="encoding"):
        adapt.fit_table(table(tmp_path / "t.csv"), encoding=encoding)


def test_an_encoding_of_half_characters(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"label,z\n" + b"+2AA-,1\nb,2\n" * 9)
    with pytest.raises(AdaptError, match="half a character"):
        adapt.fit_table(tmp_path / "t.csv", encoding="utf-7")


def test_as_many_classes_as_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapt.budget.machine_memory", lambda: 1 << 20)
    lines = [f"{row},k{row // 2}" for row in range(1000)]
    (tmp_path / "t.csv").write_text("\n".join(["z,label", *lines]), encoding="utf-8")
    with pytest.raises(AdaptError, match="a fit of 1,000 rows of 500 classes has"):
        adapt.fit_table(tmp_path / "t.csv")


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b"])
def test_paths_that_are_none(name: str, answer: Answer) -> None:
    for use in (adapt.fit_table, answer.predict, answer.evaluate):
        with pytest.raises(AdaptError):
            use(name)  # type: ignore[operator]


# ------------------------------------------------------------------------------------------ shown


def test_words_of_others_are_only_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = table(tmp_path / "t.csv", (EVIL, "b"), **{f"{EVIL}x": ["1", "2", "3"]})
    assert call(["fit", str(path), "--method", "head", "--target", "label", "--out", "m"], tmp_path) == 0
    for name in (PAGE, "README.md"):
        page = (tmp_path / "m" / name).read_text(encoding="utf-8")
        assert "<script" not in page and "&lt;script" in page
    swapped = table(tmp_path / "wrong.csv", ("b", EVIL), **{f"{EVIL}x": ["1", "2", "3"]})
    capsys.readouterr()
    assert call(["evaluate", "m", str(swapped)], tmp_path) == 0
    out, err = capsys.readouterr()
    assert "taken for b" in out and "\x1b" not in out + err


def test_an_error_has_an_end(answer: Answer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer.save(tmp_path / "m")
    path = tmp_path / "m" / "adapter_config.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"kind": "table"', f'"kind": "{"x" * 1_000_000}"'), encoding="utf-8")
    assert call(["predict", "m", "t.csv"], tmp_path) == 2
    assert len(capsys.readouterr().err) < 5000


def test_cells_of_predictions_are_what_they_were() -> None:
    """Also those that begin as a formula does: whoever reads the file by a program wants the label."""
    labels = ["a\rb", "c\r\nd", "e\nf", 'g"h', "=1+1", ",", "", " i"]
    found = Predictions(labels, labels, np.full((8, 2), 0.5), ("x", "y"))
    rows = [*csv.reader(io.StringIO(found.to_csv(), newline=""))]
    assert [row[:2] for row in rows[1:]] == [[label, label] for label in labels]


# ------------------------------------------------------------------------------------------ written


def test_predictions_are_not_written_over_what_they_are_of(
    answer: Answer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table(tmp_path / "t.csv")
    answer.save(tmp_path / "m")
    before = path.read_bytes()
    (tmp_path / "link.csv").symlink_to("t.csv")
    for command in ("predict", "evaluate"):
        assert call([command, "m", "t.csv", "--csv", "link.csv"], tmp_path) == 2
        assert "is what is read" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_predictions_are_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Predictions(["x"], ["a"], np.full((1, 2), 0.5), ("a", "b"))
    write(found, str(tmp_path / "p.csv"))
    before = (tmp_path / "p.csv").read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(AdaptError, match="No space left"):
        write(found, str(tmp_path / "p.csv"))
    assert (tmp_path / "p.csv").read_bytes() == before and [*tmp_path.iterdir()] == [tmp_path / "p.csv"]


def test_where_a_model_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table(tmp_path / "t.csv")
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "examples.safetensors").write_text("mine")
    for out in ("dangling", "pipe", "mine", "/dev/null/x", "t.csv", "a" * 300):
        assert call(["fit", "t.csv", "--method", "head", "--out", out], tmp_path) == 2, out
        assert capsys.readouterr().err.count("\n") == 1, out
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["examples.safetensors"]
    assert call(["fit", "no.csv", "--out", "new"], tmp_path) == 2
    assert not (tmp_path / "new").exists(), "nothing is left of what came to nothing"
    half = tmp_path / "half"  # by a fit that was killed
    (half / ".adapter_model.abcd1234").mkdir(parents=True)
    for name in ("lock", "lock-journal", "README.md", f"adapter_model-{'0' * 16}.safetensors"):
        (half / name).touch()
    assert call(["fit", "t.csv", "--method", "head", "--out", "half"], tmp_path) == 0
    assert "lock" not in {path.name for path in half.iterdir()} and Answer.load(half).can_learn


def test_two_fits_do_not_share_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table(tmp_path / "t.csv")
    (tmp_path / "m").mkdir()
    theirs = exclusive(tmp_path / "m" / "lock", 0.0)
    assert theirs is not None
    assert call(["fit", "t.csv", "--out", "m"], tmp_path) == 2
    assert "another process is at work" in capsys.readouterr().err
    assert (tmp_path / "m" / "lock").exists(), "it is not its lock"
    theirs.close()
