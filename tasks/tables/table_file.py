"""Your own table: a CSV file with a column of labels and, if there is one, a column that makes tasks.

With `group`, each group of rows (a customer, a machine, a hospital) is one task: groups are divided between
training, validation and testing, and support and queries are rows of one group. Without it, tasks are drawn
from pools of rows.

| labels  | with `group`       | without `group`                                            |
|---------|--------------------|------------------------------------------------------------|
| classes | `GroupArrays`      | `ArraySource`: splits "support" and "query", same classes  |
| values  | `GroupArrays`      | `GroupArrays` with one group of rows per split             |

Where nothing is held back for training (`split_by="nothing"`), all rows, or groups, are one split, `all`; and
`train_file` with `test_file` are a training set, or several, with a test set (`tasks.FixedTasks`). Values
without groups are then `ValueArrays`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tasks._csv import Table, columns_of, read_csv
from tasks._files import few
from tasks._found_columns import label_column
from tasks._numbers import PADDED, check_decimal, number, odd_way, written_otherwise
from tasks._published import called, places_of
from tasks._settings import check_setting, least
from tasks.functions import SPLITS
from tasks.grouped import GroupArrays
from tasks.source import ArraySource, Card, TaskError, TaskWarning
from tasks.tables._columns import Encoded, encode
from tasks.tables._whole import Columns, joined, of_files, of_rows, standardised
from tasks.values import ValueArrays

__all__ = ["label_values", "table_file"]

SPLIT_BY = ("auto", "nothing", "pools")
KINDS = ("auto", "classes", "values")
SPLIT_SEED = 0
SHARES = (0.6, 0.2)  # for training and validation; the rest is for testing
SUPPORT_SHARE = 0.6
MANY = 20  # labels that are all numbers are values if there are more different ones
Members = dict[str, dict[str, dict[str, np.ndarray]]]


def table_file(
    file: str | None = None,
    label: str | None = "label",
    group: str | None = None,
    kind: str = "auto",
    categorical: Sequence[str] = (),
    ignore: Sequence[str] = (),
    most_categories: int = 50,
    encoding: str = "utf-8",
    delimiter: str = ",",
    decimal: str = ".",
    split_by: str = "auto",
    train_file: str | Sequence[str] | None = None,
    test_file: str | None = None,
) -> ArraySource | GroupArrays | ValueArrays:
    """The rows of `file` as a source, columns as numbers (`tasks/tables/_columns.py`).

    Args:
        file: the path.
        label: column of what is to be predicted; rows without it are left out. None: found by its name.
        group: column that makes tasks.
        kind: "classes", "values" (regression; in units of their standard deviation in the training rows), or
            "auto": values if there are more than 20 and all are numbers.
        categorical: columns whose numbers are names, such as a postcode.
        ignore: columns that are no inputs, such as a row number.
        most_categories: greatest number of categories of a column.
        encoding, delimiter: of the file.
        decimal: the mark of decimals in it, "." or ",". Numbers in other forms (thousands, per cent, money,
            dates) are refused, not taken for categories.
        split_by: "auto", as in the table above; or "nothing", which "pools" is here, too.
        train_file: path of a training file, or of several; `file` is one, too.
        test_file: path of the test file.

    Raises:
        TaskError: a file that cannot be used; the message names line or column, and the fix.

    Example:
        >>> import tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "pets.csv"
        >>> lines = [f"{kilos},{'cat' if kilos < 6 else 'dog'}" for kilos in range(12)]
        >>> _ = path.write_text("\\n".join(["kilos,label", *lines]))
        >>> pets = table_file(str(path))
        >>> pets.shape, {name: len(rows) for name, rows in pets.classes("support").items()}
        ((1,), {'cat': 4, 'dog': 4})
    """
    if kind not in KINDS:
        raise TaskError(f"table_file: kind={kind} is unknown: use one of {', '.join(KINDS)}")
    check_decimal(decimal)
    check_setting("table_file: most_categories", most_categories, least(1))
    if split_by not in SPLIT_BY:
        raise TaskError(f"table_file: split_by={split_by} is unknown: use one of {', '.join(SPLIT_BY)}")
    places = places_of("file", file, train_file, test_file)
    if not places.training:
        raise TaskError(
            "task.source.file has no value yet: set task.source.file=…, or task.file=…, the path of a CSV "
            "file"
        )
    if places.test is not None and group is not None:
        raise TaskError("task.source.group makes tasks of one file: leave it out, or task.test_file")
    tests = () if places.test is None else (places.test,)
    table, parts = joined([read_csv(str(path), encoding, delimiter) for path in (*places.training, *tests)])
    named_by_user = label is not None
    label = label_column(table.path, label, encoding)
    if label not in table.header and not named_by_user:
        raise TaskError(
            f"{table.path}: which column holds the labels? Nothing says so: name it with "
            f"task.source.label=..., one of {few(table.header)}"
        )
    named, left = columns_of(categorical, table, "categorical"), columns_of(ignore, table, "ignore")
    labels = table.column(label, "label")
    groups = None if group is None else table.column(group, "group")
    rows = np.array([row for row, cell in enumerate(labels) if cell and (groups is None or groups[row])])
    notes = []
    if len(rows) < len(labels):
        notes.append(f"{len(labels) - len(rows)} rows without label or group were left out.")
    values = label_values(table, label, labels, rows, kind, decimal)
    inputs = [name for name in table.header if name not in (label, group) and name not in left]

    def encoded(training: np.ndarray) -> Encoded:
        return encode(table, inputs, training, named, most_categories, decimal)

    if groups is None and (places.test is not None or split_by != "auto"):
        name = called(table.path) if places.test is not None else table.path.stem

        def sheet(found: Encoded, said: list[str], classes: int) -> Card:
            counts = {"classes": classes} if classes else {}
            return _card(table, rows, found, [*notes, *said], name, **counts)

        columns = Columns(table, label, labels, rows, values, encoded, sheet)
        return of_rows(columns) if places.test is None else of_files(columns, parts, Path(places.test))

    if groups is None and values is None:
        pools = _pools(table, label, labels, rows)
        training = np.concatenate([*pools["support"].values()])
        found = encoded(training)
        card = _card(table, rows, found, notes, classes=len(pools["support"]))
        return ArraySource(card, found.inputs, pools)

    if values is not None:
        of_group = groups or ["rows"] * len(labels)
        members = _value_members(table, of_group, rows, split_rows=groups is None)
    else:
        assert groups is not None
        members, dropped = _class_members(table, labels, groups, rows)
        notes += dropped
    if split_by != "auto":
        members = {"all": {name: classes for part in members.values() for name, classes in part.items()}}
    first = members.get("train", members.get("all", {}))
    training = np.concatenate([r for by in first.values() for r in by.values()])
    found = encoded(training)
    targets = None
    if values is not None:
        targets, note = standardised(table, label, values, training)
        notes.append(note)
    card = _card(table, rows, found, notes, groups=sum(map(len, members.values())))
    return GroupArrays(card, found.inputs, members, targets)


def label_values(
    table: Table, label: str, labels: list[str], rows: np.ndarray, kind: str, decimal: str
) -> np.ndarray | None:
    """The labels [n] as numbers (NaN where left out), or None if they are classes."""
    given = [labels[row] for row in rows]
    found = [number(cell, decimal) for cell in given]
    odd = [row for row, value in zip(rows.tolist(), found, strict=True) if value is None]
    many = len({*given}) > MANY
    if kind == "auto":
        # What begins with a zero, and all else that is no number, names something; but for a slip.
        found_way = written_otherwise(given, decimal)
        if found_way is not None and found_way[1] != PADDED:
            place, what, fix = found_way
            raise TaskError(
                f"{table.at(int(rows[place]))}: {given[place]!r} in column {label!r} is {what}: {fix}, or "
                "set kind=classes if it is a name"
            )
        padded = any((odd_way(labels[row], decimal) or ("",))[0] == PADDED for row in odd)
        slip = many and odd and not padded and 2 * len(odd) < len(found)
        kind = "values" if slip or (many and not odd) else "classes"
    if kind == "classes":
        if len({*given}) < 2:
            raise TaskError(f"{table.path}: column {label!r} holds {len({*given})} labels: use two or more")
        return None
    if odd:
        way = odd_way(labels[odd[0]], decimal)
        what = "no finite number" if way is None else f"{way[0]} ({way[1]})"
        raise TaskError(
            f"{table.at(odd[0])}: {labels[odd[0]]!r} in column {label!r} is {what}: use kind=classes, or "
            "mend it"
        )
    values = np.full(len(labels), np.nan)
    values[rows] = found
    return values


def _pools(table: Table, label: str, labels: list[str], rows: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Rows of every class, divided between support and queries, at least one each."""
    rng = np.random.default_rng(SPLIT_SEED)
    pools: dict[str, dict[str, np.ndarray]] = {"support": {}, "query": {}}
    for name, members in _by(labels, rows).items():
        if len(members) < 2:
            raise TaskError(
                f"{table.at(members[0])}: label {name!r} of column {label!r} has one row, but support and "
                "queries need one each: add rows, or leave it out"
            )
        shuffled = rng.permutation(members)
        cut = min(max(round(SUPPORT_SHARE * len(shuffled)), 1), len(shuffled) - 1)
        pools["support"][name], pools["query"][name] = np.sort(shuffled[:cut]), np.sort(shuffled[cut:])
    return pools


def _class_members(
    table: Table, labels: list[str], groups: list[str], rows: np.ndarray
) -> tuple[Members, list[str]]:
    """Groups with two classes or more, of two rows or more; and what was left out."""
    kept, dropped, alone = {}, 0, 0
    for name, its in _by(groups, rows).items():
        classes = {label: r for label, r in _by(labels, its).items() if len(r) >= 2}
        if len(classes) >= 2:
            kept[name] = classes
            alone += len(its) - sum(map(len, classes.values()))
        else:
            dropped += 1
    notes = [f"{dropped} groups without two classes of two rows were left out."] if dropped else []
    if alone:
        notes.append(f"{alone} rows, each the only one of its label in its group, were left out.")
    parts = _parts(table, [*kept], "groups with two classes of two rows")
    return {split: {name: kept[name] for name in part} for split, part in parts.items()}, notes


def _value_members(table: Table, groups: list[str], rows: np.ndarray, *, split_rows: bool) -> Members:
    if split_rows:
        parts = _parts(table, [*map(str, rows)], "rows")
        return {split: {f"{split} rows": {"": np.array([*map(int, p)])}} for split, p in parts.items()}
    found = _by(groups, rows)
    parts = _parts(table, [*found], "groups")
    return {split: {name: {"": found[name]} for name in part} for split, part in parts.items()}


def _parts(table: Table, names: list[str], what: str) -> dict[str, list[str]]:
    """Split -> names, at least one each, by a fixed seed."""
    if len(names) < 3:
        raise TaskError(f"{table.path} has {len(names)} {what}: use 3 or more, one for each split")
    order = np.random.default_rng(SPLIT_SEED).permutation(len(names))
    first = min(max(round(SHARES[0] * len(names)), 1), len(names) - 2)
    second = min(max(round(SHARES[1] * len(names)), 1), len(names) - first - 1)
    cut = np.split(order, [first, first + second])
    return {split: [names[i] for i in sorted(part)] for split, part in zip(SPLITS, cut, strict=True)}


def _by(cells: list[str], rows: np.ndarray) -> dict[str, np.ndarray]:
    """Cell -> its rows, cells in alphabetical order."""
    found: dict[str, list[int]] = {}
    for row in rows.tolist():
        found.setdefault(cells[row], []).append(row)
    return {cell: np.array(found[cell]) for cell in sorted(found)}


def _card(
    table: Table, rows: np.ndarray, found: Encoded, notes: list[str], name: str | None = None, **counts: int
) -> Card:
    said = [*notes, *found.notes]
    counted = [note for note in said if note[0].isdigit()]
    if counted:
        warnings.warn(f"{table.path}: {' '.join(counted)}", TaskWarning, stacklevel=3)
    return Card(
        name=name or table.path.stem,
        description="Rows of a file of the user: " + ", ".join(found.names) + ".",
        origin="The user.",
        licence="unknown",
        terms="Not stated: see where the file comes from.",
        counts={"rows": len(rows), "columns": len(found.names), **counts},
        known_issues=(*said, "Equal rows are not looked for: they may be in support and queries."),
        personal_data="Not known.",
    )
