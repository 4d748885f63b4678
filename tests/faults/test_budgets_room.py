"""Where results go is tried before the work: rights, files in the way, and a full disk."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adapt.app.folders import hindrance
from adapt.compare.checkpoint import Checkpoint
from tasks import TaskError
from tasks.audit.__main__ import main as audit
from tasks.readers.room import check_room
from tests.command_line import TINY, call


def entries(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_folder_with_room_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for folder in (tmp_path / "there", tmp_path / "a" / "b", tmp_path):
        check_room(folder, "output", TaskError)
        check_room(str(folder), "output", TaskError)
    assert entries(tmp_path) == ["there"]


def test_what_is_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone" / "away")
    os.mkfifo(tmp_path / "pipe")
    for place in ("file", "file/below", "file/further/below", "nowhere", "pipe/x"):
        with pytest.raises(TaskError, match=rf"output: .*{place} cannot be written to \(.*no folder"):
            check_room(tmp_path / place, "output", TaskError)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT])
def test_rights_and_full_disks_are_found_by_writing(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The superuser, who runs tests in containers, may write anywhere."""

    class Full(tempfile.SpooledTemporaryFile[bytes]):
        def write(self, _: Any) -> int:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda dir: Full())
    with pytest.raises(TaskError, match=os.strerror(number)):
        check_room(tmp_path / "new", "output", TaskError)


def test_a_disk_that_is_nearly_full_is_told_in_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=3 << 20))
    with pytest.raises(TaskError, match="has 3 MB left, and 16 MB are needed: make room"):
        check_room(tmp_path, "output", TaskError)
    check_room(tmp_path, "output", TaskError, room=1 << 20)


@pytest.mark.parametrize("stage", ["meta", "pretrain"])
@pytest.mark.parametrize("output", ["file", "file/below"])
def test_output_is_tried_before_the_work(
    stage: str, output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("adapt.app.stages.meta.Parts", lambda *_: pytest.fail("began"))
    monkeypatch.setattr("adapt.app.stages.pretrain.Parts", lambda *_: pytest.fail("began"))
    assert call([*TINY, f"stage={stage}", f"output={output}"], tmp_path) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: output={output}: {output} cannot be written to") and said.count("\n") == 1


def test_training_knows_how_much_it_will_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=(1 << 24) + 1000))
    monkeypatch.setattr("adapt.app.stages.meta.meta_train", lambda *_: pytest.fail("began"))
    assert call(["experiment=meta_sinusoid", "tracking=none", "hydra.run.dir=run"], tmp_path) == 2
    assert "what training writes: run/adapter has 16 MB left" in capsys.readouterr().err.replace(
        f"{tmp_path}/", ""
    )


@pytest.mark.parametrize("run", ["file", "file/below"])
def test_the_folder_of_the_run_is_told_in_a_line(run: str, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "file").touch()
    assert call([*TINY, f"hydra.run.dir={run}"], tmp_path) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "file" in said and said.count("\n") == 1


def test_a_report_is_not_made_for_a_folder_that_cannot_take_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("tasks.audit.__main__.audit", lambda *_, **__: pytest.fail("began"))
    assert audit(["digits", "--out", str(tmp_path / "file")]) == 2
    assert "cannot be written to" in capsys.readouterr().err


def test_a_disk_that_fills_up_is_what_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """And not that the failure could not be noted there, either."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("adapt.app.stages.state.write_json", full)
    assert call([*TINY], tmp_path) == 2
    assert "the folder of the run: " in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_disk_that_fills_up_during_a_run_is_one_line_and_the_run_goes_on_later(
    number: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    add, full = Checkpoint.add, [False, True]

    def write(*arguments: Any) -> None:
        if full and full.pop(0):
            raise OSError(number, os.strerror(number), "progress.jsonl")
        add(*arguments)

    monkeypatch.setattr(Checkpoint, "add", write)
    assert call(TINY, tmp_path) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(
        f"error: progress.jsonl cannot be written or read ({os.strerror(number)}): make room"
    )
    assert f"`python -m adapt resume {tmp_path / 'run'}` goes on" in line
    kept = (tmp_path / "run" / "progress.jsonl").read_bytes()
    assert call(["resume", "run"], tmp_path) == 0
    assert (tmp_path / "run" / "progress.jsonl").read_bytes().startswith(kept), "the first task was not kept"
    assert kept.count(b"\n") == 2 and "2 tasks" in capsys.readouterr().out


def test_other_errors_of_the_system_stay_bugs(tmp_path: Path) -> None:
    assert hindrance(FileNotFoundError(errno.ENOENT, "no such file"), tmp_path) is None
    assert hindrance(OSError("a bug"), tmp_path) is hindrance(ValueError("a bug")) is None
