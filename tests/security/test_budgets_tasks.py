"""Tasks that would never end or fill the memory are refused, with what they would take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from adapt import AdaptError
from adapt.app.sweeps.tuning.search import read_search
from adapt.compare import compare
from adapt.compare.many import check_count
from tasks import (
    Distribution,
    FunctionTasks,
    Gridworld,
    GroupedTasks,
    MetaDataset,
    Sinusoid,
    Style,
    TaskError,
    Uniform,
)
from tests.helpers import make_source

HUGE = 10**12


class Slow:
    """A distribution that takes a hundredth of a second, as far as the clock knows, to draw a task."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.drawn = 0
        monkeypatch.setattr("time.perf_counter", lambda: 0.01 * self.drawn)

    def episode(self, index: int) -> None:
        self.drawn += 1


def test_the_number_of_tasks_has_a_limit_and_the_message_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = Slow(monkeypatch)
    assert check_count(10**6, tasks) == 10**6 and tasks.drawn == 0
    with pytest.raises(AdaptError, match=r"task.tasks=1000000000000 would take about 317 years.*10 ms each"):
        check_count(HUGE, tasks)
    for count, said in ((10**6 + 1, "3 hours"), (10**8, "12 days"), (10**5000, "years")):
        with pytest.raises(AdaptError, match=rf"about [\d,]* ?{said}.*use task.tasks<=1,000,000"):
            check_count(count, Slow(monkeypatch))


@pytest.mark.parametrize("count", [0, -1, True, 2.5, "3", None])
def test_the_number_of_tasks_is_a_number(count: Any) -> None:
    with pytest.raises(AdaptError, match=r"task\.tasks="):
        check_count(count, None)


def test_comparing_refuses_before_it_begins() -> None:
    tasks = Distribution(make_source(), 3, 1, 1)
    with pytest.raises(AdaptError, match=r"task\.tasks=1000000000000 would take about"):
        compare(
            {"a": object()},  # type: ignore[dict-item]
            tasks,
            None,  # type: ignore[arg-type]
            experiment="it",
            task={},
            tasks=HUGE,
            device=torch.device("cpu"),
        )


@pytest.mark.parametrize("setting", ["trials", "tasks"])
def test_a_search_has_a_limit(setting: str) -> None:
    space = {"backprop": {"method.backprop.solver.lr": {"low": 0.1, "high": 1}}}
    with pytest.raises(AdaptError, match=rf"{setting}=1000000000000 is too large"):
        read_search(OmegaConf.create({"trials": 1, "tasks": 1, "space": space, setting: HUGE}))


LARGE: dict[str, Callable[[], Any]] = {
    "shots": lambda: Distribution(make_source(), 3, 10**8, 1, transform=Style(), replace=True),
    "queries": lambda: Distribution(make_source(), 3, 1, 10**8, transform=Style(), replace=True),
    "shots that are drawn": lambda: Distribution(
        make_source(), 3, Uniform(1, 10**8), 1, transform=Style(), replace=True
    ),
    "sizes": lambda: Distribution(make_source(), sizes=MetaDataset(2, 2, most_support=10**8)),
    "points of functions": lambda: FunctionTasks(Sinusoid(), shots=10**9, queries=10**9),
    "rows of groups": lambda: GroupedTasks(Gridworld(), shots=10**9),
}


@pytest.mark.parametrize("make", LARGE.values(), ids=[*LARGE])
def test_a_task_that_would_fill_the_memory_is_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(TaskError, match=r"one task would hold [\d,]+ examples of [\d,]+ numbers, [\d,]+ GiB"):
        make()


@pytest.mark.parametrize("size", ["ways", "shots", "queries"])
def test_sizes_that_nobody_has_are_refused(size: str) -> None:
    for value in (HUGE, Uniform(2, HUGE)):
        with pytest.raises(TaskError, match=rf"task\.{size}=.* is too large"):
            Distribution(make_source(), **{size: value}, transform=Style(), replace=True)  # type: ignore[arg-type]
