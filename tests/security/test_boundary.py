"""Everything that is read comes through one boundary: whatever is wrong with it is one clear error, nothing
runs, and nothing hangs."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file as load_tensors
from safetensors.torch import save_file
from torch import nn

import adapt
from adapt import AdaptError
from adapt.backbones import load_backbone
from adapt.backbones.weights import load_file
from adapt.compare.checkpoint import Checkpoint, Probe, Result, entry_of
from adapt.compare.comparison import Comparison
from adapt.compare.examples import Examples
from adapt.files import parse_json, read_json, read_metadata, read_tensors
from adapt.meta.adam import Moments
from adapt.meta.snapshot import Snapshot, first_snapshot, read_snapshot, write_snapshot
from adapt.spaces.peft import read_peft
from tasks._cache import cached_arrays, memory_mapped
from tests.damage import damage
from tests.helpers import make_adapter, tiny_conv4

CPU, RUN, QUESTION = torch.device("cpu"), {"meta.k": 3}, {"experiment": "it"}
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


# ------------------------------------------------------------------------------------------ readers


def snapshot_of(path: Path) -> Snapshot:
    return read_snapshot(path, RUN, CPU)


def comparison_of(path: Path) -> list[dict[str, Result]]:
    return Checkpoint(path, QUESTION).done


def weights_of(path: Path) -> None:
    load_file(nn.Linear(2, 3), str(path))


def in_folder(read: Callable[[Path], Any], name: str, *others: str) -> Callable[[Path], Any]:
    """A reader of folders, given one of the files in it."""

    def of(path: Path) -> Any:
        folder = path.parent / "folder"
        folder.mkdir()
        os.rename(path, folder / name)
        for other in others:
            (folder / other).write_text("{}")
        return read(folder)

    return of


def peft_of(folder: Path) -> Any:
    return read_peft(folder, nn.Sequential(nn.Linear(8, 3)))


READERS: dict[str, Callable[[Path], Any]] = {
    "JSON": read_json,
    "tensors": read_tensors,
    "texts of tensors": read_metadata,
    "checkpoint": snapshot_of,
    "comparison": Comparison.read,
    "comparison that goes on": comparison_of,
    "weights": weights_of,
    "adapter": in_folder(adapt.load, "adapter_config.json"),
    "tensors of an adapter": in_folder(adapt.load, "adapter_model.safetensors", "adapter_config.json"),
    "backbone": in_folder(load_backbone, "backbone.json"),
    "tensors of a backbone": in_folder(load_backbone, "backbone.safetensors", "backbone.json"),
    "PEFT": in_folder(peft_of, "adapter_config.json"),
    "tensors of PEFT": in_folder(peft_of, "adapter_model.safetensors", "adapter_config.json"),
}


class Runs:
    """What a pickle may do to whoever loads it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("it ran",)


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps(Runs()))


def packed(path: Path) -> None:
    """As torch saves, with a pickle of one's own."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Runs()))
        archive.writestr("archive/version", "3")


#: A thing in the place of a file.
THINGS: dict[str, Callable[[Path], Any]] = {
    "a pipe": os.mkfifo,
    "a folder": os.mkdir,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a circle": lambda path: path.symlink_to(path.name),
    "nothing behind a link": lambda path: path.symlink_to("nowhere"),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("hello\n"),
    "a list": lambda path: path.write_text("[1]\n"),
    "another object": lambda path: path.write_text('{"a": [1, {}], "metric": "mse", "methods": 3}\n'),
    "deep": lambda path: path.write_text('{"a":' * 100_000 + "\n"),
    "deep, and whole": lambda path: path.write_text('{"a":' * 200 + "1" + "}" * 200 + "\n"),
    "digits": lambda path: path.write_text('{"a": ' + "9" * 5000 + "}\n"),
    "no text": lambda path: path.write_bytes(b"\xff\xfe" * 40 + b"\n"),
    "a long header": lambda path: path.write_bytes((1 << 62).to_bytes(8, "little") + b"{" * 90),
    "a pickle": pickled,
    "a packed pickle": packed,
}


@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize("reader", READERS)
def test_whatever_is_there_is_one_clear_error(
    reader: str, thing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    THINGS[thing](tmp_path / "it")
    if (reader, thing) in (("comparison that goes on", "empty"), ("JSON", "another object")):
        return  # nothing is done yet; that is JSON
    with pytest.raises(AdaptError) as caught:
        READERS[reader](tmp_path / "it")
    said = str(caught.value)
    assert "\n" not in said and len(said) < 700 and ("it" in said or "folder" in said)
    assert not Path("it ran").exists()


@pytest.mark.parametrize("name", ["x" * 300, "it/x", "../" * 2000 + "x"])
@pytest.mark.parametrize("reader", ["JSON", "tensors", "checkpoint", "weights", "comparison"])
def test_names_that_no_file_can_have_are_one_clear_error(reader: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "it").touch()
    with pytest.raises(AdaptError, match=r"does not exist|cannot be read"):
        READERS[reader](tmp_path / name)


@pytest.mark.parametrize("thing", sorted({*THINGS} - {"a packed pickle"}))  # that is an archive, too
def test_damaged_caches_are_made_anew(thing: str, tmp_path: Path) -> None:
    arrays = {"a": np.arange(3)}
    THINGS[thing](tmp_path / "it.npz")
    assert cached_arrays(tmp_path / "it.npz", lambda: arrays)["a"].tolist() == [0, 1, 2]
    (tmp_path / "it").mkdir()
    THINGS[thing](tmp_path / "it" / "index.json")
    assert memory_mapped(tmp_path / "it", lambda: arrays)["a"].tolist() == [0, 1, 2]
    assert not Path("it ran").exists()


# ------------------------------------------------------------------------------------------ JSON


def test_json_has_bounds() -> None:
    value = json.loads("[" * 99 + "1" + "]" * 99)
    assert parse_json("[" * 99 + "1" + "]" * 99, "it") == value
    assert parse_json(str(2**127), "it") == 2**127 and parse_json("1e-400", "it") == 0
    assert parse_json('"\\ud83d\\ude00"', "it") == "\U0001f600"  # two halves
    assert parse_json("[NaN]", "it", finite=False)[0] != 0
    for text in ("[" * 101 + "]" * 101, str(2**129), "NaN", "[-Infinity]", "1e999", '{"\\ud800": 1}', ""):
        with pytest.raises(AdaptError, match=r"it is not valid JSON .*: the file is damaged, write it again"):
            parse_json(text, "it")


# ------------------------------------------------------------------------------------------ checkpoints


def checkpoint(path: Path) -> Path:
    first = first_snapshot(make_adapter(tiny_conv4()).state, ("origin", "log_damping"), 4)
    moments = {name: Moments(*(value + 1 for value in pair)) for name, pair in first.moments.items()}
    metrics = {"accuracy": 0.5, "loss": float("inf")}
    now = replace(first, moments=moments, step=7, updates=6, skipped=1, metrics=metrics)
    write_snapshot(path, now, RUN)
    return path


@given(data=st.data())
@FEW
def test_a_damaged_checkpoint_is_refused_or_the_same(data: st.DataObject, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "it")
    whole = snapshot_of(path)
    damage(data, path)
    try:
        found = snapshot_of(path)
    except AdaptError:
        return
    assert all(torch.equal(a, b) for a, b in zip(found.state, whole.state, strict=True))
    assert (found.step, found.metrics) == (whole.step, whole.metrics)


@pytest.mark.parametrize("hashed", [True, False])
def test_tensors_of_a_checkpoint_are_those_of_a_state(hashed: bool, tmp_path: Path) -> None:
    """Without a hash, as earlier versions wrote it, names and shapes are checked."""
    path = checkpoint(tmp_path / "it")
    texts, tensors = read_metadata(path), {n: v.clone() for n, v in load_tensors(path).items()}
    if not hashed:
        del texts["sha256"]
        save_file(tensors, path, texts)
        assert snapshot_of(path).step == 7
    for name in tensors:
        for bad in (None, torch.ones(1, 1), tensors[name] * torch.nan, (tensors[name] > 0)):
            changed = {n: v for n, v in {**tensors, name: bad}.items() if v is not None}
            save_file(changed, path, texts)
            with pytest.raises(AdaptError, match="no whole checkpoint of meta-training"):
                snapshot_of(path)
    save_file(tensors | {"more": torch.ones(1)}, path, texts)
    with pytest.raises(AdaptError, match=r"no whole checkpoint of meta-training \(more\)"):
        snapshot_of(path)


def progress(path: Path) -> Path:
    kept = Checkpoint(path, QUESTION)
    kept.begin({"ours": Probe(3.0, 1.0), "theirs": Probe(9.0, 2.0, None, 4.0)}, None)
    for task in range(3):
        examples = Examples(((task, 1),), ((5, 6, 7),), (None,))
        kept.add(entry_of({"ours": Result(0.5 + task, 0.1), "theirs": Result(0.25, 0.2)}, examples))
    return path


@given(data=st.data())
@FEW
def test_a_damaged_comparison_is_refused_or_goes_on(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = progress(tmp_path_factory.mktemp("it") / "progress.jsonl")
    whole = comparison_of(path)
    damage(data, path)
    try:
        found = comparison_of(path)
    except AdaptError:
        return
    assert found == whole[: len(found)]


@pytest.mark.parametrize(
    "change",
    [
        {"results": {"nobody": {"score": 1, "seconds": 1, "curve": None}}},
        {"results": {"ours": {"score": "1", "seconds": 1, "curve": None}}},
        {"results": {"ours": {"score": 1, "seconds": True, "curve": None}}},
        {"results": {"ours": {"score": 1, "seconds": 1, "curve": {"seconds": 3, "score": []}}}},
        {"results": {}},
        {"results": []},
        {"examples": {"support": 3}},
        {"examples": {"support": ["1 x"], "query": [], "groups": []}},
        {"task": 1.5},
    ],
    ids=str,
)
def test_lines_of_other_content_are_damage(change: dict[str, Any], tmp_path: Path) -> None:
    lines = progress(tmp_path / "it").read_bytes().splitlines()
    entry = json.loads(lines[1])
    del entry["sha256"]  # as earlier versions wrote it
    for new in ({}, change):
        (tmp_path / "it").write_bytes(b"\n".join([lines[0], json.dumps(entry | new).encode(), b""]))
        if not new:
            assert len(comparison_of(tmp_path / "it")) == 1
    with pytest.raises(AdaptError, match="it is damaged in line 2"):
        comparison_of(tmp_path / "it")


# ------------------------------------------------------------------------------------------ artifacts

PLACES = {
    "a pipe": os.mkfifo,
    "a folder": os.mkdir,
    "a device": THINGS["a device"],
    "a circle": THINGS["a circle"],
    "a hole": lambda path: (path.touch(), os.truncate(path, 1 << 40)),
    "gone": lambda path: None,
}


@pytest.mark.parametrize("thing", PLACES)
def test_what_is_in_the_place_of_a_saved_file_is_one_clear_error(thing: str, tmp_path: Path) -> None:
    network = tiny_conv4()
    for number, pattern in enumerate(("adapter_config.json", "adapter_model-*.safetensors")):
        folder = tmp_path / str(number)
        make_adapter(network).save_pretrained(folder)
        (path,) = folder.glob(pattern)
        path.unlink()
        PLACES[thing](path)
        with pytest.raises(AdaptError, match=r"adapter_(config|model)"):
            adapt.load(folder, backbone=network)


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "../" * 2000, "circle/x"])
def test_names_of_no_folder_are_one_clear_error(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("circle").symlink_to("circle")
    with pytest.raises(AdaptError, match="neither a folder nor a shipped artifact"):
        adapt.load(name)
