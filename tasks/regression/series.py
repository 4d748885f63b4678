"""Your own series: forecasting from a CSV file, one task per series.

Two layouts. Long: a row per value, with columns `series`, `time` and `value`. Wide: a row per time, with one
column per series. Support and queries are windows of one series, and no query looks ahead
(`tasks/regression/_windows.py`).
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import ClassVar

import numpy as np

from tasks._csv import Table, read_csv
from tasks._numbers import check_decimal, number, odd_way
from tasks._settings import check_setting, least
from tasks.functions import SPLITS
from tasks.grouped import GroupDraw
from tasks.regression._windows import TARGETS, length, windows
from tasks.source import Card, TaskError, TaskWarning

__all__ = ["SeriesFile"]

VERSION = "1"
SPLIT_SEED = 0
SHARES = (0.6, 0.2)  # of the series, for training and validation; the rest is for testing


class SeriesFile:
    """The series of a CSV file, divided between training, validation and testing.

    Args:
        file: the path.
        series: column that names the series; if the file has none, the layout is wide.
        time: column of numbers or ISO dates by which rows are sorted. In a wide file it may be missing: then
            the order is that of the file.
        value: column of the values in a long file.
        target: "value": the next values, shifted and scaled by what the support covers; "return": the next
            changes of the logarithm; "volatility": the logarithm of their root mean square.
        lags: values in an input.
        horizon: steps that a target looks ahead.
        encoding, delimiter: of the file.
        decimal: the mark of decimals in it, "." or ",".

    Raises:
        TaskError: a file that cannot be read as this; the message names line and fix.

    Example:
        >>> import tempfile, pathlib
        >>> lines = ["day,a,b,c", *(f"{day},{day % 7},{day % 5},{day}" for day in range(60))]
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "three.csv"
        >>> _ = path.write_text("\\n".join(lines))
        >>> series = SeriesFile(str(path), time="day", lags=7)
        >>> series.shape, [*series.groups("train")], dict(series.groups("test"))
        ((7,), ['c'], {'b': 53})
    """

    grouped: ClassVar[bool] = True
    regression: ClassVar[bool] = True
    splits: ClassVar[tuple[str, ...]] = SPLITS

    def __init__(
        self,
        file: str,
        series: str = "series",
        time: str = "time",
        value: str = "value",
        target: str = "value",
        lags: int = 20,
        horizon: int = 1,
        encoding: str = "utf-8",
        delimiter: str = ",",
        decimal: str = ".",
    ) -> None:
        if target not in TARGETS:
            raise TaskError(f"series_file: target={target} is unknown: use one of {', '.join(TARGETS)}")
        for name, steps in (("lags", lags), ("horizon", horizon)):
            check_setting(f"series_file: {name}", steps, least(1))
        check_decimal(decimal)
        table = read_csv(file, encoding, delimiter)
        long = series in table.header
        found = _long(table, series, time, value, decimal) if long else _wide(table, time, decimal)
        cleaned = {name: _cleaned(values) for name, values in found.items()}
        filled = sum(count for _, count in cleaned.values())
        issues = ["Series of all splits may cover the same time, and so have shocks in common."]
        if filled:
            issues.append(f"{filled} missing values were replaced by the last value before them.")
            warnings.warn(f"{table.path}: {issues[-1]}", TaskWarning, stacklevel=2)
        found = {name: values for name, (values, _) in cleaned.items()}
        if target != "value":
            found = {name: _log_returns(name, values, table) for name, values in found.items()}
        if len(found) < 3:
            raise TaskError(f"{table.path} has {len(found)} series: use 3 or more, one for each split")
        self.target, self.lags, self.horizon = target, lags, horizon
        self.shape, self.outputs = (lags,), 1 if target == "volatility" else horizon
        self._series = found
        self._names = _divided([*found])
        counts = {"series": len(found), "values": sum(map(len, found.values()))}
        self.card = _card(table.path.stem, counts, issues)
        self.name = self.card.name

    def groups(self, split: str) -> Mapping[str, int | None]:
        """Series -> how many windows it has for support and queries together."""
        if split not in self._names:
            raise TaskError(f"{self.name} has no split {split!r}: use one of {', '.join(SPLITS)}")
        spent = length(self.lags, self.horizon, 0, 0)
        return {name: max(len(self._series[name]) - spent, 0) for name in self._names[split]}

    def sample(self, rng: np.random.Generator, group: str, shots: int, queries: int) -> GroupDraw:
        """Windows of a random part of a series; see `GroupSource.sample`."""
        series, steps = self._series[group], length(self.lags, self.horizon, shots, queries)
        start = int(rng.integers(len(series) - steps + 1))
        part = series[start : start + steps]
        return GroupDraw(*windows(part, self.lags, self.horizon, shots, queries, self.target)[:4])

    def digest(self) -> str:
        """sha256 (hex) of version, settings, series and split assignment."""
        decisive = (VERSION, self.target, self.lags, self.horizon, self._names)
        sha = hashlib.sha256(repr(decisive).encode())
        for series in self._series.values():
            sha.update(series.astype("<f8").tobytes())
        return sha.hexdigest()


def _long(table: Table, series: str, time: str, value: str, decimal: str) -> dict[str, np.ndarray]:
    """Series -> its values in order of time, NaN where missing."""
    names, stamps = table.column(series, "series"), _times(table, time, decimal)
    values = _numbers(table, value, "value", decimal)
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        if not name:
            raise TaskError(f"{table.at(row)}: column {series!r} is empty: name the series of every row")
        rows.setdefault(name, []).append(row)
    found = {}
    for name, its in rows.items():
        found[name] = values[_ordered(table, its, stamps, f"series {name!r}")]
    return found


def _wide(table: Table, time: str, decimal: str) -> dict[str, np.ndarray]:
    order = [*range(len(table.rows))]
    if time in table.header:
        order = _ordered(table, order, _times(table, time, decimal), "the file")
    return {name: _numbers(table, name, "a series", decimal)[order] for name in table.header if name != time}


def _ordered(table: Table, rows: Sequence[int], stamps: Sequence[float], whose: str) -> list[int]:
    """Rows in order of time, of which none comes twice."""
    ordered = sorted(rows, key=lambda row: stamps[row])
    for earlier, later in pairwise(ordered):
        if stamps[earlier] == stamps[later]:
            raise TaskError(
                f"{table.at(later)}: {whose} has a second value for the time of line "
                f"{table.lines[earlier]}: keep one of them"
            )
    return ordered


def _times(table: Table, column: str, decimal: str) -> list[float]:
    """Numbers to sort by: those of the column, or the seconds of its dates; the first cell says which."""
    cells = table.column(column, "time")
    numeric = bool(cells[0]) and number(cells[0], decimal, padded=True) is not None
    stamps = []
    for row, cell in enumerate(cells):
        stamp = number(cell, decimal, padded=True) if numeric and cell else _seconds(cell)
        if stamp is None:
            raise TaskError(
                f"{table.at(row)}: {cell!r} in column {column!r} is no time: use numbers, or ISO dates such "
                "as 2024-01-31, in all rows"
            )
        stamps.append(stamp)
    return stamps


def _seconds(cell: str) -> float | None:
    try:
        stamp = datetime.fromisoformat(cell)
    except ValueError:
        return None
    # Without a zone it is taken for UTC: a clock that is set back would disturb the order.
    return (stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)).timestamp()


def _numbers(table: Table, column: str, setting: str, decimal: str) -> np.ndarray:
    values = []
    for row, cell in enumerate(table.column(column, setting)):
        found = number(cell, decimal, padded=True)
        if found is None:
            way = odd_way(cell, decimal)
            what = "no finite number" if way is None else f"{way[0]}: {way[1]}"
            hint = "" if setting == "value" else "; if it is the time, set time to this column"
            raise TaskError(f"{table.at(row)}: {cell!r} in column {column!r} is {what}{hint}")
        values.append(found)
    return np.array(values)


def _cleaned(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Without missing values at both ends; those inside become what was last known, and are counted."""
    known = np.flatnonzero(~np.isnan(values))
    if not len(known):
        return values[:0], 0
    values = values[known[0] : known[-1] + 1]
    missing = np.isnan(values)
    last = np.maximum.accumulate(np.where(missing, 0, np.arange(len(values))))
    return values[last], int(missing.sum())


def _log_returns(name: str, values: np.ndarray, table: Table) -> np.ndarray:
    if len(values) and values.min() <= 0:
        raise TaskError(
            f"{table.path}: series {name!r} holds {values.min():g}, which has no logarithm: use target=value"
        )
    return np.diff(np.log(values))


def _divided(names: Sequence[str]) -> dict[str, list[str]]:
    """Split -> its series, at least one each, by a fixed seed."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(names))
    first = min(max(round(SHARES[0] * len(names)), 1), len(names) - 2)
    second = min(max(round(SHARES[1] * len(names)), 1), len(names) - first - 1)
    parts = np.split(order, [first, first + second])
    return {split: [names[i] for i in sorted(part)] for split, part in zip(SPLITS, parts, strict=True)}


def _card(name: str, counts: dict[str, int], issues: Sequence[str]) -> Card:
    return Card(
        name=name,
        description="Series of a file of the user.",
        origin="The user.",
        licence="unknown",
        terms="Not stated: see where the file comes from.",
        counts=counts,
        known_issues=tuple(issues),
        personal_data="Not known.",
    )
