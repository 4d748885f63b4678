"""Data of one's own with the likeliest mistakes: one clear line each, and files that stay as they were."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from PIL import Image

from adapt.app.config import config_folder
from adapt.app.stages.session import distribution
from adapt.compare import Comparison
from adapt.files import read_json
from tasks import Distribution
from tests.command_line import call, output_folder
from tests.image_files import plain, png, tree, write, write_zip

pytestmark = pytest.mark.filterwarnings("default::tasks.TaskWarning")  # as at a command line

IMAGES = (
    "experiment=own_images",
    "task.root=../data/pets",
    "backbone.name=timm:mobilenetv2_035",
    "backbone.weights=random",
    "backbone.size=32",
)
TEXTS = ("experiment=own_text", "task.file=../data/my.csv")
SMALL = (
    "method=head", "tracking=none", "energy=none", "figures=false", "memory=false",
    "task.shots=2", "task.queries=2", "task.tasks=1",
)  # fmt: skip
PETS = tree({"cat": 6, "dog": 6, "owl": 6})
ROWS = [f"{word} about {name},{name}" for name in ("music", "travel") for word in "abcdef"]


@dataclass(frozen=True)
class Case:
    """What lies in a folder, what is typed besides, and what the one line must say."""

    prepare: Callable[[Path], object]
    says: str
    typed: tuple[str, ...] = IMAGES
    more: tuple[str, ...] = field(default=())


def pets(more: dict[str, bytes], *empty: str) -> Callable[[Path], object]:
    return lambda folder: write(folder / "pets", PETS | more, empty)


def texts(*rows: str, header: str = "text,label", encoding: str = "utf-8") -> Callable[[Path], object]:
    return lambda folder: (folder / "my.csv").write_bytes("\n".join([header, *rows]).encode(encoding))


def splits(**classes: str) -> dict[str, bytes]:
    return tree({f"{split}/{name}": 3 for split, names in classes.items() for name in names})


SPLIT_ROWS = [
    f"{split} {i} {c},{c},{split}"
    for split, cs in (("train", "ab"), ("test", "bc"))
    for c in cs
    for i in "12"
]

ERRORS = {
    "one image per class": Case(
        lambda folder: write(folder / "pets", tree({"cat": 1, "dog": 1})),
        r"pets: every class has a single image, and tasks need two or more of each: add images",
    ),
    "a class of two images": Case(
        pets(tree({"fox": 2}, 900)),
        r"task\.shots=2 but class 'fox' of pets has 1 in split 'support': use task\.shots<=1",
    ),
    "more ways than classes": Case(
        pets({}),
        r"task\.ways=4 but pets has 3 classes in split 'support': use task\.ways<=3",
        more=("task.ways=4",),
    ),
    "nothing but corrupt files": Case(
        lambda folder: write(folder / "pets", dict.fromkeys(PETS, b"no image")),
        r"no file can be read as an image, cat/0\.png: .*check the files",
    ),
    "wrong column": Case(
        texts(*ROWS, header="utterance,label"),
        r"my\.csv, line 1: there is no column 'text' among 'utterance', 'label'.*task\.source\.text_column=",
        TEXTS,
    ),
    "misspelt column": Case(
        texts(*ROWS, header="txt,label"), r"line 1: .*did you mean 'txt'\?.*text_column=", TEXTS
    ),
    "not UTF-8": Case(
        texts(*ROWS, "déjà vu,music", encoding="latin-1"),
        r"my\.csv, line 14: byte 0xe9 at position \d+ .*save the file as UTF-8, or .*encoding=latin-1",
        TEXTS,
    ),
    "missing folder": Case(
        lambda folder: None, r"/data/pets does not exist: give the folder, or the zip file, that holds one"
    ),
    "missing file": Case(
        lambda folder: (folder / "mine.csv").touch(),
        r"my\.csv does not exist: did you mean mine\.csv\?",
        TEXTS,
    ),
    "no folder given": Case(lambda folder: None, r"set task\.root", more=("task.root=null",)),
    "no file given": Case(
        lambda folder: None, r"task\.file is not set: give the path", TEXTS, ("task.file=null",)
    ),
    "a class in two splits, images": Case(
        lambda folder: write(folder / "pets", splits(train="ab", test="bc")),
        r"class 'b' is in train and test, but 'c' is in test only: move its folder into one split",
    ),
    "a class in two splits, texts": Case(
        texts(*SPLIT_ROWS, header="text,label,split"),
        r"class 'b' is in train and test, but 'c' is in test only: move its rows into one split",
        TEXTS,
    ),
    "path traversal": Case(
        lambda folder: write_zip(folder / "pets.zip", PETS | {"../../evil/0.png": plain(1)}),
        r"\.\./\.\./evil/0\.png.* leads out of the archive",
        more=("task.root=../data/pets.zip",),
    ),
    "settings of a method that is not there": Case(
        pets({}), r"method\.retrain", more=("method.retrain.max_tasks=3",)
    ),
}

WARNINGS = {
    "empty class": Case(pets({}, "fox"), r"class folders without images, left out: 1 \(first: fox\)"),
    "corrupt file": Case(
        pets({"cat/x.png": b"no image", "dog/x.png": plain(900)[:-30]}),
        r"files that cannot be read, left out: 2 \(first: cat/x\.png: its content is no image\)",
    ),
    "mixed sizes": Case(
        pets({"cat/x.png": png(Image.new("RGB", (20, 10)))}),
        r"different sizes of images, all scaled to 32x32: 2 \(from 8x8 to 20x10\)",
    ),
    "labels that differ by case": Case(
        texts(*ROWS, *(f"{word} on the road,Travel" for word in "abcdef")),
        r"1 label is spelt in several ways,.*: kept apart \(task\.source\.merge_case",
        TEXTS,
    ),
    "NaN": Case(
        texts(*ROWS, "nan,music", ",travel", "what is this,NaN"),
        r"3 rows were left out for having no text or no label \(the first in line 14\)",
        TEXTS,
    ),
}


def state(folder: Path) -> dict[str, tuple[str, int]]:
    """Everything below `folder`, with sums and times of files."""
    return {
        str(path): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
            path.stat().st_mtime_ns,
        )
        for path in folder.rglob("*")
    }


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[Case], tuple[int, str]]:
    """The exit code and what is said on stderr; data are in one folder, and the program runs in another."""
    data, work = tmp_path / "data", tmp_path / "work"
    data.mkdir()
    work.mkdir()

    def run(case: Case) -> tuple[int, str]:
        case.prepare(data)
        before = state(data)
        code = call([*case.typed, *SMALL, *case.more], work)
        assert state(data) == before, "the user's files were changed"
        assert {path.name for path in tmp_path.iterdir()} == {"data", "work"}
        said = capsys.readouterr()
        assert ("accuracy" in said.out) == (code == 0)
        return code, said.err

    return run


@pytest.mark.parametrize("case", ERRORS.values(), ids=ERRORS.keys())
def test_a_mistake_is_one_line(case: Case, run: Callable[[Case], tuple[int, str]]) -> None:
    code, error = run(case)
    assert_one_line(code, error, case.says)


@pytest.mark.parametrize(
    ("denied", "prepare", "typed"),
    [("pets/cat", pets({}), IMAGES), ("pets/cat/0.png", pets({}), IMAGES), ("my.csv", texts(*ROWS), TEXTS)],
    ids=["folder", "image", "file"],
)
def test_permission_denied(
    denied: str,
    prepare: Callable[[Path], object],
    typed: tuple[str, ...],
    run: Callable[[Case], tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As for a user who may not read; the superuser, who runs tests in containers, may."""

    def guard(real: Callable[..., object]) -> Callable[..., object]:
        def guarded(path: os.PathLike[str] | str = ".", *args: object) -> object:
            if str(path).endswith(f"../data/{denied}"):  # as it was typed: the test itself may look
                raise PermissionError(13, "Permission denied", str(path))
            return real(path, *args)

        return guarded

    monkeypatch.setattr(os, "scandir", guard(os.scandir))
    monkeypatch.setattr(os, "open", guard(os.open))
    code, error = run(Case(prepare, "", typed))
    assert_one_line(code, error, rf"{denied} (cannot|may not) be read.*permission")


@pytest.mark.slow
@pytest.mark.parametrize("case", WARNINGS.values(), ids=WARNINGS.keys())
def test_what_does_not_stop_is_counted(
    case: Case, run: Callable[[Case], tuple[int, str]], tmp_path: Path
) -> None:
    code, error = run(case)
    assert code == 0, error
    assert re.search(rf"\Awarning: [^\n]*{case.says}[^\n]*\n\Z", error), error
    result = Comparison.from_dict(read_json(output_folder(tmp_path / "work") / "comparison.json"))
    assert {*result.methods} == {"prototype", "ridge", "logistic"}


@pytest.mark.parametrize(("classes", "ways"), [(2, 2), (4, 4), (7, 7), (25, 25)])
def test_ways_need_not_be_set(classes: int, ways: int, tmp_path: Path) -> None:
    root = write(tmp_path / "pets", tree({f"c{i}": 10 for i in range(classes)}))
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("config", ["experiment=own_images", f"task.root={root}", "backbone.size=8"])
    tasks = distribution(config)
    assert isinstance(tasks, Distribution) and tasks.ways == ways
    assert len(tasks.episode(0).meta.classes) == ways


def assert_one_line(code: int, error: str, says: str) -> None:
    assert code == 2, error
    assert re.search(rf"\Aerror: [^\n]*{says}[^\n]*\n\Z", error), error
