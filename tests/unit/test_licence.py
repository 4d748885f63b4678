"""The warning about data that may not be used commercially, and the tags of a run."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from adapt.app.stages.licence import licence_tags, warn_about_licence
from tests.audited import CARD


@pytest.mark.parametrize(
    ("commercial", "word"), [(True, "allowed"), (False, "not allowed"), (None, "not stated")]
)
def test_tags(commercial: bool | None, word: str) -> None:
    card = replace(CARD, licence="CC BY-NC 4.0", commercial=commercial)
    assert licence_tags(card) == {"data_licence": "CC BY-NC 4.0", "data_commercial_use": word}


def test_tags_are_never_empty_and_fit_into_mlflow() -> None:
    assert licence_tags(replace(CARD, licence=""))["data_licence"] == "none"
    assert len(licence_tags(replace(CARD, licence="a licence " * 1000))["data_licence"]) <= 250


@pytest.mark.parametrize("commercial", [True, None])
def test_nothing_is_said_where_nothing_is_forbidden(commercial: bool | None) -> None:
    file = io.StringIO()
    assert not warn_about_licence(replace(CARD, commercial=commercial), Console(file=file))
    assert file.getvalue() == ""


def test_one_line_names_data_and_licence() -> None:
    file = io.StringIO()
    card = replace(CARD, licence="CC BY-NC [4.0]", commercial=False)
    assert warn_about_licence(card, Console(file=file, width=40))
    (line,) = file.getvalue().splitlines()
    assert line.startswith("licence: planted (CC BY-NC [4.0]) may not be used commercially")
