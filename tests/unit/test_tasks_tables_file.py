"""Tables of users: how columns become numbers, how rows become tasks, and every mistake by line and fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import (
    ArraySource,
    Distribution,
    GroupArrays,
    GroupedTasks,
    TaskError,
    TaskWarning,
    table_file,
)
from tests.csv_files import from_csv, patients

PETS = [f"{kilos},{'short' if kilos % 3 else 'long'},{'cat' if kilos < 10 else 'dog'}" for kilos in range(20)]


def read(lines: list[str], header: str = "kilos,hair,label", **options: Any) -> Any:
    return from_csv(lambda path: table_file(path, **options), "\n".join([header, *lines]))


def everything(source: ArraySource) -> tuple[np.ndarray, list[int]]:
    """All inputs, and the rows of the support."""
    rows = [int(i) for pool in source.classes("support").values() for i in pool]
    return source.load(np.arange(len(source._examples))).numpy(), sorted(rows)


def test_numbers_are_standardised_by_the_training_rows_alone() -> None:
    source = read(PETS)
    x, support = everything(source)
    assert len(support) == 12 and source.splits == ("support", "query")
    kilos = np.arange(20.0)
    assert np.allclose(x[:, 0], (kilos - kilos[support].mean()) / kilos[support].std(), atol=1e-6)
    changed = [*PETS]
    query = next(row for row in range(20) if row not in support)
    changed[query] = changed[query].replace(f"{query},", "9999,", 1)
    assert np.array_equal(np.delete(everything(read(changed))[0], query, 0), np.delete(x, query, 0))


def test_categories_have_a_column_each_and_one_for_the_unseen() -> None:
    x, support = everything(read(PETS))
    long = np.arange(20) % 3 == 0
    assert x[:, 1:].tolist() == [[float(is_long), float(not is_long), 0.0] for is_long in long]
    query = next(row for row in range(20) if row not in support)
    odd = [*PETS]
    odd[query] = odd[query].replace("short", "curly").replace("long", "curly")
    assert everything(read(odd))[0][query, 1:].tolist() == [0, 0, 1]


def test_numbers_may_be_names() -> None:
    lines = [f"{10 * (row % 2)},x,{'ab'[row % 2]}" for row in range(10)]
    with pytest.warns(TaskWarning, match="1 columns are constant in training and left out: hair"):
        source = read(lines, categorical=["kilos"])
    assert source.shape == (3,)
    assert "kilos = 0, kilos = 10, kilos is unseen" in source.card.description


def test_missing_cells_are_filled_marked_and_counted() -> None:
    lines = [*PETS]
    lines[3], lines[4], lines[5] = ",short,cat", "NaN,short,cat", "5,?,cat"
    with pytest.warns(TaskWarning, match="2 missing numbers were replaced by the mean"):
        source = read(lines)
    x, support = everything(source)
    assert x[[3, 4], 0].tolist() == [0, 0] and x[:, 1].nonzero()[0].tolist() == [3, 4]
    known = [row for row in support if row not in (3, 4)]
    kilos = np.arange(20.0)
    assert x[10, 0] == pytest.approx((10 - kilos[known].mean()) / kilos[known].std(), abs=1e-6)
    assert any("2 missing numbers" in issue for issue in source.card.known_issues)
    assert "kilos is missing" in source.card.description
    assert ("hair = missing" in source.card.description) == (5 in support)


def test_rows_without_a_label_are_left_out_and_counted() -> None:
    with pytest.warns(TaskWarning, match="2 rows without label or group were left out"):
        source = read([*PETS, "3,short,", "4,long,null"])
    assert source.card.counts["rows"] == 20
    used = np.concatenate([pool for split in source.splits for pool in source.classes(split).values()])
    assert sorted(used.tolist()) == [*range(20)]


def test_pools_are_60_to_40_within_each_class() -> None:
    source = read(PETS)
    for name in ("cat", "dog"):
        assert (len(source.classes("support")[name]), len(source.classes("query")[name])) == (6, 4)
    tasks = Distribution(source, 2, 3, 2, "support", "query")
    assert tasks.episode(0).support_x.shape == (6, 4)


def test_groups_are_tasks() -> None:
    source = from_csv(lambda path: table_file(path, group="hospital", ignore=["value"]), patients())
    assert isinstance(source, GroupArrays)
    assert [len(source.groups(split)) for split in source.splits] == [5, 2, 1]
    assert {*source.groups("train").values()} == {6}
    episode = GroupedTasks(source, 3, 3, "test").episode(0)
    (group,) = source.groups("test")
    number = int(group[1:])
    rows = np.concatenate([episode.meta.support_indices, episode.meta.query_indices])
    assert {*(rows // 12).tolist()} == {number}, "support and queries are of one group"
    assert episode.meta.classes == ("ill", "well")
    assert torch.equal(episode.support_y, torch.as_tensor(1 - episode.meta.support_indices % 2))


def test_groups_that_are_no_tasks_are_left_out_and_counted() -> None:
    odd = ["30,1,a,lonely,ill,1", "30,1,a,lonely,ill,1", "30,1,a,tiny,ill,1", "30,1,a,tiny,well,1"]
    with pytest.warns(TaskWarning, match="2 groups without two classes of two rows were left out"):
        source = from_csv(
            lambda path: table_file(path, group="hospital", ignore=["value"]),
            "\n".join([patients(), *odd]),
        )
    assert sum(len(source.groups(split)) for split in source.splits) == 8
    with pytest.warns(TaskWarning, match="1 rows, each the only one of its label in its group"):
        source = from_csv(
            lambda path: table_file(path, group="hospital", ignore=["value"]),
            f"{patients()}\n30,1,a,h3,cured,1",
        )
    assert all(len(group) == 2 for groups in source._members.values() for group in groups.values())


@pytest.mark.parametrize("group", ["hospital", None])
def test_values_are_targets_in_units_of_the_training_rows(group: str | None) -> None:
    ignored = ["label", *(["hospital"] if group is None else [])]
    source = from_csv(lambda path: table_file(path, "value", group, ignore=ignored), patients())
    assert isinstance(source, GroupArrays) and source.regression
    written = np.array([float(line.split(",")[-1]) for line in patients().split("\n")[1:]])
    training = np.concatenate(
        [rows for classes in source._members["train"].values() for rows in classes.values()]
    )
    expected = (written - written[training].mean()) / written[training].std()
    episode = GroupedTasks(source, 4, 4, "test").episode(1)
    assert episode.support_y[:, 0].numpy() == pytest.approx(expected[episode.meta.support_indices], abs=1e-5)
    if group is None:
        assert [*source.groups("validation")] == ["validation rows"]
        assert sum(source.groups(split)[f"{split} rows"] for split in source.splits) == 96
    assert any("Targets are (value" in issue for issue in source.card.known_issues)


@settings(max_examples=25, deadline=None)
@given(st.integers(3, 40), st.integers(2, 30), st.integers(0, 99))
def test_splits_share_no_row(groups: int, each: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lines = [
        f"{rng.normal():.6f},h{group},{'ab'[row % 2]}" for group in range(groups) for row in range(2 * each)
    ]
    source = read(lines, "x,group,label", group="group")
    names = [{*source.groups(split)} for split in source.splits]
    assert all(names) and sum(map(len, names)) == len(set.union(*names)) == groups
    assert len(names[0]) >= len(names[1]) - 1


def test_kind_is_found_out_or_told() -> None:
    grades = [f"{row},x{row % 2},{row % 5}" for row in range(40)]
    assert isinstance(read(grades), ArraySource)  # five different numbers: classes
    assert read(grades, kind="values").regression
    prices = [f"{row},x{row % 2},{row / 2}" for row in range(40)]
    assert read(prices).regression
    with pytest.raises(TaskError, match=r"line 2: 'cat' in column 'label' .* use kind=classes"):
        read(PETS, kind="values")


def test_another_encoding_delimiter_and_mark(tmp_path: Path) -> None:
    text = "\n".join(["kilos;hair;label", *(line.replace(",", ";").replace("cat", "süß") for line in PETS)])
    for encoding, said in (("utf-8-sig", "utf-8"), ("latin-1", "latin-1"), ("utf-16", "utf-16")):
        path = tmp_path / "pets.csv"
        path.write_bytes(text.encode(encoding))
        source = table_file(str(path), encoding=said, delimiter=";")
        assert isinstance(source, ArraySource) and [*source.classes("query")] == ["dog", "süß"]
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(
        TaskError,
        match=r"pets.csv, line 2: byte 0xfc at position 25 .* not utf-8: .*encoding=latin-1",
    ):
        table_file(str(path), delimiter=";")
    with pytest.raises(TaskError, match="encoding=klingon is not known"):
        table_file(str(path), encoding="klingon")


def changed(line: int, text: str) -> list[str]:
    lines = [*PETS]
    lines[line - 2] = text
    return lines


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        (PETS, {"label": "lable"}, r"no column 'lable' \(label\): did you mean 'label'\?"),
        (PETS, {"label": "y"}, r"no column 'y' \(label\): it has kilos, hair, label"),
        (PETS, {"group": "owner"}, r"no column 'owner' \(group\)"),
        (PETS, {"ignore": ["hare"]}, r"no column 'hare' \(ignore\): did you mean 'hair'\?"),
        (PETS, {"categorical": ["kilo"]}, r"no column 'kilo' \(categorical\): did you mean 'kilos'\?"),
        (PETS, {"kind": "class"}, r"kind=class is unknown: use one of auto, classes, values"),
        (changed(7, "heavy,long,cat"), {}, r"line 7: 'heavy' in column 'kilos' is no finite number, but 19"),
        (changed(7, "inf,long,cat"), {}, r"line 7: 'inf' in column 'kilos' is no finite number"),
        (
            changed(7, "5,long"),
            {},
            r"line 7 has 2 cells, but the header has 3: .* or set delimiter",
        ),
        (changed(7, "5,long,cat,1"), {}, r"line 7 has 4 cells"),
        (changed(7, '5,"long,cat'), {}, r"line 7: the row that begins here .*close its quotes"),
        (changed(7, f"5,{'x' * 200_000},cat"), {}, r"line 7: .*field larger .* shorten its text"),
        (changed(7, "5,long,cow"), {}, r"line 7: label 'cow' of column 'label' has one row"),
        ([f"{row},long,cat" for row in range(9)], {}, r"column 'label' holds 1 labels: use two or more"),
        (["1,long,cat", "1,long,dog"] * 4, {}, r"no column of inputs varies"),
        ([], {}, r"holds no rows: the first line names the columns"),
        (PETS, {"most_categories": 1}, r"column 'hair' has 2 categories .* list it in ignore"),
        (PETS, {"group": "hair"}, r"has 2 groups with two classes of two rows: use 3 or more"),
        (
            [f"{row},long,7" for row in range(9)],
            {"kind": "values"},
            r"the values of column 'label' do not differ in training",
        ),
    ],
)
def test_mistakes_are_named_with_line_and_fix(
    lines: list[str], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(TaskError, match=message):
        read(lines, **options)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("kilos,kilos,label", r"line 1: two columns are called 'kilos': rename one"),
        ("kilos,,label", r"line 1: column 2 has no name: give it one"),
    ],
)
def test_headers_that_cannot_be(header: str, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        read(PETS, header)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"none.csv does not exist: give its path as task.source.file="):
        table_file(str(tmp_path / "none.csv"))
    with pytest.raises(TaskError, match=r"is a folder: name one file of it as task\.source\.file="):
        table_file(str(tmp_path))
    empty = tmp_path / "empty.csv"
    empty.write_bytes(b"")
    with pytest.raises(TaskError, match=r"empty.csv holds no rows"):
        table_file(str(empty))


def test_quoted_cells_may_hold_line_breaks_and_lines_are_still_right() -> None:
    lines = ['1,"a\nb",cat', "2,a,cat", "3,b,dog", "", "x,b,dog", "5,a,dog", "6,a,cat"]
    with pytest.raises(TaskError, match=r"line 7: 'x' in column 'kilos'"):
        read(lines)


def test_where_nothing_says_what_is_predicted_the_setting_is_named(tmp_path: Path) -> None:
    path, other = tmp_path / "t.csv", tmp_path / "other.csv"
    for place in (path, other):
        place.write_text("age,bmi,progression\n" + "\n".join(f"{n},{n % 7},{n * n}" for n in range(30)))
    for files in ({"file": path}, {"train_file": path, "test_file": other}):
        with pytest.raises(TaskError, match=r"task\.source\.label=\.\.\., one of age, bmi, progression"):
            table_file(**files, label=None)
    with pytest.raises(TaskError, match="did you mean 'progression'"):
        table_file(path, label="progresion")
