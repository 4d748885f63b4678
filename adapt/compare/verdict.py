"""Which method to pick, in words: what a comparison says to someone who reads nothing else of it."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from adapt.adapter import Role
from adapt.compare.comparison import Comparison, MethodResult
from adapt.compare.evidence import evidence_text
from adapt.compare.metric import Metric
from adapt.compare.statistics import Speedup

__all__ = [
    "energy_text",
    "label",
    "mass_text",
    "money_text",
    "per_class",
    "ratio_text",
    "retraining",
    "run_title",
    "seconds_text",
    "size_text",
    "verdict",
]

#: What one can choose from a support set.
ROLES: tuple[Role, ...] = ("head", "forward", "backprop", "finetune", "rival")
#: With fewer tasks the mean of scores that have a largest value is still far from normal, which t assumes.
FEW_TASKS = 30


def verdict(comparison: Comparison) -> str:
    """Which method to pick for this backbone and task, and why, in two or three sentences.

    The rule: the cheapest method, unless a costlier one is significantly more accurate
    (:meth:`Comparison.better`: paired, and adjusted for all pairs of methods); then that one, and so on up.
    One method of each role takes part (:meth:`Comparison.by_role`). Retraining does not, since it needs far
    more labels than the support set holds; the verdict says what it would reach, and what time and energy the
    choice saves against it, or against backprop where retraining did not take part. More accurate means a
    higher accuracy or a lower squared error.
    """
    metric = comparison.metric

    def result(method: MethodResult) -> str:
        return f"{metric.phrase(method.mean_score)} in {seconds_text(method.adapt_seconds)}"

    found = [comparison.by_role(role) for role in ROLES]
    candidates = sorted(filter(None, found), key=lambda method: method.adapt_seconds)
    retrain = comparison.by_role("retrain")
    if not candidates:
        return f"Only {label(retrain)} took part: {result(retrain)}." if retrain else "No method took part."
    chosen = candidates[0]
    for method in candidates[1:]:
        if comparison.better(method, chosen):
            chosen = method
    name = f"{label(chosen)}{_picked(comparison, chosen)}"
    if len(candidates) == 1:
        text = f"Only {name} adapts here, so there is nothing to choose from: {result(chosen)}"
    else:
        text = f"Use {name}: {result(chosen)}"
    if retrain is not None and comparison.learned(retrain):
        text += _against_retraining(
            comparison.speedup(retrain, chosen),
            metric if retrain.curves else None,
            retraining(retrain, short=True),
        )
    text += _energy_saved(comparison, chosen)
    if retrain is not None and not comparison.learned(retrain):
        text += f". {_what_it_needs(comparison, retrain)}"
    if reasons := "; ".join(_reasons(comparison, chosen, candidates)):
        text += f". {reasons[0].upper()}{reasons[1:]}"
    return f"{text}{_named(comparison)}{_caution(comparison, chosen)}."


def _picked(comparison: Comparison, chosen: MethodResult) -> str:
    """That the best of several looks better than it is, on the tasks that it was picked on."""
    several = len(comparison.of_role(chosen.role))
    if several == 1 or chosen.role == "forward":
        return ""
    noun = "heads" if chosen.role == "head" else f"{chosen.role} methods"
    return f" (the most accurate of {several} {noun} on these very tasks)"


def _named(comparison: Comparison) -> str:
    """Which of several forward methods is ours, as a sentence to follow; it is not the best of them."""
    forward, ours = comparison.of_role("forward"), comparison.ours
    if len(forward) < 2 or ours is None:
        return ""
    how = "as the configuration says" if comparison.chosen else "as the first of them"
    return f". Of {len(forward)} forward methods, {ours.name} is the one that is compared, {how}"


def _caution(comparison: Comparison, chosen: MethodResult) -> str:
    """How little may have been seen, as the end of the verdict."""
    if comparison.examples is not None and comparison.exhausted:
        drawn = evidence_text(comparison.examples)
        return (
            f". All {len(comparison.examples)} tasks share {drawn}: this is less evidence than two "
            "independent tasks, so that no difference can be called significant; more examples are needed, "
            "not more tasks"
        )
    if comparison.test_examples:
        few = comparison.test_examples < FEW_TASKS
        n = comparison.test_examples
        return (
            f". With only {n} test example{'s' if n > 1 else ''} this is a hint, not a finding" if few else ""
        )
    if chosen.n < FEW_TASKS:
        return f". With only {chosen.n} task{'s' if chosen.n > 1 else ''} this is a hint, not a finding"
    return ""


def _reasons(comparison: Comparison, chosen: MethodResult, candidates: list[MethodResult]) -> Iterator[str]:
    """Why not the others, what the choice costs, and what retraining would reach."""
    metric = comparison.metric
    for other in candidates:
        if other is chosen:
            continue
        difference = comparison.difference(other, chosen)
        better, worse = comparison.better(other, chosen), comparison.better(chosen, other)
        dominated = worse and other.adapt_seconds > chosen.adapt_seconds
        if dominated and (other.role == "finetune" or (other.role == "backprop" and chosen.role == "head")):
            continue  # nobody would wonder
        if better or worse:
            judgement = "more accurate" if better else "less accurate"
        else:
            judgement = f"not significantly {'better' if metric.gain(difference.mean) > 0 else 'worse'}"
        amount = f"{metric.difference_text(difference)} {metric.difference_unit}"
        if (ratio := comparison.times_the_error(other, chosen)) is not None:
            amount += f", {ratio_text(ratio)} the error"
        yield f"{label(other)} is {judgement} ({amount}, {seconds_text(other.adapt_seconds)})"
    if chosen.role == "forward":
        yield _price(comparison, chosen)
    if (retrain := comparison.by_role("retrain")) is not None:
        difference = comparison.difference(retrain, chosen)
        if comparison.better(retrain, chosen):
            name = retraining(retrain, short=True)
            more = metric.difference_text(difference).replace("+", "").replace("−", "")
            amount = f"{more} {metric.difference_unit} {'higher' if metric.higher_is_better else 'lower'}"
            seconds = seconds_text(retrain.adapt_seconds)
            yield f"{name} on all training data ends {amount} after {seconds}"


def _price(comparison: Comparison, ours: MethodResult) -> str:
    text = f"{label(ours)} costs {_significant(ours.forward_equivalents)} forward passes"
    if (head := comparison.best_head) is not None:
        text += f" and {ratio_text(ours.adapt_seconds / head.adapt_seconds)} the time of {label(head)}"
    if comparison.meta_seconds is None:
        return text
    text += f", after {seconds_text(comparison.meta_seconds)} of meta-training"
    tasks = comparison.break_even_tasks
    return text if tasks is None else f"{text} (paid off against retraining after {math.ceil(tasks):,} tasks)"


def retraining(method: MethodResult, *, short: bool = False) -> str:
    """What a method that learns from all training data does: ``retraining from random weights``, or its
    name."""
    if not method.name.startswith("retrain"):
        return method.name
    return "retraining" if short else "retraining from random weights"


def _what_it_needs(comparison: Comparison, retrain: MethodResult) -> str:
    """Why no speed-up is claimed, and what retraining would need to be a rival."""
    chance = comparison.chance or 0.0
    curves = [curve.score for curve in retrain.curves if len(curve.score) > 3]
    rise = [score[-1] - score[-1 - len(score) // 4] for score in curves]
    rising = bool(rise) and float(np.mean(rise)) > 0.1 * max(float(np.mean(retrain.score)) - chance, 0.01)
    needs = (
        "was still learning, and would need more passes" if rising else "would need more labelled examples"
    )
    return (
        f"No speed-up is claimed against {retraining(retrain)}, which ends near chance "
        f"({comparison.metric.phrase(retrain.mean_score)}, guessing: {100 * chance:.1f} %) after "
        f"{seconds_text(retrain.adapt_seconds)}: it {needs}, or pretrained weights"
    )


def _against_retraining(speedup: Speedup, watched: Metric | None, name: str = "retraining") -> str:
    """Speed-up as the end of a sentence that praises a method; honest where there is none. ``watched`` is the
    metric that retraining was watched by, None if it was not."""
    if watched is None:
        full = "full retraining" if name == "retraining" else name
        return f", {ratio_text(speedup.ratio)} the speed of {full}"
    if speedup.bound:
        missed = f"which did not get there within its budget on {speedup.never} of {speedup.n} tasks"
        return f", at least {ratio_text(speedup.ratio)} as fast as {name}, {missed}"
    return f", {ratio_text(speedup.ratio)} as fast as {name} to the same {watched.noun}"


def _energy_saved(comparison: Comparison, chosen: MethodResult) -> str:
    """The share of energy that ``chosen`` takes, as the end of a sentence; empty where it is not known, or
    chosen itself is what one would compare with."""
    other = comparison.by_role("retrain") or comparison.by_role("backprop")
    if other is None or other is chosen or not comparison.learned(other):
        return ""
    ratio = comparison.energy_ratio(other, chosen)
    if ratio is None:
        return ""
    name = retraining(other, short=True) if other.role == "retrain" else label(other)
    bound = "at most " if ratio.bound else ""
    source = " (estimated)" if comparison.energy_source == "estimated" else ""
    return f", for {bound}{_significant(100 / ratio.ratio)} % of the energy of {name}{source}"


def label(method: MethodResult) -> str:
    """The method's name as a reader would say it: ``head_logistic`` → "the logistic head"."""
    if method.role == "head":
        name = f"the {method.name.removeprefix('head_').replace('_', ' ')} head".replace("head head", "head")
        return f"{name} (transductive)" if method.transductive else name
    return method.shown


def size_text(task: Mapping[str, Any]) -> str:
    """How large a task is: ``5-way 1-shot``, or ``10-shot`` where there are no classes."""
    ways = f"{task['ways']}-way " if per_class(task) else ""
    return f"{ways}{task.get('shots', '?')}-shot"


def run_title(task: Mapping[str, Any], seed: int) -> str:
    """What a run compares on, as its name: ``banking77 · 5-shot · seed 0``."""
    return f"{task.get('source', '?')} · {task.get('shots', '?')}-shot · seed {seed}"


def per_class(task: Mapping[str, Any]) -> bool:
    """True if shots and queries are counted per class."""
    return task.get("ways") is not None


def seconds_text(seconds: float) -> str:
    """At least two significant digits, in the unit one would use: ``8.2 ms``, ``3.1 s``, ``12 min``."""
    for limit, size, unit in ((1, 1e-3, "ms"), (120, 1, "s"), (7200, 60, "min")):
        if seconds < limit:
            return f"{_significant(seconds / size)} {unit}"
    return f"{_significant(seconds / 3600)} h"


def ratio_text(ratio: float) -> str:
    """A ratio of times: ``0.42×``, ``5.2×``, ``1,230×``."""
    return f"{_significant(ratio)}×"


def energy_text(watt_hours: float) -> str:
    """``0.42 µWh``, ``12 mWh``, ``1,200 Wh``."""
    return _with_prefix(watt_hours, "Wh")


def mass_text(grams: float) -> str:
    """``3.1 µg``, ``42 mg``, ``5.0 g``."""
    return _with_prefix(grams, "g")


def money_text(usd: float) -> str:
    """US dollars, of very little what a million would cost: ``$0.42``, ``$3.1 per million``."""
    return f"${_significant(usd)}" if usd >= 0.01 or usd == 0 else f"${_significant(1e6 * usd)} per million"


def _with_prefix(value: float, unit: str) -> str:
    """Zero has no prefix."""
    for limit, size, prefix in ((1e-3, 1e-6, "µ"), (1, 1e-3, "m")):
        if 0 < value < limit:
            return f"{_significant(value / size)} {prefix}{unit}"
    return f"{_significant(value)} {unit}"


def _significant(value: float) -> str:
    """At least two significant digits, never scientific, thousands grouped."""
    decimals = max(0, 1 - math.floor(math.log10(value))) if value > 0 else 0
    return f"{value:,.{decimals}f}"
