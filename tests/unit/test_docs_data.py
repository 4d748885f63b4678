"""docs/data.md: its examples run, its commands are those that there are, its table is what the cards say."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import tasks
from bench.pages import sources as table
from tasks import TaskError
from tasks.audit import Report
from tests.unit.test_docs import blocks

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
#: Making these reads or draws thousands of images.
LARGE = ("Cifar100", "CifarFS", "FC100", "GTSRB", "GTSRBLight", "Glyphs", "Omniglot", "OmniglotDrawers")


def test_examples_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ADAPT_CACHE", str(tmp_path / "cache"))
    given: dict[str, Any] = {}
    shapes: list[tuple[int, ...]] = []
    for block in blocks("python", PAGE):
        exec(compile(block, "docs/data.md", "exec"), given)
        if isinstance(made := given.pop("tasks", None), tasks.Distribution | tasks.GroupedTasks):
            episode = made.episode(0)
            shapes += [tuple(episode.support_x.shape), tuple(episode.query_x.shape)]
    assert given["parts"].splits == ("support", "query")
    assert sorted(given["requests"].classes("support")) == ["lost", "open"]
    assert "group" not in given["pooled"].card.description
    assert (shapes[0], shapes[4]) == ((6, 3, 32, 32), (10, 14))
    assert shapes[3][0] == 10
    assert isinstance(given["report"], Report) and given["report"].ok
    assert given["turns"].card.known_issues == ("One car only.",)


def test_names_and_configs_of_the_page_exist() -> None:
    named = re.findall(r"`(\w+)`", re.search(r"\| you have .*?\n\n", PAGE, re.DOTALL)[0])  # type: ignore[index]
    assert len(named) > 8 and {*named} <= {*tasks.__all__, "datasets"}
    for option in re.findall(r"task=(\w+)", PAGE):
        assert (ROOT / "conf" / "task" / f"{option}.yaml").is_file()


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else []) for name in table.sources()],
)
def test_row_of_the_table_is_what_the_card_says(name: str, request: pytest.FixtureRequest) -> None:
    if "root" in inspect.signature(table.sources()[name]).parameters:
        request.getfixturevalue("data")
    cells = table.row(name)
    assert "| " + " | ".join(cells) + " |" in PAGE.splitlines(), "run python -m bench.pages.sources"


def test_the_table_has_a_row_for_every_source_and_keeps_those_whose_files_are_not_at_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = re.findall(r"^\| \[`(\w+)`\]", PAGE, re.MULTILINE)
    assert names == [*table.sources()]

    def absent(name: str) -> list[str]:
        raise TaskError("not here")

    monkeypatch.setattr(table, "row", absent)
    missing: list[str] = []
    assert table.filled(PAGE, missing) == PAGE
    assert missing == [f"{name}: not here" for name in names]
    monkeypatch.setattr(table, "row", lambda name: [name, "changed"])
    assert "| Omniglot | changed |" in table.filled(PAGE).splitlines()
