"""Saved folders when saving is cut off: by a kill, by a full disk, by a failure at any step; and whoever
loads beside writers. What is there is whole: the old artifact or the new one."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import adapt
from adapt import AdaptError, artifact
from adapt.adapter.state import AdapterState
from adapt.adapter.storage import LAYOUT
from adapt.backbones import load_backbone, save_backbone
from adapt.meta.snapshot import first_snapshot, read_snapshot, write_snapshot
from adapt.spaces import lora
from adapt.spaces.peft import read_peft, write_peft
from tests.fault_stores import number_of, version
from tests.helpers import make_adapter, tensors_in, tiny_conv4
from tests.processes import Process, run

#: What each process begins with: two versions, and a child that does something to them and never returns.
COMMON = """
import itertools, os, random, resource, signal, sys, time
from pathlib import Path
from tests.fault_stores import number_of, version
from tests.fault_stores import number_of, version
from tests.helpers import tiny_conv4
backbone, folder = tiny_conv4(), Path(sys.argv[1])
made = [version(backbone, number) for number in (1, 2)]
def overwrite():
    for number in itertools.count():
        made[number % 2].save_pretrained(folder)
def child(work):
    if not (pid := os.fork()):
        try:
            work()
        except OSError:
            os._exit(7)
        finally:
            os._exit(8)
    return pid
"""
#: Overwriting is killed at many moments; prints what was there afterwards.
KILLS = """
draw = random.Random()
for _ in range(25):
    before, pid = (folder / "adapter_config.json").read_bytes(), child(overwrite)
    while (folder / "adapter_config.json").read_bytes() == before:
        time.sleep(0.001)
    time.sleep(draw.uniform(0, 0.02))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    print(number_of(folder, backbone), flush=True)
"""
#: A disk with room for nothing more: no file may have more bytes than that. Prints how saving ends.
FULL = """
for room in (0, 100, 500, 1000):
    def save():
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        made[1].save_pretrained(folder)
    print(os.waitstatus_to_exitcode(os.waitpid(child(save), 0)[1]), flush=True)
"""
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def backbone() -> nn.Module:
    return tiny_conv4()


def test_a_kill_at_any_moment_leaves_a_whole_artifact(backbone: nn.Module, tmp_path: Path) -> None:
    folder = tmp_path / "it"
    version(backbone, 1).save_pretrained(folder)
    done = run(["-c", COMMON + KILLS, str(folder)], ROOT)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 25 and {*done.stdout.split()} <= {"1", "2"}
    # What the killed ones left is swept by the next to come.
    version(backbone, 3).save_pretrained(folder)
    left = {"README.md", "adapter_config.json", tensors_in(folder).name}
    assert {path.name for path in folder.iterdir()} == left and number_of(folder, backbone) == 3


def test_who_loads_beside_two_writers_never_fails(backbone: nn.Module, tmp_path: Path) -> None:
    folder, seen = tmp_path / "it", []
    version(backbone, 1).save_pretrained(folder)
    writers = [Process(["-c", COMMON + "overwrite()", str(folder)], ROOT) for _ in range(2)]
    deadline = time.monotonic() + 120
    try:
        while seen[-100:].count(1) in (0, len(seen[-100:])) or len(seen) < 150:  # both of them write
            seen.append(number_of(folder, backbone))
            assert time.monotonic() < deadline
        assert all(process.poll() is None for process in writers), [process.said for process in writers]
    finally:
        for process in writers:
            process.kill()
    assert set(seen) == {1, 2}


def test_a_full_disk_leaves_the_old_one(backbone: nn.Module, tmp_path: Path) -> None:
    version(backbone, 1).save_pretrained(tmp_path / "it")
    before = contents(tmp_path / "it")
    done = run(["-c", COMMON + FULL, str(tmp_path / "it")], ROOT)
    assert done.stdout.split() == ["7"] * 4, done
    assert contents(tmp_path / "it") == before and number_of(tmp_path / "it", backbone) == 1


# ------------------------------------------------------------------------------------------ at every step


class Store:
    """Something that is saved: how, in two versions, and which of them is there."""

    def __init__(self, save: Callable[[Path, int], Any], which: Callable[[Path], int]) -> None:
        self.save, self.which = save, which


def adapters() -> Store:
    backbone = tiny_conv4()
    return Store(lambda p, n: version(backbone, n).save_pretrained(p), lambda p: number_of(p, backbone))


def tasks() -> Store:
    backbone, x = tiny_conv4(), torch.rand(4, 1, 16, 16)
    made = {n: make_adapter(backbone).fit(x, [n, n, 7, 7]) for n in (1, 2)}
    return Store(
        lambda p, n: made[n].save_pretrained(p), lambda p: adapt.load(p, backbone=backbone).classes_[0]
    )


def backbones() -> Store:
    def save(path: Path, number: int) -> None:
        settings: dict[str, Any] = {"architecture": "conv4", "arguments": {"width": 4}, "training": {}}
        save_backbone(
            path, tiny_conv4(number), input_shape=(1, 16, 16), value_range=(0.0, float(number)), **settings
        )

    return Store(save, lambda p: int(load_backbone(p)[1].value_range[1]))  # type: ignore[index]


def checkpoints() -> Store:
    state = make_adapter(tiny_conv4()).state

    def save(path: Path, number: int) -> None:
        path.mkdir(exist_ok=True)
        moved = AdapterState(*(torch.full_like(value, number) for value in state))
        write_snapshot(path / "it", first_snapshot(moved, (), number), {})

    def which(path: Path) -> int:
        found = read_snapshot(path / "it", {}, torch.device("cpu"))
        assert float(found.state.basis.min()) == float(found.best.basis.max()) == found.chunk
        return found.chunk

    return Store(save, which)


STORES = {"adapter": adapters, "task": tasks, "backbone": backbones, "checkpoint": checkpoints}


class Cut(BaseException):
    """As if somebody had pressed Ctrl-C."""


def failing_at(step: int, failure: BaseException, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """From now on the ``step``-th of the calls that change the disk fails; returns the calls made."""
    calls: list[str] = []

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*arguments: Any, **more: Any) -> Any:
            calls.append(name)
            if len(calls) == step:
                raise failure
            return call(*arguments, **more)

        return counting

    for name in ("replace", "fsync", "chmod", "mkdir"):
        monkeypatch.setattr(os, name, counted(name, getattr(os, name)))
    return calls


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOSPC, "No space left on device"), Cut()], ids=["full", "cut"]
)
def test_a_failure_at_any_step_leaves_a_whole_one(
    kind: str, failure: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, step, ended = STORES[kind](), 0, False
    while not ended:
        step += 1
        folder = tmp_path / str(step)
        store.save(folder, 1)
        names = {path.name for path in folder.iterdir()}
        with monkeypatch.context() as patched:
            calls = failing_at(step, failure, patched)
            try:
                store.save(folder, 2)
            except (OSError, Cut) as error:
                assert error is failure
            ended = len(calls) < step
        assert store.which(folder) in ((2,) if ended else (1, 2)), (step, calls)
        assert not [path.name for path in folder.iterdir() if path.name.startswith(".")], (step, calls)
        store.save(folder, 1)  # sweeps
        assert {path.name for path in folder.iterdir()} == names and store.which(folder) == 1
    assert step > 5


# ------------------------------------------------------------------------------------------ sweeping


def numbered(number: int) -> dict[str, Tensor]:
    return {"a": torch.full((3,), float(number))}


def test_tensors_that_another_writer_has_not_named_yet_are_not_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One writer begins and ends while another is between its two files."""
    artifact.publish(tmp_path, LAYOUT, {"n": 0}, numbered(0))
    publish = artifact.publish
    replace, inner = os.replace, iter([True])

    def paused(source: Path, target: Path) -> None:
        replace(source, target)
        if Path(target).suffix == ".safetensors" and next(inner, False):
            publish(tmp_path, LAYOUT, {"n": 2}, numbered(2))

    monkeypatch.setattr(os, "replace", paused)
    publish(tmp_path, LAYOUT, {"n": 1}, numbered(1))
    config, tensors = artifact.read(tmp_path, LAYOUT)
    assert config["n"] == 1 and torch.equal(tensors["a"], numbered(1)["a"])
    assert len([*tmp_path.iterdir()]) == 2  # the one who came last has swept


@pytest.mark.parametrize("locks", [True, False])
def test_what_is_swept_is_stale(locks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are no locks, what nobody names is left alone for a day."""
    if not locks:
        monkeypatch.setattr("fcntl.flock", _no_locks)
    artifact.publish(tmp_path, LAYOUT, {"n": 1}, numbered(1))
    old, young = "adapter_model-0123456789abcdef.safetensors", "adapter_model.safetensors"
    others = {"notes.safetensors", "adapter_model-v2.safetensors", ".adapter_model.txt", "figure.png"}
    for name in (old, young, ".adapter_config.json.abcd_123", *others):
        (tmp_path / name).touch()
    for name in (old, ".adapter_config.json.abcd_123"):
        os.utime(tmp_path / name, (0, 0))
    artifact.publish(tmp_path, LAYOUT, {"n": 2}, numbered(2))
    left = {path.name for path in tmp_path.iterdir()} - others - {"adapter_config.json"}
    named = artifact.read(tmp_path, LAYOUT)[0]["tensors"]["file"]
    first = {path for path in left if path not in (named, young)}
    assert named in left and (young in left) == (not locks) and len(first) == (not locks)
    assert others < {path.name for path in tmp_path.iterdir()}


def _no_locks(*_: Any) -> None:
    raise OSError(errno.ENOLCK, "No locks available")


def test_a_reader_gives_up_where_the_config_names_what_is_not_there(tmp_path: Path) -> None:
    artifact.publish(tmp_path, LAYOUT, {"n": 1}, numbered(1))
    tensors_in(tmp_path).unlink()
    with pytest.raises(AdaptError, match=r"safetensors does not exist: .* is not a complete artifact folder"):
        artifact.read(tmp_path, LAYOUT)


def test_a_copy_is_whole_and_the_same_bytes(tmp_path: Path) -> None:
    artifact.publish(tmp_path / "it", LAYOUT, {"n": 1}, numbered(1), {"README.md": "# it"})
    (tmp_path / "copy").mkdir()
    artifact.copy(tmp_path / "it", tmp_path / "copy", LAYOUT, ("README.md", "missing.md"))
    assert contents(tmp_path / "it") == contents(tmp_path / "copy")
    tensors_in(tmp_path / "it").write_bytes(b"")
    with pytest.raises(AdaptError, match="safetensors"):
        artifact.copy(tmp_path / "it", tmp_path / "copy", LAYOUT)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_folders_of_earlier_versions_are_overwritten_whole(backbone: nn.Module, tmp_path: Path) -> None:
    """Their tensors have one name, which is swept with the rest."""
    version(backbone, 1).save_pretrained(tmp_path)
    tensors_in(tmp_path).rename(tmp_path / "adapter_model.safetensors")
    text = (
        (tmp_path / "adapter_config.json")
        .read_text()
        .replace('"format": 5', '"format": 3')
        .replace('"tensors"', '"no"')
    )
    (tmp_path / "adapter_config.json").write_text(text)
    assert number_of(tmp_path, backbone) == 1
    version(backbone, 2).save_pretrained(tmp_path)
    assert number_of(tmp_path, backbone) == 2 and len([*tmp_path.iterdir()]) == 3


# ------------------------------------------------------------------------------------------ PEFT


@pytest.fixture
def linear() -> Iterator[nn.Module]:
    yield nn.Sequential(nn.Linear(8, 3), nn.ReLU(), nn.Linear(3, 3))


def test_a_peft_checkpoint_of_two_halves_is_refused(
    linear: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PEFT gives both files a name: between two renames a kill leaves a mixture, which is known as one."""
    first, second = lora(linear, rank=1, alpha=1.0), lora(linear, rank=1, alpha=8.0)
    write_peft(tmp_path, first, first.initial)
    settings = read_peft(tmp_path, linear)[0].settings
    for step in range(1, 6):
        with monkeypatch.context() as patched, pytest.raises(Cut):
            failing_at(step, Cut(), patched)
            write_peft(tmp_path, second, second.initial)
        assert read_peft(tmp_path, linear)[0].settings == settings
    replace = os.replace

    def cut(source: Path, target: Path) -> None:
        if Path(target).suffix == ".json":
            raise Cut
        replace(source, target)

    with monkeypatch.context() as patched, pytest.raises(Cut):
        patched.setattr(os, "replace", cut)
        write_peft(tmp_path, second, second.initial)
    with pytest.raises(AdaptError, match="was written with another adapter_config"):
        read_peft(tmp_path, linear)
