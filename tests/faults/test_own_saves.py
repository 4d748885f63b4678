"""What `adapt fit` wrote, while it is written again: killed, on a full disk, by two at once."""

from __future__ import annotations

import random
import re
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

import adapt
from adapt.app.serving.service import Service
from adapt.errors import AdaptError
from adapt.heads.base import one_hot
from adapt.own_data import Answer
from adapt.tracking.locks import exclusive
from tests.processes import Process

KILLS = 4
SAVES = """
from adapt.own_data import Answer
import itertools, dataclasses
both = [Answer.load(f"made/{name}") for name in ("one", "two")]
both = [dataclasses.replace(answer, page=answer.task.adapter.info["title"]) for answer in both]
print("begun", flush=True)
for answer in itertools.cycle(both):
    answer.save("model")
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models of the same classes and columns; the examples of one are others than those of the other."""
    root = tmp_path_factory.mktemp("saves")
    rng = np.random.default_rng(0)
    for name, shift in (("one", 3.0), ("two", -3.0)):
        rows = [f"{rng.normal(shift * (row % 2)):.3f},{'ab'[row % 2]}" for row in range(30)]
        (root / f"{name}.csv").write_text("\n".join(["z,label", *rows]), encoding="utf-8")
        adapt.fit_table(root / f"{name}.csv", method="head").save(root / "made" / name)
    return root


def check_whole(folder: Path) -> None:
    """The head is that of the examples beside it, which alone shows that they belong together."""
    answer = Answer.load(folder)
    assert answer.support is not None
    targets = one_hot(answer.support.positions, 2)
    again = answer.task.adapter.head.fit(answer.support.features, targets)
    assert torch.allclose(again.float(), answer.task.head_state.float(), atol=1e-3)


def test_a_model_is_whole_whenever_its_writer_is_killed(made: Path) -> None:
    moments = random.Random(0)
    for _ in range(KILLS):
        process = Process(["-c", SAVES], made)
        while "begun" not in process.said[0]:
            assert process.poll(0.05) is None, process.said
        process.poll(moments.uniform(0.02, 0.3))
        process.kill()
        if (made / "model" / "adapter_config.json").exists():
            check_whole(made / "model")
    Answer.load(made / "made" / "one").save(made / "model")
    names = {re.sub("-[0-9a-f]{16}", "", path.name) for path in (made / "model").iterdir()}
    tensors = {"adapter_model.safetensors", "examples.safetensors"}
    assert names == {"README.md", "adapter_config.json", "report.html"} | tensors
    assert len([*(made / "model").iterdir()]) == 5, "what the killed ones left is swept"


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """As a disk that is full: more cannot be written to a file."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


def test_a_full_disk_leaves_the_old_model(made: Path, tmp_path: Path) -> None:
    one, two = (Answer.load(made / "made" / name) for name in ("one", "two"))
    one.save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for size in (100, 1000):
        with largest_file(size), pytest.raises((OSError, AdaptError)):
            two.save(tmp_path)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_correction_does_not_undo_what_others_saved(made: Path, tmp_path: Path) -> None:
    Answer.load(made / "made" / "one").save(tmp_path)
    service, other = (Service(Answer.load(tmp_path), tmp_path) for _ in range(2))
    assert service.correct({"z": 0}, "a") == 1 and service.correct({"z": 0}, "a") == 2
    with pytest.raises(AdaptError, match="holds another one by now"):
        other.correct({"z": 1}, "b")
    assert other.corrections == 0 and len(Answer.load(tmp_path).support.positions) == 32  # type: ignore[union-attr]
    Answer.load(made / "made" / "two").save(tmp_path)
    with pytest.raises(AdaptError, match="holds another one by now"):
        service.correct({"z": 1}, "b")
    check_whole(tmp_path)


def test_corrections_at_once_are_all_learned(made: Path, tmp_path: Path) -> None:
    Answer.load(made / "made" / "one").save(tmp_path)
    service = Service(Answer.load(tmp_path), tmp_path)
    threads = [
        threading.Thread(target=service.correct, args=({"z": number}, "ab"[number % 2]))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert service.corrections == 8
    assert len(Answer.load(tmp_path).support.positions) == 38  # type: ignore[union-attr]
    check_whole(tmp_path)


def test_a_correction_that_cannot_be_kept_is_not_learned(made: Path, tmp_path: Path) -> None:
    Answer.load(made / "made" / "one").save(tmp_path)
    service = Service(Answer.load(tmp_path), tmp_path)
    before = service.predict({"z": 0})
    with largest_file(1000), pytest.raises(AdaptError, match="cannot be kept") as refused:
        service.correct({"z": 0}, "a")
    assert str(tmp_path) not in str(refused.value)
    theirs = exclusive(tmp_path / "lock", 0.0)
    assert theirs is not None
    with pytest.raises(AdaptError, match="another process is at work on this model"):
        service.correct({"z": 0}, "a")
    theirs.close()
    assert service.predict({"z": 0}) == before and service.corrections == 0
    assert service.correct({"z": 0}, "a") == 1
