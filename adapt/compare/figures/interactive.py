"""The same figures to point at: one page that needs no network, for the browser and MLflow's own viewer."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapt.compare.comparison import Comparison, MethodResult
from adapt.compare.figures.break_even import break_even_text, task_counts
from adapt.compare.figures.numbers import (
    break_even_of,
    mean_curve,
    on_log_axis,
    reached,
    score_limits,
    speedups_of,
)
from adapt.compare.figures.reliability import reliability_points
from adapt.compare.figures.speedups import speedup_text
from adapt.compare.figures.style import COLOURS, name_of, title
from adapt.compare.figures.target import time_text
from adapt.compare.verdict import seconds_text, size_text
from adapt.files import write_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["charts", "interactive"]

#: MLflow shows a page in a narrow frame.
HEIGHT = 420
#: plotly's marks of the same shapes as in the drawn figures.
SYMBOLS = {
    "forward": "diamond",
    "head": "circle",
    "backprop": "square",
    "finetune": "triangle-up",
    "retrain": "triangle-down",
    "rival": "star",
}


def interactive(comparison: Comparison, path: Path) -> Path | None:
    """Write all figures of the comparison to ``path`` as one HTML file with plotly inside, about 5 MB; point
    at a mark for its method, tasks and interval.

    Returns ``path``, or None, and writes nothing, where plotly is not installed.
    """
    if find_spec("plotly") is None:
        return None
    from plotly.io import to_html

    heading = html.escape(title(comparison, size_text(comparison.task)))
    parts = [
        to_html(
            chart,
            full_html=False,
            include_plotlyjs=index == 0,  # once, for all of them
            div_id=f"figure-{index}",
            config={"displaylogo": False, "responsive": True},
        )
        for index, chart in enumerate(charts(comparison))
    ]
    head = f'<meta charset="utf-8"><title>{heading}</title>'
    body = f'<body style="font-family: sans-serif; margin: 1em"><h3>{heading}</h3>'
    write_text(path, "\n".join([f"<!doctype html><html><head>{head}</head>{body}", *parts, "</body></html>"]))
    return path


def charts(comparison: Comparison) -> Iterator[Figure]:
    """Score against seconds and against memory, time to our score, speed-ups, how sure methods are,
    break-even: as many of them as the comparison has data for."""
    methods = list(comparison.methods.values())
    yield _points(comparison, methods, "adapt_seconds", "time to adapt to one task, median, s")
    if measured := [method for method in methods if method.peak_mb]:
        yield _points(comparison, measured, "peak_mb", "peak memory of one adaptation, MB")
    if len(methods) > 1 and comparison.ours is not None:
        yield _time_to_score(comparison)
        yield _speedups(comparison)
    if sure := [method for method in methods if method.reliability is not None]:
        yield _reliability(sure)
    if break_even_of(comparison) is not None:
        yield _break_even(comparison)


def _points(comparison: Comparison, methods: list[MethodResult], attribute: str, axis: str) -> Figure:
    metric = comparison.metric
    figure = _figure(axis, metric.axis)
    log = on_log_axis(metric, [method.mean_score.mean for method in methods])
    limits = score_limits(metric, methods, log)
    shown = [math.log10(limit) for limit in limits] if log else list(limits)
    figure.update_yaxes(type="log" if log else "linear", range=shown)
    for method in methods:
        colour, score = COLOURS[method.role], method.mean_score
        if method.curves and attribute == "adapt_seconds":
            curve = mean_curve(method.curves)
            figure.add_scatter(
                x=curve.seconds,
                y=[metric.scale * value for value in curve.score],
                mode="lines",
                line={"color": colour, "width": 1.5},
                opacity=0.6,
                legendgroup=method.name,
                showlegend=False,
                hovertemplate=f"{name_of(method)} on its way<br>%{{x:.3g}}<br>%{{y:.4g}}<extra></extra>",
            )
        figure.add_scatter(
            x=[getattr(method, attribute)],
            y=[metric.scale * score.mean],
            error_y={"type": "data", "array": [metric.scale * (score.ci95 or 0.0)]},
            mode="markers",
            marker={"color": colour, "size": 12, "symbol": SYMBOLS[method.role]},
            name=name_of(method),
            legendgroup=method.name,
            hovertemplate=f"{_about(comparison, method)}<extra></extra>",
        )
    return figure


def _time_to_score(comparison: Comparison) -> Figure:
    rows = reached(comparison)
    axis = f"time to first reach the {comparison.metric.noun} of {name_of(rows[0].method)}, s"
    figure = _figure(axis, "")
    for row in rows:
        figure.add_box(
            x=row.seconds,
            name=f"{name_of(row.method)}: {time_text(row)}",
            orientation="h",
            boxpoints="all",
            pointpos=0,
            jitter=0.6,
            marker={"color": COLOURS[row.method.role], "size": 4},
            text=[f"task {task}{'' if there else ': never'}" for task, there in enumerate(row.there)],
            hovertemplate="%{text}<br>%{x:.3g} s<extra></extra>",
            showlegend=False,
        )
    figure.update_yaxes(autorange="reversed")
    return figure


def _speedups(comparison: Comparison) -> Figure:
    assert comparison.ours is not None
    bars = speedups_of(comparison)
    figure = _figure(f"time of the other ÷ time of {name_of(comparison.ours)}, median over tasks", "")
    for method, speedup in bars:
        low, high = speedup.ends or (speedup.ratio, speedup.ratio)
        figure.add_bar(
            x=[speedup.ratio - 1],
            y=[f"{name_of(method)}: {speedup_text(speedup)}"],
            base=[1],
            orientation="h",
            marker={"color": COLOURS[method.role], "pattern": {"shape": "/" if speedup.bound else ""}},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [high - speedup.ratio],
                "arrayminus": [speedup.ratio - low],
            },
            showlegend=False,
            hovertemplate=f"{name_of(method)}: {speedup_text(speedup)}<br>{speedup.n} tasks"
            + (f", {speedup.never} never got there" if speedup.never else "")
            + "<extra></extra>",
        )
    figure.update_yaxes(autorange="reversed")
    return figure


def _reliability(methods: list[MethodResult]) -> Figure:
    figure = _figure("how sure it says it is", "how often it is right", log=False)
    line = {"color": "#999999", "dash": "dot"}
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line=line, showlegend=False, hoverinfo="skip")
    for method in methods:
        assert method.reliability is not None
        sure, right, share = zip(*reliability_points(method.reliability.top), strict=True)
        figure.add_scatter(
            x=sure,
            y=right,
            mode="lines+markers",
            line={"color": COLOURS[method.role], "width": 1},
            marker={"size": [6 + 24 * part**0.5 for part in share], "symbol": SYMBOLS[method.role]},
            name=name_of(method),
            text=[f"{part:.1%} of the queries" for part in share],
            hovertemplate=f"{name_of(method)}<br>%{{x:.3f}} sure<br>%{{y:.3f}} right<br>%{{text}}"
            "<extra></extra>",
        )
    return figure


def _break_even(comparison: Comparison) -> Figure:
    found, ours = break_even_of(comparison), comparison.ours
    assert found is not None and ours is not None
    tasks = task_counts(found)
    figure = _figure("number of tasks", "total time, s")
    figure.update_yaxes(type="log")
    lines: tuple[Mapping[str, Any], ...] = (
        {"y": found.start + tasks * found.each, "role": "forward", "name": f"meta-training, {name_of(ours)}"},
        {"y": tasks * found.other, "role": "retrain", "name": "retraining each time"},
    )
    for line in lines:
        figure.add_scatter(
            x=tasks.tolist(),
            y=line["y"].tolist(),
            mode="lines",
            line={"color": COLOURS[line["role"]], "width": 2.5},
            name=line["name"],
            hovertemplate="%{x:.3g} tasks<br>%{y:.3g} s<extra></extra>",
        )
    figure.add_scatter(
        x=[found.tasks],
        y=[found.tasks * found.other],
        mode="markers",
        marker={"color": "black", "size": 10},
        name=break_even_text(found),
        hovertemplate=f"{break_even_text(found)}<extra></extra>",
    )
    return figure


def _figure(x: str, y: str, *, log: bool = True) -> Figure:
    from plotly.graph_objects import Figure

    figure = Figure()
    figure.update_layout(height=HEIGHT, template="plotly_white", margin={"t": 20}, bargap=0.4)
    figure.update_xaxes(type="log" if log else "linear", title=f"{x} (log scale)" if log else x)
    figure.update_yaxes(title=y)
    return figure


def _about(comparison: Comparison, method: MethodResult) -> str:
    score = method.mean_score
    tasks = f"{score.n} task{'s' * (score.n > 1)}"
    return "<br>".join(
        (
            f"<b>{html.escape(method.name)}</b>",
            f"{comparison.metric.phrase(score)}, {tasks}",
            seconds_text(method.adapt_seconds) + (f", {method.peak_mb:,.1f} MB" if method.peak_mb else ""),
            f"{method.forward_equivalents:,.1f} forward passes",
        )
    )
