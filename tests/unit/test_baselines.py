"""What users would otherwise do: each baseline is what it says, checked against doing it by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from adapt import AdaptError
from adapt.adapter import Context, Forward, Method, Predictor, Support
from adapt.baselines import Backprop, Finetune, HeadOnly, Retrain
from adapt.heads import Logistic, Prototype, Ridge, one_hot
from adapt.inner import Descent, GaussNewton
from tasks import ArraySource, Distribution, Episode
from tests.helpers import make_adapter, tiny_conv4


@pytest.fixture
def episode(source: ArraySource) -> Episode:
    return Distribution(source, ways=3, shots=3, queries=4, support_split="train").episode(0)


def context_for(source: ArraySource, backbone: nn.Module, seed: int = 5) -> Context:
    members = source.classes("train")

    def pool(classes: tuple[str, ...]) -> tuple[Tensor, Tensor]:
        labels = torch.cat([torch.full((len(members[name]),), i) for i, name in enumerate(classes)])
        return source.load(np.concatenate([members[name] for name in classes])), labels

    return Context(backbone, make_adapter(backbone), pool, seed)


def logits(method: Method, source: ArraySource, episode: Episode, **changes: Any) -> Tensor:
    context = context_for(source, tiny_conv4())._replace(**changes)
    support = Support(episode.support_x, episode.support_y, episode.meta.classes)
    predictor = method.prepare(context)(support, lambda _: None)
    with torch.no_grad():
        return predictor(episode.query_x)


@pytest.mark.parametrize("head", [Prototype(), Ridge(), Logistic()], ids=["prototype", "ridge", "logistic"])
def test_head_only_is_the_head_on_frozen_features(source: ArraySource, episode: Episode, head: Any) -> None:
    backbone = tiny_conv4()
    state = head.fit(backbone(episode.support_x), one_hot(episode.support_y, 3))
    expected = head.logits(state, backbone(episode.query_x))
    assert torch.equal(logits(HeadOnly(head), source, episode), expected)


def test_forward_is_the_adapter(source: ArraySource, episode: Episode) -> None:
    adapter = make_adapter(tiny_conv4()).with_(solver=GaussNewton(steps=2), head=Ridge())
    expected = adapter.fit(episode.support_x, episode.support_y).logits(episode.query_x)
    assert torch.equal(logits(Forward(GaussNewton(steps=2), Ridge()), source, episode), expected)
    few = adapter.with_(state=adapter.state.leading(1)).fit(episode.support_x, episode.support_y)
    expected = few.logits(episode.query_x)
    assert torch.equal(logits(Forward(GaussNewton(steps=2), Ridge(), k=1), source, episode), expected)


def test_backprop_descends_in_every_parameter_of_the_space(source: ArraySource, episode: Episode) -> None:
    """By hand, with torch's own optimizer, on the same leave-one-out loss and from the same start."""
    backbone = tiny_conv4()
    adapter = make_adapter(backbone)
    origin = adapter.space.initial + 0.05
    adapter = adapter.with_(state=adapter.state._replace(origin=origin, log_sharpness=torch.tensor(0.7)))
    targets = one_hot(episode.support_y, 3)
    phi = origin.clone().requires_grad_(True)
    optimizer = torch.optim.SGD([phi], lr=1.0)

    def features(x: Tensor) -> Tensor:
        return torch.func.functional_call(backbone, adapter.space.parameters(phi), (x,))

    for _ in range(3):
        loo = np.exp(0.7) * Prototype().loo_logits(features(episode.support_x), targets)
        optimizer.zero_grad()
        nn.functional.cross_entropy(loo, episode.support_y).backward()
        optimizer.step()
    with torch.no_grad():
        state = Ridge().fit(features(episode.support_x), targets)
        expected = Ridge().logits(state, features(episode.query_x))
    ours = logits(Backprop(Descent("sgd", lr=1.0, steps=3), Ridge()), source, episode, adapter=adapter)
    assert torch.allclose(ours, expected, atol=1e-4)
    assert not torch.allclose(phi.detach(), origin, atol=1e-2)


def test_backprop_without_steps_is_the_learned_start(source: ArraySource, episode: Episode) -> None:
    still = logits(Backprop(Descent(steps=0)), source, episode)
    assert torch.equal(still, logits(Forward(GaussNewton(steps=0)), source, episode))


def test_finetuning_starts_from_the_head_and_moves_everything(source: ArraySource, episode: Episode) -> None:
    start = logits(HeadOnly(Logistic()), source, episode)
    barely = logits(Finetune(lr=1e-9, steps=1), source, episode)
    assert torch.allclose(barely, start, atol=1e-5)
    context = context_for(source, tiny_conv4())
    support = Support(episode.support_x, episode.support_y, episode.meta.classes)
    losses = []
    for steps in (1, 20):
        predictor = Finetune(steps=steps, lr=3e-3).prepare(context)(support, lambda _: None)
        losses.append(nn.functional.cross_entropy(predictor(episode.support_x), episode.support_y).item())
    assert losses[1] < losses[0]
    assert not any(parameter.requires_grad for parameter in context.backbone.parameters())


def test_retraining_knows_nothing_of_the_pretrained_weights(source: ArraySource, episode: Episode) -> None:
    retrain = Retrain(epochs=2, batch=8)
    one, other = (logits(retrain, source, episode, backbone=tiny_conv4(seed)) for seed in (0, 1))
    assert torch.equal(one, other)
    assert not torch.equal(one, logits(retrain, source, episode, seed=6))


def test_retraining_learns_and_shows_itself_on_the_way(source: ArraySource, episode: Episode) -> None:
    context = context_for(source, tiny_conv4())
    support = Support(episode.support_x, episode.support_y, episode.meta.classes)
    seen: list[float] = []

    def watch(predictor: Predictor) -> None:
        with torch.no_grad():
            predicted = predictor(episode.query_x).argmax(1)
        seen.append(float((predicted == episode.query_y).float().mean()))

    retrain = Retrain(epochs=12, batch=9, lr=2e-2, watch_every=4)
    predictor = retrain.prepare(context)(support, watch)
    assert len(seen) == 12 * (36 // 9) // 4
    watch(predictor)
    assert seen[-1] > 0.6 > 1 / 3  # queries are part of this toy pool: it can know them


def test_watching_does_not_change_retraining(source: ArraySource, episode: Episode) -> None:
    often, never = (logits(Retrain(epochs=2, batch=8, watch_every=n), source, episode) for n in (1, 10**6))
    assert torch.equal(often, never)


def test_retraining_on_less_than_a_batch(source: ArraySource, episode: Episode) -> None:
    assert logits(Retrain(epochs=1, batch=1000), source, episode).shape == (12, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Finetune(lr=0), r"finetune: lr=0, steps=20: both must be positive"),
        (lambda: Finetune(steps=0), r"finetune: lr=0.001, steps=0"),
        (lambda: Retrain(epochs=0), r"retrain: epochs and watch_every must be at least 1"),
        (lambda: Retrain(batch=1), r"batch at least 2"),
        (lambda: Retrain(watch_every=0), r"watch_every must be at least 1"),
        (lambda: Retrain(lr=0), r"lr positive"),
    ],
)
def test_bad_settings_are_named(make: Any, message: str) -> None:
    with pytest.raises(AdaptError, match=message):
        make()
