"""What docs/own-backbone.md says in numbers of long prompts, from ``bench/results/prompts.json``."""

from bench.lib.blocks import Result, Rows, by_case, fill, markdown_table, measured
from bench.lib.paths import DOCS
from bench.lib.record import provenance

__all__ = ["PAGE", "filled"]

PAGE = DOCS / "own-backbone.md"
HEADER = ("", "fit", "first prediction", "later predictions", "memory, fit", "memory, later predictions")


def filled(text: str) -> str:
    """``text`` with the generated block replaced by what the result says."""
    return fill(text, {"prompts": measured("prompts", _prompts)})


def _prompts(result: Result) -> str:
    rows = by_case(result)
    cases = [*dict.fromkeys(case for case, _ in rows)]
    apart = max(row["value"] for (_, metric), row in rows.items() if metric == "difference/probabilities")
    return (
        markdown_table(HEADER, [_line(rows, case) for case in cases])
        + f"\nProbabilities differ by {apart:.0e} at most. {provenance(result)}\n"
    )


def _line(rows: Rows, case: str) -> list[str]:
    keys = ("fit", "predict_first", "predict_again")
    seconds = [_cell(rows, case, "time", key, "speedup") for key in keys]
    return [case, *seconds, *(_cell(rows, case, "memory", key, "less_memory") for key in keys[::2])]


def _cell(rows: Rows, case: str, kind: str, key: str, ratio: str) -> str:
    """``4.2 s → 0.8 s: 5.1×``, and between what the ratio lies."""
    whole = _amount(rows[case, f"{kind}/{key}_whole"])
    if (case, f"{ratio}/{key}") not in rows:
        return whole
    found = rows[case, f"{ratio}/{key}"]
    between = f" ({found['note']})" if found["note"] else ""
    return f"{whole} → {_amount(rows[case, f'{kind}/{key}_kept'])}: {found['value']:.3g}×{between}"


def _amount(row: Result) -> str:
    return f"{row['value']:.2f} s" if row["unit"] == "s" else f"{row['value']:,.0f} MB"
