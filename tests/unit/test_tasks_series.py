"""Series: windows without look ahead, the volatility model's moments, and files as people have them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import FunctionTasks, GroupedTasks, SeriesFile, TaskError, TaskWarning, Volatility
from tasks.regression._windows import FLOOR, TARGETS, length, windows
from tasks.regression.volatility import returns
from tests.csv_files import from_csv, walks

SMALL = st.integers(1, 5)


@settings(max_examples=60, deadline=None)
@given(SMALL, SMALL, SMALL, SMALL, st.sampled_from(TARGETS))
def test_windows_are_cut_and_scaled_as_stated(lags: int, h: int, n: int, m: int, target: str) -> None:
    steps = length(lags, h, n, m)
    series = np.random.default_rng([lags, h, n, m]).standard_normal(steps)
    x, y, q, t, scale = windows(series, lags, h, n, m, target)
    known = series[: lags + n - 1 + h]
    level = known.mean() if target == "value" else 0
    assert scale == pytest.approx(np.sqrt(np.mean((known - level) ** 2)))
    z = (series - level) / scale

    def wanted(origin: int) -> np.ndarray:
        ahead = z[origin : origin + h]
        return np.log([max(np.sqrt(np.mean(ahead**2)), FLOOR)]) if target == "volatility" else ahead

    for i in range(n):
        assert np.allclose(x[i], z[i : i + lags], atol=1e-5)
        assert np.allclose(y[i], wanted(lags + i), atol=1e-5)
    for j in range(m):
        origin = len(known) + j  # the first query is made when all that the support tells has happened
        assert np.allclose(q[j], z[origin - lags : origin], atol=1e-5)
        assert np.allclose(t[j], wanted(origin), atol=1e-5)
    assert origin + h == steps  # nothing is left over


@settings(max_examples=40, deadline=None)
@given(SMALL, SMALL, SMALL, SMALL, st.sampled_from(TARGETS), st.data())
def test_no_query_looks_ahead(lags: int, h: int, n: int, m: int, target: str, data: Any) -> None:
    series = np.random.default_rng(0).standard_normal(length(lags, h, n, m))
    known = lags + n - 1 + h
    query = data.draw(st.integers(0, m - 1))
    later = series.copy()
    later[known + query :] += 10.0  # what has not happened when this query is made
    a, b = windows(series, lags, h, n, m, target), windows(later, lags, h, n, m, target)
    assert np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1]) and a[4] == b[4]
    assert np.array_equal(a[2][: query + 1], b[2][: query + 1])
    assert not np.array_equal(a[3][query], b[3][query])


def test_a_constant_series_has_finite_windows() -> None:
    for target in TARGETS:
        arrays = windows(np.full(20, 0.0), 3, 1, 5, 5, target)
        assert all(np.isfinite(array).all() for array in arrays)


@pytest.mark.parametrize(("persistence", "spread", "leverage"), [(0.0, 0.8, 0.0), (0.9, 1.2, -0.7)])
def test_returns_have_the_moments_of_the_model(persistence: float, spread: float, leverage: float) -> None:
    """E r² = e^{σ²/2} (Taylor 1986), cov(log r²_t, log r²_{t+s}) = σ² φ^s, and
    corr(ε_t, h_{t+1}) = ρ √(1 − φ²)."""
    rng = np.random.default_rng(0)
    r = np.stack([returns(rng, 60, persistence, spread, leverage) for _ in range(6000)])
    squares = r**2
    for step in (0, 59):  # stationary from the first day on
        assert squares[:, step].mean() == pytest.approx(np.exp(spread**2 / 2), rel=0.12)
    logs = np.log(squares)
    assert logs.var() == pytest.approx(spread**2 + np.pi**2 / 2, rel=0.03)  # log χ²₁ has variance π²/2
    for lag in (2, 5):
        # With leverage, log r²_t still says nothing about η_t: it is even in ε_t.
        covariance = np.mean(logs[:, :-lag] * logs[:, lag:]) - logs.mean() ** 2
        assert covariance == pytest.approx(spread**2 * persistence**lag, abs=0.05)
    sign = np.sign(r[:, :-1])  # E sign(ε) = 0, E sign(ε) ε = √(2/π)
    expected = leverage * np.sqrt(2 / np.pi) * spread * np.sqrt(1 - persistence**2)
    assert np.mean(sign * logs[:, 1:]) == pytest.approx(expected, abs=0.02)


def test_volatility_draws_what_it_says() -> None:
    source = Volatility(lags=7, horizon=3)
    tasks = FunctionTasks(source, shots=30, queries=10)
    halves, spreads, leverages = [], [], []
    for episode in tasks.episodes(0, 200):
        assert episode.support_x.shape == (30, 7) and episode.query_y.shape == (10, 1)
        halves.append(episode.meta.parameters["half_life"])
        spreads.append(episode.meta.parameters["spread"])
        leverages.append(episode.meta.parameters["leverage"])
        # Rows follow each other: an input is the one before, moved by a day.
        assert episode.support_x[1:, :-1].equal(episode.support_x[:-1, 1:])
        assert episode.query_x[0, :].numel() == 7
    assert 1 <= min(halves) < 2 and 80 < max(halves) <= 120
    assert 0.6 <= min(spreads) < 0.65 and 1.55 < max(spreads) <= 1.6
    assert -0.9 <= min(leverages) < -0.85 and 0.45 < max(leverages) <= 0.5
    assert source.digest() != Volatility(lags=7).digest() != Volatility(horizon=3).digest()
    with pytest.raises(TaskError, match="volatility: lags=0 is too small: use lags>=1"):
        Volatility(lags=0)


# ----------------------------------------------------------------------------------------------- files


def read(text: str, **settings_: Any) -> SeriesFile:
    return from_csv(lambda path: SeriesFile(path, **{"lags": 2, **settings_}), text)


def long(rows: dict[str, dict[str, Any]]) -> str:
    lines = [f"{name},{when},{value}" for name, its in rows.items() for when, value in its.items()]
    return "\n".join(["series,time,value", *lines])


COUNTING = {name: {str(day): 10 * number + day for day in range(9)} for number, name in enumerate("abc")}


def test_long_and_wide_files_hold_the_same() -> None:
    wide = ["time,a,b,c", *(f"{day},{day},{10 + day},{20 + day}" for day in range(9))]
    first, second = read(long(COUNTING)), read("\n".join(wide))
    assert first.splits == ("train", "validation", "test")
    assert first.digest() == second.digest() != read(long(COUNTING), lags=3).digest()
    assert sorted(name for split in first.splits for name in first.groups(split)) == ["a", "b", "c"]
    assert {*first.groups("test").values()} == {9 - 2}  # windows of two lags and one step
    assert first.card.counts == {"series": 3, "values": 27}


def test_rows_are_sorted_by_time() -> None:
    shuffled = {name: dict(reversed(its.items())) for name, its in COUNTING.items()}
    assert read(long(shuffled)).digest() == read(long(COUNTING)).digest()
    dates = {
        name: {f"2024-0{1 + int(day)}-15": v for day, v in its.items()} for name, its in shuffled.items()
    }
    assert read(long(dates)).digest() == read(long(COUNTING)).digest()


def test_samples_are_windows_of_the_series() -> None:
    source = from_csv(lambda path: SeriesFile(path, lags=4, target="return", horizon=2), walks())
    group = next(iter(source.groups("test")))
    starts = set()
    for seed in range(20):
        drawn = source.sample(np.random.default_rng(seed), group, 5, 3)
        series = source._series[group]
        part = np.concatenate([drawn.support_x[0], drawn.support_x[1:, -1]])
        scaled = np.lib.stride_tricks.sliding_window_view(series, len(part))
        ratio = scaled / part
        (start,) = np.flatnonzero(ratio.std(1) < 1e-4 * np.abs(ratio.mean(1)))
        starts.add(int(start))
    assert len(starts) > 8, "a random part of the series"
    assert source.groups("test")[group] == 49 - 4 - 2 * 2 + 2
    with pytest.warns(TaskWarning, match="1 of 2 groups"):
        short = long({**{f"s{i}": COUNTING["a"] for i in range(8)}, "tiny": {"0": 1, "1": 2, "2": 4, "3": 9}})
        spare = read(short)
        split = next(split for split in spare.splits if "tiny" in spare.groups(split))
        GroupedTasks(spare, 3, 2, split)


def test_missing_values_are_trimmed_filled_and_counted() -> None:
    gaps = {name: dict(its) for name, its in COUNTING.items()}
    gaps["a"] |= {"0": "", "1": "nan", "4": "NA", "5": "", "8": ""}
    with pytest.warns(TaskWarning, match=r"2 missing values were replaced by the last value before them"):
        source = read(long(gaps))
    assert source._series["a"].tolist() == [2, 3, 3, 3, 6, 7]
    assert any("2 missing values" in issue for issue in source.card.known_issues)


def test_targets() -> None:
    prices = {name: {day: 2.0 ** int(day) for day in its} for name, its in COUNTING.items()}
    source = read(long(prices), target="return", horizon=2)
    assert source.outputs == 2
    drawn = source.sample(np.random.default_rng(0), next(iter(source.groups("train"))), 1, 1)
    assert np.allclose(np.concatenate([drawn.support_x, drawn.query_y]), 1)  # every return is the same
    volatile = read(long(prices), target="volatility", horizon=2)
    drawn = volatile.sample(np.random.default_rng(0), next(iter(source.groups("train"))), 1, 1)
    assert volatile.outputs == 1 and np.allclose(drawn.query_y, 0, atol=1e-6)


def broken(change: Callable[[list[str]], None]) -> str:
    lines = long(COUNTING).split("\n")
    change(lines)
    return "\n".join(lines)


def put(line: int, text: str) -> Callable[[list[str]], None]:
    return lambda lines: lines.__setitem__(line - 1, text)


@pytest.mark.parametrize(
    ("text", "settings_", "message"),
    [
        (broken(put(4, "a,2,two")), {}, r"line 4: 'two' in column 'value' is no finite number$"),
        (broken(put(4, "a,2,inf")), {}, r"line 4: 'inf' in column 'value' is no finite number$"),
        (broken(put(4, "a,soon,2")), {}, r"line 4: 'soon' in column 'time' is no time: use numbers, or ISO"),
        (broken(put(4, "a,1,2")), {}, r"line 4: series 'a' has a second value for the time of line 3"),
        (broken(put(4, ",2,2")), {}, r"line 4: column 'series' is empty: name the series of every row"),
        (broken(put(4, "a,2")), {}, r"line 4 has 2 cells, but the header has 3"),
        (broken(put(1, "series,time,vlaue")), {}, r"no column 'value' \(value\): did you mean 'vlaue'\?"),
        (long({"a": COUNTING["a"]}), {}, r"has 1 series: use 3 or more, one for each split"),
        (
            long(COUNTING),
            {"target": "return"},
            r"series 'a' holds 0, which has no logarithm: use target=value",
        ),
        (long(COUNTING), {"target": "trend"}, r"target=trend is unknown: use one of value, return"),
        (long(COUNTING), {"lags": 0}, r"lags=0 is too small: use lags>=1"),
        ("day,a,b,c\nmon,1,2,3", {}, r"line 2: 'mon' in column 'day' .* set time to this column"),
    ],
)
def test_mistakes_are_named_with_line_and_fix(text: str, settings_: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        read(text, **settings_)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"none.csv does not exist: give its path as task.source.file="):
        SeriesFile(str(tmp_path / "none.csv"))
