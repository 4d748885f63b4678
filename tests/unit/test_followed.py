"""Classifiers of clean examples under other conditions, as methods of a comparison."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from adapt import AdaptError
from adapt.adapter import Context, Matching, Support
from adapt.app.stages.pools import pool_split, spread
from adapt.baselines import Followed
from adapt.compare import compare
from adapt.heads import Logistic, one_hot
from adapt.inner import GaussNewton
from tasks import ArraySource, Conditions, Digits, Distribution
from tests.helpers import make_adapter, make_source, tiny_conv4

CLASSES = ("a", "b", "c")


@pytest.fixture
def context(backbone: nn.Module, source: ArraySource) -> Context:
    def pool(
        classes: tuple[str, ...], reserved: tuple[int, ...] = (), most: int | None = None
    ) -> tuple[Tensor, Tensor]:
        each = min(most or 12, 12)
        rows = np.concatenate([np.arange(12 * k, 12 * k + each) for k in range(3)])
        return source.load(rows), torch.arange(3).repeat_interleave(each)

    return Context(backbone, make_adapter(backbone), pool)


def images(source: ArraySource, *numbers: int) -> Tensor:
    return source.load(np.array(numbers))


def run(method: Followed, context: Context, support: Support, x: Tensor) -> Tensor:
    return method.prepare(context)(support, lambda _: None)(x)


def test_as_it_is(context: Context, source: ArraySource) -> None:
    x, y = context.pool(CLASSES, most=4)
    features = context.backbone(x)
    head = Logistic()
    state = head.fit(features, one_hot(y, 3, features.dtype))
    support = Support(images(source, 5, 17, 29), torch.arange(3), CLASSES)
    found = run(Followed(adapts=False, examples=4), context, support, x)
    torch.testing.assert_close(found, head.logits(state, features))


def test_labels_are_not_looked_at(context: Context, source: ArraySource) -> None:
    x = 0.4 * images(source, 1, 2, 13, 14, 25, 26)
    method = Followed(match=Matching(), checked=False)
    first, other = (
        run(method, context, Support(x, y, CLASSES), x)
        for y in (torch.arange(3).repeat_interleave(2), torch.zeros(6, dtype=torch.long))
    )
    assert torch.equal(first, other)
    assert not torch.equal(first, run(Followed(adapts=False), context, Support(x, first, CLASSES), x))


def test_labels_that_are_looked_at_decide(context: Context, source: ArraySource) -> None:
    x, y = 0.4 * images(source, 1, 2, 13, 14, 25, 26), torch.arange(3).repeat_interleave(2)
    method = Followed(Logistic(), labels=True, examples=4)
    found, turned = (run(method, context, Support(x, labels, CLASSES), x) for labels in (y, y.flip(0)))
    clean = context.adapter.replace(solver=GaussNewton(steps=0), head=Logistic()).fit(
        *context.pool(CLASSES, most=4)
    )
    there = clean.fit(x, y, source=context.pool(CLASSES, most=4)[0])
    torch.testing.assert_close(found, there.logits(x))
    assert not torch.equal(found, turned)
    none = Support(x[:0], y[:0], CLASSES, unlabelled=x)
    torch.testing.assert_close(
        run(method, context, none, x), run(replace(method, labels=False), context, none, x)
    )


def test_further_examples_count_as_the_support_does(context: Context, source: ArraySource) -> None:
    x, y = 0.4 * images(source, 1, 2, 13, 14, 25, 26), torch.zeros(6, dtype=torch.long)
    method = Followed(solver=GaussNewton(), checked=False)
    together = run(method, context, Support(x, y, CLASSES), x)
    apart = run(method, context, Support(x[:2], y[:2], CLASSES, unlabelled=x[2:]), x)
    alone = run(method, context, Support(x[:0], y[:0], CLASSES, unlabelled=x), x)
    torch.testing.assert_close(apart, together)
    torch.testing.assert_close(alone, together)


def test_values_are_refused(context: Context, source: ArraySource) -> None:
    support = Support(images(source, 1), torch.zeros(1, 1), ())
    with pytest.raises(AdaptError, match="leave this method out of regression"):
        run(Followed(), context, support, support.x)


def test_a_comparison_without_any_label(context: Context, source: ArraySource) -> None:
    tasks = Conditions(
        make_source(),
        shots=0,
        queries=2,
        unlabelled=6,
        support_split="train",
        kinds=["contrast"],
        composed=0.0,
    )
    names = tuple(tasks.class_names)

    def pool(
        classes: tuple[str, ...], reserved: tuple[int, ...] = (), most: int | None = None
    ) -> tuple[Tensor, Tensor]:
        members = tasks.source.classes("train")
        rows = [members[name][:most] for name in classes]
        return tasks.source.load(np.concatenate(rows)), torch.arange(len(rows)).repeat_interleave(
            len(rows[0])
        )

    methods = {"as it is": Followed(adapts=False), "ours": Followed(match=Matching(), role="forward")}
    result = compare(
        methods,
        tasks,
        context._replace(pool=pool),
        experiment="none",
        task={"source": "made", "ways": len(names), "shots": 0},
        tasks=2,
        device=torch.device("cpu"),
    )
    assert {name: method.n for name, method in result.methods.items()} == {"as it is": 2, "ours": 2}
    assert result.methods["ours"].forward_equivalents > result.methods["as it is"].forward_equivalents


def test_where_a_classifier_is_learned_from() -> None:
    digits = Digits(size=16)
    apart = Distribution(digits, 2, 1, 1, "support", "query")
    assert pool_split(apart) == "support"
    assert pool_split(Conditions(digits, support_split="query", shots=1, queries=1)) == "query"
    assert pool_split(Conditions(make_source(), support_split="train", shots=1, queries=1)) == "train"
    assert spread(np.arange(10), None).tolist() == spread(np.arange(10), 20).tolist() == list(range(10))
    assert spread(np.arange(11), 3).tolist() == [0, 5, 10] and spread(np.arange(11), 1).tolist() == [0]


def test_the_networks_weights_stay(context: Context, source: ArraySource) -> None:
    before = [value.clone() for value in context.backbone.state_dict().values()]
    x = images(source, 1, 2, 13, 14)
    run(Followed(match=Matching()), context, Support(x, torch.arange(4) % 3, CLASSES), x)
    assert all(map(torch.equal, before, context.backbone.state_dict().values()))
    assert tiny_conv4() is not context.backbone
