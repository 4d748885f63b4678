"""GTSRB: both layouts, and tracks that are in one pool only."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks import GTSRB, Distribution, TaskError
from tasks.images import gtsrb

FRAMES = 3


def tracks(label: int) -> int:
    return 2 + label % 3


def frame(label: int, track: int, number: int, side: int) -> Image.Image:
    return Image.new("RGB", (side, side + 1), (5 * label, 40 * track, 80 * number))


@pytest.fixture
def official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with an archive of the official layout: few frames, and sizes that differ."""
    monkeypatch.setenv("ADAPT_CACHE", str(tmp_path / "cache"))
    total = sum(map(tracks, range(43)))
    monkeypatch.setattr(gtsrb, "TRACKS", total)
    monkeypatch.setitem(gtsrb.IMAGES, gtsrb.OFFICIAL.path, total * FRAMES)
    (tmp_path / "gtsrb").mkdir()
    with zipfile.ZipFile(tmp_path / gtsrb.OFFICIAL.path, "w") as archive:
        archive.writestr("GTSRB/Readme-Images.txt", "not an image")
        for label in range(43):
            archive.writestr(f"GTSRB/Final_Training/Images/{label:05d}/GT-{label:05d}.csv", "not an image")
            for track in range(tracks(label)):
                for number in range(FRAMES):
                    content = io.BytesIO()
                    frame(label, track, number, 10 + label).save(content, "PPM")
                    name = f"{label:05d}/{track:05d}_{number:05d}.ppm"
                    archive.writestr(f"GTSRB/Final_Training/Images/{name}", content.getvalue())
    return tmp_path


def colours(source: GTSRB, rows: np.ndarray) -> set[tuple[int, ...]]:
    """Class and track of images, read from their colours."""
    found = (source.load(rows)[:, :, 0, 0] * 255).round().int().tolist()
    return {(red // 5, green // 40) for red, green, _ in found}


@pytest.mark.parametrize("split_by", ["classes", "tracks"])
def test_no_track_is_in_two_pools(official: Path, split_by: str) -> None:
    source = GTSRB(split_by=split_by, root=str(official))
    seen: dict[tuple[int, ...], str] = {}
    for split in source.splits:
        for label, rows in source.classes(split).items():
            for key in colours(source, rows):
                assert key[0] == int(label) and key not in seen
                seen[key] = split
    assert len(seen) == gtsrb.TRACKS
    for number in range(43):
        pools = [split for (of, _), split in seen.items() if of == number]
        support = sum(split.endswith("support") for split in pools)
        assert support == -(-tracks(number) // 2)  # half, rounded up
        assert len({split.rsplit("_", 1)[0] for split in pools}) == 1


def test_splits(official: Path) -> None:
    source = GTSRB(root=str(official))
    sizes = {split: len(source.classes(split)) for split in source.splits}
    assert sizes == {
        **{"train_support": 18, "train_query": 18, "validation_support": 11, "validation_query": 11},
        **{"test_support": 14, "test_query": 14},
    }
    assert [*source.classes("test_support")] == [*source.classes("test_query")]
    both = GTSRB(split_by="tracks", root=str(official))
    assert both.splits == ("all_support", "all_query")
    assert [*both.classes("all_query")] == [f"{label:05d}" for label in range(43)]
    assert both.digest() != source.digest()


def test_frames_are_scaled_whole(official: Path) -> None:
    for size in (8, 32):
        source = GTSRB(size=size, root=str(official))
        x = source.load(np.arange(source.card.counts["examples"]))
        assert source.shape == (3, size, size)
        assert (x == x[:, :, :1, :1]).all()  # each image has one colour


def test_mistakes(official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TaskError, match="split_by='examples'"):
        GTSRB(split_by="examples")
    with pytest.raises(TaskError, match=r"GTSRB_Final_Training_Images\.zip or gtsrb/gtsrb_small\.zip"):
        GTSRB(root=str(tmp_path / "nowhere"))
    monkeypatch.setattr(gtsrb, "TRACKS", 1_307)
    with pytest.raises(TaskError, match=r"images of 128 tracks, not 384 of 1307"):
        GTSRB(size=9, root=str(official))


def test_the_real_one(data: Path) -> None:
    source = GTSRB()
    assert source.card.counts["examples"] == 5160 and source.card.counts["tracks"] == 1307
    # The classes that results on held-out signs were measured on.
    assert " ".join(f"{int(label)}" for label in source.classes("test_query")) == TEST
    with zipfile.ZipFile(data / "gtsrb/gtsrb_small.zip") as archive:
        names = sorted(archive.namelist())
        for row in (0, 1000, 5159):
            with Image.open(io.BytesIO(archive.read(names[row]))) as image:
                pixels = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
            assert np.array_equal((source.load(np.array([row]))[0] * 255).round().byte().numpy(), pixels)
    track = [name.split("_")[0] for name in names]
    for split in ("train", "validation", "test"):
        pools = [
            np.concatenate([*source.classes(f"{split}_{pool}").values()]) for pool in ("support", "query")
        ]
        assert not {track[row] for row in pools[0]} & {track[row] for row in pools[1]}
    episode = Distribution(source, 10, 5, 10, "test_support", "test_query").episode(0)
    assert not {track[i] for i in episode.meta.support_indices} & {
        track[i] for i in episode.meta.query_indices
    }


TEST = "5 7 12 13 14 15 19 25 29 31 33 35 36 42"
