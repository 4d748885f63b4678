"""What tasks were drawn from, counted once, in words."""

from adapt.compare.examples import Examples

__all__ = ["evidence_line", "evidence_text"]


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


def _several(number: int, one: str) -> str:
    return f"{number:,} {one}{'s' if number != 1 else ''}"
