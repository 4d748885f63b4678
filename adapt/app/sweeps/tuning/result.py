"""What a search found: the best trial of every method, as JSON and as texts for tables."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapt.app.sweeps.tuning.search import Range, Search, Setting, Value
from adapt.app.sweeps.tuning.study import Trial
from adapt.compare import Interval, Metric
from adapt.compare.examples import Examples
from adapt.compare.statistics import paired_difference
from adapt.compare.verdict import seconds_text

__all__ = ["Tuning", "settings_text", "value_text"]

_NONE = "–"


@dataclass(frozen=True)
class Tuning:
    """All trials of a search.

    Attributes:
        experiment: name of what was tuned.
        search: space and budget.
        metric: of the scores.
        where: a sentence on the validation tasks.
        data: sha256 (hex) of what they were drawn from.
        trials: by method, in order.
        versions: of the libraries that decide.
        examples: what the validation tasks were drawn from; None: they are not tasks, or not known.
    """

    experiment: str
    search: Search
    metric: Metric
    where: str
    data: str
    trials: Mapping[str, Sequence[Trial]]
    versions: Mapping[str, str]
    examples: Examples | None = None

    def best(self, method: str) -> Trial | None:
        """The trial with the best mean score; of equal ones the one that costs fewer forward equivalents, and
        of those the first: nothing that was measured with a clock decides. None: all failed."""
        judged = [trial for trial in self.trials[method] if trial.scores]
        return max(judged, key=self._rank, default=None)

    def _rank(self, trial: Trial) -> tuple[float, float, int]:
        known = trial.cost is not None and math.isfinite(trial.cost)
        return self.metric.gain(trial.score), -(trial.cost or 0.0) if known else -math.inf, -trial.number

    @property
    def chosen(self) -> dict[str, Trial]:
        """The best trial of every method that has one."""
        return {name: best for name in self.trials if (best := self.best(name)) is not None}

    @property
    def values(self) -> dict[str, Value]:
        """The settings of all chosen trials together."""
        return {key: value for trial in self.chosen.values() for key, value in trial.params.items()}

    @property
    def budget(self) -> str:
        """What every method was given, as a sentence."""
        limit = (
            "" if self.search.seconds is None else f", at most {seconds_text(self.search.seconds)} of them"
        )
        return f"{self.search.trials} trials per method{limit}, each on {self.where}"

    def metrics(self) -> dict[str, float]:
        """Of the MLflow run of the search: the best score of every method, and how many trials it had."""
        values: dict[str, float] = {}
        for name, trial in self.chosen.items():
            values[f"tune/{name}/{self.metric.name}"] = trial.score
            values[f"tune/{name}/adapt_seconds"] = trial.seconds
            values[f"tune/{name}/trials"] = float(len(self.trials[name]))
        return values

    def rows(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Column names, and one row of texts per method."""
        header = (
            "method",
            self.metric.column,
            f"vs as configured, {self.metric.difference_unit}",
            "time",
            "tasks",
            "trials",
            "chosen settings",
        )
        return header, [self._row(name) for name in self.trials]

    def _row(self, name: str) -> tuple[str, ...]:
        trials, best = self.trials[name], self.best(name)
        failed = sum(not trial.scores for trial in trials)
        count = f"{len(trials)}" + (f" ({failed} failed)" if failed else "")
        if best is None:
            return (name, _NONE, _NONE, _NONE, _NONE, count, "none worked")
        own = next((trial for trial in trials if trial.own and trial.scores), None)
        difference = _NONE
        if own is not None and own is not best:
            found = paired_difference(best.scores, own.scores, self.examples, shares=self.metric.share)
            difference = self.metric.difference_text(found)
        return (
            name,
            self.metric.text(interval(best)),
            difference,
            seconds_text(best.seconds),
            str(len(best.scores)),
            count,
            settings_text(best.params),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, everything included."""
        return {
            "experiment": self.experiment,
            "metric": self.metric.name,
            "budget": {
                "trials": self.search.trials,
                "tasks": self.search.tasks,
                "seconds": self.search.seconds,
                "text": self.budget,
            },
            "sampler": self.search.sampler,
            "seed": self.search.seed,
            "data": self.data,
            "space": {
                method: {key: _plain(setting) for key, setting in space.items()}
                for method, space in self.search.space.items()
            },
            "chosen": {name: trial.to_dict() for name, trial in self.chosen.items()},
            "trials": [trial.to_dict() for trials in self.trials.values() for trial in trials],
            "versions": dict(self.versions),
        }


def interval(trial: Trial) -> Interval:
    """The mean score of a trial."""
    return Interval(trial.score, trial.ci95, len(trial.scores))


def settings_text(params: Mapping[str, Value]) -> str:
    """``method.forward.k=4 inner.steps=2``: as one would type them."""
    return " ".join(f"{key}={value_text(value)}" for key, value in params.items())


def value_text(value: Value) -> str:
    """A value as YAML says it."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(setting: Setting) -> Any:
    if isinstance(setting, Range):
        return {"low": setting.low, "high": setting.high, "log": setting.log}
    return list(setting.values)
