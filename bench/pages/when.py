"""What docs/when.md says in numbers: its generated blocks, from the JSON of ``bench/results``."""

from collections.abc import Iterator

from bench.lib.blocks import Result, Rows, by_case, fill, markdown_table, measured, reached
from bench.lib.figures import ADAPTATIONS
from bench.lib.paths import DOCS
from bench.lib.record import provenance
from bench.pages.differences import differences

__all__ = ["PAGE", "filled"]

PAGE = DOCS / "when.md"
FORWARD = ("gauss_newton", "linearised", "auto")


def filled(text: str) -> str:
    """``text`` with every generated block replaced by what the results say."""
    blocks = {
        "differences": differences,
        "verdicts": measured("inner_loops", _verdicts),
        "inner_loops": measured("inner_loops", _inner_loops),
        "regression": measured("regression", _regression),
        "automatic": measured("automatic", _automatic),
        "memory": measured("memory", _memory),
    }
    return fill(text, blocks)


# ----------------------------------------------------------------------------------------- inner loops


def _networks(rows: Rows) -> list[str]:
    return [case for case, metric in rows if metric == "about"]


def _methods(rows: Rows, network: str, metric: str) -> list[str]:
    prefix = f"{network}: "
    return [case.removeprefix(prefix) for case, m in rows if m == metric and case.startswith(prefix)]


def _verdicts(result: Result) -> str:
    """Per network: the fastest of ours, its time, and its accuracy against the others."""
    rows = by_case(result)
    return "\n".join(_verdict(rows, network) for network in _networks(rows)) + "\n"


def _verdict(rows: Rows, network: str) -> str:
    def of(method: str, metric: str) -> Result:
        return rows[f"{network}: {method}", metric]

    ours = min(FORWARD, key=lambda name: of(name, "time/adapt_seconds")["value"])
    ratio = of(ours, "compare/time_of_backprop")
    points = of(ours, "compare/accuracy_vs_backprop")
    goal = reached(ratio["value"] <= 0.5 and points["value"] + (points["ci95"] or 0) >= 0)
    head = of(ours, "compare/accuracy_vs_head")
    return (
        f"- **{network}**: `{ours}` takes {ratio['value']:.2f} × the time of the best backprop inner loop "
        f"(goal: at most 0.5 at equal accuracy, {goal}); accuracy {_points(points)} points against "
        f"backprop, {_points(head)} against the best head without adapting: {_where(head)}."
    )


def _where(row: Result) -> str:
    """Where the interval of a difference lies: of one of many, so that it calls nothing significant."""
    half = row["ci95"]
    if half is None or abs(row["value"]) <= half:
        return "adapting makes no difference that these tasks show"
    return f"the interval lies {'above' if row['value'] > 0 else 'below'} 0"


def _inner_loops(result: Result) -> str:
    rows = by_case(result)
    return "\n".join([*(_network(rows, network) for network in _networks(rows)), provenance(result), ""])


def _network(rows: Rows, network: str) -> str:
    header = ["", "accuracy %", "− backprop", "− head", "time", "÷ backprop", "FE", "memory MB", "setting"]
    lines = []
    for method in _methods(rows, network, "eval/accuracy"):
        case = f"{network}: {method}"
        accuracy = rows[case, "eval/accuracy"]
        lines.append(
            [
                f"`{method}`",
                f"{accuracy['value']:.2f}{_half(accuracy, '.2f')}",
                _points(rows.get((case, "compare/accuracy_vs_backprop"))),
                _points(rows.get((case, "compare/accuracy_vs_head"))),
                _milliseconds(rows[case, "time/adapt_seconds"]),
                _plain(rows.get((case, "compare/time_of_backprop"))),
                _plain(rows[case, "cost/forward_equivalents"]),
                f"{rows[case, 'memory/peak_mb']['value']:.1f}",
                accuracy["note"],
            ]
        )
    about, inference = rows[network, "about"], rows[network, "memory/inference_mb"]
    n = rows[f"{network}: backprop", "eval/accuracy"]["n"]
    title = (
        f"**{network}**: {about['note']} {n} test tasks; one forward pass of a support set takes "
        f"{inference['value']:.1f} MB.\n"
    )
    return f"{title}\n{markdown_table(header, lines)}"


def _points(row: Result | None) -> str:
    if row is None:
        return ""
    return f"{row['value']:+.2f}{_half(row, '.2f')}".replace("-", "−")


def _half(row: Result, digits: str) -> str:
    return "" if row["ci95"] is None else f" ± {row['ci95']:{digits}}"


def _milliseconds(row: Result) -> str:
    return f"{1000 * row['value']:.3g} ms" if row["value"] < 1 else f"{row['value']:.2f} s"


def _plain(row: Result | None) -> str:
    return "" if row is None else f"{row['value']:.2f}"


# ----------------------------------------------------------------------------------------- regression


def _regression(result: Result) -> str:
    rows = by_case(result)
    settings = list(dict.fromkeys(case.split(": ")[0] for case, _ in rows))
    parts = [f"**{name}**\n\n{_setting(rows, name)}" for name in settings]
    return "\n".join([*parts, *_regression_goals(rows), "", provenance(result), ""])


def _setting(rows: Rows, name: str) -> str:
    header = ["", "mean squared error", "worst seed", "− forward", "time", "forward ÷ it", "FE", "memory MB"]
    lines = []
    for method in _methods(rows, name, "eval/mse"):
        case = f"{name}: {method}"
        error, difference = rows[case, "eval/mse"], rows.get((case, "compare/mse_minus_forward"))
        lines.append(
            [
                f"`{method}`",
                f"{error['value']:.4g}{_half(error, '.2g')}",
                f"{rows[case, 'eval/mse_worst_seed']['value']:.4g}",
                "" if difference is None else f"{difference['value']:+.3g}{_half(difference, '.2g')}",
                _milliseconds(rows[case, "time/adapt_seconds"]),
                _plain(rows.get((case, "compare/time_of_forward"))),
                _plain(rows[case, "cost/forward_equivalents"]),
                f"{rows[case, 'memory/peak_mb']['value']:.2f}",
            ]
        )
    return markdown_table(header, lines)


def _regression_goals(rows: Rows) -> Iterator[str]:
    said = {"eval/mse": "mean squared error", "compare/time_of_forward": "time of `forward` ÷ time of it"}
    for (case, metric), row in rows.items():
        if metric in said and row["goal"] is not None:
            goal = f"at most {row['goal']:g}; got {row['value']:.3g}, {reached(row['value'] <= row['goal'])}"
            yield f"- {case}: {said[metric]} {goal}."


def _automatic(result: Result) -> str:
    """Deciding against always and never adapting."""
    rows = by_case(result)
    header = [
        "",
        "`forward`",
        "`auto` − `forward`",
        "not moved",
        "time of `auto` ÷ `forward`",
        "FE of `auto`",
    ]
    lines = []
    for case in dict.fromkeys(case.split(": ")[0] for case, _ in rows):
        always, never = (rows[f"{case}: {name}", "eval/mse"] for name in ("forward", "start, not moved"))
        auto = f"{case}: auto"
        gap = rows[auto, "compare/mse_minus_forward"]
        lines.append(
            [
                case,
                f"{always['value']:.4g}{_half(always, '.2g')}",
                f"{gap['value']:+.1g}{_half(gap, '.1g')}",
                f"{never['value']:.4g}{_half(never, '.2g')}",
                f"{rows[auto, 'time/adapt_ratio']['value']:.1f}",
                _plain(rows[auto, "cost/forward_equivalents"]),
            ]
        )
    return "\n".join([markdown_table(header, lines), "", provenance(result), ""])


# ----------------------------------------------------------------------------------------- memory


def _memory(result: Result) -> str:
    rows = by_case(result)
    header = ["", "inference, MB", *ADAPTATIONS.values()]
    inference = {
        case: row["value"] for (case, metric), row in rows.items() if metric == "memory/inference_mb"
    }
    cases = [*inference]
    lines = [
        [case, f"{peak:.1f}", *(f"{rows[case, f'memory/{key}']['value']:.2f}" for key in ADAPTATIONS)]
        for case, peak in inference.items()
    ]
    worst = max(rows[case, "memory/forward_rows"]["value"] for case in cases)
    few = ADAPTATIONS["forward_rows"]
    goal = f"Goal: at most 1.25 × inference; *{few}* at most {worst:.2f}, {reached(worst <= 1.25)}.\n"
    counts = "; ".join(_less(rows, cases, key) for key in ADAPTATIONS if key.startswith("backprop"))
    less = f"*{few}* needs less memory than {counts}.\n"
    return "\n".join([markdown_table(header, lines), less, goal, provenance(result), ""])


def _less(rows: Rows, cases: list[str], key: str) -> str:
    ours = sum(
        rows[case, "memory/forward_rows"]["value"] < rows[case, f"memory/{key}"]["value"] for case in cases
    )
    return f"*{ADAPTATIONS[key]}* in {ours} of {len(cases)} cases"
