"""What docs/spaces.md says of several subspaces in numbers, from ``bench/results/mixture.json``."""

from bench.lib.blocks import Result, by_case, fill, gap, markdown_table, measured
from bench.lib.paths import DOCS
from bench.lib.record import provenance

__all__ = ["PAGE", "filled"]

PAGE = DOCS / "spaces.md"
ERROR, GAP, TIME = "eval/mse", "compare/mse_minus_one_basis", "compare/time_of_one_basis"


def filled(text: str) -> str:
    """``text`` with its generated block replaced by what the result says."""
    return fill(text, {"mixture": measured("mixture", _mixture)})


def _mixture(result: Result) -> str:
    rows = by_case(result)
    found = [case.split(": ") for case, metric in rows if metric == ERROR]
    scopes = [*dict.fromkeys(scope for scope, _ in found)]
    lines = []
    for name in dict.fromkeys(name for _, name in found):
        line = [name]
        for scope in scopes:
            line += [_number(rows[f"{scope}: {name}", ERROR]), _number(rows.get((f"{scope}: {name}", GAP)))]
        time = rows.get((f"both: {name}", TIME))
        lines.append([*line, "" if time is None else f"{time['value']:.1f} ×"])
    conditions = []
    for (case, metric), row in rows.items():
        if metric == "eval/accuracy":
            over = rows.get((case, "compare/accuracy_minus_one_basis"))
            accuracy = f"{row['value']:.1f} ± {row['ci95']:.1f}"
            conditions.append([*case.split(": "), accuracy, "" if over is None else gap(over)])
    of_conditions = markdown_table(["tasks", "learned", "accuracy, %", "minus one basis"], conditions)
    header = ["learned", *(cell for scope in scopes for cell in (scope, "minus one basis")), "time"]
    return "\n".join([markdown_table(header, lines), of_conditions, provenance(result), ""])


def _number(row: Result | None) -> str:
    return "" if row is None else f"{row['value']:.4f} ± {row['ci95']:.4f}".replace("-", "−")
