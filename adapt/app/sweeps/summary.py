"""What came of a sweep: its runs, its settings with their seeds pooled, and the best of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.table import Table

from adapt.app.stages.state import STATE, State
from adapt.compare import Comparison
from adapt.compare.figures import draw_all, errors_beside, interactive, save, score_against_shots
from adapt.compare.markdown import comparison_markdown
from adapt.compare.metric import METRICS, Metric
from adapt.compare.pooled import pool
from adapt.compare.statistics import Interval, mean_interval
from adapt.compare.verdict import verdict
from adapt.errors import AdaptError
from adapt.files import write_json, write_text
from tasks.readers.shown import harmless, inline, row

__all__ = ["Job", "Setting", "Summary", "draw", "read_jobs"]

#: Runs that differ in nothing else are one setting.
SEED = "seed"
NONE = "–"
ROLES = ("retrain", "finetune", "backprop")
#: A sweep has no other tasks to choose on: `tune` has.
CHOSEN_ON = "the tasks that it is measured on"
#: So many failures are named in a line.
SHOWN_FAILURES = 5
#: So many experiments have room in one figure.
MOST_BESIDE = 3
#: Of a run's state, what sweep.json repeats.
NOTED = ("status", "score", "metric", "run_id", "error")


@dataclass(frozen=True)
class Job:
    """One run of a sweep: where it is, what was noted of it, and what it measured if it was a comparison."""

    folder: Path
    state: State
    comparison: Comparison | None = None

    @property
    def number(self) -> int:
        """In the sweep."""
        return self.state.number or 0

    @property
    def finished(self) -> bool:
        """Whether it has a score."""
        return self.state.status == "finished"


@dataclass(frozen=True)
class Setting:
    """What runs that differ in their seed have in common, and those that are finished.

    ``overrides``: by key, those that differ from setting to setting.
    """

    overrides: dict[str, str]
    jobs: list[Job]

    @property
    def name(self) -> str:
        """The overrides as they were typed."""
        return " ".join(f"{key}={value}" for key, value in self.overrides.items())

    @property
    def metric(self) -> Metric | None:
        """What its score is; None if its runs say nothing or different things."""
        names = {job.state.metric for job in self.jobs}
        (name,) = names if len(names) == 1 else (None,)
        return METRICS.get(name or "")

    @cached_property
    def comparison(self) -> Comparison | None:
        """The tasks of all seeds together; None if they cannot be pooled."""
        found = [job.comparison for job in self.jobs if job.comparison is not None]
        if not found or len(found) < len(self.jobs):
            return None
        try:
            return found[0] if len(found) == 1 else pool(found)
        except AdaptError:  # on machines of two kinds, for instance
            return None

    @property
    def score(self) -> Interval | None:
        """Of ours over all tasks; where there is no comparison, over the runs."""
        if (comparison := self.comparison) is not None and comparison.methods:
            return (comparison.ours or next(iter(comparison.methods.values()))).mean_score
        scores = [job.state.score for job in self.jobs if job.state.score is not None]
        return mean_interval(scores) if scores else None


def read_jobs(folder: Path, sweep: str) -> list[Job]:
    """The runs of the sweep with that id below ``folder``, by number."""
    jobs = dict[int, Job]()
    for path in sorted(folder.rglob(STATE)):
        state = State.read(path.parent)
        if state is None or state.sweep != sweep:
            continue  # left from an earlier sweep into the same folder
        found = path.with_name("comparison.json")
        whole = state.status == "finished" and state.stage == "compare"
        comparison = Comparison.read(found) if whole else None
        job = Job(path.parent, state, comparison)
        # One that was not started, see OCCUPIED, may be found twice: as it was left, and so.
        if job.number not in jobs or not jobs[job.number].finished:
            jobs[job.number] = job
    return [jobs[number] for number in sorted(jobs)]


class Summary:
    """Of ``jobs``; ``name`` is that of the experiment."""

    def __init__(self, name: str, jobs: Sequence[Job]) -> None:
        self.name, self.jobs = name, list(jobs)
        typed = [dict(_parts(job.state.overrides)) for job in jobs]
        keys = dict.fromkeys(key for overrides in typed for key in overrides)
        self._keys = [key for key in keys if len({overrides.get(key) for overrides in typed}) > 1]
        self._typed = {
            job.number: {key: overrides[key] for key in self._keys if key in overrides}
            for job, overrides in zip(jobs, typed, strict=True)
        }

    @property
    def failed(self) -> list[Job]:
        """Runs that ended with an error."""
        return [job for job in self.jobs if job.state.status == "failed"]

    @property
    def failures(self) -> str:
        """How many failed, which, and why, in a line."""
        failures = [
            f"run {job.number}{f' ({name})' if (name := self._name(job)) else ''}: {job.state.error}"
            for job in self.failed
        ]
        named = failures[:SHOWN_FAILURES]
        if (more := len(failures) - len(named)) > 0:
            named.append(f"and {more} more, see sweep.md")
        return f"{len(failures)} of {len(self.jobs)} runs of the sweep failed: {'; '.join(named)}"

    @cached_property
    def settings(self) -> list[Setting]:
        """In the order of their first runs."""
        found: dict[str, Setting] = {}
        for job in self.jobs:
            overrides = {key: value for key, value in self._typed[job.number].items() if key != SEED}
            setting = Setting(overrides, [])
            if job.finished:
                found.setdefault(setting.name, setting).jobs.append(job)
        return list(found.values())

    @cached_property
    def best(self) -> Setting | None:
        """The one with the best score; None if there is none, or if scores are of different kinds."""
        metrics = {setting.metric for setting in self.settings}
        (metric,) = metrics if len(metrics) == 1 else (None,)
        scored = [setting for setting in self.settings if setting.score is not None]
        if metric is None or not scored:
            return None
        return max(scored, key=lambda setting: metric.gain(_mean(setting)))

    @property
    def text(self) -> str:
        """The sweep in words: the description of its MLflow run."""
        return " ".join(self._sentences())

    def _sentences(self) -> Iterator[str]:
        over = f" over {', '.join(self._keys)}" if self._keys else ""
        yield f"{len(self.jobs)} run{'s' if len(self.jobs) != 1 else ''}{over}."
        if (best := self.best) is not None and best.metric is not None and best.score is not None:
            pooled = f", {len(best.jobs)} seeds together" if len(best.jobs) > 1 else ""
            score = f"{best.metric.phrase(best.score)}{pooled}"
            if len(self.settings) > 1:
                yield (
                    f"Best of {len(self.settings)} settings: {best.name} ({score}), chosen on {CHOSEN_ON}, "
                    "which favours it."
                )
            else:
                yield f"{score[0].upper()}{score[1:]}."
            if best.comparison is not None:
                yield verdict(best.comparison)
        if self.best is None:
            found = [setting.comparison for setting in self.settings if setting.comparison is not None]
            yield from (f"{result.experiment}: {verdict(result)}" for result in found)
        if self.failed:
            yield f"{self.failures}."

    def tags(self) -> dict[str, str]:
        """Of the sweep's MLflow run: what is best, and what happened."""
        tags = {"mlflow.note.content": harmless(self.text)}
        if (best := self.best) is not None:
            tags["best_overrides"] = best.name
            tags["best_chosen_on"] = CHOSEN_ON
            runs = [job.state.run_id for job in best.jobs if job.state.run_id is not None]
            if runs:
                tags["best_run"] = runs[0]
            if len(runs) > 1:
                tags["best_runs"] = " ".join(runs)
        if self.failed:
            tags["failed_runs"] = " ".join(str(job.number) for job in self.failed)
        return tags

    def metrics(self) -> dict[str, float]:
        """Of the sweep's MLflow run: counts, and of the best setting its score and what it saves."""
        values = {"sweep/runs": float(len(self.jobs)), "sweep/failed": float(len(self.failed))}
        if (best := self.best) is not None:
            values["sweep/best"] = _mean(best)
            if best.comparison is not None:
                values |= best.comparison.metrics()
        return values

    def to_dict(self, folder: Path) -> dict[str, Any]:
        """JSON-ready; folders relative to ``folder``."""
        best = self.best
        return {
            "jobs": [
                {
                    "number": job.number,
                    "folder": job.folder.relative_to(folder).as_posix(),
                    "overrides": self._name(job),
                    **{key: getattr(job.state, key) for key in NOTED},
                }
                for job in self.jobs
            ],
            "settings": [_described(setting) for setting in self.settings],
            "best": None if best is None else {**_described(best), "chosen_on": CHOSEN_ON},
        }

    def rows(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Column names, and a row of texts for each setting, then for each run that is not in one."""
        metrics = {setting.metric for setting in self.settings if setting.metric is not None}
        (metric,) = metrics if len(metrics) == 1 else (None,)
        roles = [role for role in ROLES if any(_speedup(setting, role) for setting in self.settings)]
        header = ("setting", "runs", metric.column if metric else "score", *(f"vs {role}" for role in roles))
        rows = [
            (
                setting.name or self.name,
                ", ".join(str(job.number) for job in setting.jobs),
                _score_text(setting),
                *(_speedup(setting, role) or NONE for role in roles),
            )
            for setting in self.settings
        ]
        rest = [job for job in self.jobs if not job.finished]
        rows += [
            (self._name(job) or self.name, str(job.number), job.state.status, *[NONE] * len(roles))
            for job in rest
        ]
        return header, rows

    def table(self) -> Table:
        """:meth:`rows` for the terminal."""
        header, rows = self.rows()
        table = Table(title=f"{self.name}: sweep of {len(self.jobs)} runs", title_justify="left")
        for index, name in enumerate(header):
            table.add_column(name, justify="left" if index == 0 else "right", overflow="fold")
        for texts in rows:
            table.add_row(*texts)
        return table

    def markdown(self) -> str:
        """The page ``sweep.md``."""
        header, rows = self.rows()
        runs = [
            (
                str(job.number),
                self._name(job) or NONE,
                job.state.status,
                _job_text(job),
                job.state.error or NONE,
            )
            for job in self.jobs
        ]
        parts = [
            f"# {inline(self.name)}: sweep of {len(self.jobs)} runs",
            inline(self.text),
            "## Settings",
            _markdown([header, ("---", *["---:"] * (len(header) - 1)), *rows]),
            "Seeds are pooled: a score is over the tasks of all runs of a setting, ± is its 95 % interval "
            "(Student's t; examples that tasks share count once), not adjusted for the number of settings. "
            "“vs …” is the other method's time ÷ ours, see comparison.md of a run.",
            "## Runs",
            _markdown([("run", "overrides", "status", "score", "error"), ("---:", *["---"] * 4), *runs]),
        ]
        return "\n\n".join(parts) + "\n"

    def write(self, folder: Path) -> list[Path]:
        """``sweep.md`` and the figures, into ``folder``; where the best setting has several seeds, the
        comparison of all its tasks too. Returns the paths."""
        paths = [folder / "sweep.md"]
        write_text(paths[0], self.markdown())
        if self.best is not None and len(self.best.jobs) > 1 and self.best.comparison is not None:
            pooled = self.best.comparison
            paths += [folder / "comparison.json", folder / "comparison.md"]
            write_json(paths[1], pooled.to_dict())
            write_text(paths[2], comparison_markdown(pooled))
            closer = interactive(pooled, folder / "comparison.html")
            paths += [*draw_all(pooled, folder), *([closer] if closer is not None else [])]
        return paths + draw([job.comparison for job in self.jobs if job.comparison is not None], folder)

    def _name(self, job: Job) -> str:
        return " ".join(f"{key}={value}" for key, value in self._typed[job.number].items())


def draw(comparisons: Sequence[Comparison], folder: Path) -> list[Path]:
    """The score against shots, if the comparisons differ in shots and in nothing else but seeds; of a few
    experiments, one run each, their errors against seconds beside each other."""
    if 1 < len({result.experiment for result in comparisons}) == len(comparisons) <= MOST_BESIDE:
        return save(errors_beside(comparisons), folder / "error_against_seconds")
    points = {(result.task.get("shots"), result.seed) for result in comparisons}
    metrics = {result.metric.name for result in comparisons}
    if len({shots for shots, _ in points}) < 2 or len(points) < len(comparisons) or len(metrics) > 1:
        return []
    if not all(isinstance(shots, int) for shots, _ in points):
        return []  # drawn task by task: no place on an axis
    (metric,) = metrics
    return save(score_against_shots(comparisons), folder / f"{metric}_against_shots")


def _parts(overrides: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Key and value of each override; of ``~key`` the value is empty."""
    for override in overrides:
        key, _, value = override.partition("=")
        yield key.lstrip("+~"), value


def _mean(setting: Setting) -> float:
    return setting.score.mean if setting.score is not None else float("nan")


def _score_text(setting: Setting) -> str:
    if setting.score is None:
        return NONE
    return setting.metric.text(setting.score) if setting.metric else f"{setting.score.mean:.4g}"


def _job_text(job: Job) -> str:
    if not job.finished or job.state.score is None:
        return NONE
    return _score_text(Setting({}, [job]))


def _speedup(setting: Setting, role: Any) -> str | None:
    comparison = setting.comparison
    if comparison is None or comparison.ours is None or (other := comparison.by_role(role)) is None:
        return None
    return str(comparison.speedup(other, comparison.ours)) if comparison.learned(other) else "near chance"


def _described(setting: Setting) -> dict[str, Any]:
    score = setting.score
    return {
        "overrides": setting.name,
        "runs": [job.number for job in setting.jobs],
        "metric": setting.metric.name if setting.metric else None,
        **(score._asdict() if score is not None else {}),
        **(setting.comparison.metrics() if setting.comparison is not None else {}),
    }


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(map(row, rows))
