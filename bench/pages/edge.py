"""What docs/edge.md says in numbers, from ``bench/results/edge.json``."""

from bench.lib.blocks import Result, Rows, by_case, fill, gap, markdown_table, measured, reached
from bench.lib.paths import DOCS
from bench.lib.record import provenance

__all__ = ["PAGE", "filled"]

PAGE = DOCS / "edge.md"
EXPORTED = ": exported task"


def filled(text: str) -> str:
    """``text`` with its generated block replaced by what the result says."""
    return fill(text, {"edge": measured("edge", _edge)})


def _edge(result: Result) -> str:
    rows = by_case(result)
    lines = [_line(rows, case) for case, metric in rows if metric == "eval/accuracy"]
    header = [
        "tasks",
        "adapted by",
        "accuracy, %",
        "against exact",
        "a task",
        "inferences",
        "file",
        "an example",
    ]
    header += ["memory", "setting"]
    apart = [(case, row) for (case, metric), row in rows.items() if metric == "compare/outputs apart"]
    said = "; ".join(f"{case.removesuffix(EXPORTED)} {row['value']:.1g}" for case, row in apart)
    close = all(row["value"] <= row["goal"] for _, row in apart)
    goal = f"at most {apart[0][1]['goal']:g}: {reached(close)}"
    goals = f"An exported task's outputs differ from the task's, relatively, by {said} ({goal})."
    return "\n".join([markdown_table(header, lines), goals, "", provenance(result), ""])


def _line(rows: Rows, case: str) -> list[str]:
    accuracy, over = rows[case, "eval/accuracy"], rows.get((case, "compare/accuracy_vs_exact"))

    def cell(metric: str, form: str) -> str:
        row = rows.get((case, metric))
        return "" if row is None else form.format(row["value"])

    return [
        *case.split(": "),
        f"{accuracy['value']:.1f}",
        "" if over is None else gap(over),
        cell("time/adapt_seconds", "{:.2g} s"),
        cell("cost/inferences", "{:.0f}"),
        cell("cost/size", "{:.1f} MiB"),
        cell("time/inference", "{:.2g} ms"),
        cell("cost/memory", "{:.2f} ×"),
        accuracy["note"],
    ]
