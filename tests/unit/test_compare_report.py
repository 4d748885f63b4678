"""What a comparison says: the verdict, the table, the page and the figures."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapt.adapter import Role
from adapt.compare import ACCURACY, Comparison, Curve, Interval, MethodResult
from adapt.compare.figures.numbers import speedups_of
from adapt.compare.markdown import comparison_markdown, table_rows
from adapt.compare.verdict import ratio_text, seconds_text, verdict
from adapt.errors import AdaptError


def method(
    name: str, role: Role, gain: float = 0.0, seconds: float = 1.0, n: int = 100, curve: Curve | None = None
) -> MethodResult:
    """Accuracy 0.8 + gain, alternating by a spread that depends on the role, so that intervals are known."""
    spread = {"head": 0.0, "forward": 0.02, "backprop": -0.02, "finetune": 0.02, "retrain": 0.0}[role]
    accuracy = tuple(0.8 + gain + spread * (-1) ** task for task in range(n))
    return MethodResult(name, role, accuracy, (seconds,) * n, 12.3, 4.5, (curve,) * n if curve else ())


def head(gain: float = 0.0, seconds: float = 0.01, n: int = 100) -> MethodResult:
    return method("head_logistic", "head", gain, seconds, n)


def forward(gain: float, seconds: float = 0.05, n: int = 100) -> MethodResult:
    return method("forward", "forward", gain, seconds, n)


def backprop(gain: float, seconds: float = 0.2) -> MethodResult:
    return method("backprop", "backprop", gain, seconds)


def retrain(curve: Curve | None, gain: float = 0.1) -> MethodResult:
    return method("retrain", "retrain", gain, 20.0, 10, curve)


def comparison(*methods: MethodResult, shots: int = 5, seed: int = 0, **more: Any) -> Comparison:
    task = {"source": "digits", "ways": 5, "shots": shots, "queries": 15, "tasks": 100}
    return Comparison("toy", task, seed, "cpu", {found.name: found for found in methods}, **more)


FAST = Curve((2.0, 10.0, 20.0), (0.5, 0.95, 0.9))
SLOW = Curve((2.0, 10.0, 20.0), (0.5, 0.6, 0.7))


@pytest.mark.parametrize(
    ("methods", "choice", "reasons"),
    [
        (
            [head(), forward(0.03), backprop(0.03)],
            "Use forward: 83.0 ± 0.4 % in 50 ms. ",
            [
                "The logistic head is less accurate (−3.00 ± 0.40 points, 10 ms)",
                "backprop is not significantly",
                "forward costs 12 forward passes and 5.0× the time of the logistic head",
            ],
        ),
        (
            [head(), forward(0.002)],
            "Use the logistic head: 80.0",
            ["Forward is not significantly better (+0.20"],
        ),
        ([head(), forward(-0.02)], "Use the logistic head: 80.0", ["Forward is less accurate (−2.00"]),
        ([head(), forward(0.03), backprop(0.06)], "Use backprop: 86.0", ["less accurate (−6.00", "(−3.00"]),
        ([head(), forward(0.002), backprop(0.005)], "Use backprop", ["forward is not significantly worse"]),
        ([head(), forward(0.002), backprop(-0.1)], "Use the logistic head", ["Forward is not significantly"]),
        (
            [head(seconds=0.1), forward(0.002)],
            "Use forward",
            ["The logistic head is not significantly worse"],
        ),
        ([forward(0.03), backprop(0.03)], "Use forward", ["Backprop is not significantly"]),
        (
            [head(), method("finetune", "finetune", 0.03)],
            "Use finetune",
            ["The logistic head is less accurate"],
        ),
    ],
    ids=[
        "win",
        "tie",
        "loss",
        "backprop wins",
        "only backprop beats head",
        "dominated",
        "cheaper",
        "no head",
        "finetune",
    ],
)
def test_verdict_picks_the_cheapest_unless_a_costlier_one_is_significantly_better(
    methods: list[MethodResult], choice: str, reasons: list[str]
) -> None:
    text = verdict(comparison(*methods))
    assert text.startswith(choice)
    for reason in reasons:
        assert reason in text
    assert "hint" not in text


def test_a_dominated_method_that_nobody_asks_about_is_left_out() -> None:
    assert "backprop" not in verdict(comparison(head(), forward(0.0), backprop(-0.1)))


@pytest.mark.parametrize("alone", [head(), forward(0.0), backprop(0.0), method("finetune", "finetune")])
def test_one_method_is_no_choice(alone: MethodResult) -> None:
    text = verdict(comparison(alone))
    assert text.startswith("Only ")
    assert "nothing to choose from: 80.0" in text


def test_retraining_alone_and_nothing_at_all() -> None:
    assert verdict(comparison(retrain(FAST))) == "Only retrain took part: 90.0 ± 0.0 % in 20 s."
    assert verdict(comparison()) == "No method took part."


@pytest.mark.parametrize(
    ("curve", "said"),
    [
        (FAST, ", 200× as fast as retraining to the same accuracy. "),  # at 10 s, ÷ 0.05 s
        (
            SLOW,
            ", at least 400× as fast as retraining, which did not get there within its budget on 10 of 10",
        ),
        (None, ", 400× the speed of full retraining. "),
    ],
    ids=["reached", "censored", "not watched"],
)
def test_verdict_says_what_retraining_needs(curve: Curve | None, said: str) -> None:
    text = verdict(comparison(head(), forward(0.03), retrain(curve)))
    assert said in text
    assert "retraining on all training data ends 7.00 ± 1.51 points higher after 20 s" in text


def test_verdict_tells_the_price_of_meta_training() -> None:
    text = verdict(comparison(head(), forward(0.03), retrain(FAST), meta_seconds=990.0))
    assert "after 16 min of meta-training (paid off against retraining after 100 tasks)" in text
    assert "paid off" not in verdict(comparison(head(), forward(0.03), meta_seconds=990.0))


def test_few_tasks_are_called_a_hint_and_one_task_decides_nothing() -> None:
    text = verdict(comparison(head(n=1), forward(0.15, n=1)))
    assert text.startswith("Use the logistic head: 80.0 % in")
    assert text.endswith("With only 1 task this is a hint, not a finding.")
    assert "With only 20 tasks" in verdict(comparison(head(n=20), forward(0.15, n=20)))


def test_texts_of_numbers() -> None:
    assert [seconds_text(s) for s in (0.00012, 0.0082, 0.042, 0.42, 3.14, 42.0, 720.0, 9000.0)] == [
        *("0.12 ms", "8.2 ms", "42 ms", "420 ms"),
        *("3.1 s", "42 s", "12 min", "2.5 h"),
    ]
    assert [ratio_text(r) for r in (0.042, 0.42, 5.23, 52.3, 1234.5)] == [
        "0.042×",
        "0.42×",
        "5.2×",
        "52×",
        "1,234×",
    ]
    assert ACCURACY.difference_text(Interval(-0.0123, 0.004, 10)) == "−1.23 ± 0.40"
    assert ACCURACY.difference_text(Interval(0.0123, 0.0, 1)) == "+1.23"
    assert ACCURACY.text(Interval(0.9712, 0.0031, 600)) == "97.1 ± 0.3"


def test_table() -> None:
    header, rows = table_rows(comparison(head(), forward(0.03), retrain(FAST)))
    assert header[2] == "vs head_logistic, points"
    assert rows == [
        ("head_logistic", "80.0 ± 0.0", "–", "10 ms", "1,000×", "12.3", "4.5", "100"),
        ("forward", "83.0 ± 0.4", "+3.00 ± 0.40", "50 ms", "200×", "12.3", "4.5", "100"),
        ("retrain", "90.0 ± 0.0", "+10.00 ± 0.00", "20 s (10 s to reach forward)", "–", "12.3", "4.5", "10"),
    ]


def test_table_marks_bounds_and_leaves_out_what_is_not_known() -> None:
    _, rows = table_rows(comparison(head(), forward(0.03), retrain(SLOW)))
    assert rows[1][4] == "≥ 400×"
    assert rows[2][3] == "20 s (≥ 20 s to reach forward)"
    header, (row,) = table_rows(comparison(forward(0.0)))
    assert header[2] == "vs head, points"
    assert row[2] == row[4] == "–"


def test_page_holds_tasks_table_verdict_and_how_it_was_measured() -> None:
    found = comparison(
        head(), forward(0.03), retrain(FAST), environment={"device": "a CPU", "versions": {"torch": "2"}}
    )
    page = comparison_markdown(found)
    assert page.startswith(
        "# toy\n\n100 tasks from digits: 5-way 5-shot, 15 queries per class, seed 0.\n\n| method |"
    )
    # scores, differences to ours, and costs
    assert sum(line.startswith("| ") for line in page.splitlines()) == (2 + 3) + (2 + 2) + (2 + 3)
    assert "\n| forward − | difference, points | p, adjusted | tasks |\n" in page
    assert "\n| head_logistic | +3.00 ± 0.40 | < 0.0001 | 100 |\n" in page
    assert "adjusted for all 3 pairs of methods (Holm), the intervals are not." in page
    assert f"**{verdict(found)}**" in page
    assert "retraining from random weights" in page
    assert page.endswith("Device: cpu (device a CPU, versions torch 2).\n")
    assert "random weights" not in comparison_markdown(comparison(head()))


matplotlib = pytest.importorskip("matplotlib")


@pytest.fixture
def crowded() -> Comparison:
    """Methods so close to each other that their names would collide."""
    heads = [method(f"head_{name}", "head", 0.001 * i, 0.01 * 1.1**i) for i, name in enumerate("abcd")]
    return comparison(*heads, forward(0.005, 0.011), backprop(0.003, 0.013), retrain(FAST))


def test_every_method_has_its_point_and_its_name_and_names_do_not_overlap(crowded: Comparison) -> None:
    from matplotlib.text import Text

    from adapt.compare.figures import score_against_seconds

    figure = score_against_seconds(crowded)
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    names = [text.get_text() for text in axes.texts]
    assert sorted(names) == [
        "a head",
        "b head",
        "backprop",
        "c head",
        "d head",
        "forward",
        "retrain (10 tasks)",
    ]
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in axes.texts]  # without their leaders
    assert not [(a, b) for a in range(len(boxes)) for b in range(a) if boxes[a].overlaps(boxes[b])]
    points = dict(bars.lines[0].get_xydata()[0] for bars in axes.containers)
    assert points[0.011] == pytest.approx(80.5)


def test_methods_that_coincide_are_still_all_named() -> None:
    from adapt.compare.figures import score_against_seconds

    same = [method(f"head_{i}", "head", 0.0, 0.01) for i in range(12)]
    assert len(score_against_seconds(comparison(*same)).axes[0].texts) == 12


def test_mean_curve_reads_all_tasks_at_the_same_fractions_of_their_budgets() -> None:
    from adapt.compare.figures import mean_curve

    short = Curve((1.0, 2.0, 3.0), (0.2, 0.4, 0.8))
    long = Curve((1.0, 2.0, 3.0, 4.0, 5.0), (0.0, 0.1, 0.2, 0.3, 0.4))
    mean = mean_curve([short, long])
    assert mean.seconds == pytest.approx((1.0, 2.5, 4.0))
    assert mean.score == pytest.approx((0.1, 0.3, 0.6))


def test_shots_are_pooled_over_seeds() -> None:
    from adapt.compare.figures import score_against_shots

    runs = [comparison(head(0.1 * seed), shots=shots, seed=seed) for shots in (10, 1) for seed in (0, 1)]
    (axes,) = score_against_shots(runs).axes
    line = axes.lines[0].get_xydata()
    assert line[:, 0].tolist() == [1.0, 10.0]
    assert line[:, 1].tolist() == pytest.approx([85.0, 85.0])
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "10"]


@pytest.mark.parametrize(
    ("runs", "fault"),
    [([], "run a sweep"), ([comparison(head())] * 2, "'head_logistic' at 5 shots and seed 0")],
    ids=["nothing", "twice the same"],
)
def test_what_cannot_be_pooled_is_refused(runs: list[Comparison], fault: str) -> None:
    from adapt.compare.figures import score_against_shots

    with pytest.raises(AdaptError, match=fault):
        score_against_shots(runs)


def test_figures_are_the_same_bytes_every_time(crowded: Comparison, tmp_path: Path) -> None:
    from adapt.compare.figures import save, score_against_seconds

    first = save(score_against_seconds(crowded), tmp_path / "one" / "figure")
    again = save(score_against_seconds(crowded), tmp_path / "two" / "figure")
    assert [path.name for path in first] == ["figure.svg", "figure.png"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]


GUESSES = Curve((2.0, 10.0, 15.0, 20.0), (0.2, 0.22, 0.22, 0.22))
LEARNING = Curve((2.0, 10.0, 15.0, 20.0), (0.2, 0.21, 0.24, 0.3))


@pytest.mark.parametrize(
    ("curve", "gain", "needs"),
    [
        (GUESSES, -0.58, "it would need more labelled examples"),
        (LEARNING, -0.5, "it was still learning, and would need more passes"),
        (None, -0.58, "it would need more labelled examples"),
    ],
    ids=["flat", "rising", "not watched"],
)
def test_retraining_that_ends_near_chance_is_no_measure_of_speed(
    curve: Curve | None, gain: float, needs: str
) -> None:
    found = comparison(head(), forward(0.03), retrain(curve, gain), meta_seconds=990.0)
    text = verdict(found)
    assert (
        f"No speed-up is claimed against retraining from random weights, which ends near chance "
        f"({80 + 100 * gain:.1f}" in text
    )
    assert "guessing: 20.0 %" in text and needs in text and "as fast as" not in text
    assert found.metrics()["compare/retrain_near_chance"] == 1.0
    assert not [name for name in found.metrics() if "speedup" in name or "break_even" in name]
    assert {row[4] for row in table_rows(found)[1]} == {"–"}
    assert "“vs retraining” is left out" in comparison_markdown(found)
    assert "retrain" not in [other.name for other, _ in speedups_of(found)]


def test_retraining_near_chance_that_was_as_good_as_ours_counts() -> None:
    weak = replace(forward(-0.6), score=(0.2,) * 10, seconds=(0.05,) * 10)
    assert ", 40× as fast as retraining to the same accuracy" in verdict(
        comparison(weak, retrain(GUESSES, -0.58))
    )


def test_pretrained_weights_take_the_place_of_random_ones() -> None:
    pretrained = replace(retrain(FAST), name="finetune_all")
    found = comparison(head(), forward(0.03), retrain(GUESSES, -0.58), pretrained)
    assert ", 200× as fast as finetune_all to the same accuracy" in verdict(found)
    assert "finetune_all on all training data ends 7.00" in verdict(found)
    assert "the time that finetune_all needs to first reach" in comparison_markdown(found)
