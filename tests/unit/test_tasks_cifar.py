"""CIFAR-100, CIFAR-FS and FC100: class splits, records, in an order that is not the archive's."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from tasks import FC100, Cifar100, CifarFS, TaskError
from tasks.images import cifar


@pytest.fixture
def kept(data: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Unpacking takes ten seconds: what was decoded stays in pytest's cache."""
    assert request.config.cache is not None
    monkeypatch.setenv("ADAPT_CACHE", str(request.config.cache.mkdir("decoded")))
    return data


@pytest.mark.parametrize(
    ("splits", "sizes"), [(cifar.CIFAR_FS, (64, 16, 20)), (cifar.FC_100, (60, 20, 20))], ids=["fs", "fc"]
)
def test_splits_divide_the_hundred_classes(splits: dict[str, list[str]], sizes: tuple[int, ...]) -> None:
    assert tuple(map(len, splits.values())) == sizes and [*splits] == ["train", "validation", "test"]
    everything = [name for names in splits.values() for name in names]
    assert len(set(everything)) == len(everything) == 100
    assert set(everything) == {name for names in cifar.CIFAR_FS.values() for name in names}


def test_splits_are_the_published_ones(data: Path) -> None:
    published = json.loads((data / "cifar100/splits.json").read_text())
    for name, ours in (("cifar_fs", cifar.CIFAR_FS), ("fc100", cifar.FC_100)):
        for theirs, split in (("train", "train"), ("val", "validation"), ("test", "test")):
            assert sorted(published[name][theirs]) == sorted(ours[split])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """uint8 [1200, 3074]: coarse label, fine label, pixels; twelve records of each class."""
    monkeypatch.setattr(cifar, "EACH", 12)
    made = np.random.default_rng(0).integers(0, 256, (1200, cifar.RECORD), np.uint8)
    made[:, 1] = np.repeat(np.arange(100), 12)
    return made


def write(folder: Path, made: np.ndarray) -> list[Path]:
    folder.mkdir(parents=True)
    names = "\n".join(sorted(name for names in cifar.CIFAR_FS.values() for name in names))
    contents = (made[:1000].tobytes(), made[1000:].tobytes(), names.encode() + b"\n")
    paths = [folder / name for name in cifar.FILES]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


def test_the_order_of_records_does_not_matter(
    small: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPT_CACHE", str(tmp_path / "cache"))
    shuffled = small[np.random.default_rng(1).permutation(len(small))]
    sources = []
    for name, made in (("a", small), ("b", shuffled)):
        write(tmp_path / name / "cifar100/cifar-100-binary", made)  # as the official archive unpacks
        sources.append(FC100(root=str(tmp_path / name)))
    assert sources[0].digest() == sources[1].digest()
    names = sorted(name for names in cifar.CIFAR_FS.values() for name in names)
    for split in sources[0].splits:
        for label, rows in sources[0].classes(split).items():
            own = small[small[:, 1] == names.index(label)][:, 2:]
            expected = sorted(record.tobytes() for record in own)
            found = (sources[0].load(rows) * 255).round().byte().numpy()  # [12, 3, 32, 32]
            assert [image.tobytes() for image in found] == expected


def test_an_archive_and_what_it_unpacks_to_are_the_same(small: np.ndarray, tmp_path: Path) -> None:
    paths = write(tmp_path / "cifar-100-binary", small)
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "cifar-100-binary", "cifar-100-binary")
    a, b = cifar._ordered(paths), cifar._ordered([tmp_path / "x.tar.gz"])
    assert np.array_equal(a["images"], b["images"]) and np.array_equal(a["names"], b["names"])


def test_records_that_are_not_cifar_are_refused(small: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="1200 records"):
        cifar._ordered(write(tmp_path / "short", small[:-1]))
    small[0, 1] = 1
    with pytest.raises(TaskError, match="12 images of each class"):
        cifar._ordered(write(tmp_path / "uneven", small))


def test_what_is_missing_names_both_archives(tmp_path: Path) -> None:
    with pytest.raises(
        TaskError, match=r"holds cifar100/cifar-100-binary\.tar\.gz or .*\.tar\.xz, or set .*=true"
    ):
        FC100(root=str(tmp_path))


@pytest.mark.slow
def test_the_real_ones(kept: Path) -> None:
    fs, fc = CifarFS(), FC100()
    assert fs.shape == fc.shape == (3, 32, 32) and fs.digest() != fc.digest()
    # The published means of the channels, which are of the training images alone.
    means = fs.load(np.arange(0, 60_000, 7)).mean((0, 2, 3))
    assert means.tolist() == pytest.approx([0.50708, 0.48655, 0.44092], abs=3e-3)

    def red_less_blue(source: CifarFS | FC100, split: str, label: str) -> float:
        rows = source.classes(split)[label]
        assert len(rows) == 600
        mean = source.load(rows).mean((0, 2, 3))
        return float(mean[0] - mean[2])

    for source in (fs, fc):  # the labels fit what is seen
        assert red_less_blue(source, "train", "orange") > 0.3
    assert red_less_blue(fs, "validation", "sea") < -0.05 and red_less_blue(fc, "train", "sea") < -0.05
    coarse, fine = Cifar100(), Cifar100("fine")
    for split, each in (("train", 450), ("validation", 50), ("test", 100)):
        assert {len(rows) for rows in fine.classes(split).values()} == {each}
        assert {len(rows) for rows in coarse.classes(split).values()} == {5 * each}
        trees = {*coarse.classes(split)["trees"].tolist()}
        parts = ["maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"]
        assert trees == {row for part in parts for row in fine.classes(split)[part].tolist()}


def test_the_same_classes_in_all_splits(
    small: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each record is where its file and its labels say, whatever the order of the records is."""
    monkeypatch.setenv("ADAPT_CACHE", str(tmp_path / "cache"))
    small[:, 0] = small[:, 1] // 5
    small[:] = small[np.random.default_rng(2).permutation(1200)]
    write(tmp_path / "cifar100/cifar-100-binary", small)
    names = sorted(name for names in cifar.CIFAR_FS.values() for name in names)
    for labels, column, expected in (("coarse", 0, cifar.COARSE), ("fine", 1, names)):
        source = Cifar100(labels, root=str(tmp_path))
        assert source.splits == ("train", "validation", "test")
        assert all([*source.classes(split)] == expected for split in source.splits)
        official = {"test": small[1000:], "train": small[:1000], "validation": small[:1000]}
        seen = []
        for split in source.splits:
            for label, rows in source.classes(split).items():
                own = official[split][official[split][:, column] == expected.index(label)]
                found = {image.tobytes() for image in (source.load(rows) * 255).round().byte().numpy()}
                assert found <= {record[2:].tobytes() for record in own}
                assert split != "test" or len(found) == len(own)
                seen += rows.tolist()
        assert sorted(seen) == [*range(1200)]
    with pytest.raises(TaskError, match="labels='rough' is unknown: use 'coarse' or 'fine'"):
        Cifar100("rough", root=str(tmp_path))
