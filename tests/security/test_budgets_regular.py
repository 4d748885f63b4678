"""Only regular files are opened: nothing waits at a pipe, and nothing fills the memory from a device."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.readers.regular import open_regular, read_regular, regular_file

READERS: list[Callable[[Path], object]] = [regular_file, open_regular, read_regular]


@pytest.fixture(params=["pipe", "socket", "device", "link to a device", "link to a pipe"])
def odd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A path behind which there is no regular file."""
    path, kind = tmp_path / "odd", request.param
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to a pipe":
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to("pipe")
    elif kind == "link to a device":
        path.symlink_to("/dev/zero")
    elif kind == "device":
        path = Path("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "socket":
            listener.bind(str(path))
        yield path


@pytest.mark.parametrize("read", READERS)
def test_what_is_no_regular_file_is_refused_and_not_waited_for(
    read: Callable[[Path], object], odd: Path
) -> None:
    with pytest.raises(OSError, match="no regular file") as caught:
        read(odd)
    assert caught.value.filename == str(odd)
    assert caught.value.strerror is not None


@pytest.mark.parametrize("read", READERS)
def test_folders_and_files_that_are_missing_keep_their_errors(
    read: Callable[[Path], object], tmp_path: Path
) -> None:
    with pytest.raises(IsADirectoryError, match="is a folder"):
        read(tmp_path)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "missing")


def test_links_to_regular_files_are_followed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert regular_file(tmp_path / "link") == tmp_path / "link"
    assert read_regular(tmp_path / "link") == b"content"
    with open_regular(tmp_path / "link") as file:
        assert file.read(3) == b"con"


def test_a_file_with_a_hole_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(100 << 30)
    with pytest.raises(OSError, match=r"107,374,182,400 bytes.*1,073,741,824 are read"):
        read_regular(tmp_path / "sparse")


def test_a_file_may_be_as_large_as_the_limit_and_no_larger(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_regular(tmp_path / "file", most=5) == b"12345"
    with pytest.raises(OSError, match="5 bytes, and 4 are read"):
        read_regular(tmp_path / "file", most=4)


def test_files_that_say_to_have_no_bytes_are_read_up_to_the_limit() -> None:
    status = read_regular("/proc/self/status")
    assert os.stat("/proc/self/status").st_size == 0 and b"VmRSS" in status
    with pytest.raises(OSError, match="more than 10 bytes"):
        read_regular("/proc/self/status", most=10)


def test_a_file_that_becomes_a_pipe_between_the_look_and_the_opening_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    before = os.stat(tmp_path / "file")
    monkeypatch.setattr(os, "stat", lambda *_, **__: before)  # what the first look saw
    with pytest.raises(OSError, match="named pipe"):
        open_regular(tmp_path / "pipe")
