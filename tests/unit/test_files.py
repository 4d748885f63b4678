"""What is written: whole or not at all, readable, never pickle."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import torch

from adapt import AdaptError, files
from adapt.files import read_json, read_tensors, shipped, write_json, write_tensors, write_text


def test_json_round_trip(tmp_path: Path) -> None:
    value = {"text": "∇φ", "numbers": [1, 2.5, None, True], "nested": {"a": {}}}
    write_json(tmp_path / "new" / "folder" / "it.json", value)
    assert read_json(tmp_path / "new" / "folder" / "it.json") == value
    assert "∇φ" in (tmp_path / "new" / "folder" / "it.json").read_text(encoding="utf-8")


def test_tensors_round_trip(tmp_path: Path) -> None:
    base = torch.arange(12.0).view(3, 4)
    tensors = {
        "whole": base,
        "transposed": base.T,
        "slice": base[:, 1:3],
        "again": base,  # shares memory with the others
        "scalar": torch.tensor(-torch.inf),
        "none": torch.zeros(0, 5),
        "half": torch.tensor([1.5], dtype=torch.bfloat16),
        "labels": torch.tensor([3, 1]),
        "leaf": torch.ones(2, requires_grad=True),
    }
    write_tensors(tmp_path / "it.safetensors", tensors, {"version": "1"})
    back = read_tensors(tmp_path / "it.safetensors")
    assert back.keys() == tensors.keys()
    for name, value in tensors.items():
        assert torch.equal(back[name], value.detach()) and back[name].dtype == value.dtype, name


class Crash(Exception):
    pass


def _crash(*_: Any, **__: Any) -> None:
    raise Crash


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "it.txt"
    write_text(path, "old")
    for name in ("replace", "chmod"):
        with monkeypatch.context() as patch, pytest.raises(Crash):
            patch.setattr(files.os, name, _crash)
            write_text(path, "new")
        assert path.read_text() == "old"
        assert [entry.name for entry in tmp_path.iterdir()] == ["it.txt"]  # and no litter
    write_text(path, "new")
    assert path.read_text() == "new"


def test_a_write_that_fails_midway_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "it.safetensors"
    write_tensors(path, {"a": torch.ones(2)})

    def half(tensors: Any, temporary: str, **_: Any) -> None:
        Path(temporary).write_bytes(b"half a fi")
        raise Crash

    monkeypatch.setattr(files, "save_file", half)
    with pytest.raises(Crash):
        write_tensors(path, {"a": torch.zeros(2)})
    assert torch.equal(read_tensors(path)["a"], torch.ones(2))
    assert len([*tmp_path.iterdir()]) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), torch.ones(1), {1, 2}, {(1, 2): 3}, "\udce9"])
def test_what_json_cannot_say_is_refused_before_anything_is_written(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "it.json"
    write_json(path, {"a": 1})
    with pytest.raises(AdaptError, match="cannot be written as JSON"):
        write_json(path, {"a": value})
    assert read_json(path) == {"a": 1}


def test_files_are_readable_by_others(tmp_path: Path) -> None:
    write_text(tmp_path / "it.txt", "x")
    assert stat.S_IMODE(os.stat(tmp_path / "it.txt").st_mode) == 0o644


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid JSON .* damaged"),
        (b'{"a": 1', "not valid JSON"),
        (b"\xff\xff", "not valid JSON"),
        (b"[1]", "holds list, not a JSON object"),
        (b"null", "holds NoneType"),
        (None, "does not exist: .* not a complete artifact folder"),
    ],
)
def test_unreadable_json_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "it.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AdaptError, match=message):
        read_json(path)


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"\xff" * 64, None])
def test_unreadable_tensors_are_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "it.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(
        AdaptError, match=r"it\.safetensors (is not a readable safetensors file|does not exist)"
    ):
        read_tensors(path)


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "it.safetensors")
    with pytest.raises(AdaptError, match=r"another format|not a readable"):
        read_tensors(tmp_path / "it.safetensors")


def test_names_are_folders_first_then_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PRETRAINED", tmp_path / "pretrained")
    (tmp_path / "pretrained" / "one").mkdir(parents=True)
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert shipped("one") == tmp_path / "pretrained" / "one"
    assert shipped(tmp_path / "mine") == tmp_path / "mine"
    assert shipped("mine") == Path("mine")
    for name in ("two", "pretrained/../pretrained/none", "../one"):
        with pytest.raises(
            AdaptError, match=rf"'{name}' is neither a folder nor .*: give a path, or one of one"
        ):
            shipped(name)


def test_everything_shipped_is_plain_data() -> None:
    """JSON, safetensors, Markdown: nothing that runs when it is read."""
    for path in files.PRETRAINED.rglob("*"):
        if path.is_file():
            assert path.suffix in (".json", ".safetensors", ".md"), path
            if path.suffix == ".json":
                json.loads(path.read_text(encoding="utf-8"))
