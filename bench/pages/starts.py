"""What docs/starts.md says in numbers, from ``bench/results/starts.json``."""

from bench.lib.blocks import Result, by_case, fill, markdown_table, measured, reached
from bench.lib.paths import DOCS
from bench.lib.record import provenance

__all__ = ["PAGE", "filled"]

PAGE = DOCS / "starts.md"
WAYS = ("half of the way", "start", "chosen")


def filled(text: str) -> str:
    """``text`` with its generated block replaced by what the result says."""
    return fill(text, {"starts": measured("starts", _starts)})


def _starts(result: Result) -> str:
    rows = by_case(result)
    tested = [case for case, metric in rows if metric == "eval/accuracy" and case.endswith(": as it is")]
    lines, goals = [], []
    for case in (it.removesuffix(": as it is") for it in tested):
        frozen = rows[f"{case}: as it is", "eval/accuracy"]
        gaps = [rows[f"{case}: {way}", "compare/accuracy_vs_frozen"] for way in WAYS]
        data, kind = case.rsplit(": ", 1)
        lines.append([data, kind, f"{frozen['value']:.1f}", *map(_gap, gaps), _domains(frozen["note"])])
        if gaps[-1]["goal"] is not None:
            goals.append(f"- {data}, {kind}: at least {gaps[-1]['goal']:+g}: {_reached(gaps[-1])}")
    header = ["tasks", "learned on", "as it is, %", "half", "start", "chosen", "domains"]
    said = "Goals, of what is chosen, in points over the network as it is:"
    text = [markdown_table(header, lines), said, "", *goals, "", provenance(result), ""]
    return "\n".join(text).replace("-0.5", "−0.5")


def _gap(row: Result) -> str:
    return f"{row['value']:+.1f} ± {row['ci95']:.1f}".replace("-", "−")


def _domains(note: str) -> str:
    return note.removeprefix("learned on ")


def _reached(row: Result) -> str:
    return f"{_gap(row)}, {reached(row['value'] + row['ci95'] >= row['goal'])}"
