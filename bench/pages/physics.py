"""What docs/physics.md says in numbers: its generated blocks, from the JSON of ``bench/results``."""

from bench.lib.blocks import Result, Rows, by_case, fill, markdown_table, measured
from bench.lib.paths import DOCS
from bench.lib.record import provenance

__all__ = ["PAGE", "filled"]

PAGE = DOCS / "physics.md"
CASES = ("new environments", "more new environments", "environments learned from")


def filled(text: str) -> str:
    """``text`` with every generated block replaced by what the results say."""
    return fill(text, {"physics": measured("physics", _physics), "control": measured("control", _control)})


def _physics(result: Result) -> str:
    rows = by_case(result)
    systems = dict.fromkeys(case.split(", ")[0] for case, metric in rows if metric == "eval/mse")
    parts = [f"**{system.replace('_', ' ')}**\n\n{_system(rows, system)}" for system in systems]
    return "\n".join([*parts, *_speeds(rows), "", provenance(result), ""])


def _system(rows: Rows, system: str) -> str:
    header = ["", *CASES, "worst of the new", "time", "FE"]
    first = f"{system}, {CASES[0]}: "
    lines = []
    for case, metric in rows:
        if metric != "eval/mse" or not case.startswith(first):
            continue
        method = case.removeprefix(first)
        errors = [rows.get((f"{system}, {where}: {method}", "eval/mse")) for where in CASES]
        seconds, cost = (
            rows[case, "time/adapt_seconds"]["value"],
            rows[case, "cost/forward_equivalents"]["value"],
        )
        lines.append(
            [
                method,
                *(_error(row) for row in errors),
                f"{rows[case, 'eval/mse_worst']['value']:.2g}",
                f"{seconds:.2g} s",
                f"{cost:,.0f}",
            ]
        )
    return markdown_table(header, lines)


def _error(row: Result | None) -> str:
    if row is None:
        return ""
    half = "" if row["ci95"] is None else f" ± {row['ci95']:.1g}"
    return f"{row['value']:.2g}{half} ({row['n']})"


def _speeds(rows: Rows) -> list[str]:
    found = [
        (case, row) for (case, metric), row in rows.items() if metric == "compare/time_to_the_same_error"
    ]
    return [
        f"- {case}: {'≥ ' if 'bound' in row['note'] else ''}{row['value']:.0f} × the time of "
        f"*{row['note'].split(';')[0]}* until the given trajectories are explained as well (n = {row['n']})."
        for case, row in found
    ]


def _control(result: Result) -> str:
    rows = by_case(result)
    lines = []
    for case, metric in rows:
        if metric != "return":
            continue
        mean, gap = rows[case, "return"], rows.get((case, "compare/forward_minus_this_return"))
        lines.append(
            [
                case.removeprefix("pendulum, ").replace(" transitions:", ":"),
                f"{mean['value']:.0f} ± {mean['ci95'] or 0:.0f}",
                "" if gap is None else f"{gap['value']:+.0f} ± {gap['ci95'] or 0:.0f}".replace("-", "−"),
                f"{rows[case, 'time/adapt_seconds']['value']:.2g} s",
            ]
        )
    table = markdown_table(
        ["transitions, and the planner's model", "return", "ours − it", "time to make it"], lines
    )
    return "\n".join([table, "", provenance(result), ""])
