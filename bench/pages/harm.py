"""Tables of docs/trust.md on what goes wrong: worse examples, attacks, groups, change."""

from bench.lib.blocks import Result, Rows, by_case, markdown_table
from bench.lib.record import provenance

__all__ = ["corruptions", "drift", "groups", "loans", "membership", "number", "queries", "supports"]

ACCURACY = "eval/accuracy"
PLANTED = {"labels": "wrong labels", "examples": "noise"}
SHARES = ("10%", "20%", "40%")


def number(rows: Rows, case: str, metric: str, form: str = "{:.1f}") -> str:
    """A value with its interval, or nothing."""
    row = rows.get((case, metric))
    if row is None:
        return ""
    ci95 = "" if row["ci95"] is None else " ± " + form.format(row["ci95"])
    return form.format(row["value"]).replace("-", "−") + ci95


def corruptions(result: Result) -> str:
    """Accuracy by severity, the mean corruption error, and the kinds that cost most."""
    rows, lines = by_case(result), []
    for name, method in dict.fromkeys((*case.split(": ")[:2],) for case, _ in rows):
        of = f"{name}: {method}"
        clean = number(rows, f"{of}: clean", ACCURACY)
        levels = [number(rows, f"{of}: severity {level}", ACCURACY) for level in (1, 3, 5)]
        lines.append([name, method, clean, *levels, number(rows, of, "trust/mce")])
    header = ["queries", "adapted", "clean, %", *(f"severity {level}" for level in (1, 3, 5))]
    table = markdown_table([*header, "mean error, % of the head's"], lines)
    worst = markdown_table(["queries", "costs most at severity 5", "accuracy, %"], _worst(rows))
    return "\n".join([table, worst, provenance(result), ""])


def _worst(rows: Rows) -> list[list[str]]:
    """Of the head, the three kinds that cost most."""
    found: dict[str, list[tuple[float, str]]] = {}
    for (case, _), row in rows.items():
        name, method, *kind = case.split(": ")
        if method == "head" and kind and kind[0].endswith(" 5") and not kind[0].startswith("severity"):
            shown = kind[0].removesuffix(" 5").replace("_", " ")
            found.setdefault(name, []).append((row["value"], shown))
    several = {name: sorted(kinds)[:3] for name, kinds in found.items() if len(kinds) > 3}
    return [[name, kind, f"{value:.1f}"] for name, kinds in several.items() for value, kind in kinds]


def queries(result: Result) -> str:
    """Accuracy by how far each query may be changed."""
    rows = by_case(result)
    names = dict.fromkeys(case.rpartition(": ")[0] for case, _ in rows if case.startswith("queries: "))
    steps = ("0", "2/255", "8/255")
    lines = [
        [*of.split(": ")[1:], *(number(rows, f"{of}: {step}", ACCURACY) for step in steps)] for of in names
    ]
    header = ["queries", "adapted", "unchanged, %", *(f"within {step}" for step in steps[1:])]
    return "\n".join([markdown_table(header, lines), provenance(result), ""])


def supports(result: Result) -> str:
    """Accuracy by the share of examples that are not what they seem, and with one that is not."""
    rows, lines = by_case(result), []
    for of in dict.fromkeys(case.rpartition(": ")[0] for case, _ in rows):
        kind, *rest = of.split(": ")
        if kind in PLANTED:
            name, said = rest
            plain = number(rows, f"labels: {name}: {said}: 0%", ACCURACY)
            planted = [number(rows, f"{of}: {share}", ACCURACY) for share in SHARES]
            lines.append([name, PLANTED[kind], said, plain, *planted])
        elif kind == "one example":
            ends = [number(rows, f"{of}: {end}", ACCURACY) for end in ("none", "worst")]
            lines.append([rest[0], "one example more", rest[1], *ends, "", ""])
    header = ["tasks", "planted", "adapted", "nothing, %", "a tenth, or one", "a fifth", "two fifths"]
    return markdown_table(header, lines)


def membership(result: Result) -> str:
    """How well members are told from others."""
    rows = by_case(result)
    lines = [
        [
            *case.replace(": 1 shots", ": 1 shot").split(": ")[1:],
            number(rows, case, metric),
            number(rows, case, "trust/tpr_at_1"),
        ]
        for case, metric in rows
        if metric == "trust/auroc"
    ]
    return markdown_table(["tasks", "fitted to", "AUROC, %", "found at 1 % false, %"], lines)


def loans(result: Result) -> str:
    """Gaps by protected columns."""
    rows, lines = by_case(result), []
    for case, metric in rows:
        if metric == "trust/gap" and case.startswith("loans: "):
            _, said, by = case.split(": ")
            worst, _, interval = rows[case, metric]["note"].rpartition(": ")
            gap, *others = (number(rows, case, f"trust/{name}") for name in ("gap", "parity", "odds"))
            lines.append([by, said, worst, f"{gap} ({interval.replace('-', '−')})", *others])
    header = ["by", "learned", "worst group", "gap, points", "demographic parity", "equalised odds"]
    return "\n".join([markdown_table(header, lines), provenance(result), ""])


def groups(result: Result) -> str:
    """Relations and films: the worst of them."""
    rows = by_case(result)
    refused, wrong = (
        number(rows, *of) for of in (("relations", "trust/refused"), ("signs", "trust/mostly_wrong"))
    )
    worst = [number(rows, *of) for of in (("relations", "trust/worst"), ("signs", "trust/worst_tenth"))]
    gap = number(rows, "relations", "trust/gap")
    lines = [
        [
            "relations",
            number(rows, "relations", ACCURACY),
            worst[0],
            f"gap {gap}; {refused} % of fits refused",
        ],
        ["films of signs", number(rows, "signs", ACCURACY), worst[1], f"{wrong} % of films mostly wrong"],
    ]
    return markdown_table(["groups", "accuracy, %", "worst, or worst tenth, %", ""], lines)


def drift(result: Result) -> str:
    """Alarms, and how many examples they took."""
    rows, lines = by_case(result), []
    for (case, metric), row in rows.items():
        if metric == "trust/alarms":
            alarms = f"{number(rows, case, metric, '{:.0f}')} ({row['note']})"
            lines.append([*case.split(": "), alarms, number(rows, case, "trust/examples", "{:.0f}")])
    header = ["stream", "after half of it", "alarms, % of streams", "examples until the alarm, median"]
    return "\n".join([markdown_table(header, lines), provenance(result), ""])
