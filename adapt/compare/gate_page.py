"""What the regression gate found, as a table and as a page."""

import math

from adapt.compare.evidence import evidence_line
from adapt.compare.gate import CLASS, CLASS_TASKS, GROUP, TRUST, Gate, Slice
from adapt.compare.statistics import Interval
from tasks.readers.shown import inline, row

__all__ = ["gate_markdown", "gate_rows", "gate_sentence"]

#: Classes that are shown although they refuse nothing: those with the greatest loss.
SHOWN = 5
WORDS = {"ok": "ok", "worse": "worse", "unclear": "not shown", "few": "too few tasks"}


def gate_rows(gate: Gate) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Column names, and one row per slice; of the classes only those that refuse, and the worst others."""
    metric = gate.metric
    unit = f" {metric.unit}" if metric.unit else f" {metric.noun}"
    header = (
        "slice",
        "tasks",
        f"champion{unit}",
        f"challenger{unit}",
        f"difference, {metric.difference_unit}",
        "verdict",
    )
    return header, [_row(found) for found in _shown(gate)]


def _shown(gate: Gate) -> list[Slice]:
    whole = [found for found in gate.slices if found.kind != CLASS or found.refuses]
    judged = [found for found in gate.slices if found.kind == CLASS and found.verdict == "ok"]
    return whole + sorted(judged, key=lambda found: gate.metric.gain(found.difference.mean))[:SHOWN]


def _row(found: Slice) -> tuple[str, ...]:
    metric = found.metric
    old, new = (metric.text(Interval(score, None, 1)) for score in (found.champion, found.challenger))
    difference = metric.difference_text(found.difference)
    return str(found), str(found.difference.n), old, new, difference, WORDS[found.verdict]


def gate_sentence(gate: Gate) -> str:
    """Whether the challenger may take the place, and if not, why not."""
    limit = _limit(gate)
    if gate.passed:
        return f"accepted: nowhere worse than the champion by more than {limit}"
    reasons = []
    for verdict, reason in (("worse", "worse by more than {}"), ("unclear", "not shown to be within {}")):
        refused = [found for found in gate.refusals if found.verdict == verdict]
        if names := [str(found) for found in refused if found.kind != TRUST]:
            reasons.append(f"{reason.format(limit)} on {_list(names)}")
        if names := [str(found) for found in refused if found.kind == TRUST]:
            reasons.append(f"shown to be worse than is tolerated in {_list(names)}")
    return "refused: " + "; ".join(reasons)


def _limit(gate: Gate) -> str:
    metric, tolerance = gate.metric, gate.tolerance
    if math.isfinite(metric.most):
        shown = f"{metric.scale * tolerance:g}"
        return f"{shown if '.' in shown else f'{shown}.0'} {metric.difference_unit}"
    return f"{100 * tolerance:g} % of its {metric.noun}"


def _list(names: list[str]) -> str:
    shown = names[:SHOWN]
    return ", ".join(shown) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def gate_markdown(gate: Gate, name: str, champion: str, challenger: str, tasks: str) -> str:
    """The page ``gate.md``.

    Args:
        gate: what was found.
        name: of the registered model.
        champion, challenger: numbers of the versions.
        tasks: where they came from, in a few words.
    """
    header, rows = gate_rows(gate)
    table = [header, ("---", *["---:"] * (len(header) - 2), "---"), *rows]
    lines = map(row, table)
    classes = [found for found in gate.slices if found.kind == CLASS]
    few = sum(found.verdict == "few" for found in classes)
    parts = [
        f"# {inline(name)}: version {challenger} against the champion, version {champion}",
        f"**{inline(gate_sentence(gate).capitalize())}.**",
        "\n".join(lines),
        f"{gate.tasks} tasks ({inline(tasks)}); both versions adapted to each. ± is the 95 % interval of "
        "the paired difference, challenger − champion (Student's t; examples that tasks share count once). "
        f"A slice is ok if all of its interval lies within {_limit(gate)} of the champion or better, worse "
        "if none of it does, and otherwise it is not shown: more tasks, or more examples where tasks share "
        "them, would tell.",
    ]
    if evidence := evidence_line(gate.examples):
        parts.append(evidence)
    trust = [found for found in gate.slices if found.kind in (TRUST, GROUP)]
    if trust:
        parts.append(
            "How far a version may be believed (−log p, Brier, worse queries, examples of no class, a fifth "
            "of wrong labels), and groups of examples, refuse only if shown to be worse, each kind tested "
            f"one-sided at 5 % (Holm): shares and Brier by more than {gate.tolerance:g}, errors and −log p "
            f"by more than {100 * gate.tolerance:g} % of the champion's."
        )
    if classes:
        parts.append(
            f"Of {len(classes)} classes, {few} have fewer than {CLASS_TASKS} tasks and are not judged. The "
            "others refuse only if shown to be worse, tested one-sided at 5 % over all of them (Holm)."
        )
    return "\n\n".join(parts) + "\n"
