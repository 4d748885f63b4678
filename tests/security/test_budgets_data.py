"""Data of one's own: pipes, devices, endless and far too wide files are one error; nothing waits for them."""

from __future__ import annotations

import ast
import io
import os
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

import tasks
from tasks import ImageFolder, SeriesFile, TaskError, TextFile, from_hugging_face, table_file
from tasks._cache import cached_arrays, memory_mapped
from tasks.images import _archives

SOURCES: dict[str, Callable[[Path], Any]] = {
    "texts": TextFile,
    "table": lambda path: table_file(str(path), label="label"),
    "series": lambda path: SeriesFile(str(path)),
    "images": lambda path: ImageFolder(str(path)),
    "zip": _archives.open_zip,
    "tar": lambda path: _archives.read_tar(path, ["a"]),
}
#: Of texts: the others read the same way.
WIDE: dict[str, Callable[[Path], Any]] = {name: SOURCES[name] for name in ("texts", "table", "series")}


@pytest.mark.parametrize("kind", ["pipe", "link to a device"])
@pytest.mark.parametrize("read", SOURCES.values(), ids=[*SOURCES])
def test_sources_open_regular_files_only(read: Callable[[Path], Any], kind: str, tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    with pytest.raises(TaskError, match="no regular file"):
        read(path)


@pytest.mark.parametrize("kind", ["pipe", "link to a device"])
def test_pictures_of_a_folder_and_of_a_data_set_are_regular_files(kind: str, tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for shade in range(4):
            Image.new("L", (9, 9), 50 * shade).save(tmp_path / label / f"{shade}.png")
    odd = tmp_path / "cat" / "odd.png"
    os.mkfifo(odd) if kind == "pipe" else odd.symlink_to("/dev/zero")
    with pytest.raises(TaskError, match=r"odd\.png cannot be read .*no regular file"):
        ImageFolder(str(tmp_path))
    rows = {"image": [{"bytes": None, "path": str(odd)}] * 4, "label": [0, 1] * 2}
    with pytest.raises(TaskError, match=r"x\[0\] is no picture that can be read.*no regular file"):
        from_hugging_face(Stored(rows), size=8)


class Stored:
    """As much of a Hugging Face data set as the reader asks for: columns of images that are not decoded."""

    features: ClassVar[dict[str, Any]] = {"image": None, "label": None}
    info = SimpleNamespace(description="", dataset_name="", homepage="", license="")

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self.columns, self.column_names = columns, [*columns]

    def __getitem__(self, column: str) -> list[Any]:
        return self.columns[column]

    def __len__(self) -> int:
        return len(self.columns["label"])


@pytest.mark.parametrize("keep", [cached_arrays, memory_mapped])
def test_a_pipe_in_the_place_of_what_was_kept_is_made_anew(keep: Any, tmp_path: Path) -> None:
    path = tmp_path / "kept"
    os.mkfifo(path)
    made = {"a": np.arange(3)}
    assert np.array_equal(keep(path, lambda: made)["a"], made["a"])
    assert np.array_equal(keep(path, lambda: pytest.fail("made twice"))["a"], made["a"])


def test_a_file_that_is_larger_than_what_is_read_at_once_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "data.csv").open("wb") as file:
        file.truncate(100 << 30)
    with pytest.raises(TaskError, match="107,374,182,400 bytes"):
        TextFile(tmp_path / "data.csv")


@pytest.mark.parametrize("read", WIDE.values(), ids=[*WIDE])
@pytest.mark.parametrize("columns", [100_001, 2_000_000])
def test_a_table_has_so_many_columns_at_most(
    read: Callable[[Path], Any], columns: int, tmp_path: Path
) -> None:
    names = ["label", "text", *map(str, range(columns - 2))]
    (tmp_path / "data.csv").write_text(",".join(names) + "\n" + "," * (columns - 1) + "\n")
    with pytest.raises(TaskError, match=f"line 1 has {columns:,} cells.*100,000 columns at most") as caught:
        read(tmp_path / "data.csv")
    assert len(str(caught.value)) < 1000


def test_wide_tables_are_read_without_looking_at_each_column_for_each_other(tmp_path: Path) -> None:
    columns = 20_000
    names, cells = ["label", *(f"c{n}" for n in range(columns))], ["1"] * columns
    rows = [",".join(["ab"[row % 2], str(row), *cells[1:]]) for row in range(4)]
    (tmp_path / "data.csv").write_text("\n".join([",".join(names), *rows]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tasks.TaskWarning)
        source = table_file(str(tmp_path / "data.csv"), label="label")
    assert source.shape == (1,)  # all others are constant
    with pytest.raises(TaskError, match=r"no column 'missing'.*19,981 more") as caught:
        table_file(str(tmp_path / "data.csv"), label="missing")
    assert len(str(caught.value)) < 1000


def test_a_header_with_an_endless_cell_is_told(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("text,label," + "x" * 200_000 + "\n1,2,3\n")
    for read in WIDE.values():
        with pytest.raises(TaskError, match=r"line 1.*field larger than field limit"):
            read(tmp_path / "data.csv")


def test_json_lines_with_too_many_names_are_told_shortly(tmp_path: Path) -> None:
    names = ",".join(f'"{n}": 0' for n in range(50_000))
    (tmp_path / "data.jsonl").write_text(f"{{{names}}}\n")
    with pytest.raises(TaskError, match=r"no column 'text' among.*49,980 more"):
        TextFile(tmp_path / "data.jsonl")


def test_members_of_an_archive_that_claim_to_fill_the_memory_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cat/1.png", bytes(1 << 20))
    content = (tmp_path / "bomb.zip").read_bytes()
    claims = content.replace((1 << 20).to_bytes(4, "little"), (0xFFFFFFF0).to_bytes(4, "little"))
    (tmp_path / "bomb.zip").write_bytes(claims)
    with pytest.raises(TaskError, match="claims 4294967280 bytes"):
        _archives.open_zip(tmp_path / "bomb.zip")


def test_a_picture_of_a_data_set_that_would_unpack_to_gigabytes_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    written = io.BytesIO()
    Image.new("L", (64, 64)).save(written, "PNG")
    rows = {"image": [{"bytes": written.getvalue(), "path": None}] * 4, "label": [0, 1] * 2}
    with pytest.raises(TaskError, match="decompression bomb"):
        from_hugging_face(Stored(rows), size=8)


#: Ways to open a file that do not look at what it is, by the files that have reason to: those of the system,
#: of our own code, and what a process has just made itself.
OPENERS = {"read_text", "read_bytes", "open", "fdopen"}
MAY_OPEN = {
    "readers/regular.py",
    "data.py",  # writes what it downloads
    "_cache.py",  # writes
    "audit/__main__.py",  # writes
    "audit/named.py",
    "images/glyphs.py",  # our own code
}


def test_nothing_in_tasks_opens_a_file_by_other_ways() -> None:
    found: set[str] = set()
    folder = Path(tasks.__file__).parent
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            function = node.func
            opens = isinstance(function, ast.Name) and function.id == "open"
            if isinstance(function, ast.Attribute) and ast.unparse(function.value) not in DECODERS:
                opens = function.attr in OPENERS
            if opens:
                found.add(str(path.relative_to(folder)))
    assert found <= MAY_OPEN


#: Pillow and tarfile, which are given bytes or what was opened.
DECODERS = {"Image", "image", "pillow()", "tarfile"}
