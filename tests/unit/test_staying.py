"""A classifier that stays, in meta-training: the head, the tasks it needs, and what training makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from adapt import AdaptError
from adapt.adapter.problem import Problem
from adapt.app.stages.pools import fixed_classes
from adapt.heads import HEADS, Logistic, Ridge, one_hot
from adapt.heads.staying import Staying
from adapt.inner import CrossEntropy, GaussNewton
from adapt.meta.query import Learner
from tasks import Conditions, Digits, Distribution
from tests.command_line import call
from tests.helpers import make_adapter, make_source, tiny_conv4

LABELS = torch.arange(3).repeat_interleave(4)


@pytest.mark.parametrize("head", [Logistic(), Ridge()])
def test_it_says_what_the_head_says_whatever_it_is_fitted_to(head: Any) -> None:
    x, y = torch.randn(12, 5), one_hot(LABELS, 3)
    known = head.fit(x, y)
    staying = Staying(head, known)
    for features, targets in ((x, y), (torch.randn(4, 5), y[:4])):
        state = staying.fit(features, targets)
        assert torch.equal(state, known) and staying.state_shape(5, 3) == (6, 3)
        assert torch.equal(staying.logits(state, features), head.logits(known, features))
        assert torch.equal(staying.loo_logits(features, targets), head.logits(known, features))
    assert staying.supports_regression == head.supports_regression
    assert Staying not in HEADS.values()  # no saved adapter holds one: its task does


def test_a_task_moves_the_network_only() -> None:
    adapter = make_adapter(tiny_conv4())
    tasks = Conditions(make_source(), shots=2, queries=2, support_split="train", kinds=["contrast"])
    episode = tasks.episode(0)
    head = Logistic()
    clean = head.fit(adapter.backbone(episode.query_x), one_hot(episode.query_y, len(episode.meta.classes)))
    problem = Problem(CrossEntropy(), Staying(head, clean), Staying(head, clean))
    moved = Learner(adapter.backbone, adapter.space, GaussNewton(), problem)
    z, outputs = moved.adapt(adapter.state, episode)
    parameters = adapter.subspace.parameters(z)
    features = torch.func.functional_call(adapter.backbone, parameters, (episode.query_x,))
    torch.testing.assert_close(outputs, head.logits(clean, features))
    assert z.abs().max() > 0


def test_classes_of_all_tasks() -> None:
    source = make_source()
    conditions = Conditions(source, shots=1, queries=1, support_split="train")
    assert fixed_classes(conditions) == tuple(conditions.class_names)
    with pytest.raises(AdaptError, match="use task=conditions"):
        fixed_classes(Distribution(Digits(size=16), 3, 1, 1, "support", "query"))


def test_the_command_refuses_tasks_of_different_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = [
        "experiment=meta_glyphs",
        "tracking=none",
        "meta.steps=1",
        "meta.classifier=2",
        "hydra.run.dir=run",
    ]
    assert call(typed, tmp_path) == 2
    assert "a classifier stays where all tasks have the same classes" in capsys.readouterr().err
