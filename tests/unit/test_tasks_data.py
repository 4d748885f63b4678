"""Files of data sets: found, verified, downloaded from a server on this machine; archives that do harm."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tasks import TaskError, data
from tasks.data import DataFile, fetch, fetch_any, remembered_sha256
from tasks.images import _archives

CONTENT = os.urandom(50_000)
SHA = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `content`; breaks the connection after each number of bytes in `breaks`, once per entry."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.breaks, self.ranges = CONTENT, list[int](), list[str | None]()
        self.resumes, self.status = True, 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/file.bin"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        if self.server.status != 200:
            self.send_error(self.server.status)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.resumes else 0
        if start and start >= len(self.server.content):
            self.send_error(416)
            return
        body = self.server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(self.server.content) - 1}/*")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.breaks.pop(0)] if self.server.breaks else body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("ADAPT_DATA", str(tmp_path / "data"))
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def target(server: Server, sha256: tuple[str, ...] = (SHA,)) -> DataFile:
    return DataFile("set/file.bin", sha256, server.url)


# ------------------------------------------------------------------------------------------ what is there


def test_the_file_that_is_there_is_verified(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(CONTENT)
    assert fetch(DataFile("a", ("0" * 64, SHA)), root=tmp_path) == tmp_path / "a"
    assert fetch(DataFile("a", ()), root=tmp_path) == tmp_path / "a"  # none is known
    with pytest.raises(TaskError, match=rf"a is not the file it should be \(sha256 {SHA}\)"):
        fetch(DataFile("a", ("0" * 64,)), root=tmp_path)


def test_a_missing_file_names_the_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ADAPT_DATA", str(tmp_path))
    with pytest.raises(TaskError, match=r"set/x\.zip does not exist: set ADAPT_DATA .* holds set/x\.zip$"):
        fetch(DataFile("set/x.zip", (SHA,)))
    with pytest.raises(TaskError, match=r"or set task\.source\.download=true"):
        fetch(DataFile("set/x.zip", (SHA,), "http://127.0.0.1/x"))
    with pytest.raises(TaskError, match="no address to download"):
        fetch(DataFile("set/x.zip", (SHA,)), download=True)


def test_the_first_version_that_is_there_counts(tmp_path: Path) -> None:
    files = [DataFile("a", (SHA,)), DataFile("b", (SHA,))]
    (tmp_path / "b").write_bytes(CONTENT)
    assert fetch_any(files, root=tmp_path).name == "b"
    (tmp_path / "a").write_bytes(CONTENT)
    assert fetch_any(files, root=tmp_path).name == "a"


def test_a_hash_is_remembered_until_the_file_changes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ADAPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(data, "WORTH_REMEMBERING", 10)
    path, times = tmp_path / "a", 0
    path.write_bytes(CONTENT)

    def count(path: Path) -> str:
        nonlocal times
        times += 1
        return hashlib.sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr(data, "file_sha256", count)
    assert remembered_sha256(path) == remembered_sha256(path) == SHA and times == 1
    found = path.stat()
    path.write_bytes(CONTENT[::-1])  # same size, and then the same time
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert remembered_sha256(path) == hashlib.sha256(CONTENT[::-1]).hexdigest() and times == 2
    (note,) = (tmp_path / "cache" / "checked").iterdir()
    note.write_text("[]")
    assert remembered_sha256(path) != SHA and times == 3


# ------------------------------------------------------------------------------------------ download


def test_download(server: Server) -> None:
    path = fetch(target(server), download=True)
    assert path.read_bytes() == CONTENT and [*path.parent.iterdir()] == [path]
    fetch(target(server), download=True)
    assert server.ranges == [None]  # once


def test_a_broken_connection_is_taken_up_where_it_stopped(server: Server) -> None:
    server.breaks = [20_000, 10_000]
    assert fetch(target(server), download=True).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=20000-", "bytes=30000-"]


def test_no_headway_is_an_error_and_keeps_what_arrived(server: Server, tmp_path: Path) -> None:
    server.breaks = [20_000, 0]
    with pytest.raises(TaskError, match=r"cannot download .*20000 bytes are kept"):
        fetch(target(server), download=True)
    assert (tmp_path / "data/set/file.bin.part").stat().st_size == 20_000
    assert not (tmp_path / "data/set/file.bin").exists()
    assert fetch(target(server), download=True).read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=20000-"


def test_a_server_that_does_not_resume_is_read_from_the_start(server: Server) -> None:
    server.breaks, server.resumes = [20_000], False
    assert fetch(target(server), download=True).read_bytes() == CONTENT


@pytest.mark.parametrize("stale", [b"another file", CONTENT + b"more", CONTENT])
def test_a_part_of_something_else_is_thrown_away(server: Server, tmp_path: Path, stale: bytes) -> None:
    part = tmp_path / "data/set/file.bin.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(stale)
    assert fetch(target(server), download=True).read_bytes() == CONTENT
    assert not part.exists()


def test_another_file_than_expected_is_not_kept(server: Server, tmp_path: Path) -> None:
    server.content = b"<html>Please log in</html>"
    with pytest.raises(TaskError, match=r"answered with something else than file\.bin .* by hand"):
        fetch(target(server), download=True)
    assert [*(tmp_path / "data/set").iterdir()] == []


def test_an_error_of_the_server_is_named(server: Server) -> None:
    server.status = 404
    with pytest.raises(
        TaskError, match=r"answered 404 Not Found: get the file by hand and put it at .*file\.bin$"
    ):
        fetch(target(server), download=True)


def test_no_connection(server: Server) -> None:
    url = server.url
    server.shutdown()
    server.server_close()
    with pytest.raises(TaskError, match=r"cannot download http.*refused.*check the connection"):
        fetch(DataFile("set/file.bin", (SHA,), url), download=True)


def test_a_folder_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(TaskError, match=r"cannot write .*set ADAPT_DATA to a folder that can be written"):
        fetch(target(server), download=True)


def test_two_downloads_at_a_time_are_refused(server: Server, tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    part = tmp_path / "data/set/file.bin.part"
    part.parent.mkdir(parents=True)
    with part.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(TaskError, match="another process"):
            fetch(target(server), download=True)


# ------------------------------------------------------------------------------------------ archives


def zipped(path: Path, name: str = "a.png", mode: int = stat.S_IFREG, flag: int = 0) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        member = zipfile.ZipInfo(name)
        member.external_attr = (mode | 0o644) << 16
        archive.writestr(member, b"content")
    if flag:
        raw = bytearray(path.read_bytes())
        raw[raw.index(b"PK\x01\x02") + 8] |= flag
        path.write_bytes(raw)
    return path


def test_a_harmless_zip_is_read(tmp_path: Path) -> None:
    with _archives.open_zip(zipped(tmp_path / "x.zip", "a/b..c/x.png")) as archive:
        assert _archives.read_member(archive, "a/b..c/x.png") == b"content"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../a.png", "leads out"),
        ("a/../../b.png", "leads out"),
        ("a\\..\\b.png", "leads out"),
        ("/etc/a.png", "absolute"),
        ("C:/a.png", "absolute"),
    ],
)
def test_a_zip_that_leads_elsewhere_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(TaskError, match=reason):
        _archives.open_zip(zipped(tmp_path / "x.zip", name))


def test_links_encryption_size_and_damage_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TaskError, match="is a link"):
        _archives.open_zip(zipped(tmp_path / "link.zip", mode=stat.S_IFLNK))
    with pytest.raises(TaskError, match="is encrypted"):
        _archives.open_zip(zipped(tmp_path / "secret.zip", flag=1))
    (tmp_path / "no.zip").write_bytes(b"no zip")
    with pytest.raises(TaskError, match="cannot be read as a zip"):
        _archives.open_zip(tmp_path / "no.zip")
    path = zipped(tmp_path / "x.zip")
    path.write_bytes(path.read_bytes().replace(b"content", b"CONTENT"))  # its checksum is that of the other
    with _archives.open_zip(path) as archive, pytest.raises(TaskError, match=r"a\.png cannot be read"):
        _archives.read_member(archive, "a.png")
    monkeypatch.setattr(_archives, "LARGEST", 3)
    with pytest.raises(TaskError, match="claims 7 bytes"):
        _archives.open_zip(zipped(tmp_path / "bomb.zip"))


def tarred(path: Path, name: str, kind: bytes = tarfile.REGTYPE, compression: str = "xz") -> Path:
    with tarfile.open(path, f"w:{compression}") as archive:  # type: ignore[call-overload]
        member = tarfile.TarInfo(name)
        member.size, member.type, member.linkname = 7 if kind == tarfile.REGTYPE else 0, kind, "/etc/passwd"
        archive.addfile(member, io.BytesIO(b"content"))
    return path


@pytest.mark.parametrize("compression", ["", "gz", "xz", "bz2"])
def test_a_harmless_tar_is_read(tmp_path: Path, compression: str) -> None:
    path = tarred(tmp_path / "x.tar", "d/a.bin", compression=compression)
    assert _archives.read_tar(path, ["d/a.bin"]) == {"d/a.bin": b"content"}
    with pytest.raises(TaskError, match=r"has no d/b\.bin"):
        _archives.read_tar(path, ["d/a.bin", "d/b.bin"])


def test_a_tar_that_does_harm_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="leads out"):
        _archives.read_tar(tarred(tmp_path / "a", "../a.bin"), ["a.bin"])
    with pytest.raises(TaskError, match="absolute"):
        _archives.read_tar(tarred(tmp_path / "b", "/a.bin"), ["a.bin"])
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE):
        with pytest.raises(TaskError, match="link or a device"):
            _archives.read_tar(tarred(tmp_path / "c", "a.bin", kind), ["a.bin"])
    whole = tarred(tmp_path / "d", "a.bin").read_bytes()
    for damaged in (whole[:50], whole[:20] + b"\xff" * 20 + whole[40:], b""):
        (tmp_path / "d").write_bytes(damaged)
        with pytest.raises(TaskError, match="again"):
            _archives.read_tar(tmp_path / "d", ["a.bin"])
