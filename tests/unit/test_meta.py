"""Outer loops in miniature: the first basis, training through the inner solver, and pretraining."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck

from adapt import AdaptError
from adapt.adapter import AdapterState, FewShotAdapter, Problem, initial_state
from adapt.adapter.problem import features_of, solve
from adapt.backbones import Conv4, fingerprint
from adapt.heads import Logistic, Prototype, one_hot
from adapt.inner import CrossEntropy, GaussNewton
from adapt.meta import (
    MetaTraining,
    Pretraining,
    image_batches,
    meta_train,
    pretrain,
    query_logits,
    task_gradient_basis,
)
from adapt.spaces import bias, film
from tasks import ArraySource, Distribution, Style
from tests.helpers import SIDE, make_adapter

PROBLEM = Problem(head=Logistic(steps=4))


@pytest.fixture
def train(source: ArraySource) -> Distribution:
    return Distribution(source, ways=3, shots=3, queries=4, support_split="train", seed=1)


@pytest.fixture
def validation(source: ArraySource) -> Distribution:
    return Distribution(source, ways=3, shots=3, queries=4, support_split="train", seed=2)


# ------------------------------------------------------------------------------------------ the basis


class OneDirection(nn.Module):
    """Features depend on the bias vector b only through b·w: every task's gradient is parallel to w."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.bias = nn.Parameter(torch.randn(6, generator=generator))
        self.register_buffer("w", nn.functional.normalize(torch.randn(6, generator=generator), dim=0))
        self.register_buffer("mix", torch.randn(SIDE * SIDE, 5, generator=generator) / SIDE)

    def forward(self, x: Tensor) -> Tensor:
        features = x.flatten(1) @ self.get_buffer("mix")
        return features + (self.bias @ self.get_buffer("w")) * features.square().roll(1, 1)


def test_basis_finds_the_one_direction_that_tasks_move_in(train: Distribution) -> None:
    network = OneDirection()
    space = bias(network)
    state = task_gradient_basis(network, space, train.episodes(0, 6), k=3, radius=2.0)
    first, second = state.basis[:, 0], state.basis[:, 1]
    along = network.get_buffer("w")
    assert torch.cosine_similarity(first, along, dim=0).abs() > 1 - 1e-5
    assert first.norm() == pytest.approx(2.0 * float(space.initial.square().mean().sqrt()), rel=1e-5)
    assert second.norm() < 1e-5 * first.norm()


def test_basis_is_the_singular_vectors_of_task_gradients(backbone: nn.Module, train: Distribution) -> None:
    """Gradients of the leave-one-out support loss, by autograd and by hand."""
    space, episodes = film(backbone), list(train.episodes(0, 5))
    state = task_gradient_basis(backbone, space, iter(episodes), k=10)
    gradients = []
    for episode in episodes:
        phi = space.initial.clone().requires_grad_(True)
        features = torch.func.functional_call(backbone, space.parameters(phi), (episode.support_x,))
        targets = one_hot(episode.support_y, 3)
        loss = CrossEntropy().value(Prototype().loo_logits(features, targets), targets)
        gradients.append(torch.autograd.grad(loss, phi)[0])
    _, values, directions = torch.linalg.svd(torch.stack(gradients), full_matrices=False)
    assert state.basis.shape == (space.size, 5)  # no more directions than tasks
    lengths = state.basis.norm(dim=0)
    assert torch.allclose(lengths / lengths[0], values / values[0], atol=1e-4)
    cosines = torch.cosine_similarity(state.basis[:, :3], directions[:3].T, dim=0).abs()
    assert bool((cosines > 0.999).all())
    assert torch.equal(state.origin, space.initial)
    assert all(torch.equal(a, b) for a, b in zip(state[2:], initial_state(*state[:2])[2:], strict=True))
    assert state.origin.data_ptr() != space.initial.data_ptr()


# -------------------------------------------------------------------------------------- the outer loop


def test_outer_gradient_is_right_through_the_inner_solver(
    adapter: FewShotAdapter, train: Distribution
) -> None:
    network = adapter.backbone.double()
    space, episode = film(network), train.episode(0)
    damped = adapter.state._replace(log_damping=torch.tensor(-1.0))
    inputs = tuple(tensor.double().requires_grad_(True) for tensor in damped)

    def loss(*tensors: Tensor) -> Tensor:
        state = AdapterState(*tensors)
        logits = query_logits(network, space, state, GaussNewton(steps=2), Problem(), episode)
        return nn.functional.cross_entropy(logits, episode.query_y)

    assert gradcheck(loss, inputs, fast_mode=True, rtol=1e-3)


def test_training_and_adapting_solve_the_same_problem(adapter: FewShotAdapter, train: Distribution) -> None:
    """What meta-training scores is what ``fit`` and ``logits`` give."""
    episode = train.episode(3)
    ours = query_logits(
        adapter.backbone, adapter.space, adapter.state, adapter.solver, adapter.problem, episode
    )
    task = adapter.fit(episode.support_x, episode.support_y)
    assert torch.allclose(task.logits(episode.query_x), ours, atol=1e-5)
    targets = one_hot(episode.support_y, 3)
    features = features_of(adapter.backbone, adapter.space, adapter.state, episode.support_x)
    z, _ = solve(features, adapter.state, adapter.solver, targets, adapter.problem)
    assert torch.allclose(task.z, z)
    assert features(z).shape == (9, 4)


def run(
    backbone: nn.Module, train: Distribution, validation: Distribution, **changes: Any
) -> tuple[AdapterState, AdapterState, dict[str, float], list[tuple[int, dict[str, float]]]]:
    adapter, seen = make_adapter(backbone), []
    settings = MetaTraining(
        **{"steps": 12, "tasks_per_step": 2, "lr": 2e-2, "validate_every": 3, "validation_tasks": 10}
        | changes
    )
    state, metrics = meta_train(
        backbone,
        adapter.space,
        adapter.state,
        GaussNewton(),
        PROBLEM,
        train,
        validation,
        settings,
        report=lambda step, values: seen.append((step, values)),
    )
    return adapter.state, state, metrics, seen


def test_meta_training_lowers_validation_loss_and_returns_the_best_state(
    backbone: nn.Module, train: Distribution, validation: Distribution
) -> None:
    before = fingerprint(backbone)
    start, state, metrics, seen = run(backbone, train, validation)
    losses = [values["validation/loss"] for _, values in seen if "validation/loss" in values]
    assert metrics["validation/loss"] == min(losses) < losses[0]
    assert [step for step, values in seen if "validation/loss" in values] == [0, 3, 6, 9, 12]
    assert [step for step, values in seen if "train/loss" in values] == [*range(1, 13)]
    assert fingerprint(backbone) == before
    assert all(torch.equal(a, b) for a, b in zip(start, make_adapter(backbone).state, strict=True))
    assert not any(tensor.requires_grad for tensor in state)
    changed = {name for name in state._fields if not torch.equal(getattr(start, name), getattr(state, name))}
    assert changed == {"origin", "basis", "log_precision", "log_sharpness"}

    # The state returned is the one that was scored.
    total = 0.0
    for episode in validation.episodes(0, 10):
        logits = query_logits(backbone, film(backbone), state, GaussNewton(), PROBLEM, episode)
        total += nn.functional.cross_entropy(logits, episode.query_y).item() / 10
    assert total == pytest.approx(metrics["validation/loss"], rel=1e-4)


def test_one_shot_tasks_are_refused(
    backbone: nn.Module, train: Distribution, validation: Distribution
) -> None:
    with pytest.raises(AdaptError, match="needs two a class"):
        run(backbone, replace(train, shots=1), validation)


def test_a_start_that_only_gets_worse_is_returned(
    backbone: nn.Module, train: Distribution, validation: Distribution
) -> None:
    start, state, metrics, seen = run(backbone, train, validation, lr=30.0, steps=2, validate_every=1)
    assert metrics == seen[0][1]
    assert all(torch.equal(a, b) for a, b in zip(start, state, strict=True))


def test_meta_training_is_a_function_of_its_seeds(
    backbone: nn.Module, train: Distribution, validation: Distribution
) -> None:
    torch.manual_seed(0)
    first = run(backbone, train, validation, steps=2)
    torch.manual_seed(1)
    second = run(backbone, train, validation, steps=2)
    assert first[2:] == second[2:]
    assert all(torch.equal(a, b) for a, b in zip(first[1], second[1], strict=True))


@pytest.mark.parametrize(
    "name",
    ["k", "basis_tasks", "basis_steps", "tasks_per_step", "validate_every", "validation_tasks"],
)
def test_settings_of_the_outer_loop_are_checked(name: str) -> None:
    with pytest.raises(AdaptError, match=rf"meta.{name}=0 is too small: use meta.{name}>=1"):
        MetaTraining(**{name: 0})  # type: ignore[arg-type]


# ----------------------------------------------------------------------------------------- pretraining


def test_image_batches_are_a_function_of_seed_and_step(source: ArraySource) -> None:
    batches, classes = image_batches(source, "train", None, 5, seed=3)
    assert classes == 3
    x, labels = batches(7)
    again, _ = image_batches(source, "train", None, 5, seed=3)
    assert x.shape == (5, 1, SIDE, SIDE) and labels.shape == (5,)
    assert torch.equal(again(7)[0], x) and torch.equal(again(7)[1], labels)
    assert not torch.equal(batches(8)[0], x)
    assert not torch.equal(image_batches(source, "train", None, 5, seed=4)[0](7)[0], x)
    members = source.classes("train")
    for image, label in zip(x, labels.tolist(), strict=True):
        own = source.load(members[f"c{label}"])
        assert any(torch.equal(image, candidate) for candidate in own)


def test_image_batches_apply_the_style(source: ArraySource) -> None:
    plain, styled = (
        image_batches(source, "train", style, 4, seed=0)[0] for style in (None, Style(rotation=30))
    )
    assert torch.equal(plain(1)[1], styled(1)[1])
    assert not torch.equal(plain(1)[0], styled(1)[0])
    assert torch.equal(styled(1)[0], styled(1)[0])


def test_rotations_make_four_classes_of_each(source: ArraySource) -> None:
    plain, classes = image_batches(source, "train", None, 40, seed=3)
    turned, more = image_batches(source, "train", None, 40, seed=3, rotations=True)
    assert (classes, more) == (3, 12)
    (x, labels), (y, found) = plain(7), turned(7)
    assert torch.equal(found // 4, labels) and set((found % 4).tolist()) == {0, 1, 2, 3}
    for image, rotated, turns in zip(x, y, (found % 4).tolist(), strict=True):
        assert torch.equal(rotated, torch.rot90(image, turns, (1, 2)))
    assert torch.equal(turned(7)[0], y)


def test_pretraining_learns_to_classify(source: ArraySource) -> None:
    batches, classes = image_batches(source, "train", None, 16, seed=0)
    results = []
    for global_seed in (0, 1):
        torch.manual_seed(5)
        network = Conv4(width=4, frozen=False)
        torch.manual_seed(global_seed)
        reports: list[tuple[int, dict[str, float]]] = []
        returned = pretrain(
            network,
            batches,
            classes,
            Pretraining(steps=40, batch=16, lr=1e-2, autocast=False),
            seed=0,
            report=lambda step, values: reports.append((step, values)),  # noqa: B023 (used at once)
        )
        assert returned is network and not network.training
        results.append((fingerprint(network), reports))
    assert results[0] == results[1], "not a function of its seed"
    step, values = reports[-1]
    assert step == 40 and values["train/accuracy"] > 0.6  # of three classes, over all 40 steps
    x = source.load(np.arange(36))
    with torch.no_grad():
        features = network(x)
    targets = one_hot(torch.arange(3).repeat_interleave(12), 3)
    predicted = Prototype().logits(Prototype().fit(features, targets), features).argmax(1)
    assert (predicted == targets.argmax(1)).float().mean() > 0.9


@pytest.mark.parametrize("settings", [{"steps": 0}, {"batch": 1}])
def test_settings_of_pretraining_are_checked(settings: dict[str, int]) -> None:
    with pytest.raises(AdaptError, match=r"at least 1 step, and 2 images a batch"):
        Pretraining(**settings)  # type: ignore[arg-type]
