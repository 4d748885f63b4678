"""Arrays kept on disk: mapped, atomic, and made again when damaged."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from tasks import _cache

ARRAYS = {"a": np.arange(1000).reshape(10, 100), "names": np.array(["x", "yy"]), "none": np.empty((0, 3))}


class Maker:
    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> dict[str, np.ndarray]:
        self.times += 1
        return ARRAYS


def assert_same(found: _cache.Arrays) -> None:
    assert set(found) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype and np.array_equal(found[name], array)


def test_arrays_are_made_once_and_mapped_afterwards(tmp_path: Path) -> None:
    make, path = Maker(), tmp_path / "sub" / "x"
    for _ in range(3):
        found = _cache.memory_mapped(path, make)
        assert_same(found)
        assert isinstance(found["a"].base, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            found["a"][0] = 1
    assert make.times == 1
    assert [*path.parent.iterdir()] == [path]


@pytest.mark.parametrize(
    "damage", ["cut", "altered", "array gone", "index gone", "no json", "no index", "a file"]
)
def test_what_is_damaged_is_made_again(tmp_path: Path, damage: str) -> None:
    make, path = Maker(), tmp_path / "x"
    _cache.memory_mapped(path, make)
    array, index = path / "a.npy", path / "index.json"
    whole = array.read_bytes()
    if damage == "cut":
        array.write_bytes(whole[:-10])
    elif damage == "altered":
        array.write_bytes(whole[:-10] + bytes(10))
        os.utime(array, ns=(0, 0))  # in the same tick of the clock a change of content is not seen
    elif damage == "array gone":
        array.unlink()
    elif damage == "index gone":
        index.unlink()
    elif damage == "no json":
        index.write_text("{")
    elif damage == "no index":
        index.write_text(json.dumps({"a": 3}))
    else:
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
        path.write_text("")
    assert_same(_cache.memory_mapped(path, make))
    assert make.times == 2
    assert_same(_cache.memory_mapped(path, make))
    assert make.times == 2
    assert [*tmp_path.iterdir()] == [path]


def test_a_copy_with_other_times_is_verified_and_kept(tmp_path: Path) -> None:
    make, path = Maker(), tmp_path / "x"
    _cache.memory_mapped(path, make)
    os.utime(path / "a.npy", ns=(0, 0))
    assert_same(_cache.memory_mapped(path, make))
    assert make.times == 1


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    make = Maker()
    assert_same(_cache.memory_mapped(tmp_path / "file" / "x", make))
    assert make.times == 1


def test_nothing_is_left_of_what_failed(tmp_path: Path) -> None:
    bad = {"a": np.array([object()])}  # needs pickle
    assert _cache.memory_mapped(tmp_path / "x", lambda: bad) is bad
    assert [*tmp_path.iterdir()] == []


def test_where_decoded_data_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ADAPT_CACHE", raising=False)
    monkeypatch.setenv("ADAPT_DATA", str(tmp_path / "not" / "yet"))
    assert _cache.cache_folder() == tmp_path / "not" / "yet"
    tmp_path.chmod(0o555)  # also for the superuser, who could write
    try:
        assert _cache.cache_folder() == Path.home() / ".cache" / "adapt"
    finally:
        tmp_path.chmod(0o755)
    monkeypatch.setenv("ADAPT_CACHE", "~/elsewhere")
    assert _cache.cache_folder() == Path.home() / "elsewhere"


def test_keys_differ_with_any_part() -> None:
    keys = [_cache.key(*parts) for parts in (("a", "b"), ("ab",), ("a", "b", None), ("b", "a"), (1,), ("1",))]
    assert len(set(keys)) == 6 and {len(key) for key in keys} == {16}
