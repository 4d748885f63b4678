"""The progress bar: what it says, and that it ends with what it shows."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from adapt.app import progress as module
from adapt.app.progress import progress


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=120, highlight=False)
    monkeypatch.setattr(module, "console", console)
    return text


def test_it_yields_everything_and_says_how_far(screen: io.StringIO) -> None:
    assert list(progress("counting")(range(5))) == [0, 1, 2, 3, 4]
    said = screen.getvalue()
    assert "counting" in said and "5/5" in said and "eta" in said


def test_a_bar_that_is_left_early_ends(screen: io.StringIO) -> None:
    for step in progress("counting")(range(5)):
        if step == 2:
            break
    assert screen.getvalue().endswith("\x1b[2K")  # the line is cleared
    with_another = list(progress("again")(range(2)))  # only one bar can be live at a time
    assert with_another == [0, 1]


@pytest.mark.parametrize(("rate", "said"), [(None, ""), (0.5, "2.0 s each"), (12.34, "12.3/s")])
def test_rates_read_well(rate: float | None, said: str) -> None:
    class Task:
        finished_speed, speed = None, rate

    assert module._Rate().render(Task()).plain == said  # type: ignore[arg-type]
