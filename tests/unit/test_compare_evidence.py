"""What a comparison calls a difference: evidence counts once, tests count together, and ours is named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from rich.console import Console
from torch import Tensor, nn

from adapt.adapter import Context, Predictor, Role, Support
from adapt.adapter.method import Adapt, Watch, no_pool
from adapt.app.stages.report import show
from adapt.compare import ACCURACY, Comparison, MethodResult, compare, pool
from adapt.compare.evidence import evidence_line
from adapt.compare.examples import Examples
from adapt.compare.markdown import comparison_markdown, difference_rows
from adapt.compare.verdict import verdict
from adapt.errors import AdaptError
from adapt.files import json_text
from tasks import ArraySource, Card, Distribution

# ----------------------------------------------------------------------------------------------- photographs


@dataclass(frozen=True)
class Knows:
    """Predicts the class that is written into the pixels, but for ``wrong`` of the photographs."""

    wrong: tuple[int, ...] = ()
    role: Role = "head"
    max_tasks: int | None = None
    keeps_backbone: bool = True

    def prepare(self, context: Context) -> Adapt:
        def adapt(support: Support, watch: Watch) -> Predictor:
            known = support.x[:, 0]  # the class of each shot

            def predict(x: Tensor) -> Tensor:
                right = (x[:, :1] == known[None]).float()
                misses = torch.tensor([int(row[1]) in self.wrong for row in x])
                outputs = torch.stack([right[:, support.y == y].sum(1) for y in range(support.ways)], 1)
                return torch.where(misses[:, None], -outputs, outputs)

            return predict

        return adapt


def photographs(each: int, classes: int = 2) -> ArraySource:
    """An example is its class and its number."""
    n = each * classes
    x = np.stack([np.repeat(np.arange(classes), each), np.arange(n)], 1).astype(np.float32)
    members = {f"c{i}": np.arange(each * i, each * (i + 1)) for i in range(classes)}
    card = Card("photographs", "numbers", "made here", "CC0", "none", {"examples": n}, (), "none")
    return ArraySource(card, x, {"train": members})


def run(each: int, tasks: int = 20, queries: int = 2, seed: int = 0, **more: Any) -> Comparison:
    methods: dict[str, Any] = more.pop(
        "methods", {"head": Knows(wrong=(0,)), "forward": Knows(role="forward", wrong=(0, 1, 2, 3, 4))}
    )
    drawn = Distribution(photographs(each), 2, 1, queries, seed=seed)
    untouched: Any = type("Adapter", (), {"info": {}})()
    torch.manual_seed(0)
    context = Context(nn.Linear(2, 1), untouched, no_pool, seed)
    task = {"source": "photographs", "ways": 2, "shots": 1, "queries": queries, "tasks": tasks}
    where = {"experiment": "toy", "task": task, "tasks": tasks, "device": torch.device("cpu")}
    return compare(methods, drawn, context, **where, **more)


def test_twenty_tasks_of_six_photographs_are_one(tmp_path: Path) -> None:
    found = run(each=3)
    assert found.examples is not None and found.examples.counts[:2] + found.examples.counts[5:] == (
        *(20, 9, 6, 0),
    )
    for method in found.methods.values():
        assert method.mean_score.ci95 is None and method.n == 20
    one, other = found.methods.values()
    assert found.difference(one, other).ci95 is None and found.p(one, other) == 1.0
    text = verdict(found)
    assert "not significantly" in text and "less accurate" not in text and "±" not in text
    assert text.endswith(
        "All 20 tasks share 9 support sets and 9 query sets of 6 examples: this is less evidence than two "
        "independent tasks, so that no difference can be called significant; more examples are needed, not "
        "more tasks."
    )
    page = comparison_markdown(found)
    assert "± 0.0" not in page and evidence_line(found.examples) in page
    assert "9 support sets and 9 query sets of 6 examples in 20 tasks: less evidence" in page
    values = {**found.metrics(), **found.method_metrics(one)}
    assert not [name for name in values if "ci95" in name]
    assert values["compare/support_sets"] == values["compare/query_sets"] == 9
    assert values["compare/examples"] == 6 and values["compare/effective_tasks"] == pytest.approx(
        1.0, abs=0.1
    )
    console = Console(record=True, width=150)
    show(found, figure=tmp_path / "f.png", folder=tmp_path, ui=None, console=console)
    assert "9 support sets and 9 query sets of 6 examples" in console.export_text()


@pytest.mark.parametrize(("each", "shown"), [(3, False), (150, True)])
def test_the_same_method_is_shown_to_be_worse_where_there_are_examples_enough(each: int, shown: bool) -> None:
    """It errs on a third of the photographs."""
    wrong = tuple(range(0, 2 * each, 3))
    methods = {"head": Knows(), "forward": Knows(role="forward", wrong=wrong)}
    found = run(each, tasks=100, methods=methods)
    assert ("less accurate" in verdict(found)) == shown
    assert ("evidence of at least" in evidence_line(found.examples)) == shown


def test_what_examples_there_were_is_kept_in_files_and_in_checkpoints(tmp_path: Path) -> None:
    found = run(each=30, checkpoint=tmp_path / "part.jsonl")
    written = json.loads(json_text(found.to_dict()))
    assert written["examples"]["counts"]["examples"] == found.metrics()["compare/examples"] <= 60
    assert all("examples" not in method for method in written["methods"].values())
    read = Comparison.from_dict(written)
    assert read == found and read.methods["head"].mean_score == found.methods["head"].mean_score
    again = run(each=30, checkpoint=tmp_path / "part.jsonl")
    assert again.examples == found.examples and again.environment["resumed"].startswith("20 of 20")

    lines = [json.loads(line) for line in (tmp_path / "part.jsonl").read_text().splitlines()]
    assert all(line.pop("sha256") for line in lines)  # as an earlier version wrote it
    assert all(line.pop("examples") for line in lines[1:])
    (tmp_path / "old.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run(each=30, checkpoint=tmp_path / "old.jsonl").examples == found.examples


def test_files_from_before_examples_were_kept_are_read_and_say_so() -> None:
    written = run(each=3).to_dict()
    del written["examples"], written["chosen"]
    old = Comparison.from_dict(written)
    assert old.examples is None and old.methods["forward"].mean_score.ci95 is not None
    assert evidence_line(old.examples) == "" and not [name for name in old.metrics() if "examples" in name]
    assert "It was not recorded which tasks share examples" in comparison_markdown(old)


def test_seeds_that_draw_from_the_same_examples_are_pooled_with_them() -> None:
    seeds = [run(each=30, seed=seed) for seed in range(3)]
    both = pool(seeds)
    assert both.examples is not None and len(both.examples) == 60
    assert both.examples.support[1] == seeds[1].examples.support[0]  # type: ignore[union-attr]
    assert both.examples.counts.examples <= 60
    score = both.methods["head"].mean_score
    plain = scipy.stats.ttest_1samp(both.methods["head"].score, 0).confidence_interval(0.95)
    assert score.ci95 is not None and score.ci95 > 1.2 * (plain.high - plain.low) / 2
    assert pool([seeds[0], replace(seeds[1], examples=None)]).examples is None


def test_a_method_on_fewer_tasks_is_compared_on_those_and_on_their_examples() -> None:
    methods = {"head": Knows(wrong=(0, 31)), "forward": Knows(role="forward", wrong=(1,), max_tasks=12)}
    found = run(each=30, methods=methods)
    few = found.methods["forward"]
    assert few.n == 12 and few.examples is not None and len(few.examples) == 12
    assert found.difference(few, found.methods["head"]).n == 12
    _, rows = difference_rows(found)
    assert rows[0][-1] == "12"


# ------------------------------------------------------------------------------------------ many comparisons


def method(name: str, role: Role, score: Sequence[float], seconds: float = 1.0) -> MethodResult:
    return MethodResult(name, role, tuple(score), (seconds,) * len(score), 1.0, 1.0)


def table(*methods: MethodResult, **more: Any) -> Comparison:
    task = {"source": "toy", "ways": 2, "shots": 1, "queries": 1, "tasks": methods[0].n}
    return Comparison("toy", task, 0, "cpu", {found.name: found for found in methods}, **more)


def apart(chance: float, n: int = 40, seed: int = 0) -> list[float]:
    """Scores whose paired t test against constant ones of 0.5 has just this two-sided p-value."""
    noise = np.random.default_rng(seed).normal(size=n)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    shift = scipy.stats.t.isf(chance / 2, n - 1) / np.sqrt(n)
    return (0.5 + 0.05 * (noise + shift)).tolist()


def test_p_values_are_adjusted_for_all_pairs_of_the_table() -> None:
    flat = method("head", "head", [0.5] * 40, 0.1)
    ours = method("forward", "forward", apart(0.02))
    two = table(flat, ours)
    assert two.p(ours, flat) == two.p(flat, ours) == pytest.approx(0.02)
    assert two.better(ours, flat) and not two.better(flat, ours)
    assert "Use forward" in verdict(two)
    third = method("backprop", "backprop", apart(0.9, seed=1))
    three = table(flat, ours, third)
    raw = [
        scipy.stats.ttest_rel(a.score, b.score).pvalue
        for a, b in ((flat, ours), (flat, third), (ours, third))
    ]
    assert three.p(ours, flat) == pytest.approx(3 * min(raw)) and min(raw) == pytest.approx(0.02)
    assert not three.better(ours, flat)
    assert "Use the head: 50.0" in verdict(three) and "Forward is not significantly better" in verdict(three)
    assert three.p(ours, ours) == 1.0
    names = three.metrics()
    assert names["compare/accuracy_vs_head_p"] == pytest.approx(0.06)
    # the interval is that of the one difference, and says so
    difference = three.difference(ours, flat)
    assert difference.mean > (difference.ci95 or 0)
    assert "p is two-sided and adjusted for all 3 pairs of methods (Holm), the intervals are not" in (
        comparison_markdown(three)
    )


def test_identical_methods_and_a_single_one() -> None:
    score = np.random.default_rng(0).random(40).tolist()
    same = table(method("head", "head", score, 0.1), method("forward", "forward", score))
    assert same.p(*same.methods.values()) == 1.0
    assert "Forward is not significantly worse (+0.00 ± 0.00 points" in verdict(same)
    alone = table(method("forward", "forward", score))
    assert difference_rows(alone)[1] == [] and "## Differences" not in comparison_markdown(alone)


def test_a_score_that_is_no_number_is_refused() -> None:
    broken = table(
        method("head", "head", [0.5] * 4), method("forward", "forward", [0.5, float("nan"), 0.5, 0.5])
    )
    with pytest.raises(AdaptError, match=r"not finite \(nan\)"):
        verdict(broken)


def test_a_single_task_has_no_interval_anywhere() -> None:
    found = table(
        method("head", "head", [0.8]),
        method("forward", "forward", [0.9]),
        method("retrain", "retrain", [0.7]),
    )
    assert "±" not in comparison_markdown(found).split("## How")[0]
    assert not [name for name in found.metrics() if name.endswith(("_ci95", "_low", "_high"))]


# --------------------------------------------------------------------------------------------- which is ours


def variants(**more: Any) -> Comparison:
    rng = np.random.default_rng(0)
    first, second = 0.6 + 0.1 * rng.random(40), 0.8 + 0.1 * rng.random(40)
    return table(
        method("head", "head", [0.5] * 40, 0.1),
        method("forward", "forward", first.tolist()),
        method("forward_k8", "forward", second.tolist()),
        **more,
    )


def test_ours_is_the_first_forward_method_not_the_best_on_these_tasks() -> None:
    found = variants()
    assert found.ours is found.by_role("forward") is found.methods["forward"]
    assert "Of 2 forward methods, forward is the one that is compared, as the first of them." in verdict(
        found
    )
    assert found.metrics()["compare/accuracy_vs_head"] == pytest.approx(
        np.mean(found.methods["forward"].score) - 0.5
    )


def test_ours_can_be_named_before_the_tasks_are_seen() -> None:
    found = variants(chosen="forward_k8")
    assert found.ours is found.methods["forward_k8"]
    assert "forward_k8 is the one that is compared, as the configuration says." in verdict(found)
    assert Comparison.from_dict(found.to_dict()).ours == found.ours
    for name in ("head", "none"):
        with pytest.raises(
            AdaptError, match=rf"ours={name}: no forward method .*; there are forward, forward_k8"
        ):
            variants(chosen=name)
    with pytest.raises(AdaptError, match=r"ours=forward: .*; there is none"):
        run(each=30, methods={"head": Knows()}, ours="forward")
    with pytest.raises(AdaptError, match="differ in ours"):
        pool([variants(), replace(variants(chosen="forward_k8"), seed=1)])


def test_the_best_of_several_heads_is_said_to_be_that() -> None:
    rng = np.random.default_rng(0)
    heads = [method(f"head_{name}", "head", rng.random(40).tolist(), 0.1) for name in "abc"]
    text = verdict(table(*heads))
    assert "(the most accurate of 3 heads on these very tasks) adapts here" in text
    assert ACCURACY.phrase(max(heads, key=lambda head: float(np.mean(head.score))).mean_score) in text


def test_examples_of_fewer_tasks_than_a_method_ran_on_are_refused() -> None:
    drawn = Examples(((0,),) * 3, ((1,),) * 3, (None,) * 3)
    with pytest.raises(AdaptError, match="4 tasks with the examples of 3 only"):
        table(method("head", "head", [0.5] * 4), examples=drawn)
