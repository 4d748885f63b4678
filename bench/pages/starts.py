"""What docs/starts.md says in numbers, from ``bench/results/starts.json``."""

from bench.lib.blocks import Result, Rows, by_case, fill, gap, markdown_table, measured, reached
from bench.lib.own_folders import HOW
from bench.lib.paths import DOCS
from bench.lib.record import provenance
from bench.lib.screening import FOUND

__all__ = ["PAGE", "filled"]

PAGE = DOCS / "starts.md"
WAYS = ("half of the way", "start", "chosen")
GAP, VARIANT = "compare/accuracy_vs_frozen", "validation/accuracy_vs_scales"
FITS, METHODS, SCREENING = "adapt fit: ", "methods: ", "screening: "


def filled(text: str) -> str:
    """``text`` with its generated block replaced by what the result says."""
    return fill(text, {"starts": measured("starts", _starts)})


def _starts(result: Result) -> str:
    rows = by_case(result)
    said = "`adapt fit` on folders, with the start that ships (it knows other alphabets of Omniglot):"
    parts = [_left_out(rows), said, "", _folders(rows)]
    if _cases(rows, METHODS):
        said = "What moving on from a start adds; rates and steps as are best on validation classes:"
        parts += [said, "", _methods(rows)]
    if any(case.startswith(SCREENING) for case, _ in rows):
        said = "Chest X-rays: of those with pneumonia, found where a tenth of the others are taken for ill."
        parts += [said, "", _screening(rows)]
    if any(metric == VARIANT for _, metric in rows):
        said = "Starts that were learned otherwise, on validation classes, in points over these:"
        parts += [said, "", _variants(rows)]
    return "\n".join([*parts, provenance(result), ""])


def _variants(rows: Rows) -> str:
    found = {case.rsplit(", ", 1)[1]: None for case, metric in rows if metric == VARIANT}
    shares = {case.rsplit(", ", 1)[0]: None for case, metric in rows if metric == VARIANT}
    lines = []
    for share in shares:
        data, _, way = share.split(": ")
        lines.append(
            [data.replace(", validation", ""), way, *(gap(rows[f"{share}, {it}", VARIANT]) for it in found)]
        )
    return markdown_table(["tasks", "", *found], lines)


def _screening(rows: Rows) -> str:
    lines = []
    for case, metric in rows:
        if metric == FOUND:
            tasks, kind, way = case.removeprefix(SCREENING).split(": ")
            found, error = rows[case, FOUND], rows[case, "eval/calibration_error"]["value"]
            over = rows.get((case, "compare/sensitivity_vs_frozen"))
            points = "" if over is None else gap(over)
            lines.append([tasks, kind, way, f"{found['value']:.1f}", points, f"{error:.1f}"])
    return markdown_table(
        ["tasks", "learned on", "features", "found, %", "points", "calibration error, %"], lines
    )


def _left_out(rows: Rows) -> str:
    lines, goals = [], []
    for case in _cases(rows, ""):
        frozen = rows[f"{case}: as it is", "eval/accuracy"]
        gaps = [rows[f"{case}: {way}", GAP] for way in WAYS]
        data, kind = case.rsplit(": ", 1)
        domains = frozen["note"].removeprefix("learned on ")
        lines.append([data, kind, f"{frozen['value']:.1f}", *map(gap, gaps), domains])
        if gaps[-1]["goal"] is not None:
            goals.append(f"- {data}, {kind}: {_reached(gaps[-1])}")
    header = ["tasks", "learned on", "as it is, %", "half", "start", "chosen", "domains"]
    said = "Goals, of what is chosen, in points over the network as it is:"
    return "\n".join([markdown_table(header, lines), said, "", *goals, ""])


def _folders(rows: Rows) -> str:
    lines = []
    for case in _cases(rows, FITS):
        before, after = (rows[f"{case}: {how}", "eval/accuracy"] for how in HOW)
        accuracies = [f"{row['value']:.1f}" for row in (before, after)]
        lines.append([case.removeprefix(FITS), *accuracies, gap(rows[f"{case}: {HOW[1]}", GAP])])
    return markdown_table(["pictures", "as it is, %", "with a start, %", "points"], lines)


def _methods(rows: Rows) -> str:
    lines = []
    for case in _cases(rows, METHODS):
        names = [
            it.removeprefix(f"{case}: ") for it, m in rows if m == "eval/accuracy" and it.startswith(case)
        ]
        for name in names:
            accuracy, seconds = (rows[f"{case}: {name}", m] for m in ("eval/accuracy", "time/adapt_seconds"))
            over = rows.get((f"{case}: {name}", "compare/accuracy_vs_start"))
            said = [
                f"{accuracy['value']:.1f}",
                "" if over is None else gap(over),
                f"{seconds['value']:.2g} s",
            ]
            lines.append([case.removeprefix(METHODS), name, *said, accuracy["note"]])
    return markdown_table(["tasks", "method", "accuracy, %", "over the start", "a task", "setting"], lines)


def _cases(rows: Rows, prefix: str) -> list[str]:
    """Those that begin so; if that is empty, those that begin with none of the prefixes."""
    end = ": as it is"
    cases = [case.removesuffix(end) for case, m in rows if m == "eval/accuracy" and case.endswith(end)]
    return [it for it in cases if (it.startswith(prefix) if prefix else not it.startswith((FITS, METHODS)))]


def _reached(row: Result) -> str:
    goal, said = f"{row['goal']:+g}".replace("-", "−"), reached(row["value"] >= row["goal"])
    near = row["value"] < row["goal"] <= row["value"] + row["ci95"]
    return f"at least {goal}: {gap(row)}, {said}{', but within its interval' if near else ''}"
