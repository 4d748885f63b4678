"""What docs/mlflow.md says in numbers: its generated block, from the JSON of ``bench/results``."""

from bench.lib.blocks import Result, by_case, fill, markdown_table, measured
from bench.lib.paths import DOCS
from bench.lib.record import provenance

__all__ = ["PAGE", "filled"]

PAGE = DOCS / "mlflow.md"
HEADER = ("", "processor, work = 1", "wall clock, without tracking = 1", "opening, s", "closing, s")


def filled(text: str) -> str:
    """``text`` with the generated block replaced by what the results say."""
    return fill(text, {"tracking": measured("tracking", _tracking)})


def _tracking(result: Result) -> str:
    rows = by_case(result)
    cases = [case for case, metric in rows if metric == "cost/processor"]
    lines = [[case, *(_cell(rows[case, metric]) for metric in _metrics())] for case in cases]
    call = rows["local store", "time/log_metrics"]["value"]
    recorded = rows[cases[0], "cost/processor"]["note"]
    seconds = rows["tracking off", "time/work"]["value"]
    return (
        markdown_table(HEADER, lines)
        + f"\nRuns of {seconds:.0f} s; {recorded}. One call of `log_metrics` takes {call:.0f} µs. "
        f"The wall clock is that of a shared machine. {provenance(result)}\n"
    )


def _metrics() -> tuple[str, ...]:
    return ("cost/processor", "cost/work", "time/open", "time/close")


def _cell(row: Result) -> str:
    if row["ci95"] is not None:
        return f"{row['value']:.4f} ± {row['ci95']:.4f}"
    between = f" ({row['note']})" if row["metric"] == "cost/work" else ""
    return f"{row['value']:.2f}{between}"
