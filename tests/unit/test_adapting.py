"""One function adapts: ``fit``, meta-training and what is looked at on the way follow the same rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import vmap

from adapt import AdaptError
from adapt.adapter import FewShotAdapter, FittedTask
from adapt.adapter.adapting import ONE_SHOT, WORSE
from adapt.heads import Ridge
from adapt.inner import Descent, GaussNewton, Learned, Loss, Model, Solver, Trace
from adapt.meta.query import Learner
from tasks import ArraySource, Distribution, Episode
from tests.helpers import distance, make_adapter, tiny_conv4

GREEDY = Descent("sgd", lr=1e4, steps=1)


@dataclass(frozen=True)
class Somewhere:
    """A solver as others write it, without ``on_step``: to a place where the loss is what it is."""

    z: float = 50.0

    def __call__(self, model: Any, targets: Tensor, loss: Loss, learned: Learned) -> tuple[Tensor, Trace]:
        assert isinstance(model, Model)
        zero = torch.zeros_like(learned.precision)
        start = loss.value(model(zero), targets)[None]
        return zero + self.z, Trace(start, 1.0)


def episodes(source: ArraySource, shots: int = 3, count: int = 4) -> list[Episode]:
    tasks = Distribution(source, ways=3, shots=shots, queries=4, support_split="train")
    return [*tasks.episodes(0, count)]


def learner(adapter: FewShotAdapter) -> Learner:
    return Learner(adapter.backbone, adapter.space, adapter.solver, adapter.problem)


@pytest.mark.parametrize(
    "solver", [GREEDY, Somewhere(), GaussNewton(), GaussNewton(3)], ids=lambda solver: type(solver).__name__
)
def test_meta_training_follows_the_rule_of_fit(solver: Solver, source: ArraySource) -> None:
    adapter = make_adapter(tiny_conv4()).replace(solver=solver)
    stayed = 0
    for episode in episodes(source):
        task = adapter.fit(episode.support_x, episode.support_y)
        z, outputs = learner(adapter).adapt(adapter.state, episode)
        assert torch.equal(z, task.z)
        assert distance(outputs, task.logits(episode.query_x)) <= 1e-5
        stayed += task.trace.choice == WORSE
    assert stayed > 0 or isinstance(solver, GaussNewton)


@pytest.mark.parametrize(("lr", "kept"), [(0.5, 4), (40.0, 3), (1e4, 2)])
def test_the_guard_under_vmap_is_that_of_every_task(lr: float, kept: int, source: ArraySource) -> None:
    """Values and gradients, where all tasks are kept and where some are not."""
    adapter = make_adapter(tiny_conv4()).replace(solver=Descent("sgd", lr=lr, steps=1))
    drawn = episodes(source)

    def score(origin: Tensor, *tensors: Tensor) -> Tensor:
        state = adapter.state._replace(origin=origin)
        z, outputs = learner(adapter).adapt(state, Episode._make([*tensors, drawn[0].meta]))
        return torch.cat([z, outputs.flatten()])

    def value_and_slope(f: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        origin = adapter.state.origin.clone().requires_grad_(True)
        value = f(origin)
        return value, torch.autograd.grad(value[:, adapter.state.k :].square().sum(), origin)[0]

    columns = [torch.stack(column) for column in zip(*(episode[:4] for episode in drawn), strict=True)]
    together = value_and_slope(lambda origin: vmap(lambda *row: score(origin, *row))(*columns))
    alone = value_and_slope(lambda origin: torch.stack([score(origin, *episode[:4]) for episode in drawn]))
    assert distance(together[0], alone[0]) <= 1e-4
    assert distance(together[1], alone[1]) <= 1e-3
    moved = [value[:, : adapter.state.k].any(1) for value in (together[0], alone[0])]
    assert torch.equal(*moved) and int(moved[0].sum()) == kept


def test_one_shot_says_so_and_stays(source: ArraySource) -> None:
    adapter = make_adapter(tiny_conv4())
    (episode,) = episodes(source, shots=1, count=1)
    task = adapter.fit(episode.support_x, episode.support_y)
    assert task.trace.choice == ONE_SHOT and not task.z.any()
    assert not learner(adapter).adapt(adapter.state, episode)[0].any()


def test_a_task_that_stopped_on_the_way_is_the_fit_of_fewer_steps(source: ArraySource) -> None:
    adapter = make_adapter(tiny_conv4()).replace(solver=Descent("sgd", 0.5, 3))
    (episode,) = episodes(source, count=1)
    seen: list[FittedTask] = []
    x, y = episode.support_x, episode.support_y
    last = adapter.fit(x, y, on_step=lambda stopped_here: seen.append(stopped_here()))
    assert len(seen) == 2
    for steps, task in enumerate([*seen, last], 1):
        expected = adapter.replace(solver=Descent("sgd", 0.5, steps)).fit(x, y)
        assert distance(task.z, expected.z) <= 1e-6
        assert distance(task.logits(episode.query_x), expected.logits(episode.query_x)) <= 1e-5
        assert task.predict(episode.query_x).shape == expected.predict(episode.query_x).shape


def test_a_solver_of_ones_own_needs_to_know_of_no_steps(source: ArraySource) -> None:
    adapter = make_adapter(tiny_conv4()).replace(solver=Somewhere(0.0))
    (episode,) = episodes(source, count=1)
    shown: list[Any] = []
    task = adapter.fit(episode.support_x, episode.support_y, on_step=shown.append)
    assert not shown and not task.z.any()


def test_the_earlier_name_of_replace_says_what_it_is_called_now() -> None:
    adapter = make_adapter(tiny_conv4())
    with pytest.warns(DeprecationWarning, match=r"called adapter\.replace"):
        assert adapter.with_(solver=GaussNewton(2)).solver == GaussNewton(2)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"head": "ridge"}, r"head is 'ridge', which is no head: pass the object itself, heads\.Ridge\(\)"),
        ({"head": Ridge}, r"head is the class Ridge, .*: pass what it makes, heads\.Ridge\(\)"),
        ({"support_head": None}, "support_head is None, which is no head: pass an object"),
        ({"solver": "auto"}, r"solver is 'auto', which is no solver: .* inner\.Auto\(\)"),
        ({"solver": GaussNewton}, r"the class GaussNewton, .*: pass what it makes, inner\.GaussNewton\(\)"),
        ({"loss": "cross_entropy"}, r"loss is 'cross_entropy', which is no loss: .* inner\.CrossEntropy\(\)"),
        ({"head": {"name": "ridge"}}, "head is a dict, which is no head"),
    ],
)
def test_a_part_is_an_object_and_neither_its_name_nor_its_class(changes: Any, said: str) -> None:
    with pytest.raises(AdaptError, match=said):
        make_adapter(tiny_conv4()).replace(**changes)
