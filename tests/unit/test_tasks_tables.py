"""Breast cancer: pools, scale, self-made tasks; and the configs of tables, series and the gridworld."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from adapt.app.config import config_folder
from adapt.app.main import main as _  # noqa: F401 (registers the schema)
from adapt.app.stages.session import distribution
from tasks import (
    BreastCancer,
    Distribution,
    FunctionTasks,
    Gridworld,
    GroupedTasks,
    TaskError,
    Volatility,
)
from tests.csv_files import patients, walks


@pytest.fixture(scope="module")
def cancer() -> BreastCancer:
    return BreastCancer(generated=30)


@pytest.fixture(scope="module")
def raw() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_breast_cancer

    return load_breast_cancer(return_X_y=True)


def all_of(cancer: BreastCancer, split: str) -> dict[str, np.ndarray]:
    (classes,) = cancer._labelled._members[split].values()
    return dict(classes)


def test_pools_hold_every_row_once_and_are_stratified(cancer: BreastCancer, raw: tuple) -> None:
    pools = {split: all_of(cancer, split) for split in ("validation", "test")}
    rows = np.concatenate([cancer._pool, *(r for by in pools.values() for r in by.values())])
    assert np.array_equal(np.sort(rows), np.arange(569))
    counts = cancer.card.counts
    assert counts["train rows"] == len(cancer._pool) == 284
    for split, share in (("validation", 0.2), ("test", 0.3)):
        assert counts[f"{split} rows"] == pytest.approx(share * 569, abs=2)
        for name, number in (("benign", 1), ("malignant", 0)):
            members = pools[split][name]
            assert (raw[1][members] == number).all()
            assert len(members) == pytest.approx(share * (raw[1] == number).sum(), abs=1)


def test_rows_are_standardised_by_the_training_rows(cancer: BreastCancer, raw: tuple) -> None:
    known = raw[0][cancer._pool]
    episode = GroupedTasks(cancer, 5, 15, "test").episode(3)
    for x, y, rows in (
        (episode.support_x, episode.support_y, episode.meta.support_indices),
        (episode.query_x, episode.query_y, episode.meta.query_indices),
    ):
        expected = (raw[0][rows] - known.mean(0)) / known.std(0)
        assert x.numpy() == pytest.approx(expected, abs=1e-4)
        assert y.tolist() == (1 - raw[1][rows]).tolist()  # benign is label 0 here, 1 there
    assert episode.meta.classes == ("benign", "malignant")


def test_self_made_tasks_are_clusters_of_columns_that_are_then_hidden(cancer: BreastCancer) -> None:
    rows, shares = cancer._rows, []
    for number in range(30):
        columns, clusters = cancer._task(number)
        assert len({*columns.tolist()}) == len(columns)
        shares.append(len(columns) / 30)
        assert np.bincount(clusters).min() >= 0.25 * len(rows)
        part = rows[:, columns]
        means = np.stack([part[clusters == c].mean(0) for c in (0, 1)])
        nearest = ((part[:, None] - means) ** 2).sum(-1).argmin(1)
        assert np.mean(nearest == clusters) > 0.98  # k-means has converged, or nearly
        room = cancer.groups("train")[f"columns {number}"]
        drawn = cancer.sample(np.random.default_rng(0), f"columns {number}", 5, room - 5)
        others = np.setdiff1d(np.arange(30), columns)
        for x, y, chosen in (
            (drawn.support_x, drawn.support_y, drawn.support_rows),
            (drawn.query_x, drawn.query_y, drawn.query_rows),
        ):
            places = np.searchsorted(cancer._pool, chosen)
            assert np.array_equal(cancer._pool[places], chosen)
            assert np.array_equal(x[:, others], rows[places][:, others]), "the other columns are untouched"
            assert clusters[places].tolist() == y.tolist()
            same = x[:, columns] == rows[places][:, columns]
            assert same.mean() < 0.2, "what made the labels is still there"
            assert all(np.isin(x[:, j], rows[:, j]).all() for j in columns), "values of other rows"
    assert min(shares) >= 0.2 and max(shares) <= 0.5


def test_diagnoses_are_not_used_in_training(cancer: BreastCancer, raw: tuple) -> None:
    assert cancer._labelled.splits == ("validation", "test"), "diagnoses of training rows are kept"
    assert np.array_equal(cancer._pool, np.sort(cancer._pool)), "the order of the rows tells the diagnosis"
    diagnosis = raw[1][cancer._pool]
    agreement = [np.mean(cancer._task(number)[1] == diagnosis) for number in range(30)]
    assert min(agreement) > 0.02 and max(agreement) < 0.98


def test_tasks_differ_and_repeat(cancer: BreastCancer) -> None:
    tasks = GroupedTasks(cancer, 5, 15)
    first, second, again = (tasks.episode(i) for i in (0, 1, 0))
    assert torch.equal(first.support_x, again.support_x)
    assert not torch.equal(first.support_x, second.support_x)
    other = BreastCancer(generated=31)
    assert other.digest() != cancer.digest() == BreastCancer(generated=30).digest()
    with pytest.raises(TaskError, match="generated=0 is too small: use generated>=1"):
        BreastCancer(generated=0)


def test_card(cancer: BreastCancer) -> None:
    assert (cancer.card.licence, cancer.card.domain, cancer.card.commercial) == (
        "CC BY 4.0",
        "healthcare",
        True,
    )
    assert cancer.shape == (30,) and cancer.card.counts["rows"] == 569


# --------------------------------------------------------------------------------------------- configs


def built(task: str, *overrides: str) -> Any:
    """The tasks of a config."""
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return distribution(compose("config", [f"task={task}", *overrides]))


def test_configs_fit_their_sources(tmp_path: Path) -> None:
    for name, kind, ways in (("breast_cancer", BreastCancer, 2), ("gridworld", Gridworld, 4)):
        tasks = built(name)
        assert isinstance(tasks, GroupedTasks) and isinstance(tasks.source, kind)
        assert len(tasks.episode(0).meta.classes) == ways
    tasks = built("volatility")
    assert isinstance(tasks, FunctionTasks) and tasks.source.digest() == Volatility().digest()
    assert len(tasks.episode(0).query_y) == 50

    series = tmp_path / "series.csv"
    series.write_text(walks(steps=80))
    assert built("series_file", f"task.source.file={series}").regression
    table = tmp_path / "table.csv"
    table.write_text(patients())
    options = [f"task.source.file={table}", "task.source.ignore=[value]", "task.shots=1", "task.queries=1"]
    assert isinstance(built("table_file", *options), Distribution)
    grouped = ["task.source.group=hospital", "task.support_split=test", "task.query_split=null"]
    assert isinstance(built("table_file", *options, *grouped), GroupedTasks)
