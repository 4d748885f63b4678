"""What docs/starts.md says in numbers, from ``bench/results/starts.json``."""

from bench.lib.blocks import Result, Rows, by_case, fill, markdown_table, measured, reached
from bench.lib.own_folders import HOW
from bench.lib.paths import DOCS
from bench.lib.record import provenance

__all__ = ["PAGE", "filled"]

PAGE = DOCS / "starts.md"
WAYS = ("half of the way", "start", "chosen")
GAP = "compare/accuracy_vs_frozen"


def filled(text: str) -> str:
    """``text`` with its generated block replaced by what the result says."""
    return fill(text, {"starts": measured("starts", _starts)})


def _starts(result: Result) -> str:
    rows = by_case(result)
    parts = [
        _left_out(rows),
        "`adapt fit` on folders of pictures, with the start that ships:",
        "",
        _folders(rows),
    ]
    return "\n".join([*parts, provenance(result), ""])


def _left_out(rows: Rows) -> str:
    lines, goals = [], []
    for case in _cases(rows, fits=False):
        frozen = rows[f"{case}: as it is", "eval/accuracy"]
        gaps = [rows[f"{case}: {way}", GAP] for way in WAYS]
        data, kind = case.rsplit(": ", 1)
        domains = frozen["note"].removeprefix("learned on ")
        lines.append([data, kind, f"{frozen['value']:.1f}", *map(_gap, gaps), domains])
        if gaps[-1]["goal"] is not None:
            goals.append(f"- {data}, {kind}: {_reached(gaps[-1])}")
    header = ["tasks", "learned on", "as it is, %", "half", "start", "chosen", "domains"]
    said = "Goals, of what is chosen, in points over the network as it is:"
    return "\n".join([markdown_table(header, lines), said, "", *goals, ""])


def _folders(rows: Rows) -> str:
    lines = []
    for case in _cases(rows, fits=True):
        before, after = (rows[f"{case}: {how}", "eval/accuracy"] for how in HOW)
        gap = _gap(rows[f"{case}: {HOW[1]}", GAP])
        lines.append(
            [case.removeprefix("adapt fit: "), f"{before['value']:.1f}", f"{after['value']:.1f}", gap]
        )
    return markdown_table(["pictures", "as it is, %", "with a start, %", "points"], lines)


def _cases(rows: Rows, *, fits: bool) -> list[str]:
    end = ": as it is"
    cases = [case.removesuffix(end) for case, m in rows if m == "eval/accuracy" and case.endswith(end)]
    return [case for case in cases if case.startswith("adapt fit") == fits]


def _gap(row: Result) -> str:
    return f"{row['value']:+.1f} ± {row['ci95']:.1f}".replace("-", "−")


def _reached(row: Result) -> str:
    goal, said = f"{row['goal']:+g}".replace("-", "−"), reached(row["value"] >= row["goal"])
    near = row["value"] < row["goal"] <= row["value"] + row["ci95"]
    return f"at least {goal}: {_gap(row)}, {said}{', but within its interval' if near else ''}"
