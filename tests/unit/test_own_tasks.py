"""Tasks of one's own data: fixed where a test set is given, else as large as the data allow."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from PIL import Image

from adapt import AdaptError
from adapt.app.config import config_folder
from adapt.app.main import main as _  # noqa: F401 (registers the schema)
from adapt.app.stages.session import Parts, distribution
from tasks import FixedTasks, RowTasks, TaskError, TaskWarning
from tasks.elsewhere import on_split, with_seed
from tasks.own_tasks import said
from tests.unit.test_text_inputs import Reader

Write = Callable[..., str]


@pytest.fixture(scope="module", autouse=True)
def configs() -> Iterator[None]:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        yield


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A CSV file with a header and rows; its path."""

    def write(name: str, header: str, rows: Sequence[Sequence[object]]) -> str:
        with (tmp_path / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header.split(","), *rows])
        return str(tmp_path / name)

    return write


def texts(classes: int, each: int, start: int = 0) -> list[tuple[str, str]]:
    return [(f"about {c} number {start + i}", f"c{c:02}") for c in range(classes) for i in range(each)]


def numbers(n: int, seed: int = 0, *, classes: bool) -> list[list[object]]:
    x = np.random.default_rng(seed).normal(size=(n, 2))
    return [[a, b, ("yes" if a > b else "no") if classes else a - b] for a, b in x.tolist()]


def pictures(folder: Path, classes: int, each: int, start: int = 0) -> str:
    for number in range(classes * each):
        path = folder / f"c{number % classes}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (start + number, number % classes, 0)).save(path)
    return str(folder)


def built(*overrides: str) -> Any:
    """The tasks of a config; texts are read by a small network."""
    found = ["task.source.text_column=null", "task.source.label_column=null"]
    config = compose(
        "config", [*overrides[:1], *(found if overrides[0] == "task=text_file" else ()), *overrides[1:]]
    )
    reader: Any = Reader() if "task=text_file" in overrides else None
    parts = Parts(config, (reader, None), reads=True) if reader is not None else None  # type: ignore[arg-type]
    return distribution(config, parts)


def sizes(tasks: Any) -> tuple[Any, ...]:
    episode = tasks.episode(0)
    return tasks.ways, tasks.shots, tasks.queries, len(episode.support_y), len(episode.query_y)


def test_texts_with_a_test_file_are_one_task(write: Write) -> None:
    train = write("train.csv", "utterance,intent", [*texts(3, 4), ("left out", "c00"), ("uneven", "c01")])
    test = write("test.csv", "utterance,intent", [*texts(3, 7, 100), ("Left  out", "c00"), ("new", "other")])
    with pytest.warns(TaskWarning, match=r"1 text of train.csv left out.*1 test examples are of classes"):
        tasks = built("task=text_file", f"task.train_file={train}", f"task.test_file={test}", "seed=4")
    assert isinstance(tasks, FixedTasks) and tasks.count == 1
    assert sizes(tasks)[0] == 3 and sizes(tasks)[3:] == (13, 22)
    assert "all 3 classes, 13 training examples, the whole test set of 22" in said(tasks)
    one, other = tasks.episode(0), with_seed(tasks, 9).episode(0)
    assert one.support_x.equal(other.support_x) and one.query_y.equal(other.query_y) and one.meta.whole
    assert not set(one.meta.support_indices) & set(one.meta.query_indices)
    with pytest.raises(TaskError, match="none with the number 1"):
        tasks.episode(1)
    with pytest.raises(TaskError, match="no split 'validation' to draw others from"):
        on_split(tasks, "validation", 0)


def test_several_training_files_are_several_tasks(write: Write) -> None:
    files = [write(f"train_{i}.csv", "text,label", texts(3, 2, 10 * i)) for i in range(3)]
    test = write("test.csv", "text,label", texts(3, 5, 100))
    common = ("task=text_file", f"task.test_file={test}")
    tasks = built(*common, f"task.train_file=[{','.join(files)}]")
    episodes = [*tasks.episodes(0, 3)]
    assert tasks.count == 3 and len({tuple(e.meta.support_indices) for e in episodes}) == 3
    assert all(e.query_x.equal(episodes[0].query_x) for e in episodes)
    assert built(*common, f"task.file={files[0]}").count == 1  # a file is a training file, too
    odd = write("odd.csv", "text,label", texts(2, 5, 50))
    with pytest.raises(TaskError, match="training sets 1 and 2 differ in their classes, 'c02'"):
        built(*common, f"task.train_file=[{files[0]},{odd}]")
    drawn = built(*common, f"task.train_file={files[0]}", "task.shots=1")  # a size asks for drawn tasks
    assert sizes(drawn) == (3, 1, 5, 3, 15)


def test_pictures_with_a_test_folder_are_one_task(tmp_path: Path) -> None:
    train, test = pictures(tmp_path / "a", 2, 5), pictures(tmp_path / "b", 2, 8, start=8)
    with pytest.warns(TaskWarning, match="images of a that are in the test folder, too, left out: 2 "):
        tasks = built("task=image_folder", f"task.train_root={train}", f"task.test_root={test}")
    assert isinstance(tasks, FixedTasks) and sizes(tasks)[3:] == (8, 16)


@pytest.mark.parametrize("classes", [True, False], ids=["classes", "values"])
def test_tables_with_a_test_file_are_one_task(write: Write, classes: bool) -> None:
    train = write("train.csv", "a,b,target", numbers(60, classes=classes))
    turned = [[b, a, label] for a, b, label in numbers(30, 1, classes=classes)]
    test = write("test.csv", "b,a,target", turned)  # columns are found by their names
    tasks = built("task=table_file", f"task.train_file={train}", f"task.test_file={test}")
    episode = tasks.episode(0)
    assert isinstance(tasks, FixedTasks) and tasks.regression != classes and sizes(tasks)[3:] == (60, 30)
    expected = [row[:2] for row in numbers(30, 1, classes=classes)]
    fitted = np.linalg.lstsq(np.c_[expected, np.ones(30)], episode.query_x.numpy()[:, :2], rcond=None)
    found = episode.query_x.numpy()[:, :2] if not classes else None
    if found is not None:
        assert np.allclose(np.c_[expected, np.ones(30)] @ fitted[0], found, atol=1e-4)
        assert episode.support_y.mean().abs() < 1e-5  # in units of the training rows


def test_a_published_split_column_is_a_fixed_task(write: Write) -> None:
    rows = [(*row, split) for split, n in (("train", 3), ("test", 6)) for row in texts(2, n, 10 * n)]
    tasks = built("task=text_file", f"task.file={write('all.csv', 'text,label,split', rows)}")
    assert isinstance(tasks, FixedTasks) and sizes(tasks)[3:] == (6, 12)


@pytest.mark.parametrize(
    ("classes", "each", "expected"), [(3, 6, (3, 4, 2)), (30, 5, (30, 3, 2)), (2, 200, (2, 20, 20))]
)
def test_sizes_follow_from_the_data_and_no_class_is_held_back(
    write: Write, classes: int, each: int, expected: tuple[int, ...]
) -> None:
    file = write("my.csv", "text,label", texts(classes, each))
    tasks = built("task=text_file", f"task.file={file}")
    assert sizes(tasks)[:3] == expected
    assert said(tasks).startswith(
        f"all {classes} classes, {expected[1]} shots and {expected[2]} queries of each"
    )
    drawn = [tasks.episode(i).meta for i in range(30)]
    both = {*drawn[0].support_indices} & {i for meta in drawn for i in meta.query_indices}
    assert both  # every task divides the examples anew
    if classes >= 25:  # for those who learn over many tasks, classes are set aside as ever
        apart = built("task=text_file", f"task.file={file}", "task.support_split=train")
        assert {*apart.source.splits} == {"train", "validation", "support", "query"} and apart.ways == 5


def test_rows_of_values_are_divided_anew(write: Write) -> None:
    file = write("my.csv", "a,b,target", numbers(50, classes=False))
    tasks = built("task=table_file", f"task.file={file}")
    assert isinstance(tasks, RowTasks) and (tasks.shots, tasks.queries) == (15, 10)
    metas = [tasks.episode(i).meta for i in range(4)]
    assert all(not {*m.support_indices} & {*m.query_indices} for m in metas)
    assert len({tuple(sorted(m.support_indices)) for m in metas}) == 4
    assert "15 rows to learn from" in said(tasks)


MISTAKES = {
    "all limits at once": (
        ["task.ways=9", "task.shots=9", "task.queries=9"],
        r"ways<=3; and .*shots<=4; and .*queries<=2",
    ),
    "columns of other names": (
        ["task.source.text_column=text", "task.source.label_column=label"],
        "no column 'text' .*task.source.text_column=utterance task.source.label_column=intent, or",
    ),
    "no such column": (["task.source.label_column=intnt"], "no column 'intnt' .*did you mean 'intent'"),
    "no training file": (["task.file=null", "task.test_file=x.csv"], "task.train_file is not"),
    "no test file": (["task.file=null", "task.train_file=[a.csv,b.csv]"], "set task.test_file, or name one"),
    "twice": (["task.train_file=a.csv"], "task.file and task.train_file are both set"),
    "the same": (["task.file=null", "task.train_file=a.csv", "task.test_file=a.csv"], "are the same"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_told_in_a_line(write: Write, case: str) -> None:
    overrides, message = MISTAKES[case]
    file = write("my.csv", "utterance,intent", texts(3, 6))
    with pytest.raises((TaskError, AdaptError), match=message) as error:
        built("task=text_file", f"task.file={file}", *overrides)
    assert "\n" not in str(error.value)
