"""Accuracy and squared error: what they measure, which way is better, and how comparisons say it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from adapt.adapter import Context, Predictor, Role, Support
from adapt.adapter.method import Adapt, Watch, no_pool
from adapt.app.stages.compare import describe
from adapt.app.stages.report import show
from adapt.app.sweeps.callback import SweepSummary
from adapt.compare import ACCURACY, MSE, Comparison, Curve, Interval, MethodResult, compare
from adapt.compare.markdown import comparison_markdown, table_rows
from adapt.compare.metric import METRICS, metric_of
from adapt.compare.verdict import verdict
from adapt.errors import AdaptError
from adapt.files import json_text, write_json
from tasks import Distribution, Episode, FunctionTasks, Sinusoid
from tasks.distribution import EpisodeMeta
from tests.helpers import make_source

METRIC = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
SIZE = {"shots": 10, "queries": 100}
REGRESSION = {"source": "sinusoid", **SIZE, "tasks": 100}


def result(name: str, role: Role, error: float, seconds: float, n: int = 100, **more: Any) -> MethodResult:
    """Errors that alternate by a tenth of their mean, but for heads, so that intervals are known."""
    spread = 0.0 if role == "head" else 0.1 * error
    score = tuple(error + spread * (-1) ** task for task in range(n))
    return MethodResult(name, role, score, (seconds,) * n, 12.3, 4.5, **more)


def head(error: float = 0.5) -> MethodResult:
    return result("head_ridge", "head", error, 0.01)


def forward(error: float = 0.05) -> MethodResult:
    return result("forward", "forward", error, 0.05)


def backprop(error: float = 0.1) -> MethodResult:
    return result("backprop", "backprop", error, 0.2)


def retrain(*errors: float) -> MethodResult:
    curve = Curve((2.0, 10.0, 20.0), errors)
    return result("retrain", "retrain", errors[-1], 20.0, 10, curves=(curve,) * 10)


def regression(*methods: MethodResult, **more: Any) -> Comparison:
    task = {**REGRESSION, "shots": more.pop("shots", 10)}
    seed = more.pop("seed", 0)
    return Comparison("toy", task, seed, "cpu", {m.name: m for m in methods}, **{"metric": MSE, **more})


# ------------------------------------------------------------------------------------------ the number itself


def test_scores_in_closed_form() -> None:
    outputs = torch.tensor([[2.0, 1.0], [0.0, 3.0], [5.0, 4.0], [1.0, 0.0]])
    assert ACCURACY.measure(outputs, torch.tensor([0, 1, 1, 0])) == 0.75
    assert MSE.measure(outputs, outputs) == 0.0
    off = torch.tensor([[1.0, -3.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    assert MSE.measure(outputs + off, outputs) == (1 + 9) / 8  # over queries and outputs


def test_outputs_of_another_shape_than_the_values_are_refused_not_broadcast() -> None:
    with pytest.raises(AdaptError, match=r"\(4, 1\).*\(4, 3\)"):
        MSE.measure(torch.zeros(4, 1), torch.zeros(4, 3))


def test_the_kind_of_target_decides() -> None:
    assert metric_of(torch.tensor([0, 1])) is ACCURACY
    assert metric_of(torch.zeros(2, 1)) is metric_of(torch.zeros(2, 1, dtype=torch.float64)) is MSE


def test_direction() -> None:
    assert ACCURACY.gain(0.2) == -MSE.gain(0.2) == 0.2
    assert ACCURACY.reached(0.9, 0.8) and MSE.reached(0.8, 0.9)
    assert not ACCURACY.reached(0.8, 0.9) and not MSE.reached(0.9, 0.8)
    assert ACCURACY.reached(0.8, 0.8) and MSE.reached(0.8, 0.8)


def test_texts_of_squared_errors() -> None:
    assert MSE.text(Interval(0.01234, 0.00042, 600)) == "0.0123 ± 0.0004"
    assert MSE.text(Interval(3.14159, 0.25, 600)) == "3.14 ± 0.25"
    assert MSE.text(Interval(1234.5, 67.8, 600)) == "1234 ± 68"
    assert MSE.text(Interval(1.234e-6, 4.2e-8, 600)) == "1.23e-6 ± 0.04e-6"
    assert MSE.text(Interval(1.234e-6, 0.0, 1)) == "1.23e-6"
    assert MSE.text(Interval(0.0, 0.0, 2)) == "0.00 ± 0.00"
    assert MSE.difference_text(Interval(-0.01234, 0.00042, 600)) == "−0.0123 ± 0.0004"
    assert MSE.difference_text(Interval(0.0001, 0.02, 600)) == "+0.0001 ± 0.0200"  # digits of the larger one
    assert MSE.phrase(Interval(0.5, 0.0, 1)) == "MSE 0.500"
    assert ACCURACY.phrase(Interval(0.9712, 0.0031, 600)) == "97.1 ± 0.3 %"


# ------------------------------------------------------------------------------------------- the comparison


@METRIC
def test_json_round_trip(metric: Any) -> None:
    found = regression(head(), forward(), retrain(1.0, 0.04, 0.03), meta_seconds=9.0, metric=metric)
    written = found.to_dict()
    json_text(written)  # nothing in it that JSON has no word for
    assert written["metric"] == metric.name
    assert Comparison.from_dict(written) == found


def test_files_from_before_there_was_a_second_metric_are_read_as_accuracy() -> None:
    found = replace(regression(head(), retrain(1.0, 0.4, 0.3)), metric=ACCURACY)
    old = found.to_dict()
    del old["metric"]
    for method in old["methods"].values():
        for entry in (method, *method["curves"]):
            entry["accuracy"] = entry.pop("score")
    assert Comparison.from_dict(old) == found


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(AdaptError, match=r"'r2'.*known are accuracy, mse"):
        Comparison.from_dict({**regression(head()).to_dict(), "metric": "r2"})


def test_the_best_of_a_role_has_the_lowest_error() -> None:
    worse, better = replace(head(0.9), name="worse"), replace(head(0.2), name="better")
    assert regression(worse, better).best_head is better
    assert replace(regression(worse, better), metric=ACCURACY).best_head is worse


def test_time_to_target_and_speedup_count_from_the_first_look_as_low_as_ours() -> None:
    other = retrain(1.0, 0.04, 0.03)  # ours is 0.055 and 0.045 in turn: reached at the second look
    found = regression(forward(), other)
    assert found.to_target_seconds(other) == 10.0
    assert found.speedup(other, found.methods["forward"])[:3] == pytest.approx((200.0, 200.0, 200.0))
    never = retrain(1.0, 0.2, 0.1)
    speedup = regression(forward(), never).speedup(never, forward())
    assert (speedup.ratio, speedup.never) == (pytest.approx(400.0), 10)


def test_mlflow_names() -> None:
    found = regression(head(), forward(), backprop())
    values = found.metrics()
    assert set(values) == {
        *(f"compare/speedup_vs_backprop{end}" for end in ("", "_low", "_high", "_is_lower_bound")),
        *(f"compare/mse_vs_{role}{end}" for role in ("head", "backprop") for end in ("", "_ci95", "_p")),
    }
    assert values["compare/mse_vs_head"] == pytest.approx(-0.45)  # ours − the other's
    own = found.method_metrics(found.methods["forward"])
    assert own["eval/mse"] == pytest.approx(0.05)
    assert own["eval/mse_ci95"] == pytest.approx(1.9842169 * 0.005 * math.sqrt(100 / 99) / 10)  # t of 99
    assert not [key for key in {**values, **own} if "accuracy" in key]
    accuracy = replace(found, metric=ACCURACY)
    assert {"compare/accuracy_vs_head", "compare/accuracy_vs_backprop_ci95"} < set(accuracy.metrics())
    assert {"eval/accuracy", "eval/accuracy_ci95"} < set(accuracy.method_metrics(head()))


# -------------------------------------------------------------------------------------------------- in words


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        (
            [head(), forward(), backprop()],
            [
                "Use forward: MSE 0.0500 ± 0.0010 in 50 ms. ",
                "The ridge head is less accurate (+0.450 ± 0.001 MSE, 10× the error, 10 ms)",
                "backprop is less accurate (+0.0500 ± 0.0010 MSE, 2.0× the error, 200 ms)",
            ],
        ),
        ([head(0.04), forward()], ["Use the ridge head: MSE 0.0400", "Forward is less accurate (+0.010"]),
        ([forward(), backprop(0.03)], ["Use backprop", "Forward is less accurate (+0.020"]),
        (
            [head(0.0501), forward()],
            ["Use the ridge head", "Forward is not significantly better (−0.000100 ±"],
        ),
        (
            [head(0.0499), forward()],
            ["Use the ridge head", "Forward is not significantly worse (+0.000100 ±"],
        ),
        (
            [head(), forward(), retrain(1.0, 0.04, 0.03)],
            [
                "200× as fast as retraining to the same MSE. ",
                "retraining on all training data ends 0.0200 ± 0.0015 MSE lower after 20 s",
            ],
        ),
    ],
    ids=["win", "loss", "backprop wins", "tie, better", "tie, worse", "retraining"],
)
def test_verdict_prefers_lower_errors(methods: list[MethodResult], said: list[str]) -> None:
    text = verdict(regression(*methods))
    for sentence in said:
        assert sentence in text
    assert "%" not in text and "points" not in text


def test_table_and_page() -> None:
    found = regression(head(), forward(), retrain(1.0, 0.04, 0.03))
    header, rows = table_rows(found)
    assert header[1:3] == ("MSE", "vs head_ridge, MSE")
    assert rows[0][1:3] == ("0.500 ± 0.000", "–")
    assert rows[1][1:5] == ("0.0500 ± 0.0010", "−0.450 ± 0.001", "50 ms", "200×")
    page = comparison_markdown(found)
    assert "100 tasks from sinusoid: 10-shot, 100 queries, seed 0.\n" in page
    assert "needs to first reach the method's MSE" in page
    assert "per class" not in page and "accuracy" not in page.replace("more accurate", "")


def test_terminal_names_the_size_without_ways(tmp_path: Path) -> None:
    from rich.console import Console

    console = Console(record=True, width=200)
    show(regression(head(), forward()), figure=tmp_path / "f.png", folder=tmp_path, ui=None, console=console)
    said = console.export_text()
    assert "toy: sinusoid, 10-shot, 100 tasks, seed 0, cpu" in said
    assert "0.0500 ± 0.0010" in said


# ------------------------------------------------------------------------------------------------ in figures


@pytest.mark.parametrize(
    ("methods", "scale"),
    [
        ([head(), forward(), backprop(), retrain(1.0, 0.04, 0.03)], "log"),  # decades apart
        ([forward(), backprop()], "linear"),
        ([head(), forward(0.0)], "linear"),  # zero has no place on a log axis
        ([forward(0.0)], "linear"),
        ([result("forward", "forward", 1.0, 0.05), result("wide", "head", 0.05, 0.01, 2)], "log"),
    ],
    ids=["decades", "close", "a perfect one", "nothing but zero", "few tasks"],
)
@pytest.mark.filterwarnings("error")
def test_errors_against_seconds(methods: list[MethodResult], scale: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from adapt.compare.figures import save, score_against_seconds

    figure = score_against_seconds(regression(*methods))
    (axes,) = figure.axes
    assert axes.get_yscale() == scale
    assert axes.get_ylabel() == "MSE on the queries" + (" (log scale)" if scale == "log" else "")
    assert axes.get_title(loc="left") == "toy: 10-shot sinusoid, cpu"
    low, high = axes.get_ylim()
    assert all(low < method.mean_score.mean < high for method in methods)
    assert len(axes.texts) == len(methods)
    assert all(path.stat().st_size > 1000 for path in save(figure, tmp_path / "figure"))


def test_an_interval_that_reaches_below_zero_is_drawn_on_a_log_axis(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from adapt.compare.figures import save, score_against_seconds

    wide = MethodResult("wide", "head", (0.001, 0.099), (0.01, 0.01), 1.0, 1.0)
    assert wide.mean_score.mean < wide.mean_score.ci95
    figure = score_against_seconds(regression(wide, forward(2.0)))
    low, _ = figure.axes[0].get_ylim()
    assert 0 < low < 0.05
    save(figure, tmp_path / "figure")


@pytest.mark.parametrize(("best", "scale"), [(0.01, "log"), (0.4, "linear")])
def test_a_sweep_over_shots_writes_the_figure_of_its_metric(best: float, scale: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from omegaconf import OmegaConf

    from adapt.compare.figures import score_against_shots

    runs = [regression(head(), forward(best), shots=shots, seed=seed) for shots in (5, 10) for seed in (0, 1)]
    for index, run in enumerate(runs):
        write_json(tmp_path / str(index) / "comparison.json", run.to_dict())
    SweepSummary().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}}))
    assert {path.name for path in tmp_path.glob("*.*")} == {f"mse_against_shots.{s}" for s in ("svg", "png")}

    (axes,) = score_against_shots(runs).axes
    assert axes.get_yscale() == scale
    assert axes.get_xlabel() == "shots: labelled examples (log scale)"
    assert axes.get_title(loc="left") == "toy: sinusoid, cpu"
    assert np.asarray(axes.lines[0].get_ydata()).tolist() == pytest.approx([0.5, 0.5])


def test_scores_of_two_kinds_have_no_common_figure() -> None:
    pytest.importorskip("matplotlib")
    from adapt.compare.figures import score_against_shots

    mixed = [regression(head()), replace(regression(head(), shots=5), metric=ACCURACY)]
    with pytest.raises(AdaptError, match="by MSE and by accuracy"):
        score_against_shots(mixed)


# ------------------------------------------------------------------------------------------------- as it runs


class Functions:
    """Tasks ``y = slope · (x, −x)``, in which the slope is the index + 1."""

    def episode(self, index: int) -> Episode:
        x = torch.linspace(-1, 1, 5)[:, None]
        y = (index + 1) * torch.cat([x, -x], 1)
        none = np.empty(0, np.int64)
        return Episode(x, y, 2 * x, 2 * y, EpisodeMeta(index, 0, (), none, none))


class Constant:
    """Predicts what ``output`` makes of the support's targets, after a look at predicting 0."""

    role: Role = "head"
    max_tasks: int | None = None
    keeps_backbone = True

    def __init__(self, output: Callable[[Tensor], Tensor]) -> None:
        self.output = output

    def prepare(self, context: Context) -> Adapt:
        def adapt(support: Support, watch: Watch) -> Predictor:
            assert (support.classes, support.ways) == ((), 0)
            row = self.output(support.y)
            watch(lambda x: torch.zeros(len(x), 2))
            return lambda x: row.expand(len(x), -1)

        return adapt


def run(**methods: Constant) -> Comparison:
    functions: Any = Functions()
    untouched: Any = type("Adapter", (), {"info": {}})()

    def pool(classes: tuple[str, ...], reserved: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
        raise AssertionError("touched the pool")

    context = Context(nn.Linear(1, 1), untouched, pool, 0)
    device = torch.device("cpu")
    return compare(methods, functions, context, experiment="toy", task=REGRESSION, tasks=2, device=device)


def test_regression_is_scored_by_squared_error() -> None:
    found = run(mean=Constant(lambda y: y.mean(0)), one=Constant(lambda y: torch.ones(2)))
    assert found.metric is MSE
    # queries 2 · slope · (−1, −½, 0, ½, 1): their mean square is 2 · slope²
    assert found.methods["mean"].score == pytest.approx((2.0, 8.0))
    assert found.methods["one"].score == pytest.approx((3.0, 9.0))
    assert [curve.score for curve in found.methods["one"].curves] == [
        pytest.approx((2.0, 3.0)),
        pytest.approx((8.0, 9.0)),
    ]


def test_the_stage_describes_functions_without_ways_and_has_no_pool_of_them() -> None:
    from omegaconf import OmegaConf

    config = OmegaConf.create({"task": {"ways": 5, "shots": 10, "queries": 100, "tasks": 7}})
    functions = FunctionTasks(Sinusoid(), shots=10, queries=100)
    assert describe(config, functions) == {"source": functions.source.name, **SIZE, "tasks": 7}
    examples = Distribution(make_source(), ways=3, shots=2, queries=4)
    assert describe(config, examples)["ways"] == 3
    with pytest.raises(AdaptError, match="leave method retrain out"):
        no_pool(())


def test_a_method_that_diverges_is_named() -> None:
    with pytest.raises(AdaptError, match="broken diverged on task 0"):
        run(broken=Constant(lambda y: y.mean(0) * math.nan))
