"""Omniglot: the archives' layout, scale and ink, turned classes, splits by alphabet."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tasks import Distribution, Omniglot, TaskError
from tasks.data import DataFile
from tasks.images import omniglot

ALPHABETS = {"background": ("Greek", "Korean"), "evaluation": ("Tibetan",)}  # two characters each


def drawing(seed: int) -> np.ndarray:
    """bool [105, 105], True for paper, as the official 1-bit images."""
    return np.random.default_rng(seed).random((105, 105)) > 0.1


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with archives of the official layout, of six characters."""
    monkeypatch.setenv("ADAPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(omniglot, "CHARACTERS", 6)
    (tmp_path / "omniglot").mkdir()
    seed = 0
    for part, alphabets in ALPHABETS.items():
        path = tmp_path / f"omniglot/images_{part}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"images_{part}/", "")  # the official archives have folders
            for alphabet in alphabets:
                for character in (1, 2):
                    for number in range(1, 21):
                        content = io.BytesIO()
                        Image.fromarray(drawing(seed)).save(content, "PNG")
                        name = f"{alphabet}/character{character:02d}/0001_{number:02d}.png"
                        archive.writestr(f"images_{part}/{name}", content.getvalue())
                        seed += 1
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        file = DataFile(f"omniglot/images_{part}.zip", ("0" * 64, sha256), "http://127.0.0.1/")
        monkeypatch.setattr(omniglot, part.upper(), file)
    return tmp_path


def ink(seed: int) -> np.ndarray:
    return 1 - drawing(seed).astype(np.float32)


def test_ink_is_bright_and_scaled_by_the_mean_over_the_area(small: Path) -> None:
    whole = Omniglot(size=105, root=str(small))
    rows = np.arange(0, 120, 7)
    assert np.array_equal(whole.load(rows)[:, 0].numpy(), np.stack([ink(row) for row in rows.tolist()]))
    third = Omniglot(size=35, root=str(small)).load(rows)[:, 0].numpy()
    means = np.stack([ink(row).reshape(35, 3, 35, 3).mean((1, 3)) for row in rows.tolist()])
    assert np.abs(third - means).max() <= 0.51 / 255  # rounding to eight bits


def test_splits_are_by_alphabet(small: Path) -> None:
    source = Omniglot(size=8, root=str(small))
    names = {split: [*source.classes(split)] for split in source.splits}
    assert names == {
        "train": ["Greek/character01", "Greek/character02"],
        "validation": ["Korean/character01", "Korean/character02"],
        "test": ["Tibetan/character01", "Tibetan/character02"],
    }
    assert source.classes("validation")["Korean/character02"].tolist() == [*range(60, 80)]


def test_turned_classes(small: Path) -> None:
    source = Omniglot(size=105, rotations=True, root=str(small))
    assert source.card.counts["classes"] == 24 and source.card.counts["examples"] == 480
    assert [*source.classes("train")][:4] == [
        f"Greek/character01/rot{turn:03d}" for turn in (0, 90, 180, 270)
    ]
    for turn in range(4):
        rows = source.classes("test")[f"Tibetan/character01/rot{90 * turn:03d}"]
        assert np.array_equal(source.load(rows[3:4])[0, 0].numpy(), np.rot90(ink(83), turn))
    assert any("turned" in issue for issue in source.card.known_issues)
    assert source.digest() == Omniglot(105, True, str(small)).digest()
    assert source.digest() != Omniglot(105, False, str(small)).digest()


def test_an_incomplete_archive_is_refused(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(omniglot, "CHARACTERS", 7)
    with pytest.raises(TaskError, match="does not hold 7 characters"):
        Omniglot(root=str(small))


def test_what_is_missing_or_makes_no_sense(tmp_path: Path) -> None:
    with pytest.raises(
        TaskError, match=r"images_background\.zip does not exist: set ADAPT_DATA .*download=true"
    ):
        Omniglot(root=str(tmp_path))
    with pytest.raises(TaskError, match="omniglot: size=3"):
        Omniglot(size=3)


def test_the_real_one(data: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    assert request.config.cache is not None
    monkeypatch.setenv("ADAPT_CACHE", str(request.config.cache.mkdir("decoded")))  # once takes seconds
    source = Omniglot()
    counts = source.card.counts
    assert counts["examples"] == 32460 and counts["alphabets"] == 50
    assert (counts["train classes"], counts["validation classes"], counts["test classes"]) == (785, 179, 659)
    alphabets = {split: {name.split("/")[0] for name in source.classes(split)} for split in source.splits}
    assert {split: len(found) for split, found in alphabets.items()} == {
        "train": 25,
        "validation": 5,
        "test": 20,
    }
    assert not alphabets["train"] & alphabets["validation"] and alphabets["validation"] == {
        *omniglot.VALIDATION
    }
    with zipfile.ZipFile(data / "omniglot/images_evaluation.zip") as archive:
        first = min(name for name in archive.namelist() if "/Tibetan/character02/" in name)
        content = archive.read(first)
    with Image.open(io.BytesIO(content)) as image:
        paper = np.asarray(image).astype(np.float64)
    found = source.load(source.classes("test")["Tibetan/character02"][:1])[0, 0].numpy()
    assert found.sum() / 28**2 == pytest.approx((1 - paper).mean(), abs=3e-3)  # the same share of ink
    episode = Distribution(source, 20, 1, 5, "test").episode(0)
    assert episode.support_x.shape == (20, 1, 28, 28) and episode.support_x.dtype == torch.float32
