"""What a search leaves behind: a page, a figure, a table on the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from adapt.app.sweeps.tuning.result import Tuning, interval, value_text
from adapt.app.sweeps.tuning.study import STARTUP, Trial
from adapt.compare.evidence import evidence_line
from adapt.compare.verdict import seconds_text
from adapt.files import writing
from tasks.readers.shown import inline, row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw", "page", "show", "summary"]

COLUMNS = 3  # of the figure
BEST, OTHER = "#D55E00", "#0072B2"  # of the colour-blind-safe palette of Okabe and Ito (2008)
NONE = "–"


def page(tuning: Tuning) -> str:
    """``tuning.md``: the summary, and all trials."""
    parts = [
        f"# Settings of {inline(tuning.experiment)}, chosen on validation tasks",
        summary(tuning),
        "## All trials",
        f"Trial 0 is the setting of the config itself, where the space has it. {_sampling(tuning)}",
    ]
    for name, trials in tuning.trials.items():
        parts += [f"### {name}", _space(tuning, name), _table(*_rows(tuning, name, trials))]
    return "\n\n".join(parts) + "\n"


def summary(tuning: Tuning) -> str:
    """The budget and the best of every method, in Markdown."""
    parts = [
        f"The same budget for every method: {tuning.budget}. All methods saw the same tasks; a costly one "
        "ran on the first of them only, as the table says. None of them is one that the comparison measures.",
        _table(*tuning.rows()),
        *([evidence] if (evidence := evidence_line(tuning.examples)) else []),
        "The best of several trials looks better on the tasks that it was chosen on than it is. Measure it "
        "on others: `python -m adapt --config-dir <this folder> experiment=chosen`. ± is a 95 % interval "
        "(Student's t; examples that tasks share count once), not adjusted for the number of trials; "
        "differences are paired by task. Of equal scores the one that costs less is chosen.",
    ]
    return "\n\n".join(parts)


def draw(tuning: Tuning, path: Path) -> list[Path]:
    """Score against trial, a panel per method, with the best so far as a line; as ``path``.svg and .png."""
    import matplotlib
    from matplotlib.figure import Figure

    names = list(tuning.trials)
    columns = min(COLUMNS, len(names))
    rows = math.ceil(len(names) / columns)
    style: Any = {
        "font.size": 9,
        "svg.hashsalt": "adapt",
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(1 + 2.6 * columns, 0.6 + 2.1 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, name in zip(grid.flat, names, strict=False):
            _panel(axes, tuning, name)
        for axes in list(grid.flat)[len(names) :]:
            axes.set_axis_off()
        figure.supxlabel("trial", fontsize=9)
        figure.supylabel(tuning.metric.axis.replace("queries", "validation queries"), fontsize=9)
        paths = [path.with_suffix(".svg"), path.with_suffix(".png")]
        with writing(paths[0]) as file:
            figure.savefig(file, format="svg", metadata={"Date": None})
        with writing(paths[1]) as file:
            figure.savefig(file, format="png", dpi=150)
    return paths


def show(tuning: Tuning, folder: Path, ui: str | None, console: Console) -> None:
    """Print the best of every method; ``ui`` is the command that opens the MLflow UI."""
    header, rows = tuning.rows()
    table = Table(title=f"{tuning.experiment}: {tuning.budget}", title_justify="left")
    for index, name in enumerate(header):
        left = index in (0, len(header) - 1)
        table.add_column(name, justify="left" if left else "right", overflow="fold")
    for texts in rows:
        table.add_row(*texts)
    console.print()
    console.print(table)
    console.print(f"\nresults  {folder / 'tuning.md'}", soft_wrap=True)
    console.print(f"measure  python -m adapt --config-dir {folder} experiment=chosen", soft_wrap=True)
    if ui is not None:
        console.print(f"MLflow   {ui}", soft_wrap=True)


def _sampling(tuning: Tuning) -> str:
    seed = f"seed {tuning.search.seed}"
    if tuning.search.sampler == "random":
        return f"The others were drawn at random ({seed})."
    version = tuning.versions.get("optuna", "")
    return (
        f"The others were proposed by the tree-structured Parzen estimator of Optuna {version} ({seed}), the "
        f"first {STARTUP} at random."
    )


def _space(tuning: Tuning, name: str) -> str:
    settings = (f"`{key}`: {setting}" for key, setting in tuning.search.space[name].items())
    return "Searched: " + "; ".join(settings) + "."


def _rows(
    tuning: Tuning, name: str, trials: Sequence[Trial]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    keys = list(tuning.search.space[name])
    best = tuning.best(name)
    header = ("trial", *keys, tuning.metric.column, "tasks", "time")
    rows = []
    for trial in trials:
        found = (NONE, NONE, trial.problem or "failed")
        if trial.scores:
            score = tuning.metric.text(interval(trial))
            found = (
                f"**{score}**" if trial is best else score,
                str(len(trial.scores)),
                seconds_text(trial.seconds),
            )
        rows.append((str(trial.number), *(value_text(trial.params[key]) for key in keys), *found))
    return header, rows


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(map(row, lines))


def _panel(axes: Axes, tuning: Tuning, name: str) -> None:
    from matplotlib.ticker import MaxNLocator

    metric, trials, best = tuning.metric, tuning.trials[name], tuning.best(name)
    judged = [trial for trial in trials if trial.scores]
    axes.set_title(name, loc="left", fontsize=9)
    axes.set_xlim(-0.5, max(len(trials) - 0.5, 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if metric.log_axis and judged and min(trial.score for trial in judged) > 0:
        axes.set_yscale("log")
    if best is None:
        return
    numbers = [trial.number for trial in judged]
    shown = [metric.scale * trial.score for trial in judged]
    so_far = [
        metric.scale * max((t.score for t in judged[: index + 1]), key=metric.gain)
        for index in range(len(judged))
    ]
    axes.step(numbers, so_far, where="post", color=OTHER, lw=1, alpha=0.5)
    axes.errorbar(
        numbers,
        shown,
        [metric.scale * (trial.ci95 or 0.0) for trial in judged],
        fmt="o",
        ms=3.5,
        lw=0.8,
        color=OTHER,
    )
    axes.plot(best.number, metric.scale * best.score, "D", ms=6, color=BEST, zorder=4)
    for trial in trials:
        if not trial.scores:
            axes.plot(trial.number, 0.02, "x", color="#555555", transform=axes.get_xaxis_transform())
