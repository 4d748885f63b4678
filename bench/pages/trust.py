"""What docs/trust.md says in numbers, from the results of the benches that it names."""

from bench.lib.blocks import Result, by_case, fill, markdown_table, measured
from bench.lib.paths import DOCS
from bench.lib.record import provenance
from bench.pages import harm
from bench.pages.harm import number as _number

__all__ = ["PAGE", "filled"]

PAGE = DOCS / "trust.md"
CASES = ("digits", "photographs", "requests")


def filled(text: str) -> str:
    """``text`` with its generated blocks replaced by what the results say."""
    parts = {"calibration": _calibration, "sets": _sets, "outside": _outside, "wrong labels": _wrong}
    blocks = {name: measured("trust", part) for name, part in parts.items()}
    others = {
        "privacy": ("privacy", _privacy),
        "corruptions": ("corruptions", harm.corruptions),
        "queries": ("attacks", harm.queries),
        "supports": ("attacks", harm.supports),
        "membership": ("attacks", harm.membership),
        "loans": ("fairness", harm.loans),
        "groups": ("fairness", harm.groups),
        "drift": ("drift", harm.drift),
    }
    return fill(text, {**blocks, **{name: measured(*part) for name, part in others.items()}})


def _calibration(result: Result) -> str:
    rows, lines = by_case(result), []
    for case, metric in rows:
        if metric == "trust/nll":
            errors = [_number(rows, case, f"trust/{name}") for name in ("ece", "ece_expected")]
            errors += [_number(rows, case, f"trust/ece_classwise{end}") for end in ("", "_expected")]
            plain = [_number(rows, case, f"trust/{name}", "{:.3f}") for name in ("nll", "brier")]
            lines.append([*case.split(": "), *plain, *errors])
    header = [
        "tasks",
        "probabilities",
        "−log p",
        "Brier",
        "ECE, %",
        "of perfect",
        "classwise ECE, %",
        "of perfect",
    ]
    return "\n".join([markdown_table(header, lines), provenance(result), ""])


def _sets(result: Result) -> str:
    rows, lines = by_case(result), []
    for case, metric in rows:
        if metric == "trust/coverage":
            name, asked = case.split(": ")
            lines.append(
                [name, asked, _number(rows, case, metric), _number(rows, case, "trust/labels", "{:.2f}")]
            )
    return markdown_table(["tasks", "asked", "right label in the set, %", "labels in a set"], lines)


def _outside(result: Result) -> str:
    rows, lines = by_case(result), []
    for case, metric in rows:
        if metric == "trust/refused" or (metric == "trust/auroc" and case.endswith("by variance")):
            name, rest = case.split(": ")
            what, fit = rest.split(", by ")
            found = [_number(rows, case, f"trust/{it}") for it in ("auroc", "fpr95", "refused")]
            lines.append([name, what, fit, *found])
    header = ["tasks", "examples", "by", "AUROC, %", "FPR at 95 %", "refused at 5 %"]
    return markdown_table(header, lines)


def _wrong(result: Result) -> str:
    rows = by_case(result)
    lines = [
        [*case.split(": "), _number(rows, case, metric), _number(rows, case, "compare/accuracy_minus_right")]
        for case, metric in rows
        if metric == "eval/accuracy"
    ]
    return markdown_table(["tasks", "adapted", "accuracy, %", "minus right labels"], lines)


def _privacy(result: Result) -> str:
    rows = by_case(result)
    lines = [
        [
            *case.split(": "),
            _number(rows, case, metric, "{:.3f}"),
            _number(rows, case, "compare/mse_minus_not_adapted", "{:.3f}"),
            row["note"],
        ]
        for (case, metric), row in rows.items()
        if metric == "eval/mse"
    ]
    header = ["examples", "adapted", "squared error", "minus not adapted", "setting"]
    return "\n".join([markdown_table(header, lines), provenance(result), ""])
