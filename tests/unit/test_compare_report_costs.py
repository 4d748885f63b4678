"""What a comparison says of energy, price, memory and time to target, and that it is silent where it does not
know."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from adapt.adapter import Role
from adapt.app.stages.report import show
from adapt.compare import Comparison, Curve, MethodResult
from adapt.compare.markdown import comparison_markdown, cost_rows, table_rows
from adapt.compare.statistics import Speedup
from adapt.compare.verdict import energy_text, mass_text, money_text, verdict
from adapt.files import json_text

TASK = {"source": "digits", "ways": 5, "shots": 5, "queries": 15, "tasks": 40}
EARLY = Curve((0.1, 0.2), (0.9, 0.9))
LATE = Curve((0.1, 0.2), (0.1, 0.9))
NEVER = Curve((0.1, 0.2), (0.1, 0.2))


def method(
    name: str, role: Role, score: float, seconds: float, watts: float | None, **more: Any
) -> MethodResult:
    """Forty tasks, all alike."""
    n = more.pop("n", 40)
    if watts is not None:
        energy = watts * seconds / 3600
        more = {"energy_wh": energy, "co2_g": 0.4 * energy, "usd": 2e-4 * energy} | more
    return MethodResult(name, role, (score,) * n, (seconds,) * n, 12.3, 4.5, **more)


def head(watts: float | None = 20.0, score: float = 0.7) -> MethodResult:
    return method("head_logistic", "head", score, 0.01, watts)


def forward(watts: float | None = 36.0, **more: Any) -> MethodResult:
    return method("forward", "forward", 0.8, 0.05, watts, **more)


def backprop(*curves: Curve, watts: float | None = 72.0) -> MethodResult:
    return method("backprop", "backprop", 0.75, 0.2, watts, curves=curves, n=len(curves) or 40)


def retrain(curve: Curve, watts: float | None = 72.0) -> MethodResult:
    return method("retrain", "retrain", 0.9, 20.0, watts, n=10, curves=(curve,) * 10)


def comparison(*methods: MethodResult, **more: Any) -> Comparison:
    known = any(found.energy_wh is not None for found in methods)
    source = {"energy_source": "estimated" if known else None}
    return Comparison("toy", TASK, 0, "cpu", {found.name: found for found in methods}, **(source | more))


# ------------------------------------------------------------------------------------------------ the numbers


def test_watts_are_energy_over_mean_time() -> None:
    uneven = replace(forward(), seconds=(1.0, 3.0), energy_wh=40 / 3600)
    assert uneven.watts == pytest.approx(20.0)  # 40 J in 2 s on average
    assert forward(None).watts is None


def test_energy_ratio_is_that_of_time_times_that_of_power() -> None:
    ours, other = forward(36.0), retrain(Curve((2.0, 10.0, 20.0), (0.1, 0.85, 0.9)), 72.0)
    found = comparison(ours, other).energy_ratio(other, ours)
    assert found is not None
    assert found[:3] == pytest.approx((200 * 2,) * 3)  # 10 s to our score, not the whole 20 s
    assert not found.bound
    never = retrain(Curve((2.0, 20.0), (0.1, 0.2)), 72.0)
    bound = comparison(ours, never).energy_ratio(never, ours)
    assert bound is not None and bound.bound and bound.ratio == pytest.approx(400 * 2)


@pytest.mark.parametrize(("ours", "other"), [(None, 72.0), (36.0, None), (None, None)])
def test_energy_ratio_needs_both(ours: float | None, other: float | None) -> None:
    ends = forward(ours), retrain(EARLY, other)
    assert comparison(*ends).energy_ratio(ends[1], ends[0]) is None


def test_a_ratio_times_a_factor_keeps_its_interval_and_its_bound() -> None:
    assert Speedup(10.0, 5.0, 20.0, 7, never=2).times(3.0) == Speedup(30.0, 15.0, 60.0, 7, never=2)


def test_failures_are_tasks_on_which_a_watched_method_never_got_there() -> None:
    watched = backprop(EARLY, NEVER, LATE, NEVER, LATE)
    found = comparison(head(), forward(), watched)
    assert found.failures(watched) == 2
    assert found.to_target_seconds(watched) == pytest.approx(0.2)  # 0.1, never 0.2, 0.2, never 0.2, 0.2
    values = found.method_metrics(watched)
    assert values["time/to_target_failures"] == 2.0
    assert values["time/to_target_seconds"] == pytest.approx(0.2)
    assert found.failures(head()) is None
    assert comparison(head(), watched).failures(watched) is None  # nothing of ours to reach
    assert "time/to_target_failures" not in found.method_metrics(head())


def test_metrics_of_what_is_known() -> None:
    ours, other = forward(36.0, process_mb=12.5), retrain(NEVER)
    found = comparison(head(None), ours, other, backprop())
    values = found.metrics()
    assert values["compare/energy_vs_retrain"] == pytest.approx(400 * 2)
    assert values["compare/energy_vs_backprop"] == pytest.approx(4 * 2)
    assert values["compare/speedup_vs_retrain"] == pytest.approx(400)
    assert values["compare/speedup_vs_retrain_low"] == values["compare/speedup_vs_retrain_high"]
    assert values["compare/speedup_vs_retrain_is_lower_bound"] == 1.0
    assert values["compare/speedup_vs_backprop_is_lower_bound"] == 0.0
    own = found.method_metrics(ours)
    assert own["cost/energy_wh"] == pytest.approx(36 * 0.05 / 3600)
    assert own["cost/co2_g"] == pytest.approx(0.4 * own["cost/energy_wh"])
    assert own["cost/usd"] == pytest.approx(2e-4 * own["cost/energy_wh"])
    assert own["memory/process_peak_mb"] == 12.5
    unknown = found.method_metrics(head(None))
    assert not [key for key in unknown if "energy" in key or "co2" in key or "usd" in key or "process" in key]


def test_interval_of_a_speedup_is_logged() -> None:
    times = tuple(np.linspace(0.1, 0.3, 40).tolist())
    other = replace(backprop(), seconds=times)
    found = comparison(forward(), other)
    speedup = found.speedup(other, forward())
    values = found.metrics()
    assert values["compare/speedup_vs_backprop_low"] == speedup.low < speedup.ratio
    assert values["compare/speedup_vs_backprop_high"] == speedup.high > speedup.ratio


def test_round_trip_and_files_from_before_there_were_energies() -> None:
    found = comparison(head(), forward(process_mb=3.0), retrain(LATE), environment={"energy": {"pue": 1.0}})
    written = found.to_dict()
    json_text(written)
    assert Comparison.from_dict(written) == found
    del written["energy_source"]
    for entry in written["methods"].values():
        for key in ("energy_wh", "co2_g", "usd", "process_mb"):
            del entry[key]
    old = Comparison.from_dict(written)
    assert old.energy_source is None
    assert old.methods["forward"] == forward(None)


# --------------------------------------------------------------------------------------------------- in words


def test_texts() -> None:
    assert [energy_text(wh) for wh in (4.2e-7, 5.2e-5, 0.0123, 0.42, 1.0, 1234.5)] == [
        *("0.42 µWh", "52 µWh", "12 mWh", "420 mWh", "1.0 Wh", "1,234 Wh")
    ]
    assert [mass_text(grams) for grams in (0.0, 3.1e-6, 0.042, 5.0)] == ["0 g", "3.1 µg", "42 mg", "5.0 g"]
    assert [money_text(usd) for usd in (0.0, 3.1e-6, 0.0042, 0.42, 12.0)] == [
        *("$0", "$3.1 per million", "$4,200 per million", "$0.42", "$12")
    ]


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ([head(), forward(), retrain(LATE)], ", for 12 % of the energy of retraining (estimated). "),
        (
            [head(), forward(), retrain(NEVER)],
            ", for at most 0.12 % of the energy of retraining (estimated). ",
        ),
        ([head(), forward(), backprop()], "in 50 ms, for 12 % of the energy of backprop (estimated). "),
        ([head(score=0.85), forward(), backprop()], "in 10 ms, for 1.4 % of the energy of backprop (est"),
    ],
    ids=["retraining", "bound", "backprop", "head"],
)
def test_verdict_says_what_energy_the_choice_saves(methods: list[MethodResult], said: str) -> None:
    """Half the power of retraining, for a fourth of its time to target or a 400th of its budget."""
    assert said in verdict(comparison(*methods))


def test_verdict_says_estimated_only_of_estimates_and_nothing_of_what_is_not_known() -> None:
    methods = [head(), forward(), backprop()]
    measured = verdict(comparison(*methods, energy_source="measured"))
    assert "12 % of the energy of backprop. " in measured and "estimated" not in measured
    assert "energy" not in verdict(comparison(head(None), forward(None), backprop(watts=None)))
    winner = method("backprop", "backprop", 0.95, 0.2, 72.0)
    assert "energy" not in verdict(comparison(head(), forward(), winner))  # compared with itself


def test_costs_of_one_adaptation() -> None:
    found = comparison(head(), forward(process_mb=12.345), backprop(NEVER, LATE), retrain(LATE))
    header, rows = cost_rows(found)
    assert header == (
        *("method", "time to reach forward", "never reached on"),
        *("energy (estimated)", "CO₂ (estimated)", "price (estimated)", "process MB"),
    )
    assert rows == [
        ("head_logistic", "–", "–", "56 µWh", "22 µg", "$0.011 per million", "–"),
        ("forward", "–", "–", "500 µWh", "200 µg", "$0.10 per million", "12.3"),
        ("backprop", "≥ 200 ms", "1 of 2", "4.0 mWh", "1.6 mg", "$0.80 per million", "–"),
        ("retrain", "200 ms", "0 of 10", "400 mWh", "160 mg", "$80 per million", "–"),
    ]


def test_nothing_known_no_costs() -> None:
    silent = comparison(head(None), forward(None))
    assert cost_rows(silent) == (("method",), [])
    page = comparison_markdown(silent)
    assert "costs\n" not in page and "Process MB" not in page and "Energy" not in page


def test_page_says_how_energy_was_found_out_and_what_was_assumed() -> None:
    told = {"meter": "a meter", "grid_g_per_kwh": 473, "pue": 1.56, "usd_per_kwh": 0.15, "usd_per_hour": 2.5}
    found = comparison(head(), forward(process_mb=1.0), environment={"device": "a CPU", "energy": told})
    page = comparison_markdown(found)
    assert "## What one adaptation costs\n\n| method | energy (estimated) |" in page
    assert "power: a meter. CO₂ and price: 473 g per kWh and $0.15 per kWh and $2.5 per hour; " in page
    assert "the building takes 1.56 kWh for each kWh of the machine." in page
    assert page.endswith("Device: cpu (device a CPU).\n")
    assert page.count("Process MB:") == 1


@pytest.mark.parametrize(("width", "energies"), [(200, True), (120, True), (100, False)])
def test_the_terminal_shows_energies_where_there_is_room(width: int, energies: bool, tmp_path: Path) -> None:
    console = Console(record=True, width=width)
    found = comparison(head(), forward(), retrain(LATE))
    show(found, figure=tmp_path / "f.png", folder=tmp_path, ui=None, console=console)
    said = console.export_text()
    assert ("500 µWh" in said) == energies
    assert max(map(len, said.splitlines())) <= max(width, len(str(tmp_path)) + 20)
    assert "µWh" not in " ".join(" ".join(row) for row in table_rows(found)[1])


def test_the_terminal_without_energies_has_no_such_column(tmp_path: Path) -> None:
    console = Console(record=True, width=200)
    show(comparison(head(None), forward(None)), figure=tmp_path, folder=tmp_path, ui=None, console=console)
    assert "energy" not in console.export_text()
