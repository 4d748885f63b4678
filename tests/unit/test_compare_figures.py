"""Figures show the numbers that they should, and only those that there are."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

from adapt.adapter import Role
from adapt.compare import MSE, Comparison, Curve, MethodResult
from adapt.compare.figures.numbers import break_even_of, reached, speedups_of
from adapt.compare.reliability import Reliability

pytest.importorskip("matplotlib")

#: Reaches 0.8 at 10 s; never, but gets to 0.7.
FAST = Curve((2.0, 10.0, 20.0), (0.5, 0.9, 0.95))
SLOW = Curve((2.0, 10.0, 20.0), (0.5, 0.6, 0.7))


def method(name: str, role: Role, score: float, seconds: float, n: int = 4, **more: Any) -> MethodResult:
    return MethodResult(name, role, (score,) * n, (seconds,) * n, 10.0, more.pop("peak_mb", 4.0), **more)


def head() -> MethodResult:
    return method("head_ridge", "head", 0.7, 0.01)


def forward() -> MethodResult:
    return method("forward", "forward", 0.8, 0.1)


def backprop() -> MethodResult:
    curve = Curve((0.1, 0.2, 0.3), (0.75, 0.8, 0.78))
    return method("backprop", "backprop", 0.78, 0.3, curves=(curve,) * 4, peak_mb=40.0)


def retrain(*curves: Curve) -> MethodResult:
    curves = curves or (FAST, FAST, SLOW)
    return method("retrain", "retrain", 0.9, 20.0, len(curves), curves=curves)


def comparison(*methods: MethodResult, **more: Any) -> Comparison:
    task = {"source": "digits", "ways": 5, "shots": 5, "queries": 15, "tasks": 4}
    return Comparison("toy", task, 0, "cpu", {found.name: found for found in methods}, **more)


ALL = (head(), forward(), backprop(), retrain())


def sure(found: MethodResult) -> MethodResult:
    """0.9 sure of 8 queries, of which 6 are right, and 0.5 of 2, of which one is."""
    log_p = torch.log(torch.tensor([[0.9, 0.1]] * 8 + [[0.500001, 0.499999]] * 2))
    labels = torch.tensor([0] * 6 + [1] * 2 + [0, 1])
    return replace(found, reliability=Reliability.of(log_p, labels))


# ---------------------------------------------------------------------------------------------- the numbers


def test_a_method_gets_there_at_a_look_at_its_end_or_never() -> None:
    rows = {row.method.name: row for row in reached(comparison(*ALL))}
    assert list(rows) == ["forward", "head_ridge", "backprop", "retrain"]
    assert (rows["forward"].seconds, rows["forward"].never) == ((0.1,) * 4, 0)
    assert (rows["head_ridge"].seconds, rows["head_ridge"].never) == ((0.01,) * 4, 4)
    assert (rows["backprop"].seconds, rows["backprop"].never) == ((0.2,) * 4, 0)
    assert (rows["retrain"].seconds, rows["retrain"].there) == ((10.0, 10.0, 20.0), (True, True, False))
    assert rows["retrain"].median[0] == 10.0
    logs = np.log([10.0, 10.0, 20.0])  # too few for order statistics: Student's t of the logarithms
    low, high = np.exp(scipy.stats.t.interval(0.95, 2, logs.mean(), logs.std(ddof=1) / np.sqrt(3)))
    assert rows["retrain"].median[1:] == pytest.approx((low, high))


def test_an_error_is_reached_from_above() -> None:
    curve = Curve((1.0, 2.0), (0.9, 0.4))
    ours, other = (
        method("forward", "forward", 0.5, 0.1),
        method("b", "backprop", 0.4, 2.0, curves=(curve,) * 4),
    )
    (_, row) = reached(comparison(ours, other, metric=MSE))
    assert (row.seconds, row.never) == ((2.0,) * 4, 0)


def test_speedups_are_of_the_best_head_and_all_that_is_no_head() -> None:
    worse = replace(head(), name="head_logistic", score=(0.1,) * 4)
    found = {other.name: speedup for other, speedup in speedups_of(comparison(worse, *ALL))}
    assert list(found) == ["head_ridge", "backprop", "retrain"]
    assert found["head_ridge"].ratio == pytest.approx(0.1)
    assert found["backprop"].ratio == pytest.approx(3.0)  # all of its time, not that to our score
    assert (found["retrain"].ratio, found["retrain"].never) == (pytest.approx(100.0), 1)


def test_break_even_is_where_the_totals_are_equal() -> None:
    found = break_even_of(comparison(forward(), retrain(FAST), meta_seconds=990.0))
    assert found is not None
    assert found.tasks == pytest.approx(100.0)  # 990 + 0.1 n = 10 n
    assert found.start + found.tasks * found.each == pytest.approx(found.tasks * found.other)
    assert not found.bound
    bounded = break_even_of(comparison(forward(), retrain(SLOW), meta_seconds=990.0))
    assert bounded is not None and bounded.bound


@pytest.mark.parametrize(
    "without",
    [
        comparison(forward(), retrain()),
        comparison(forward(), head(), meta_seconds=9.0),
        comparison(head(), retrain(), meta_seconds=9.0),
        comparison(replace(forward(), seconds=(30.0,) * 4), retrain(), meta_seconds=9.0),
    ],
    ids=["no time of meta-training", "no retraining", "no ours", "retraining is faster"],
)
def test_without_a_break_even_there_is_none(without: Comparison) -> None:
    assert break_even_of(without) is None


# ------------------------------------------------------------------------------------------------ as drawn


def texts(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_curves_of_all_watched_methods_lie_within_the_axes_and_end_at_their_points() -> None:
    from adapt.compare.figures import score_against_seconds

    (axes,) = score_against_seconds(comparison(*ALL)).axes
    curves = [line.get_xydata() for line in axes.lines if len(line.get_xydata()) > 1]
    assert [curve[-1, 0] for curve in curves] == [0.3, 20.0]
    assert axes.get_xlim()[0] < 0.01 and axes.get_xlim()[1] > 20
    assert curves[0][:, 1].tolist() == pytest.approx([75.0, 80.0, 78.0])


def test_time_to_accuracy_has_a_dot_per_task_arrows_for_bounds_and_counts_failures() -> None:
    from adapt.compare.figures import time_to_score

    figure = time_to_score(comparison(*ALL))
    (axes,) = figure.axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [
        *("forward", "ridge head", "backprop", "retrain")
    ]
    assert texts(axes) == ["100 ms", "≥ 10 ms, 4 of 4 never", "200 ms", "≥ 10 s, 1 of 3 never"]
    dots = [line.get_xdata().tolist() for line in axes.lines if line.get_marker() == "o"]
    arrows = [line.get_xdata().tolist() for line in axes.lines if line.get_marker() == ">"]
    assert (dots[3], arrows[3], arrows[0]) == ([10.0, 10.0], [20.0], [])
    assert axes.get_xscale() == "log" and axes.get_title(loc="left") == "toy: 5-way 5-shot digits, cpu"


def test_speedup_bars_start_at_one_and_mark_bounds() -> None:
    from adapt.compare.figures import speedup_bars

    (axes,) = speedup_bars(comparison(*ALL)).axes
    ends = [(bar.get_x(), bar.get_x() + bar.get_width(), bar.get_hatch()) for bar in axes.patches]
    assert ends == [
        (1, pytest.approx(0.1), None),
        (1, pytest.approx(3.0), None),
        (1, pytest.approx(100.0), "///"),
    ]
    assert texts(axes)[0] == "0.10× (0.10× to 0.10×)"
    assert texts(axes)[2].startswith("≥ 100× (47× to ")
    assert axes.get_xscale() == "log"


def test_memory_is_drawn_on_a_log_axis() -> None:
    from adapt.compare.figures import score_against_memory

    (axes,) = score_against_memory(comparison(*ALL)).axes
    points = [bars.lines[0].get_xydata()[0].tolist() for bars in axes.containers]
    assert points == [pytest.approx(point) for point in ([4.0, 70.0], [4.0, 80.0], [40.0, 78.0], [4.0, 90.0])]
    assert axes.get_xscale() == "log" and len(axes.texts) == 4


def test_the_crossing_is_marked() -> None:
    from adapt.compare.figures import break_even

    (axes,) = break_even(comparison(*ALL, meta_seconds=990.0)).axes
    ours, other, crossing = axes.lines
    assert crossing.get_xydata()[0].tolist() == pytest.approx([100.0, 1000.0])
    gap = np.interp(100.0, ours.get_xdata(), ours.get_ydata() - other.get_ydata())
    assert abs(gap) < 20 < ours.get_ydata()[0] - other.get_ydata()[0]
    assert texts(axes) == ["paid off after at most 100 tasks"]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


def test_names_and_numbers_beside_rows_are_inside_the_figure_and_apart() -> None:
    from adapt.compare.figures import speedup_bars, time_to_score

    many = [replace(backprop(), name=f"backprop_with_a_long_name_{i}") for i in range(9)]
    for draw in (time_to_score, speedup_bars):
        figure = draw(comparison(*ALL, *many))
        figure.draw_without_rendering()
        (axes,) = figure.axes
        for labels in (axes.texts, axes.get_yticklabels()):
            boxes = [text.get_window_extent() for text in labels]
            assert all(figure.bbox.containsx(box.x0) and figure.bbox.containsx(box.x1) for box in boxes)
            assert not [1 for a, box in enumerate(boxes) for other in boxes[:a] if box.overlaps(other)]


# ---------------------------------------------------------------------------------------------- all of them

SECONDS, MEMORY = "accuracy_against_seconds", "accuracy_against_memory"
AGAINST_OURS = ["time_to_accuracy", "speedups"]


@pytest.mark.parametrize(
    ("found", "names"),
    [
        (comparison(*ALL, meta_seconds=990.0), [SECONDS, *AGAINST_OURS, MEMORY, "break_even"]),
        (comparison(*ALL), [SECONDS, *AGAINST_OURS, MEMORY]),
        (comparison(head(), backprop()), [SECONDS, MEMORY]),
        (comparison(forward()), [SECONDS, MEMORY]),
        (comparison(replace(head(), peak_mb=0.0)), [SECONDS]),
        (comparison(forward(), head(), metric=MSE), ["mse_against_seconds", "time_to_mse", "speedups"]),
        (comparison(sure(forward())), [SECONDS, MEMORY, "reliability"]),
    ],
    ids=["everything", "no break-even", "no ours", "ours alone", "no memory", "regression", "sure"],
)
@pytest.mark.filterwarnings("error")
def test_what_there_is_data_for_is_drawn(
    found: Comparison, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from adapt.compare.figures import draw, draw_all
    from adapt.compare.figures.interactive import charts

    written: list[Path] = []
    monkeypatch.setattr(draw, "save", lambda figure, path: [written.append(path) or path])
    assert draw_all(found, Path("there")) == written
    assert [path.name for path in written][: len(names)] == names
    pytest.importorskip("plotly")
    assert len(list(charts(found))) == len(written)


def test_the_reliability_diagram_shows_its_bins() -> None:
    from adapt.compare.figures import reliability
    from adapt.compare.figures.reliability import reliability_points

    known = sure(forward()).reliability
    assert known is not None
    (low, high) = sorted(reliability_points(known.top))
    assert low == pytest.approx((0.5, 0.5, 0.2), abs=1e-5) and high == pytest.approx((0.9, 0.75, 0.8))
    (axes,) = reliability(comparison(sure(forward()), head())).axes
    assert len(axes.collections) == 1  # of the head nothing is known
    np.testing.assert_allclose(axes.collections[0].get_offsets(), [low[:2], high[:2]], atol=1e-6)


def test_they_are_written_as_svg_and_png_the_score_against_seconds_first(tmp_path: Path) -> None:
    from adapt.compare.figures import draw_all

    paths = draw_all(comparison(forward()), tmp_path / "figures")
    names = [f"{name}.{kind}" for name in (SECONDS, MEMORY) for kind in ("svg", "png")]
    assert paths == [tmp_path / "figures" / name for name in names]
    assert all(path.stat().st_size > 1000 for path in paths)


def test_files_are_the_same_bytes_every_time(tmp_path: Path) -> None:
    from adapt.compare.figures import save, time_to_score

    crowd = [replace(method, score=method.score * 100, seconds=method.seconds * 100) for method in ALL[:2]]
    one, two = (save(time_to_score(comparison(*crowd)), tmp_path / name / "figure") for name in "ab")
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    assert one[0].stat().st_size < 150_000, "a dot per task belongs into pixels when there are many"


# ---------------------------------------------------------------------------------------------- interactive


def test_the_interactive_page_holds_everything_and_asks_no_network(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    from adapt.compare.figures import interactive

    odd = replace(head(), name="head_<b>&")
    path = interactive(comparison(odd, *ALL, meta_seconds=990.0), tmp_path / "figures" / "all.html")
    assert path is not None
    page = path.read_text(encoding="utf-8")
    assert page.count("Plotly.newPlot") >= 5 and page.count('id="figure-') == 5
    tags = re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=[^>]*>", page[:2000] + page[-50_000:])
    assert not tags, "it would load something"
    assert '<b>&"' not in page
    assert path.stat().st_size < 6_000_000
    again = interactive(comparison(odd, *ALL, meta_seconds=990.0), tmp_path / "again.html")
    assert again is not None and again.read_bytes() == path.read_bytes()


def test_interactive_charts_show_the_same_numbers() -> None:
    pytest.importorskip("plotly")
    from adapt.compare.figures.interactive import charts

    seconds, _, times, bars, even = (
        json.loads(chart.to_json()) for chart in charts(comparison(*ALL, meta_seconds=990.0))
    )
    named = {trace["name"]: trace for trace in seconds["data"] if trace.get("name")}
    assert named["forward"]["x"] + named["forward"]["y"] == pytest.approx([0.1, 80.0])
    assert "80.0 ± 0.0 %, 4 tasks<br>100 ms" in named["forward"]["hovertemplate"]
    low, high = seconds["layout"]["yaxis"]["range"]
    assert 60 < low < 70 and 90 < high <= 101, "where learning starts is not shown"
    assert times["data"][-1]["name"] == "retrain: ≥ 10 s, 1 of 3 never"
    assert times["data"][-1]["text"] == ["task 0", "task 1", "task 2: never"]
    assert [bar["base"][0] + bar["x"][0] for bar in bars["data"]] == pytest.approx([0.1, 3.0, 100.0])
    assert even["data"][-1]["x"] == pytest.approx([100.0])


def test_without_plotly_there_is_no_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from adapt.compare.figures import interactive

    monkeypatch.setattr(sys.modules["adapt.compare.figures.interactive"], "find_spec", lambda name: None)
    assert interactive(comparison(*ALL), tmp_path / "page.html") is None
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_importing_costs_neither_matplotlib_nor_plotly_and_drawing_no_pyplot(tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from adapt.compare import Comparison, MethodResult
from adapt.compare.figures import draw_all
assert not {{"matplotlib", "plotly"}} & set(sys.modules)
methods = [MethodResult(role, role, (0.5,), (1.0,), 1.0, 1.0) for role in ("head", "forward")]
task = {{"source": "toy", "ways": 2, "shots": 1}}
draw_all(Comparison("toy", task, 0, "cpu", {{m.name: m for m in methods}}), Path({str(tmp_path)!r}))
assert not {{"matplotlib.pyplot", "plotly"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)
