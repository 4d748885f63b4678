"""How the benchmarks of intents and of relations measure: piece by piece, each kept, until the time is up."""

import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from adapt.compare.examples import Examples
from adapt.compare.statistics import mean_interval, paired_difference
from adapt.files import read_json, write_json
from bench.lib.record import Row, options

__all__ = ["Scores", "gap_row", "processor", "score_rows", "until_option", "work_off"]


def until_option(description: str | None) -> ArgumentParser:
    """The options of both benchmarks."""
    parser = options(description)
    parser.add_argument("--until", type=float, default=1e9, help="minutes after which nothing new is begun")
    return parser


def work_off(jobs: Iterable[Callable[[], object]], minutes: float) -> None:
    """All of them in turn, none begun after ``minutes``."""
    begun = time.monotonic()
    for job in jobs:
        if time.monotonic() - begun >= 60 * minutes:
            break
        job()


def processor(work: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """What ``work`` returns, and the seconds of the processor that it took."""
    begun = time.process_time()
    return work(*arguments), time.process_time() - begun


@dataclass(frozen=True)
class Scores:
    """Scores (0 … 1) and seconds of methods, kept in a file: ``{"scores": {method: [one per task, or per text
    of the test set]}, "seconds": {method: […]}}``."""

    path: Path

    @cached_property
    def found(self) -> dict[str, dict[str, list[float]]]:
        return read_json(self.path) if self.path.exists() else {"scores": {}, "seconds": {}}

    def add(self, method: str, scores: Sequence[float] = (), seconds: Sequence[float] = ()) -> None:
        """More of a method; :meth:`save` keeps it."""
        for key, values in (("scores", scores), ("seconds", seconds)):
            self.found[key].setdefault(method, []).extend(values)

    def save(self) -> None:
        write_json(self.path, self.found)

    def of(self, method: str) -> list[float]:
        """The scores so far."""
        return self.found["scores"].get(method, [])

    def seconds(self, method: str) -> list[float]:
        return self.found["seconds"].get(method, [])


def score_rows(
    case: str,
    scores: Sequence[float],
    seconds: Sequence[float],
    examples: Examples | None = None,
    *,
    goal: float | None = None,
    note: str = "",
) -> Iterator[Row]:
    """Accuracy, and seconds; ``examples``: what the tasks share."""
    mean = mean_interval([100 * score for score in scores], examples)
    yield Row.of(case, "eval/accuracy", mean, "%", goal=goal)
    took = mean_interval(seconds)
    yield Row.cost(case, "time/adapt_seconds", took.mean, "s", took.ci95, took.n, note=note)


def gap_row(
    case: str,
    metric: str,
    scores: Sequence[float],
    others: Sequence[float],
    examples: Examples | None = None,
    goal: float | None = None,
) -> Row:
    """How much better than ``others``, of the same tasks, in points."""
    theirs = others[: len(scores)]
    gap = paired_difference([100 * score for score in scores], [100 * score for score in theirs], examples)
    return Row.of(case, metric, gap, "points", goal=goal)
