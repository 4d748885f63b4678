"""The contract of compared methods, for every row of the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from adapt.adapter import Context, Method, Predictor, Support
from adapt.backbones import fingerprint
from adapt.baselines import T3A, Followed, Lame
from tasks import (
    ArraySource,
    Distribution,
    Episode,
)
from tests.conformance.tables import (
    METHODS,
    TEXT_METHODS,
    rows,
)
from tests.helpers import Untouchable, distance, make_adapter, tiny_conv4
from tests.unit.test_text_inputs import Reader, reading_tasks


def episode_of(source: ArraySource, shots: int = 2) -> Episode:
    return Distribution(source, ways=3, shots=shots, queries=4, support_split="train").episode(0)


def context_for(method: Method, source: ArraySource, backbone: nn.Module) -> Context:
    """What the method's role has no business with raises when touched."""
    untouchable: Any = Untouchable()
    members = source.classes("train")

    def pool(
        classes: tuple[str, ...], reserved: tuple[int, ...] = (), most: int | None = None
    ) -> tuple[Tensor, Tensor]:
        allowed = method.role == "retrain" or isinstance(method, Followed | Lame | T3A)
        assert allowed, "touched the pool, which is for retraining and for classifiers that stay"
        rows = [members[name][:most] for name in classes]
        labels = torch.cat([torch.full((len(of_one),), i) for i, of_one in enumerate(rows)])
        return source.load(np.concatenate(rows)), labels

    learned = method.role in ("forward", "backprop") or isinstance(method, Followed | Lame | T3A)
    return Context(backbone, make_adapter(backbone) if learned else untouchable, pool, seed=5)


def run_method(method: Method, source: ArraySource, backbone: nn.Module) -> tuple[Predictor, list[Tensor]]:
    untouchable: Any = Untouchable()
    episode = episode_of(source)._replace(query_x=untouchable, query_y=untouchable)
    copies = episode.support_x.clone(), episode.support_y.clone()
    watched: list[Tensor] = []

    def watch(predictor: Predictor) -> None:
        with torch.no_grad():
            watched.append(predictor(copies[0]))

    adapt = method.prepare(context_for(method, source, backbone))
    predictor = adapt(Support(episode.support_x, episode.support_y, episode.meta.classes), watch)
    assert torch.equal(episode.support_x, copies[0]) and torch.equal(episode.support_y, copies[1])
    return predictor, watched


@rows(METHODS)
def test_method_adapts_to_the_support_alone_and_keeps_its_promises(row: Method, source: ArraySource) -> None:
    keeps_its_promises(row, source, tiny_conv4())


def keeps_its_promises(row: Method, source: ArraySource, backbone: nn.Module) -> None:
    before, random_state = fingerprint(backbone), torch.get_rng_state()
    predictor, watched = run_method(row, source, backbone)
    repeated, _ = run_method(row, source, backbone)
    query = episode_of(source).query_x
    with torch.no_grad():
        logits, again = predictor(query), repeated(query)
    assert logits.shape == (12, 3)
    assert bool(torch.isfinite(logits).all())
    assert all(seen.shape == (6, 3) for seen in watched)
    assert torch.equal(logits, again), "not a function of the seed"
    assert torch.equal(torch.get_rng_state(), random_state), "drew from the global generator"
    assert (fingerprint(backbone) == before) >= row.keeps_backbone
    assert row.max_tasks is None or row.max_tasks >= 1


@rows(METHODS)
def test_method_predicts_each_query_alone(row: Method, source: ArraySource) -> None:
    """Transductive use of the queries would be leakage of another kind."""
    predicts_alone(row, source, tiny_conv4())


def predicts_alone(row: Method, source: ArraySource, backbone: nn.Module) -> None:
    predictor, _ = run_method(row, source, backbone)
    query = episode_of(source).query_x
    with torch.no_grad():
        assert distance(predictor(query[3:5]), predictor(query)[3:5]) <= 1e-5


@rows(METHODS)
def test_method_adapts_to_a_single_shot(row: Method, source: ArraySource) -> None:
    adapts_to_a_single_shot(row, source, tiny_conv4())


def adapts_to_a_single_shot(row: Method, source: ArraySource, backbone: nn.Module) -> None:
    episode = episode_of(source, shots=1)
    adapt = row.prepare(context_for(row, source, backbone))
    predictor = adapt(Support(episode.support_x, episode.support_y, episode.meta.classes), lambda _: None)
    with torch.no_grad():
        assert bool(torch.isfinite(predictor(episode.query_x)).all())


@pytest.mark.slow  # what they import
@rows(TEXT_METHODS)
@pytest.mark.parametrize("promise", [keeps_its_promises, predicts_alone, adapts_to_a_single_shot])
def test_method_of_texts_is_conformant(row: Method, promise: Callable[..., None]) -> None:
    torch.manual_seed(0)
    reader = Reader().eval()
    promise(row, reading_tasks(reader).source, reader)
