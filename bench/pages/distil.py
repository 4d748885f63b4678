"""What docs/edge.md says of smaller networks in numbers, from ``bench/results/distil.json``."""

from bench.lib.blocks import Result, Rows, by_case, fill, gap, markdown_table, measured
from bench.lib.paths import DOCS
from bench.lib.record import provenance

__all__ = ["PAGE", "filled"]

PAGE = DOCS / "edge.md"
HEADER = [
    "tasks",
    "predicts",
    "accuracy, %",
    "against the teacher",
    "against labels alone",
    "to make",
    "file",
    "an example",
    "setting",
]


def filled(text: str) -> str:
    """``text`` with its generated block replaced by what the result says."""
    return fill(text, {"distil": measured("distil", _distil)})


def _distil(result: Result) -> str:
    rows = by_case(result)
    lines = [_line(rows, case) for case, metric in rows if metric == "eval/accuracy"]
    means = [
        f"{case.split(',')[0]} {gap(row)}"
        for (case, metric), row in rows.items()
        if metric == "compare/accuracy_vs_point"
    ]
    counts = [
        f"{case.split(',')[0]} {row['n']}"
        for (case, metric), row in rows.items()
        if metric == "eval/accuracy" and case.endswith(": teacher")
    ]
    said = (
        f"Taught by posterior means against taught by the point, in points: {'; '.join(means)}. Tasks: "
        f"{', '.join(counts)}."
    )
    return "\n".join([markdown_table(HEADER, lines), said, "", provenance(result), ""])


def _line(rows: Rows, case: str) -> list[str]:
    accuracy = rows[case, "eval/accuracy"]

    def cell(metric: str, form: str) -> str:
        row = rows.get((case, metric))
        return "" if row is None else form.format(row["value"])

    def against(metric: str) -> str:
        row = rows.get((case, f"compare/accuracy_vs_{metric}"))
        return "" if row is None else gap(row)

    return [
        *case.split(": "),
        f"{accuracy['value']:.1f}",
        against("teacher"),
        against("labels_alone"),
        cell("time/adapt_seconds", "{:.2g} s"),
        cell("cost/size", "{:.2g} MiB"),
        cell("time/inference", "{:.2g} ms"),
        accuracy["note"],
    ]
