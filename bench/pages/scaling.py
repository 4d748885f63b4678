"""What docs/scaling.md says in numbers, from ``bench/results/scaling.json``."""

from bench.lib.blocks import Result, Rows, by_case, fill, markdown_table, measured
from bench.lib.paths import DOCS
from bench.lib.record import provenance

__all__ = ["PAGE", "filled"]

PAGE = DOCS / "scaling.md"
SIMULATED, TASKS = " processes, simulated", "compare/"


def filled(text: str) -> str:
    """``text`` with its generated blocks replaced by what the result says."""
    parts = {"processes": _processes, "simulated": _simulated, "bytes": _bytes, "clients": _clients}
    return fill(text, {name: measured("scaling", part) for name, part in parts.items()})


def _processes(result: Result) -> str:
    rows, lines = by_case(result), []
    gain, share = "compare/steps against one process", "cost/share of the time"
    for case, metric in rows:
        if metric != gain:
            continue
        name = case.removesuffix(", 2 processes")
        steps = [rows[f"{name}, {count} processes", "time/step"]["value"] for count in (1, 2)]
        reduced = rows[case, "time/all-reduce"]["value"]
        checkpoint = rows[f"{name}, a checkpoint", share]["value"]
        numbers = [*(f"{step:.2g} s" for step in steps), f"{rows[case, metric]['value']:.2f} ×"]
        lines.append([name, *numbers, f"{reduced:.2g} ms", f"{checkpoint:.2g} %"])
    header = ["adapter", "one process", "two", "gain", "all-reduce", "checkpoints, of the time"]
    memory = [(case, row["value"]) for (case, metric), row in rows.items() if metric == "memory/process"]
    said = "; ".join(f"{case.partition(', ')[2]} {value:.0f} MB" for case, value in memory)
    return (
        markdown_table(header, lines) + f"\nThe process that learns holds {said}.\n\n{provenance(result)}\n"
    )


def _simulated(result: Result) -> str:
    rows = by_case(result)
    names = [
        *dict.fromkeys(case.rpartition(", ")[0].rpartition(", ")[0] for case, _ in rows if SIMULATED in case)
    ]
    kinds = [*dict.fromkeys(metric for case, metric in rows if SIMULATED in case)]
    counts = [case for case, metric in rows if case.startswith(names[0]) and metric == kinds[0]]
    lines = []
    for case in counts:
        number = case.removesuffix(SIMULATED).rpartition(", ")[2]
        cells = [rows.get((f"{name}, {number}{SIMULATED}", kind)) for name in names for kind in kinds]
        lines.append([number, *("" if cell is None else f"{cell['value']:.4g} ×" for cell in cells)])
    header = ["processes", *(f"{name}, {kind.removeprefix(TASKS)}" for name in names for kind in kinds)]
    return markdown_table(header, lines)


def _bytes(result: Result) -> str:
    rows = by_case(result)
    found = [case.split(": ") for case, metric in rows if metric == "cost/bytes" and "clients" not in case]
    names = [*dict.fromkeys(name for name, _ in found)]
    lines = [
        [what, *(f"{rows[f'{name}: {what}', 'cost/bytes']['value']:,.0f}" for name in names)]
        for what in dict.fromkeys(what for _, what in found)
    ]
    return markdown_table(["bytes", *names], lines)


def _clients(result: Result) -> str:
    rows = by_case(result)
    lines = [
        [case.partition(": ")[2], f"{row['value']:.4f} ± {row['ci95']:.4f}", _ratio(rows, case)]
        for (case, metric), row in rows.items()
        if metric == "eval/mse"
    ]
    sent = next(row for (_, metric), row in rows.items() if metric == "cost/bytes" and row["unit"] != "bytes")
    table = markdown_table(["start", "squared error", "times that of the shipped start"], lines)
    return table + f"\nEach client sent {sent['value']:.0f} bytes in all.\n"


def _ratio(rows: Rows, case: str) -> str:
    return f"{rows[case, 'compare/mse of the shipped start']['value']:.3f}"
