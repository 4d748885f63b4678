"""What docs/posterior.md says in numbers: its generated blocks, from the JSON of ``bench/results``."""

from bench.lib.blocks import Result, Rows, by_case, fill, markdown_table, measured, reached
from bench.lib.paths import DOCS
from bench.lib.posterior_tables import classes, costs, plus, uncertainty
from bench.lib.record import provenance

__all__ = ["PAGE", "filled"]

PAGE = DOCS / "posterior.md"


def filled(text: str) -> str:
    """``text`` with every generated block replaced by what the results say."""
    blocks = {
        "uncertainty": uncertainty,
        "classes": classes,
        "costs": costs,
        "online": lambda result: _stream(result, "100 moments"),
        "change": _change,
        "labels": _labels,
        "wrong": _wrong,
        "together": _together,
    }
    of_posterior = {name: measured("posterior", block) for name, block in blocks.items()}
    return fill(text, {**of_posterior, "volatility": measured("volatility", _volatility)})


def _stream(result: Result, when: str) -> str:
    prefix = f"stream, {when}: "
    rows = {
        c.removeprefix(prefix): row
        for (c, m), row in by_case(result).items()
        if c.startswith(prefix) and m == "eval/mse"
    }
    table = [[name, plus(row, 4)] for name, row in rows.items()]
    title = {
        "100 moments": "A vehicle, after 100 moments, five at a time",
        "25 after the change": "Another one, 25 moments later",
    }
    return markdown_table([title[when], "squared error"], table)


def _volatility(result: Result) -> str:
    rows = by_case(result)
    parts = [*dict.fromkeys(case.partition(": ")[0] for case, _ in rows)]
    lines = []
    for case, metric in rows:
        part, _, name = case.partition(": ")
        if part != parts[0] or metric != "eval/mse":
            continue
        gap = rows.get((case, "compare/forward_minus_this_mse"))
        day = rows[case, "time/day_milliseconds"]["value"]
        errors = [plus(rows[f"{it}: {name}", metric], 3) for it in parts]
        lines.append([name, *errors, "" if gap is None else plus(gap, 3), f"{day:.2g} ms"])
    header = ["Volatility of the next week", *parts, f"learning every day − it, {parts[0]}", "a day takes"]
    return "\n".join([markdown_table(header, lines), "", provenance(result), ""])


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
    errors = [[case, plus(row, 4)] for case, row in _errors(rows, "eval/mse")]
    errors += [[case, f"{plus(row)} % wrong"] for case, row in _errors(rows, "eval/error")]
    return "\n".join(lines) + "\n\n" + markdown_table(["", "squared error"], errors)


def _errors(rows: Rows, metric: str) -> list[tuple[str, Result]]:
    ends = (": random", ": suggested")
    return [(case, row) for (case, what), row in rows.items() if what == metric and case.endswith(ends)]


def _wrong(result: Result) -> str:
    rows = by_case(result)
    found = [(case, row) for (case, metric), row in rows.items() if metric == "eval/auroc"]
    table = [[case, plus(row, 3), str(row["n"])] for case, row in found]
    goals = "".join(
        f"- {case}: goal {row['goal']:g} {reached(row['value'] >= row['goal'])}"
        f"{_minus(rows.get((case, 'compare/auroc_minus_folds')))}.\n"
        for case, row in found
        if row["goal"] is not None
    )
    return f"{markdown_table(['', 'area under the ROC curve', 'tasks'], table)}\n{goals}"


def _minus(row: Result | None) -> str:
    return "" if row is None else f"; minus folds of a head alone {plus(row, 3)}"


def _together(result: Result) -> str:
    rows = by_case(result)
    table = [[case, f"{row['value']:.0f}"] for (case, metric), row in rows.items() if metric == "cost/bytes"]
    ratio = rows["4 clients, 2 rounds: error by that of the joint fit", "eval/mse_ratio"]
    sums = markdown_table(["", "bytes a client"], table)
    return f"{sums}\nError by that of the joint fit: {plus(ratio, 4)}.\n"
