"""What docs/heads.md says in numbers: a table for each number of shots, from ``bench/results/heads.json``."""

from bench.lib.blocks import Result, Rows, by_case, fill, gap, markdown_table, measured, reached
from bench.lib.paths import DOCS
from bench.lib.record import provenance

__all__ = ["PAGE", "filled"]

PAGE = DOCS / "heads.md"


def filled(text: str) -> str:
    """``text`` with its generated block replaced by what the result says."""
    return fill(text, {"heads": measured("heads", _heads)})


def _heads(result: Result) -> str:
    rows = by_case(result)
    cases = [*dict.fromkeys(case.split(": ")[0] for case, _ in rows)]  # "GTSRB, 5-shot"
    parts = []
    for shots in dict.fromkeys(case.split(", ")[1] for case in cases):
        own = [case for case in cases if case.endswith(shots)]
        parts += [f"**{shots}**", "", _table(rows, own), *_goals(rows, own)]
    return "\n".join([*parts, "", provenance(result), ""])


def _table(rows: Rows, cases: list[str]) -> str:
    names = [
        case.removeprefix(f"{cases[0]}: ")
        for case, m in rows
        if m == "eval/accuracy" and case.startswith(f"{cases[0]}: ")
    ]
    lines = []
    for name in sorted(
        names, key=lambda name: rows[f"{cases[0]}: {name}", "eval/accuracy"]["note"].split(";")[0]
    ):
        found = [rows[f"{case}: {name}", "eval/accuracy"] for case in cases]
        kind, _, setting = found[0]["note"].partition("; ")
        milliseconds = rows[f"{cases[0]}: {name}", "time/task_milliseconds"]["value"]
        accuracies = [f"{row['value']:.1f} ± {row['ci95']:.1f}" for row in found]
        lines.append([name, kind, *accuracies, f"{milliseconds:.2g} ms", setting])
    return markdown_table(["head", "", *(case.split(", ")[0] for case in cases), "a task", "setting"], lines)


def _goals(rows: Rows, cases: list[str]) -> list[str]:
    lines = []
    for kind in ("inductive", "transductive"):
        found = [(case, rows[f"{case}: best, {kind}", "compare/accuracy_vs_easyfsl"]) for case in cases]
        gaps = [f"{case.split(', ')[0]} {gap(row)}" for case, row in found]
        worst = all(row["value"] + row["ci95"] >= 0 for _, row in found)
        said = f"{found[0][1]['note']}: {'; '.join(gaps)} points"
        lines.append(f"- {kind}: {said}. Goal, at least 0 within noise: {reached(worst)}.")
    return [*lines, ""]
