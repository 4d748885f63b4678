"""What docs/posterior.md says in numbers: its generated blocks, from the JSON of ``bench/results``."""

from bench.lib.blocks import Result, Rows, by_case, fill, markdown_table, measured, reached
from bench.lib.paths import DOCS
from bench.lib.record import provenance

__all__ = ["PAGE", "filled"]

PAGE = DOCS / "posterior.md"
METHODS = ("posterior", "constant", "Gaussian process")


def filled(text: str) -> str:
    """``text`` with every generated block replaced by what the results say."""
    blocks = {
        "uncertainty": _uncertainty,
        "online": lambda result: _stream(result, "100 moments"),
        "change": _change,
        "labels": _labels,
        "wrong": _wrong,
        "together": _together,
    }
    return fill(text, {name: measured("posterior", block) for name, block in blocks.items()})


def _plus(row: Result, digits: int = 2) -> str:
    digits = digits if abs(row["value"]) < 100 else 0
    half = "" if row["ci95"] is None else f" ± {row['ci95']:,.{digits}f}"
    return f"{row['value']:,.{digits}f}{half}"


def _uncertainty(result: Result) -> str:
    rows = by_case(result)
    cases = [case.removesuffix(": posterior") for case, metric in rows if case.endswith(": posterior")]
    table = [
        [
            case,
            *(_plus(rows[f"{case}: {method}", "eval/nll"]) for method in METHODS),
            *(_plus(rows[f"{case}: {method}", "compare/nll_of_posterior_minus"]) for method in METHODS[1:]),
            f"{rows[f'{case}: posterior', 'eval/coverage']['value']:.1f} %",
            f"{rows[f'{case}: posterior', 'eval/error_of_surer_half']['value']:.2f}",
        ]
        for case in dict.fromkeys(cases)
    ]
    header = [
        *("", "−log density: posterior", "one variance", "Gaussian process of the task"),
        *(
            "posterior − one variance",
            "posterior − Gaussian process",
            "inside of 95 %",
            "error of the surer half ÷ all",
        ),
    ]
    inside = [row["value"] for (_, metric), row in rows.items() if metric == "eval/coverage" and row["goal"]]
    goal = reached(all(93 <= value <= 97 for value in inside))
    goals = f"Goal, 93 to 97 % inside everywhere: {goal} ({min(inside):.1f} to {max(inside):.1f}).\n"
    return f"{markdown_table(header, table)}\n{goals}\n{provenance(result)}\n"


def _stream(result: Result, when: str) -> str:
    prefix = f"stream, {when}: "
    rows = {
        c.removeprefix(prefix): row
        for (c, m), row in by_case(result).items()
        if c.startswith(prefix) and m == "eval/mse"
    }
    table = [[name, _plus(row, 4)] for name, row in rows.items()]
    title = {
        "100 moments": "A vehicle, after 100 moments, five at a time",
        "25 after the change": "Another one, 25 moments later",
    }
    return markdown_table([title[when], "squared error"], table)


def _change(result: Result) -> str:
    rows = by_case(result)
    ratio = rows["stream, 25 after the change: noticed", "eval/mse_ratio"]
    alarms = rows["stream, without a change", "eval/false_alarms"]
    return (
        f"{_stream(result, '25 after the change')}\n"
        f"Noticed, against the fit on the new ones alone: {ratio['value']:.2f} × (goal {ratio['goal']:g}: "
        f"{reached(ratio['value'] <= ratio['goal'])}). False alarms in streams of 100 moments without a "
        "change: "
        f"{alarms['value']:g} % (goal {alarms['goal']:g} %: {reached(alarms['value'] <= alarms['goal'])}).\n"
    )


def _labels(result: Result) -> str:
    rows = by_case(result)
    lines = [
        f"- {case}: {row['value']:.0f} % as many that are suggested (goal {row['goal']:g} %: "
        f"{reached(row['value'] <= row['goal'])})."
        for (case, metric), row in rows.items()
        if metric == "cost/labels"
    ]
    errors = [[case, _plus(row, 4)] for case, row in _errors(rows, "eval/mse")]
    errors += [[case, f"{_plus(row)} % wrong"] for case, row in _errors(rows, "eval/error")]
    return "\n".join(lines) + "\n\n" + markdown_table(["", "squared error"], errors)


def _errors(rows: Rows, metric: str) -> list[tuple[str, Result]]:
    ends = (": random", ": suggested")
    return [(case, row) for (case, what), row in rows.items() if what == metric and case.endswith(ends)]


def _wrong(result: Result) -> str:
    found = [(case, row) for (case, metric), row in by_case(result).items() if metric == "eval/auroc"]
    return "".join(
        f"- {case}: area under the ROC curve {_plus(row, 3)} (goal {row['goal']:g}: "
        f"{reached(row['value'] >= row['goal'])}).\n"
        for case, row in found
    )


def _together(result: Result) -> str:
    rows = by_case(result)
    table = [[case, f"{row['value']:.0f}"] for (case, metric), row in rows.items() if metric == "cost/bytes"]
    ratio = rows["4 clients, 2 rounds: error by that of the joint fit", "eval/mse_ratio"]
    sums = markdown_table(["", "bytes a client"], table)
    return f"{sums}\nError by that of the joint fit: {_plus(ratio, 4)}.\n"
