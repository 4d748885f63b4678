"""A comparison as a table (for the terminal too) and as a page."""

from collections.abc import Iterator, Mapping
from typing import Any

from adapt.compare.comparison import Comparison, MethodResult
from adapt.compare.verdict import label, per_class, ratio_text, seconds_text, size_text, verdict

__all__ = ["comparison_markdown", "table_rows"]

_NONE = "–"
_KNOWN = ("source", "ways", "shots", "queries", "tasks")  # a regression task has no ways


def table_rows(comparison: Comparison) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Column names, and one row of texts per method in the order they were configured."""
    head = comparison.best_head
    header = (
        "method",
        comparison.metric.column,
        f"vs {head.name if head else 'head'}, {comparison.metric.difference_unit}",
        "time to adapt",
        "vs retraining",
        "FE",
        "peak MB",
        "tasks",
    )
    return header, [_row(comparison, method) for method in comparison.methods.values()]


def _row(comparison: Comparison, method: MethodResult) -> tuple[str, ...]:
    head, retrain = comparison.best_head, comparison.by_role("retrain")
    difference = _NONE
    if head is not None and method is not head:
        difference = comparison.metric.difference_text(comparison.difference(method, head))
    speedup = _NONE
    if retrain is not None and method.role != "retrain":
        found = comparison.speedup(retrain, method)
        speedup = ("≥ " if found.bound else "") + ratio_text(found.ratio)
    return (
        method.name,
        comparison.metric.text(method.mean_score),
        difference,
        _seconds(comparison, method),
        speedup,
        f"{method.forward_equivalents:,.1f}",
        f"{method.peak_mb:,.1f}",
        str(method.n),
    )


def _seconds(comparison: Comparison, method: MethodResult) -> str:
    """The whole budget; for a watched method also when it first got as far as ours."""
    text = seconds_text(method.adapt_seconds)
    target = comparison.to_target_seconds(method)
    if target is None or comparison.ours is None or method is comparison.ours:
        return text
    bound = "≥ " if comparison.speedup(method, comparison.ours).bound else ""
    return f"{text} ({bound}{seconds_text(target)} to reach {comparison.ours.name})"


def comparison_markdown(comparison: Comparison) -> str:
    """The page ``comparison.md``: what the tasks were, the table, the verdict, how it was measured."""
    header, rows = table_rows(comparison)
    table = [header, ("---", *["---:"] * (len(header) - 1)), *rows]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table]
    parts = [
        f"# {comparison.experiment}",
        _task(comparison.task, comparison.seed),
        "\n".join(lines),
        f"**{verdict(comparison)}**",
        "## How this was measured",
        " ".join(_measured(comparison)),
    ]
    return "\n\n".join(parts) + "\n"


def _task(task: Mapping[str, Any], seed: int) -> str:
    """Known keys as a sentence, whatever else there is as a list."""
    rest = dict(task)
    source, _, _, queries, tasks = (rest.pop(key, "?") for key in _KNOWN)
    episode = f"{size_text(task)}, {queries} queries{' per class' if per_class(task) else ''}"
    more = "".join(f", {key} {value}" for key, value in rest.items())
    return f"{tasks} tasks from {source}: {episode}, seed {seed}{more}."


def _measured(comparison: Comparison) -> Iterator[str]:
    """Sentences, only those that the methods which took part need."""
    yield (
        "Task by task, every method adapted to the same support set and predicted the same queries, in "
        "rotating order in one process, after an untimed warm-up; time is the wall clock of one adaptation, "
        "median over tasks."
    )
    yield (
        "± is a 95 % interval over tasks. Differences are paired: taken task by task, on the tasks that both "
        "methods ran (the last column says how many each did)."
    )
    if (head := comparison.best_head) is not None:
        yield f"They are relative to {label(head)}, chosen as the best on these very tasks, which favours it."
    if comparison.by_role("retrain") is not None:
        yield (
            "“vs retraining” is the time that retraining from random weights needs to first reach the "
            f"method's {comparison.metric.noun} on the same task ÷ the method's time (median over tasks); ≥ "
            "marks a lower bound, where it did not get there within its budget on some task. Retraining "
            "learns from all labelled examples of the task's classes, not only from the support set."
        )
    yield (
        "FE, forward-equivalents: FLOPs of one adaptation ÷ FLOPs of one forward pass of the support set. "
        "Peak MB: the most memory that the tensors of one adaptation held."
    )
    where = ", ".join(f"{key} {_plain(value)}" for key, value in comparison.environment.items())
    yield f"Device: {comparison.device}{f' ({where})' if where else ''}."


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return str(value)
