"""Numbers in files are read as they are written, or named: never guessed, never made categories."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import ArraySource, GroupArrays, SeriesFile, TaskError, table_file
from tasks._numbers import number, odd_way, written_otherwise
from tests.csv_files import from_csv

#: Cell -> its number with "." and with "," as the mark of decimals; None: it is none.
CELLS: dict[str, tuple[float | None, float | None]] = {
    "0": (0, 0),
    "12": (12, 12),
    "+3": (3, 3),
    "-4": (-4, -4),
    "1.5": (1.5, None),
    "1,5": (None, 1.5),
    "-.5": (-0.5, None),
    "5.": (5, None),
    "2e3": (2000, 2000),
    "1.5E-2": (0.015, None),
    "1,5e1": (None, 15),
    "1,234": (None, 1.234),
    **dict.fromkeys(
        [
            *("1_0", "1_000.5", "0x1F", "1e", "e5", ".", "-", "+", "--1", "1-2", "1.2.3", "1 2", "nan"),
            *("inf", "-inf", "infinity", "NaN", "1e400", "0123", "-007", "00.5", "١٢", "１２", "½", "²"),
            *("1.234,5", "1j", "True", "1,234,567", "1 234", "12%", "$5", "2024-01-31", "−5"),
        ],
        (None, None),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("cell", "values"), CELLS.items(), ids=CELLS.keys())
def test_what_is_a_number(cell: str, values: tuple[float | None, float | None]) -> None:
    assert (number(cell), number(cell, ",")) == values


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_what_python_writes_is_read(value: float) -> None:
    assert number(repr(value)) == value and number(repr(value).replace(".", ","), ",") == value


def test_an_empty_cell_is_no_number_and_no_mistake() -> None:
    missing = number("")
    assert missing is not None and math.isnan(missing) and odd_way("") is None


#: What a column of such cells is; each has 15 different ones, and would have become 15 categories.
DAYS = range(10, 25)
OTHERWISE: dict[str, tuple[list[str], str]] = {
    "decimal comma": ([f"{i},5" for i in DAYS], "a number with a decimal comma: set decimal=','"),
    "comma and three digits": ([f"1,{i}5" for i in DAYS], "decimal=',', or leave out ',' if it stands"),
    "thousands and decimals": ([f"1,0{i}.50" for i in DAYS], "a number with marks between thousands: leave"),
    "points between thousands": ([f"1.0{i},50" for i in DAYS], "a number with marks between thousands"),
    "spaces between thousands": ([f"1 0{i}" for i in DAYS], "a number with marks between thousands"),
    "fixed spaces": ([f"1\u00a00{i}" for i in DAYS], "a number with marks between thousands"),
    "thin spaces": ([f"1\u202f0{i}" for i in DAYS], "a number with marks between thousands"),
    "apostrophes": ([f"1'0{i}" for i in DAYS], "a number with marks between thousands"),
    "millions": ([f"1,000,0{i}" for i in DAYS], "a number with marks between thousands"),
    "per cent": ([f"{i}%" for i in DAYS], "a percentage: write the number alone"),
    "per cent, spaced": ([f"{i},5 %" for i in DAYS], "a percentage"),
    "dollars": ([f"${i}.50" for i in DAYS], "an amount of money: write the number alone"),
    "negative dollars": ([f"-${i}" for i in DAYS], "an amount of money"),
    "euros": ([f"{i},50 €" for i in DAYS], "an amount of money"),
    "pounds": ([f"£{i}" for i in DAYS], "an amount of money"),
    "codes": ([f"USD {i}" for i in DAYS], "an amount of money"),
    "codes behind": ([f"{i}.00 EUR" for i in DAYS], "an amount of money"),
    "brackets": ([f"({i}.00)" for i in DAYS], "an amount of money"),
    "ISO dates": ([f"2024-01-{i}" for i in DAYS], "a date or time: write numbers, such as days since"),
    "ISO dates and times": ([f"2024-01-{i}T10:00:00Z" for i in DAYS], "a date or time"),
    "German dates": ([f"{i}.01.2024" for i in DAYS], "a date or time"),
    "American dates": ([f"1/{i}/24" for i in DAYS], "a date or time"),
    "slashes": ([f"2024/1/{i}" for i in DAYS], "a date or time"),
    "names of months": ([f"{i} Jan 2024" for i in DAYS], "a date or time"),
    "names of months first": ([f"January {i}, 2024" for i in DAYS], "a date or time"),
    "months by name": ([f"Jan 20{i}" for i in DAYS], "a date or time"),
    "months, year first": ([f"20{i}/01" for i in DAYS], "a date or time"),
    "months, year last": ([f"01/20{i}" for i in DAYS], "a date or time"),
    "weeks": ([f"2024-W{i}" for i in DAYS], "a date or time"),
    "hours": ([f"2024-01-{i}T10" for i in DAYS], "a date or time"),
    "lakhs": ([f"1,{i},000" for i in DAYS], "a number with marks between thousands"),
    "per cent in brackets": ([f"({i}%)" for i in DAYS], "a percentage"),
    "minus behind": ([f"{i}.00-" for i in DAYS], "an amount of money"),
    "bounds": ([f"<{i}" for i in DAYS], "a bound or an interval: write one number"),
    "errors": ([f"{i} ± 1" for i in DAYS], "a bound or an interval"),
    "times": ([f"{i}:30" for i in DAYS], "a date or time"),
    "months": ([f"20{i}-01" for i in DAYS], "a date or time"),
    "zeros in front": ([f"01{i}7" for i in DAYS], "a number that begins with a zero: list the column"),
    "units": ([f"{i} kg" for i in DAYS], "a number with a unit: write the number alone"),
    "degrees": ([f"{i}°C" for i in DAYS], "a number with a unit"),
    "thousands in letters": ([f"{i}k" if i % 2 else f"{i}.5M" for i in DAYS], "a number with a unit"),
    "minus of typesetting": ([f"−{i}" for i in DAYS], "a minus sign of typesetting: write '-'"),
    "other digits": (["".join(chr(0x660 + int(d)) for d in str(i)) for i in DAYS], "in other digits than"),
    "some of them": ([f"{i}%" if i % 2 else str(i) for i in DAYS], "a percentage"),
    "gaps": (["", "", *(f"{i}%" for i in DAYS)], "a percentage"),
}  # fmt: skip


def table(cells: list[str], label: str = "label") -> str:
    """A column of these cells, one of numbers, and labels; three of each row."""
    lines = io.StringIO(newline="")
    rows = csv.writer(lines)
    rows.writerow(["cell", "size", label])
    rows.writerows([cell, i, "ab"[i % 2]] for i, cell in enumerate(cells * 4))
    return lines.getvalue()


@pytest.mark.parametrize(("cells", "message"), OTHERWISE.values(), ids=OTHERWISE.keys())
def test_a_column_of_numbers_in_another_form_is_named(cells: list[str], message: str) -> None:
    first = next(row for row, cell in enumerate(cells) if cell and number(cell) is None)
    with pytest.raises(TaskError, match=rf"line {first + 2}: .* 'cell' is .*{message}.*categorical"):
        from_csv(table_file, table(cells))
    # Whoever says that they are names gets names.
    source = from_csv(lambda path: table_file(path, categorical=["cell"]), table(cells))
    assert isinstance(source, ArraySource) and source.shape == (1 + len({*cells}) + 1,)


@pytest.mark.parametrize(("cells", "message"), OTHERWISE.values(), ids=OTHERWISE.keys())
def test_labels_in_another_form_are_named(cells: list[str], message: str) -> None:
    cells = [cell for cell in cells if cell] * 2
    text = "\n".join(["size,label", *(f'{i},"{cell}"' for i, cell in enumerate(cells))])
    if "begins with a zero" in message:  # identifiers are classes
        source = from_csv(table_file, text)
        assert isinstance(source, ArraySource) and len(source.classes("query")) == 15
        return
    with pytest.raises(TaskError, match=r"in column 'label' is .*or set kind=classes if it is a name"):
        from_csv(table_file, text)
    source = from_csv(lambda path: table_file(path, kind="classes"), text)
    assert isinstance(source, ArraySource) and {*source.classes("query")} == {*cells}


NAMES: dict[str, list[str]] = {
    "identifiers": [f"1_{i}" for i in range(9)],
    "seats": [f"{i}{letter}" for i in range(3) for letter in "ABC"],
    "ordinals": ["1st", "2nd", "3rd", "4th"],
    "quarters": ["Q1", "Q2", "Q3"],
    "versions": ["1.0.0", "1.0.1", "2.0.0"],
    "addresses": ["10.0.0.1", "10.0.0.2"],
    "telephones": ["555-1234", "555-9876"],
    "ranges": ["10-20", "20-30", "30+"],
    "infinities": ["inf", "nan?", "infinity"],
    "words": ["north", "south", "12%"],
}


@pytest.mark.parametrize("cells", NAMES.values(), ids=NAMES.keys())
def test_names_are_categories(cells: list[str]) -> None:
    assert written_otherwise(cells) is None and written_otherwise(cells, ",") is None
    source = from_csv(table_file, table(cells))
    assert source.shape == (1 + len(cells) + 1,)


def test_ten_and_an_identifier_are_not_the_same() -> None:
    """Python reads 1_0 as ten."""
    cells = [str(i) for i in range(5, 20)] + ["1_0"]
    with pytest.raises(TaskError, match=r"line 17: '1_0' in column 'cell' is no finite number, but 60 other"):
        from_csv(table_file, table(cells))


def test_decimal_commas_are_read_where_they_are_said_to_be() -> None:
    rows = [f'"{i},25",{"ab"[i % 2]}' for i in range(20)]
    points = [row.replace(",25", ".25") for row in rows]
    commas = from_csv(lambda path: table_file(path, decimal=","), "\n".join(["x,label", *rows]))
    plain = from_csv(table_file, "\n".join(["x,label", *points]))
    assert isinstance(commas, ArraySource) and isinstance(plain, ArraySource)
    assert commas.digest() == plain.digest()
    semicolons = "\n".join(["x;label", *(row.replace('",', ";").replace('"', "") for row in rows)])
    again = from_csv(lambda path: table_file(path, decimal=",", delimiter=";"), semicolons)
    assert again.digest() == plain.digest()
    with pytest.raises(TaskError, match=r"'0.25' in column 'x' is a number with a decimal point: set"):
        from_csv(lambda path: table_file(path, decimal=","), "\n".join(["x,label", *points]))
    for wrong in ("", ";", "comma", None):
        with pytest.raises(TaskError, match=r"is no mark of decimals: use '\.' or ','"):
            from_csv(lambda path, d=wrong: table_file(path, decimal=d), "x,label\n1,a")  # type: ignore[misc]
    values = from_csv(
        lambda path: table_file(path, decimal=",", label="x", kind="values"), "\n".join(["x,y", *rows])
    )
    assert isinstance(values, GroupArrays) and values.regression


def test_a_slip_in_a_column_of_values_is_named() -> None:
    lines = ["size,label", *(f"{i % 7},{i}.5" for i in range(40)), "3,high"]
    with pytest.raises(TaskError, match=r"line 42: 'high' in column 'label' is no finite number: use kind="):
        from_csv(table_file, "\n".join(lines))


# ------------------------------------------------------------------------------------------------- series


def series(rows: list[tuple[Any, ...]], header: str = "time,a,b,c") -> str:
    return "\n".join([header, *(",".join(f'"{cell}"' for cell in row) for row in rows)])


DATES = [f"2024-02-{day:02d}" for day in range(1, 29)]


def test_no_time_comes_twice_in_a_wide_file() -> None:
    rows = [(date, i, 2 * i, i * i) for i, date in enumerate(DATES)]
    from_csv(lambda path: SeriesFile(path, lags=3), series(rows))
    twice = [*rows, (DATES[4], 1, 2, 3)]
    for again, line in ((DATES[4], 30), (f"{DATES[4]}T00:00", 30), (f"{DATES[4]}T02:00+02:00", 30)):
        twice[-1] = (again, 1, 2, 3)
        with pytest.raises(TaskError, match=rf"line {line}: the file has a second value .* of line 6"):
            from_csv(lambda path: SeriesFile(path, lags=3), series(twice))
    numbers = [(i % 20, i, i, i) for i in range(28)]
    with pytest.raises(TaskError, match="line 22: the file has a second value for the time of line 2"):
        from_csv(lambda path: SeriesFile(path, lags=3), series(numbers))


def test_series_read_the_same_numbers() -> None:
    rows = [(f"{i:03d}", f"{i},5", 2 * i, i * i) for i in range(28)]
    points = [(f"{i:03d}", f"{i}.5", 2 * i, i * i) for i in range(28)]
    commas = from_csv(lambda path: SeriesFile(path, lags=3, decimal=","), series(rows))
    assert commas.digest() == from_csv(lambda path: SeriesFile(path, lags=3), series(points)).digest()
    for cell, message in (
        ("1_0", "is no finite number; if it is the time"),
        ("5%", "is a percentage: write the number alone; if it is the time"),
        ("1,5", "is a number with a decimal comma: set decimal=','"),
        ("31.01.2024", "is a date or time: .* set time to this column"),
    ):
        odd = [*points[:5], ("005", cell, 1, 2), *points[6:]]
        with pytest.raises(TaskError, match=rf"line 7: '{cell}' in column 'a' {message}"):
            from_csv(lambda path, rows=odd: SeriesFile(path, lags=3), series(odd))  # type: ignore[misc]
    with pytest.raises(TaskError, match=r"'1_0' in column 'time' is no time"):
        from_csv(lambda path: SeriesFile(path, lags=3), series([*points, ("1_0", 1, 2, 3)]))
    assert np.isfinite(commas.sample(np.random.default_rng(0), "a", 2, 2).support_x).all()
