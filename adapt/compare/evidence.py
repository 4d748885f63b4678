"""What tasks were drawn from, counted once, in words."""

from adapt.compare.comparison import Comparison
from adapt.compare.examples import Examples

__all__ = ["comparison_evidence", "evidence_line", "evidence_text"]


def evidence_text(examples: Examples) -> str:
    """``9 support sets and 9 query sets of 6 examples``; groups are counted in place of examples, and what is
    made for each task has no examples to count."""
    found = examples.counts
    sets = f"{_several(found.support_sets, 'support set')} and {_several(found.query_sets, 'query set')}"
    if found.groups:
        return f"{sets} of {_several(found.groups, 'group')}"
    return f"{sets} of {_several(found.examples, 'example')}" if found.examples else sets


def evidence_line(examples: Examples | None) -> str:
    """How much the tasks are worth, in a sentence; empty where it is not known what they were drawn from."""
    if examples is None:
        return ""
    tasks, effective = len(examples), examples.effective_tasks
    text = f"{evidence_text(examples)} in {_several(tasks, 'task')}"
    if effective > tasks - 0.5:
        return f"{text}, which share nothing."
    if examples.exhausted:
        return f"{text}: less evidence than two independent tasks, so there are no intervals."
    return f"{text}: evidence of at least {effective:,.3g} independent tasks."


def comparison_evidence(comparison: Comparison) -> str:
    """The same of a comparison, whose tasks may be fixed."""
    examples = comparison.examples
    if comparison.test_examples:
        sets = 1 if examples is None else examples.counts.support_sets
        given = "as it is" if sets == 1 else "drawn again, too"
        return (
            f"{_several(sets, 'training set')}, {given}, and {comparison.test_examples:,} test examples: "
            "intervals are a bootstrap over these, the same resamples for all methods."
        )
    return evidence_line(examples)


def _several(number: int, one: str) -> str:
    return f"{number:,} {one}{'s' if number != 1 else ''}"
