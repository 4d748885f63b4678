"""The tables of docs/posterior.md that compare with rivals, from the rows of ``bench/posterior.py``."""

from collections.abc import Sequence

from bench.lib.blocks import Result, Rows, by_case, markdown_table, reached
from bench.lib.record import provenance

__all__ = ["classes", "costs", "plus", "uncertainty"]

#: Of classes, all that the benchmark has.
DOMAINS = ("digits, 10 x 2", "digits, 10 x 5", "gridworld, 4 x 2", "gridworld, 4 x 5", "intents, 10 x 5")
MOST = 5  # examples, of the goal to be the best of all


def plus(row: Result | None, digits: int = 2) -> str:
    """A value with its interval; a dash where there is none."""
    if row is None:
        return "–"
    digits = digits if abs(row["value"]) < 100 else 0
    half = "" if row["ci95"] is None else f" ± {row['ci95']:,.{digits}f}"
    return f"{row['value']:,.{digits}f}{half}"


def _split(rows: Rows, metric: str) -> tuple[list[str], list[str]]:
    """Cases and methods, in their order, of the rows ``case: method`` with this metric."""
    pairs = [case.rsplit(": ", 1) for case, found in rows if found == metric]
    return [*dict.fromkeys(case for case, _ in pairs)], [*dict.fromkeys(method for _, method in pairs)]


def uncertainty(result: Result) -> str:
    """Values: −log density, differences to ours, coverage with sharpness, and the goals."""
    rows = by_case(result)
    cases, methods = _split(rows, "eval/sharpness")
    if not cases:
        return "Not measured yet.\n"
    density = [[it, *(plus(rows.get((f"{it}: {m}", "eval/nll"))) for m in methods)] for it in cases]
    apart = [[it, *(_against(rows, it, m) for m in methods[1:])] for it in cases]
    inside = [[it, *(_inside(rows, it, m) for m in methods), _surer(rows, it)] for it in cases]
    tables = (
        markdown_table(["−log density of a query", *methods], density),
        markdown_table(["posterior − rival, same tasks (% where it is lower)", *methods[1:]], apart),
        markdown_table(
            ["inside of 95 % (mean std)", *methods, "error of the surer half ÷ all"],
            inside,
        ),
    )
    text = "\n".join(tables)
    return f"{text}\n{_members(rows)}\n{_goals(rows, cases, methods)}\n{_provenance(result)}\n"


def _against(rows: Rows, case: str, method: str) -> str:
    row = rows.get((f"{case}: {method}", "compare/nll_of_posterior_minus"))
    if row is None:
        return "–"
    share = rows[f"{case}: {method}", "compare/posterior_better"]["value"]
    text = f"{plus(row)} ({share:.0f} %)"
    worse = row["ci95"] is not None and row["value"] > row["ci95"]
    return f"**{text}**" if worse else text


def _inside(rows: Rows, case: str, method: str) -> str:
    row = rows.get((f"{case}: {method}", "eval/coverage"))
    if row is None:
        return "–"
    return f"{row['value']:.1f} % ({rows[f'{case}: {method}', 'eval/sharpness']['value']:.3g})"


def _surer(rows: Rows, case: str) -> str:
    return f"{rows[f'{case}: posterior', 'eval/error_of_surer_half']['value']:.2f}"


def _members(rows: Rows) -> str:
    found = [(case, row) for (case, metric), row in rows.items() if metric == "validation/mse"]
    by_name: dict[str, list[Result]] = {}
    for case, row in found:
        by_name.setdefault(case.split(": ")[0], []).append(row)
    parts = []
    for name, members in by_name.items():
        losses = ", ".join(f"{row['value']:.3g}" for row in members)
        parts.append(f"{name} {losses} (the first one ships)")
    return f"Validation errors of the five MAMLs: {'; '.join(parts)}.\n" if parts else ""


def _goals(rows: Rows, cases: Sequence[str], methods: Sequence[str]) -> str:
    few = [it for it in cases if int(it.rsplit(", ", 1)[1].split()[0]) <= MOST]
    metric = "compare/nll_of_posterior_minus"
    pairs = [(it, m) for it in few for m in methods[1:] if (f"{it}: {m}", metric) in rows]
    lost = [f"{m} with {it}" for it, m in pairs if rows[f"{it}: {m}", metric]["value"] > 0]
    inside = {it: rows[f"{it}: posterior", "eval/coverage"]["value"] for it in cases}
    outside = [f"{it} ({value:.1f} %)" for it, value in inside.items() if not 93 <= value <= 97]
    return (
        f"Goal, the least −log density of all with {MOST} examples or fewer: {reached(not lost)}"
        f"{'; better: ' + ', '.join(lost) if lost else ''}. Goal, 93 to 97 % inside everywhere: "
        f"{reached(not outside)}{' by ' + ', '.join(outside) if outside else ''}.\n"
    )


def _provenance(result: Result) -> str:
    """With the commits of parts that were measured at others."""
    older: dict[str, list[str]] = {}
    for part, commit in result.get("commits", {}).items():
        if commit != result["commit"]:
            older.setdefault((commit or "none")[:8], []).append(part)
    said = "; ".join(f"{', '.join(parts)} at commit {commit}" for commit, parts in older.items())
    return provenance(result) + (f" Measured before: {said}." if said else "")


def classes(result: Result) -> str:
    """Classes: every method of every domain."""
    rows = by_case(result)
    cases, methods = _split(rows, "eval/calibration_error")
    if not cases:
        return "Not measured yet.\n"
    table = []
    for case in cases:
        for method in methods:
            name = f"{case}: {method}"
            if (name, "eval/nll") in rows:
                apart = [rows.get((name, f"compare/nll_minus_{it}")) for it in ("head", "folds")]
                table.append(
                    [
                        *(case, method, plus(rows[name, "eval/nll"], 3), *(plus(it, 3) for it in apart)),
                        f"{rows[name, 'eval/calibration_error']['value']:.1f} %",
                        f"{plus(rows[name, 'eval/accuracy'], 1)} %",
                        str(rows[name, "eval/nll"]["n"]),
                    ]
                )
    header = [
        "",
        "",
        "−log p",
        "minus head alone",
        "minus temperature by folds",
        "calibration error",
        "right",
        "tasks",
    ]
    missing = [it for it in DOMAINS if it not in cases]
    said = f"\nNot measured yet: {', '.join(missing)}.\n" if missing else ""
    return f"{markdown_table(header, table)}{said}"


def costs(result: Result) -> str:
    """Of predictions in plain passes, and of whole tasks by ours."""
    rows = by_case(result)
    passes = [case for case, metric in rows if metric == "time/forwards"]
    whole = [case for case, metric in rows if metric == "time/of_posterior"]
    if not passes:
        return "Not measured yet.\n"
    first = [
        [
            *(case, f"{rows[case, 'cost/forward_equivalents']['value']:.2f}"),
            *(_ratio(rows[case, "time/forwards"]), f"{rows[case, 'memory/peak_mb']['value']:.3g}"),
        ]
        for case in passes
    ]
    second = [[it, _ratio(rows[it, "time/of_posterior"]), _peak(rows, it)] for it in whole]
    ours = [
        [it, "1", _peak(rows, it)] for it, m in rows if m == "memory/peak_mb" and it.endswith(": posterior")
    ]
    goals = {
        case: row for (case, metric), row in rows.items() if metric.startswith("cost/forward") and row["goal"]
    }
    over = [
        f"{case} ({row['value']:.1f} of {row['goal']:g})"
        for case, row in goals.items()
        if row["value"] > row["goal"]
    ]
    header = ["of the same queries", "operations, in plain passes", "time, in plain passes", "peak, MB"]
    return (
        f"{markdown_table(header, first)}\n"
        f"Goal, at most 1 + k passes: {reached(not over)}{' by ' + ', '.join(over) if over else ''}.\n\n"
        f"{markdown_table(['fit and predict', 'time by that of ours', 'peak, MB'], [*ours, *second])}"
    )


def _ratio(row: Result) -> str:
    return f"{row['value']:.3g}" + (f" ({row['note']})" if row["note"] else "")


def _peak(rows: Rows, case: str) -> str:
    row = rows.get((case, "memory/peak_mb"))
    return "–" if row is None else f"{row['value']:.3g}"
