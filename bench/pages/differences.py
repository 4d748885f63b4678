"""What differs between tasks, what to use then, and what it gains: the table at the head of docs/when.md,
every cell of it from a committed result."""

from typing import NamedTuple

from bench.lib.blocks import Result, by_case, committed, markdown_table

__all__ = ["differences"]


class Case(NamedTuple):
    """A line: the words, and where its figure is: a benchmark, a case and a metric of it; what it is a
    difference to, its unit, and whether the figure is another's minus ours."""

    differs: str
    use: str
    benchmark: str
    case: str
    metric: str
    against: str
    unit: str = "points"
    reversed: bool = False


VISION, FIELDS, CONDITIONS = "vision", "fields", "conditions"
ON_HEAD = "the best head on pretrained features"
CASES = (
    Case(
        "classes, near what the network was trained on", "a head on its features", VISION,
        "omniglot: Omniglot, 20-way 5-shot: pretrained, logistic head", "compare/accuracy_vs_backprop",
        "backpropagation from a meta-learned start",
    ),
    Case(
        "classes of another domain, where training tasks are like them", "a head at the meta-learned "
        "start", VISION,
        "signs: GTSRB, 10-way 5-shot: start, logistic head", "compare/accuracy_vs_head", ON_HEAD,
    ),
    Case(
        "classes of a domain that no training task is of", "`auto` with `backprop_steps`", VISION,
        "elsewhere: GTSRB, 10-way 5-shot: auto, or backprop", "compare/accuracy_vs_head", ON_HEAD,
    ),
    Case(
        "a function of few unknown numbers", "`forward`", "regression",
        "vehicle_dynamics, 50-shot: subspace backprop", "compare/mse_minus_forward",
        "backpropagation along the same directions", "of squared error", True,
    ),
    Case(
        "what is wanted in the same world", "`forward`", FIELDS, "gridworld, 5-shot: logistic",
        "compare/forward_minus_this_accuracy", "a logistic head",
    ),
    Case(
        "constants of a system that is simulated", "`forward` through a roll-out", "physics",
        "lotka_volterra, more new environments: all weights", "compare/mse_minus_forward",
        "fine-tuning the whole field", "of squared error", True,
    ),
    Case(
        "a series that goes on, day after day", "`task.partial_fit(x, y)`", "volatility",
        "the year: ridge, per asset", "compare/forward_minus_this_mse",
        "a ridge regression of each series alone", "of squared error",
    ),
    Case(
        "a body that is to be controlled", "`forward`, then plan", "control",
        "pendulum, 20 transitions: trained anew", "compare/forward_minus_this_return",
        "training a field anew on the same second", "of return",
    ),
    Case(
        "conditions, a few labels", "`task.fit(x, y)`", CONDITIONS, "unseen kinds: classifier, forward",
        "compare/accuracy_vs_head_and_norms", "a head on the labels, whose norms follow",
    ),
    Case(
        "conditions, no labels", "`task.fit(x)`", CONDITIONS, "unseen kinds: no labels, ours",
        "compare/accuracy_vs_as_it_is", "the classifier as it is",
    ),
)  # fmt: skip


def differences() -> str:
    """The table; lines whose benchmark has not been run are left out."""
    lines = []
    for one in CASES:
        result = committed(one.benchmark)
        row = None if result is None else by_case(result).get((one.case, one.metric))
        if row is not None:
            lines.append([one.differs, one.use, f"{_figure(row, one)} against {one.against}", _where(one)])
    return markdown_table(["what differs", "what to use", "what it gains", "measured on"], lines)


def _figure(row: Result, one: Case) -> str:
    value, half = -row["value"] if one.reversed else row["value"], row["ci95"]
    error = one.unit == "of squared error"
    shown = f"{value:.2g}" if error else f"{value:+.1f}"
    spread = "" if half is None else f" ± {half:.2g}" if error else f" ± {half:.1f}"
    return f"{shown.replace('-', '−')}{spread} {one.unit}"


def _where(one: Case) -> str:
    return f"`bench.{one.benchmark}`: {one.case.rsplit(': ', 1)[0]}"
