"""A comparison as a table (for the terminal too) and as a page."""

from collections.abc import Callable, Iterator, Mapping
from statistics import fmean
from typing import Any

from adapt.compare.comparison import Comparison, MethodResult
from adapt.compare.evidence import comparison_evidence
from adapt.compare.statistics import mean_interval, paired_difference
from adapt.compare.verdict import (
    energy_text,
    label,
    mass_text,
    money_text,
    per_class,
    ratio_text,
    retraining,
    seconds_text,
    size_text,
    verdict,
)
from tasks.readers.shown import inline, row
from tasks.worse import WORSE

__all__ = ["Rows", "comparison_markdown", "cost_rows", "difference_rows", "table_rows"]

#: Column names, and texts row by row.
Rows = tuple[tuple[str, ...], list[tuple[str, ...]]]

_NONE = "–"
TRUST = (
    "Of the softmax of what a method puts out, over the queries of all tasks. ECE is the mean distance "
    "between how sure it is and how often it is right; probabilities that are right have one, too."
)
_KNOWN = ("source", "ways", "shots", "queries", "tasks")  # a regression task has no ways


def table_rows(comparison: Comparison) -> Rows:
    """Column names, and one row of texts per method in the order they were configured. What there is to say
    of their costs beyond this is in :func:`cost_rows`."""
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
    if retrain is not None and method.role != "retrain" and comparison.learned(retrain):
        found = comparison.speedup(retrain, method)
        speedup = ("≥ " if found.bound else "") + ratio_text(found.ratio)
    return (
        method.shown,
        comparison.metric.text(method.mean_score),
        difference,
        _seconds(comparison, method),
        speedup,
        f"{method.forward_equivalents:,.1f}",
        _NONE if method.peak_mb is None else f"{method.peak_mb:,.1f}",
        str(method.n),
    )


def _seconds(comparison: Comparison, method: MethodResult) -> str:
    """The whole budget; of retraining, which is told to go on for long, also when it first got as far as
    ours."""
    text = seconds_text(method.adapt_seconds)
    if method.role != "retrain" or comparison.ours is None or not method.curves:
        return text
    return f"{text} ({_to_target(comparison, method)} to reach {comparison.ours.name})"


def _to_target(comparison: Comparison, method: MethodResult) -> str:
    target = comparison.to_target_seconds(method)
    if target is None:
        return _NONE
    return ("≥ " if comparison.failures(method) else "") + seconds_text(target)


def cost_rows(comparison: Comparison) -> Rows:
    """What one adaptation costs beyond :func:`table_rows`: only the columns of which something is known; no
    rows where nothing is."""
    ours, source = comparison.ours, comparison.energy_source
    mark = " (estimated)" if source == "estimated" else ""
    methods = list(comparison.methods.values())
    watched = [method if method is not ours and method.curves else None for method in methods]
    target = ["" if m is None else _to_target(comparison, m) for m in watched] if ours else []
    missed = ["" if m is None else f"{comparison.failures(m)} of {m.n}" for m in watched] if ours else []
    columns = {
        "method": [method.name for method in methods],
        f"time to reach {ours.name if ours else ''}": target,
        "never reached on": missed,
        f"energy{mark}": [_maybe(energy_text, method.energy_wh) for method in methods],
        f"CO₂{mark}": [_maybe(mass_text, method.co2_g) for method in methods],
        f"price{mark}": [_maybe(money_text, method.usd) for method in methods],
        "process MB": [_maybe("{:,.1f}".format, method.process_mb) for method in methods],
    }
    known = {name: texts for name, texts in columns.items() if any(texts)}
    rows = [tuple(text or _NONE for text in row) for row in zip(*known.values(), strict=True)]
    return tuple(known), rows if len(known) > 1 else []


def trust_rows(comparison: Comparison) -> Rows:
    """How far the probabilities of each method may be believed; no rows where that is not known."""
    header = ("method", "−log p", "Brier", "ECE %", "of perfect %", "classwise ECE %", "of perfect %")
    rows = [
        (method.shown, f"{nll:.3f}", f"{brier:.3f}", *(f"{100 * error:.1f}" for error in errors))
        for method in comparison.methods.values()
        if method.reliability is not None
        for nll, brier, *errors in [method.reliability.metrics().values()]
    ]
    return header, rows


def worse_rows(comparison: Comparison) -> Rows:
    """How each method does on worse queries, and on those of no class; no rows where that is not known."""
    metric = comparison.metric
    known = [(it, it.robustness) for it in comparison.methods.values() if it.robustness is not None]
    outside = any(found.outside for _, found in known)
    header = ("method", metric.column, "of worse queries", f"difference, {metric.difference_unit}")
    rows = []
    for method, found in known:
        worse = mean_interval(found.worse, method.examples, shares=method.share)
        loss = paired_difference(found.worse, method.score[: len(found.worse)], method.examples)
        scores = (
            metric.text(method.mean_score),
            metric.text(worse),
            metric.difference_text(loss),
        )
        apart = f"{100 * fmean(found.outside):.1f}" if found.outside else _NONE
        rows.append((method.shown, *scores, *((apart,) if outside else ())))
    return (*header, *(("others told apart, AUROC %",) if outside else ())), rows


def difference_rows(comparison: Comparison) -> Rows:
    """Ours against every other method, with the chance that an equal one would have looked so different; no
    rows without ours or without others."""
    metric, ours = comparison.metric, comparison.ours
    if ours is None:
        return (), []
    header: tuple[str, ...] = (
        f"{ours.name} −",
        f"difference, {metric.difference_unit}",
        "p, adjusted",
        "test examples" if comparison.test_examples else "tasks",
    )
    rows: list[tuple[str, ...]] = []
    for other in comparison.methods.values():
        if other is not ours:
            difference = comparison.difference(ours, other)
            chance = _chance(comparison.p(ours, other))
            rows.append((other.name, metric.difference_text(difference), chance, str(difference.n)))
    return header, rows


def _chance(p: float) -> str:
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def _maybe(text: Callable[[float], str], value: float | None) -> str:
    return "" if value is None else text(value)


def comparison_markdown(comparison: Comparison) -> str:
    """The page ``comparison.md``: what the tasks were, the table, the verdict, how it was measured."""
    costs, differences = cost_rows(comparison), difference_rows(comparison)
    trust, worse = trust_rows(comparison), worse_rows(comparison)
    parts = [
        f"# {inline(comparison.experiment)}",
        _task(comparison.task, comparison.seed),
        _table(table_rows(comparison)),
        f"**{inline(verdict(comparison))}**",
        *([evidence] if (evidence := comparison_evidence(comparison)) else []),
        *(["## Differences", _table(differences), _evidence(comparison)] if differences[1] else []),
        *(["## How far probabilities may be believed", _table(trust), TRUST] if trust[1] else []),
        *(["## On worse queries", _table(worse), f"Worse are {WORSE}."] if worse[1] else []),
        *(["## What one adaptation costs", _table(costs)] if costs[1] else []),
        "## How this was measured",
        " ".join(_measured(comparison)),
    ]
    return "\n\n".join(parts) + "\n"


def _table(content: Rows) -> str:
    header, rows = content
    table = [header, ("---", *["---:"] * (len(header) - 1)), *rows]
    return "\n".join(map(row, table))


def _task(task: Mapping[str, Any], seed: int) -> str:
    """Known keys as a sentence, whatever else there is as a list."""
    rest = dict(task)
    source, _, _, queries, tasks = (rest.pop(key, "?") for key in _KNOWN)
    if "test examples" in rest:
        sets, asked = rest.pop("training examples"), rest.pop("test examples")
        several = "One fixed task" if tasks == 1 else f"{tasks} fixed tasks, one for each training set,"
        classes = f"{task['ways']} classes, " if per_class(task) else ""
        drawn = f"{classes}{sets} training examples, {asked:,} test examples, seed {seed}"
        return (
            f"{several} from {source}: {drawn}{''.join(f', {key} {value}' for key, value in rest.items())}."
        )
    episode = f"{size_text(task)}, {queries} queries{' per class' if per_class(task) else ''}"
    seeds = rest.pop("seeds", None)  # of a pooled comparison
    drawn = f"seeds {', '.join(map(str, seeds))}" if seeds else f"seed {seed}"
    more = "".join(f", {inline(key)} {inline(value)}" for key, value in rest.items())
    return f"{tasks} tasks from {inline(source)}: {episode}, {drawn}{more}."


def _evidence(comparison: Comparison) -> str:
    """What the table of differences shows."""
    return (
        "A difference counts as significant, here and above, if its p is at most 0.05; p is two-sided and "
        f"adjusted for all {len(comparison.methods) * (len(comparison.methods) - 1) // 2} pairs of methods "
        "(Holm), the intervals are not."
        if len(comparison.methods) > 2
        else "A difference counts as significant if its two-sided p is at most 0.05."
    )


def _measured(comparison: Comparison) -> Iterator[str]:
    """Sentences, only those that the methods which took part need."""
    yield (
        "Task by task, every method adapted to the same support set and predicted the same queries, in "
        "rotating order in one process, after an untimed warm-up; time is the wall clock of one adaptation, "
        "median over tasks."
    )
    yield _intervals(comparison)
    if (head := comparison.best_head) is not None:
        yield (
            f"The first table gives them relative to {label(head)}, chosen as the best on these very tasks, "
            "which favours it."
        )
    if comparison.test_examples:
        pass
    elif comparison.examples is None:
        yield "It was not recorded which tasks share examples: intervals take all tasks for independent."
    elif comparison.examples.effective_tasks < len(comparison.examples) - 0.5:
        yield (
            "Tasks that share examples are no independent evidence: intervals count them as what they are "
            "(Hoeffding 1948), and are about other examples of the same classes."
        )
    if (retrain := comparison.by_role("retrain")) is not None and not comparison.learned(retrain):
        yield "“vs retraining” is left out: retraining ended near chance, and its time measures nothing."
    elif retrain is not None:
        yield (
            f"“vs retraining” is the time that {retraining(retrain)} needs to first reach the "
            f"method's {comparison.metric.noun} on the same task ÷ the method's time (median over tasks); ≥ "
            "marks a lower bound, where it did not get there within its budget on some task. Retraining "
            "learns from all labelled examples of the task's classes, not only from the support set."
        )
    yield (
        "FE, forward-equivalents: FLOPs of one adaptation ÷ FLOPs of one forward pass of the support set. "
        "Peak MB: the most memory that the tensors of one adaptation held."
    )
    if any(method.process_mb is not None for method in comparison.methods.values()):
        yield (
            "Process MB: the most memory that the whole process held beyond what it held before, after "
            "everything free had gone back to the system; scratch memory of libraries counts."
        )
    environment = dict(comparison.environment)
    if (energy := environment.pop("energy", None)) is not None:
        yield _energy(energy)
    where = ", ".join(f"{key} {_plain(value)}" for key, value in environment.items())
    yield f"Device: {comparison.device}{f' ({where})' if where else ''}."


def _intervals(comparison: Comparison) -> str:
    """What ± means."""
    if comparison.test_examples:
        return (
            f"± is a 95 % interval of one mean ({comparison.interval}: Efron 1979), not adjusted for how "
            "many "
            "there are. Differences are paired, test example by test example. Intervals are about other test "
            "examples of the same kind: with another training set methods may differ otherwise, unless "
            "several "
            "were given."
        )
    return (
        "± is a 95 % interval (Student's t) of one mean, not adjusted for how many there are. Differences "
        "are paired: taken task by task, on the tasks that both methods ran (the last column says how many "
        "each did)."
    )


def _energy(energy: Mapping[str, Any]) -> str:
    """How energy was found out, and what was assumed of its price and its emissions."""
    rent = energy["usd_per_hour"]
    price = f"${energy['usd_per_kwh']:g} per kWh" + (f" and ${rent:g} per hour" if rent else "")
    return (
        f"Energy: mean power × mean time of an adaptation; power: {energy['meter']}. CO₂ and price: "
        f"{energy['grid_g_per_kwh']:g} g per kWh and {price}; the building takes {energy['pue']:g} kWh for "
        "each kWh of the machine."
    )


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return str(value)
