"""Reviews, X-rays and loans: what the files hold, told apart as published, and what is no such file."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tasks import AmazonReviews, Distribution, GermanCredit, GroupedTasks, Pneumonia, TaskError
from tests.conformance.task_tables import letters
from tests.helpers import DATA


@pytest.fixture(scope="module")
def reviews() -> AmazonReviews:
    if not (DATA / "sentiment").is_dir():
        pytest.skip(f"no public data sets in {DATA}: set ADAPT_DATA")
    return AmazonReviews(root=DATA)


def test_the_twelve_tasks_of_the_literature(reviews: AmazonReviews) -> None:
    found = reviews.encoded(letters)
    assert len(reviews.groups("test")) == 12
    # Lines of the files books.t2.test, dvd.t5.test, as `cut -f2 | sort | uniq -c` counts them.
    for name, counts in {"books.t2": (50, 779), "kitchen_housewares.t5": (261, 403)}.items():
        drawn = found.official(name)
        assert drawn.support_y.tolist() == [0] * 5 + [1] * 5
        assert (Counter(drawn.query_y.tolist())[0], Counter(drawn.query_y.tolist())[1]) == counts
        assert not {*drawn.support_rows.tolist()} & {*drawn.query_rows.tolist()}
    with pytest.raises(TaskError, match=r"apparel\.t2 is no test task"):
        found.official("apparel.t2")


def test_supports_of_test_tasks_are_the_published_ones(reviews: AmazonReviews) -> None:
    ours, others = (source.encoded(letters) for source in (reviews, AmazonReviews(DATA, official=False)))
    tasks = [GroupedTasks(source, 5, 10, "test") for source in (ours, others)]
    for index in range(3):
        published, drawn = (task.episode(index) for task in tasks)
        assert published.meta.group == drawn.meta.group
        given = ours.official(str(published.meta.group))
        assert published.meta.support_indices.tolist() == given.support_rows.tolist()
        assert drawn.meta.support_indices.tolist() != given.support_rows.tolist()
    more = ours.sample(np.random.default_rng(0), "books.t2", 8, 3)
    assert more.support_rows[:5].tolist() == ours.official("books.t2").support_rows[:5].tolist()


def test_texts_are_no_numbers_before_a_tokeniser_has_read_them(reviews: AmazonReviews) -> None:
    with pytest.raises(TaskError, match="backbone=minilm"):
        GroupedTasks(reviews, 5, 10, "test").episode(0)


def test_reviews_that_are_none(tmp_path: Path, reviews: AmazonReviews) -> None:
    folder = tmp_path / "sentiment" / "Amazon_few_shot"
    folder.mkdir(parents=True)
    (folder / "books.t2.test").write_text("a fine book\t1\nno label\n", encoding="utf-8")
    with pytest.raises(TaskError, match=r"books\.t2\.test: a line is no review"):
        AmazonReviews(tmp_path)
    (folder / "books.t2.test").write_text("a fine book\t1\n", encoding="utf-8")
    with pytest.raises(TaskError, match=r"holds no apparel\.t2\.test"):
        AmazonReviews(tmp_path)
    with pytest.raises(TaskError, match=r"amazon_few_shot\.tar\.xz does not exist"):
        AmazonReviews(tmp_path / "elsewhere")


def test_x_rays(data: Path) -> None:
    source = Pneumonia()
    raw = np.load(data / "medical" / "pneumoniamnist.npz", allow_pickle=False)
    rows = source.classes("test")["pneumonia"][:3]
    expected = raw["test_images"][raw["test_labels"][:, 0] == 1][:3]
    assert np.allclose(source.load(rows).numpy()[:, 0], expected / 255)
    assert {split: {k: len(v) for k, v in source.classes(split).items()} for split in source.splits} == {
        "train": {"normal": 388, "pneumonia": 3494},
        "validation": {"normal": 135, "pneumonia": 389},
        "test": {"normal": 234, "pneumonia": 390},
    }
    episode = Distribution(source, 2, 5, 50, "train", "test").episode(0)
    assert episode.query_x.shape == (100, 1, 28, 28)


def test_an_official_file_is_known_by_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "medmnist").mkdir()
    made = {}
    for split, n in {"train": 4, "val": 2, "test": 2}.items():
        made[f"{split}_images"] = np.zeros((n, 28, 28), np.uint8)
        made[f"{split}_labels"] = np.arange(n)[:, None] % 2
    np.savez(tmp_path / "medmnist" / "pneumoniamnist.npz", **made)
    with pytest.raises(TaskError, match=r"holds \(4, 2, 2\) images where"):
        Pneumonia(root=str(tmp_path))
    (tmp_path / "medmnist" / "pneumoniamnist.npz").write_bytes(b"no archive")
    with pytest.raises(TaskError, match="cannot be read"):
        Pneumonia(root=str(tmp_path))


def test_loans(data: Path) -> None:
    source = GermanCredit()
    with (data / "credit" / "german_credit.csv").open(encoding="utf-8") as file:
        lines = [*csv.DictReader(file)]
    bad = sum(line["purpose"] == "car (new)" and line["target"] == "bad" for line in lines)
    assert source.groups("test")["new car"] == bad == 89
    women = sum(line["status_and_sex"].startswith("female") for line in lines)
    assert Counter(source.protected("sex").tolist()) == {"female": women, "male": 1000 - women}
    assert source.protected("age", [0, 1]).tolist() == ["older", "young"]
    with pytest.raises(TaskError, match="sex, age, foreign"):
        source.protected("hair")


def test_what_must_not_decide_is_no_input_unless_asked_for(data: Path) -> None:
    without, with_them = GermanCredit(), GermanCredit(protected=True)
    hidden = {name for name in with_them.columns if name not in without.columns}
    assert {name.split(" ")[0].split("=")[0] for name in hidden} == {
        "status_and_sex",
        "age",
        "is_foreign_worker",
    }
    drawn = without.sample(np.random.default_rng(0), "new car", 5, 5)
    assert drawn.support_x.shape == (10, len(without.columns))
    with pytest.raises(TaskError, match="neither true nor false"):
        GermanCredit(protected="yes")  # type: ignore[arg-type]


def test_another_file_of_loans(data: Path, tmp_path: Path) -> None:
    (tmp_path / "credit").mkdir()
    shutil.copy(data / "credit" / "german_credit.csv", tmp_path / "credit")
    with (tmp_path / "credit" / "german_credit.csv").open("a", encoding="utf-8") as file:
        file.write("\n")
    with pytest.raises(TaskError, match="sha256"):
        GermanCredit(root=str(tmp_path))
