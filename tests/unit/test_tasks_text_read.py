"""Rows of tables and of JSON lines are read as they were written, or not at all."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks import TaskError
from tasks.text._read import Columns, read_rows

CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
ROWS = st.lists(st.tuples(CELLS, CELLS), min_size=1)
JSON_MISTAKES = {
    "broken": (
        '{"text": "a", "label": "b"}\n\n{"text": "a" "label": 1}\n',
        "line 3: not JSON at column 14 .*repair",
    ),
    "one array": ('[\n{"text": "a"}]', "line 1: not JSON .*one object per line"),
    "array on a line": ('[{"text": "a"}]', "line 1: a list where an object should be"),
    "indented": ('{\n"text": "a"\n}', "line 1: not JSON .*one object per line"),
    "other key": ('{"texts": "a", "label": "b"}', r"no column 'text' .*did you mean 'texts'\?"),
    "nested": ('{"text": {"en": "a"}, "label": "b"}', "line 1, column 'text': a dict where a string"),
    "one class as two": (
        '{"text": "a", "label": 1}\n{"text": "b", "label": "2"}\n{"text": "c", "label": "1"}',
        "line 3, column 'label': 1 is a string here or in line 1, and none in",
    ),
    "true and its name": (
        '{"text": "a", "label": "true"}\n{"text": "c", "label": true}',
        "line 2, column 'label': true is a string here or in line 1",
    ),
    "deep": ("[" * 100_000, "line 1: "),
    "long number": ('{"text": "a", "label": ' + "1" * 5000 + "}", "line 1: cannot be read .*repair"),
    "huge": (json.dumps({"text": "x" * 131_073, "label": "a"}), "line 1, column 'text': 131,073 characters"),
}


def table(rows: Sequence[tuple[str, ...]], delimiter: str = ",", columns: str = "text,label") -> str:
    """A table as the csv module writes it."""
    lines = io.StringIO(newline="")
    csv.writer(lines, delimiter=delimiter).writerows([columns.split(","), *rows])
    return lines.getvalue()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(
    ROWS,
    st.sampled_from(",;\t|"),
    st.sampled_from(["csv", "tsv", "txt"]),
)
def test_a_table_is_read_as_it_was_written(
    tmp_path: Path, rows: list[tuple[str, str]], delimiter: str, suffix: str
) -> None:
    path = tmp_path / f"my.{suffix}"
    path.write_text(table(rows, delimiter), encoding="utf-8", newline="")
    read = read_rows(path, Columns())
    assert [(row.text, row.label) for row in read] == rows
    assert read[0].line == 2
    assert [row.line for row in read] == sorted({row.line for row in read})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(ROWS, st.booleans(), st.sampled_from(["jsonl", "txt", "json"]))
def test_json_lines_are_read_as_they_were_written(
    tmp_path: Path, rows: list[tuple[str, str]], ascii_only: bool, suffix: str
) -> None:
    path = tmp_path / f"my.{suffix}"
    lines = (json.dumps({"label": b, "more": 1, "text": a}, ensure_ascii=ascii_only) for a, b in rows)
    path.write_text("\r\n".join(lines), encoding="utf-8", newline="")
    read = read_rows(path, Columns())
    assert [(row.line, row.text, row.label) for row in read] == [(i, *row) for i, row in enumerate(rows, 1)]


@pytest.mark.parametrize(("content", "says"), JSON_MISTAKES.values(), ids=JSON_MISTAKES.keys())
def test_a_mistake_in_json_is_named(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "my.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(TaskError, match=rf"my\.jsonl.*{says}"):
        read_rows(path, Columns())
