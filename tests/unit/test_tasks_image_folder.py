"""Folders of images: every layout, what images become, and each mistake counted or refused by name."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tasks import ImageFolder, TaskError, TaskWarning
from tasks.images import decoded
from tests.image_files import SHORT, plain, png, tree, write, write_zip


def issues_of(root: str, **settings: object) -> str:
    """The one warning that a folder gives rise to; it is on the card too."""
    with pytest.warns(TaskWarning) as caught:
        source = ImageFolder(root, size=SHORT, **settings)  # type: ignore[arg-type]
    (warning,) = caught
    message = str(warning.message)
    assert all(issue in (*source.card.known_issues,) for issue in message.split(": ", 1)[1].split("; "))
    assert warning.filename == __file__
    return message


def sizes(source: ImageFolder) -> dict[str, dict[str, int]]:
    return {
        split: {label: len(rows) for label, rows in source.classes(split).items()} for split in source.splits
    }


# ------------------------------------------------------------------------------------------ splits


def test_few_classes_are_split_by_examples(tmp_path: Path) -> None:
    source = ImageFolder(write(tmp_path / "pets", tree({"cat": 10, "dog": 5})), size=SHORT)
    assert sizes(source) == {"support": {"cat": 6, "dog": 3}, "query": {"cat": 4, "dog": 2}}
    assert source.name == source.card.name == "pets" and source.shape == (3, SHORT, SHORT)


def test_many_classes_are_split_by_classes(tmp_path: Path) -> None:
    root = write(tmp_path, tree({f"c{i:02d}": 5 for i in range(25)}))
    source = ImageFolder(root, size=SHORT)
    found = sizes(source)
    assert {split: len(classes) for split, classes in found.items()} == {
        **{"train": 15, "validation": 5, "support": 5, "query": 5}
    }
    assert found["support"].keys() == found["query"].keys()
    parts = [*found["train"], *found["validation"], *found["query"]]
    assert sorted(parts) == [f"c{i:02d}" for i in range(25)]
    assert set(found["support"].values()) == {3} and set(found["train"].values()) == {5}
    assert (
        ImageFolder(root, size=SHORT, seed=1).digest() != source.digest() == ImageFolder(root, SHORT).digest()
    )
    by_examples = ImageFolder(root, size=SHORT, split_by="examples")
    assert by_examples.splits == ("support", "query") and len(by_examples.classes("query")) == 25


def test_given_splits_of_classes(tmp_path: Path) -> None:
    files = tree({"train/a": 2, "train/b": 2, "Val/c": 2, "Val/d": 2, "test/e": 5, "test/f": 5})
    source = ImageFolder(write(tmp_path, files), size=SHORT)
    assert sizes(source) == {
        "train": {"a": 2, "b": 2},
        "validation": {"c": 2, "d": 2},
        "support": {"e": 3, "f": 3},
        "query": {"e": 2, "f": 2},
    }


def test_given_splits_of_examples(tmp_path: Path) -> None:
    files = tree({"train/a": 4, "train/b": 3, "valid/a": 2, "valid/b": 2, "test/a": 1, "test/b": 2})
    root = write(tmp_path, files)
    source = ImageFolder(root, size=SHORT)
    expected = {"support": {"a": 4, "b": 3}, "query": {"a": 1, "b": 2}, "validation": {"a": 2, "b": 2}}
    assert sizes(source) == expected
    with pytest.raises(TaskError, match=r"class 'a' is in train and validation and test: move its folder"):
        ImageFolder(root, split_by="classes")


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (
            {"train/a": 2, "train/b": 2, "test/a": 2, "test/c": 2},
            r"class 'a' is in train and test, but 'c' is in test only: move its folder",
        ),
        (
            {"train/a": 2, "train/b": 2, "val/c": 2, "val/d": 2},
            "no class is of split test: add a folder test",
        ),
        ({"train/a": 2, "train/b": 2, "test/c": 2}, "split test: there is one class, 'c'"),
        ({"train/a": 2, "test/a": 2}, "1 class is in both train and test"),
        ({"train/a": 2, "test/a": 2, "misc/b": 2}, "test and train look like splits, but misc"),
        (
            {"test/a": 2, "val/a": 2, "test/b": 2, "val/b": 2},
            "class 'a' is in validation and test: move its folder .*class folders directly",
        ),
        ({"train/a": 2, "train/b": 2}, "only split is train: add a folder test .*class folders directly"),
    ],
)
def test_given_splits_that_contradict_each_other(
    tmp_path: Path, classes: dict[str, int], message: str
) -> None:
    with pytest.raises(TaskError, match=message):
        ImageFolder(write(tmp_path, tree(classes)), size=SHORT)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    files = tree({"train": 5, "plane": 5})
    assert [*ImageFolder(write(tmp_path, files), size=SHORT).classes("query")] == ["plane", "train"]


# ------------------------------------------------------------------------------------------ where files are


@pytest.mark.parametrize("wrapper", ["", "pets/"])
def test_a_zip_is_read_like_a_folder(tmp_path: Path, wrapper: str) -> None:
    files = {**tree({"cat": 3, "dog": 4}), "cat/more/deep/x.PNG": plain(99)}
    a = ImageFolder(write(tmp_path / "folder", files), size=SHORT)
    hidden = {"__MACOSX/cat/._0.png": b"", ".DS_Store": b""}
    b = ImageFolder(write_zip(tmp_path / "x.zip", files | ({} if wrapper else hidden), wrapper), size=SHORT)
    assert a.digest() == b.digest()
    assert sizes(a) == {"support": {"cat": 2, "dog": 2}, "query": {"cat": 2, "dog": 2}}


def test_a_root_may_be_relative_or_in_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "pets", tree({"cat": 3, "dog": 3}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ImageFolder("pets", SHORT).digest() == ImageFolder("~/pets", SHORT).digest()


def test_links_are_followed_but_not_in_a_ring(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(tmp_path / "elsewhere", {"0.png": plain(1), "1.png": plain(2)})
    write(root, tree({"dog": 3}, start=10))
    (root / "cat").symlink_to(tmp_path / "elsewhere")
    (root / "dog/up").symlink_to(root)
    assert sizes(ImageFolder(str(root), SHORT))["support"] == {"cat": 1, "dog": 2}
    (root / "dog/gone.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(TaskError, match=r"dog/gone\.png cannot be read \(No such file"):
        ImageFolder(str(root), SHORT)


def test_a_root_that_makes_no_sense(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for unset in (None, "", "???"):
        with pytest.raises(TaskError, match=r"set task\.root"):
            ImageFolder(unset)
    with pytest.raises(TaskError, match=rf"{tmp_path}/petz does not exist: give the folder"):
        ImageFolder("petz")
    Path("note.txt").write_text("hello")
    with pytest.raises(TaskError, match=r"note\.txt cannot be read as a zip file"):
        ImageFolder("note.txt")
    with pytest.raises(TaskError, match="leads out of the archive"):
        ImageFolder(write_zip(tmp_path / "x.zip", {"a/../../b.png": b""}))
    with pytest.raises(TaskError, match="has no images in class folders: make one folder"):
        ImageFolder(write(tmp_path / "empty", {}, ["cat", "dog"]))
    with pytest.raises(TaskError, match=r"such as 0\.png which is in no class folder"):
        ImageFolder(write(tmp_path / "flat", {"0.png": plain(0)}))
    with pytest.raises(
        TaskError, match=r"there is one class, 'pets', .* name the folder of the class folders"
    ):
        ImageFolder(write(tmp_path / "above", tree({"pets/cat": 3, "pets/dog": 3})), SHORT)
    with pytest.raises(TaskError, match="every class has a single image"):
        ImageFolder(write(tmp_path / "single", tree({"cat": 1, "dog": 1})), SHORT)
    with pytest.raises(
        TaskError, match=r"no file can be read as an image, a/0\.png: its content is no image"
    ):
        ImageFolder(write(tmp_path / "bad", {"a/0.png": b"x", "b/0.png": b"y"}), SHORT)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"channels": 2}, "channels=2 is unknown"),
        ({"size": 4}, "size=4"),
        ({"split_by": "class"}, "split_by=class is unknown"),
        ({"seed": -1}, "seed=-1 is too small"),
    ],
)
def test_settings_that_make_no_sense(setting: dict[str, object], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        ImageFolder("x", **setting)  # type: ignore[arg-type]


def denied(where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a user who may not read `where`; the superuser, who runs tests in containers, may."""

    def guard(real: Callable[..., object]) -> Callable[..., object]:
        def guarded(path: os.PathLike[str], *args: object, **options: object) -> object:
            if Path(path) == where:
                raise PermissionError(13, "Permission denied", str(path))
            return real(path, *args, **options)

        return guarded

    monkeypatch.setattr(os, "scandir", guard(os.scandir))
    monkeypatch.setattr(os, "open", guard(os.open))


@pytest.mark.parametrize("place", ["cat", "cat/0.png"])
def test_permission_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    root = write(tmp_path, tree({"cat": 3, "dog": 3}))
    denied(tmp_path / place, monkeypatch)
    with pytest.raises(TaskError, match=rf"{place} cannot be read \(Permission denied\).*permissions"):
        ImageFolder(root, SHORT)


# ------------------------------------------------------------------------------------------ counted issues

PETS = tree({"cat": 4, "dog": 4})


@pytest.mark.parametrize(
    ("more", "issue"),
    [
        ({"fox/only.png": plain(500)}, "classes with a single image, left out: 1 (first: fox)"),
        (
            {"cat/z.png": b"", "dog/z.png": b"x"},
            "files that cannot be read, left out: 2 (first: cat/z.png: its content is no image)",
        ),
        ({"cat/z.png": plain(500)[:-30]}, "files that cannot be read, left out: 1 (first: cat/z.png: "),
        ({"cat/note.txt": b"hello"}, "files that are no images, ignored: 1 (first: cat/note.txt)"),
        ({"z.png": plain(500)}, "images outside of class folders, ignored: 1 (first: z.png)"),
        (
            tree({"Cat": 2}, 500),
            "class names that differ only by case, kept apart: 1 (first: 'Cat' and 'cat')",
        ),
        (
            {"cat/z.png": PETS["cat/1.png"]},
            "files that repeat another of their class, left out: 1 (first: cat/z.png repeats cat/1.png)",
        ),
        (
            {"dog/z.png": PETS["cat/1.png"]},
            "files with the content of a file of another class, kept: 1 (first: cat/1.png and dog/z.png)",
        ),
        (
            {"cat/z.png": png(Image.new("L", (20, 10))), "cat/y.png": png(Image.new("L", (3, 2)))},
            "different sizes of images, all scaled to 8x8: 3 (from 3x2 to 20x10)",
        ),
    ],
)
def test_what_is_doubtful_is_counted(tmp_path: Path, more: dict[str, bytes], issue: str) -> None:
    assert issue in issues_of(write(tmp_path, PETS | more))


def test_empty_classes_are_counted(tmp_path: Path) -> None:
    message = issues_of(write(tmp_path / "a", PETS, ["fox", "owl"]))
    assert "class folders without images, left out: 2 (first: fox)" in message
    files = tree({f"{split}/{label}": 2 for split in ("train", "test") for label in ("cat", "dog")})
    given = issues_of(write(tmp_path / "b", files, ["test/fox"]))
    assert "class folders without images, left out: 1 (first: fox)" in given


def test_a_train_folder_that_repeats_test_is_refused(tmp_path: Path) -> None:
    files = {f"{split}/{name}": content for split in ("train", "test") for name, content in PETS.items()}
    with pytest.raises(TaskError, match="all images of train are in test, too"):
        ImageFolder(write(tmp_path, files), SHORT)


def test_a_repeat_in_test_is_left_out_of_train(tmp_path: Path) -> None:
    files = tree({"train/a": 3, "train/b": 3, "test/a": 2, "test/b": 2})
    files["train/a/z.png"] = files["test/a/1.png"]
    with pytest.warns(TaskWarning, match=r"train/a/z\.png repeats test/a/1\.png"):
        source = ImageFolder(write(tmp_path, files), SHORT)
    assert sizes(source) == {"support": {"a": 3, "b": 3}, "query": {"a": 2, "b": 2}}


def test_a_clean_folder_warns_of_nothing_and_is_left_as_it_is(tmp_path: Path) -> None:
    root = write(tmp_path, PETS)

    def state() -> dict[str, tuple[str, int]]:
        files = (path for path in tmp_path.rglob("*") if path.is_file())
        return {str(p): (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns) for p in files}

    before = state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ImageFolder(root, SHORT)
    assert state() == before


# ------------------------------------------------------------------------------------------ cache


def test_decoded_images_are_kept_until_a_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(decoded, "WORTH_KEEPING", 1)
    number, real = 0, decoded.decoded

    def count(content: bytes, size: int, channels: int) -> object:
        nonlocal number
        number += 1
        return real(content, size, channels)

    monkeypatch.setattr(decoded, "decoded", count)
    root = write(tmp_path / "pets", PETS | {"cat/bad.png": b""})
    with pytest.warns(TaskWarning):
        first = ImageFolder(root, SHORT)
    with pytest.warns(TaskWarning, match=r"cat/bad\.png"):  # said again, though nothing is decoded
        again = ImageFolder(root, SHORT)
    assert number == 9 and again.digest() == first.digest()
    (tmp_path / "pets/cat/bad.png").write_bytes(plain(999))
    assert ImageFolder(root, SHORT).card.counts["examples"] == 9 and number == 18
