"""Views of the support: what is kept, what is drawn, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import adapt
from adapt import AdaptError
from adapt.adapter.problem import Problem
from adapt.meta.outer import _check
from tasks import (
    Corrupted,
    Curriculum,
    Digits,
    Distribution,
    FunctionTasks,
    Mixture,
    NoisyLabels,
    Sinusoid,
    Style,
    TaskError,
    WithViews,
    views_of,
)
from tasks.views import SLIGHT

ONE_SHOT = Distribution(Digits(), 3, 1, 4, support_split="support", query_split="query")
MORE = Distribution(Digits(), 3, 5, 4, support_split="support", query_split="query")


def test_each_example_is_followed_by_its_views() -> None:
    plain, more = ONE_SHOT.episode(5), WithViews(ONE_SHOT, views=4).episode(5)
    assert more.support_x.shape == (15, *plain.support_x.shape[1:])
    assert torch.equal(more.support_x[::5], plain.support_x), "the examples themselves are there"
    assert torch.equal(more.support_y, plain.support_y.repeat_interleave(5))
    assert more.meta.support_indices.tolist() == plain.meta.support_indices.tolist()
    assert torch.equal(more.query_x, plain.query_x) and torch.equal(more.query_y, plain.query_y)
    views = more.support_x.unflatten(0, (3, 5))[:, 1:]
    assert len({view.numpy().tobytes() for view in views.flatten(0, 1)}) == 12, "each is drawn for itself"
    # A view is nearer to its own example than to those of the other classes.
    distances = torch.cdist(views.flatten(2), plain.support_x.flatten(1)[None])  # [3, 4, 3]
    assert bool((distances.argmin(-1) == torch.arange(3)[:, None]).float().mean() > 0.8)


def test_episodes_are_pure_and_differ() -> None:
    tasks = WithViews(ONE_SHOT)
    again = WithViews(ONE_SHOT)
    assert torch.equal(tasks.episode(2).support_x, again.episode(2).support_x)
    (second,) = tasks.episodes(2, 3)
    assert torch.equal(second.support_x, tasks.episode(2).support_x)
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(views_of(x, 3), views_of(x, 3))
    generator = torch.Generator().manual_seed(1)
    assert not torch.equal(views_of(x, 3, generator=generator), views_of(x, 3, generator=generator))


def test_the_style_is_that_of_the_tasks_image_by_image() -> None:
    style = Style(rotation=40, consistency=1.0)
    turned = Distribution(Digits(), 3, 1, 4, support_split="support", transform=style)
    tasks = (
        WithViews(NoisyLabels(ONE_SHOT, 0.0)),
        WithViews(turned),
        WithViews(turned, style=Style(noise=0.1)),
    )
    assert [it._style for it in tasks] == [SLIGHT, Style(rotation=40, consistency=0.0), Style(noise=0.1)]


def test_labels_that_were_replaced_go_along() -> None:
    base = Distribution(Digits(), 3, 3, 4, support_split="support")
    noisy = WithViews(NoisyLabels(base, 0.4), views=2).episode(1)
    clean = NoisyLabels(base, 0.4).episode(1).meta.clean_y
    assert noisy.meta.clean_y is not None and clean is not None
    assert torch.equal(noisy.meta.clean_y, clean.repeat_interleave(3)) and len(noisy.support_y) == 27


def test_one_shot_can_be_adapted_to() -> None:
    """Without views z stays at 0, since nothing is left of a class."""
    adapter = adapt.load("conv4_glyphs_film")
    tasks = Distribution(Digits(size=32), 5, 1, 4, support_split="support", query_split="query")
    alone, seen = (
        adapter.fit(episode.support_x, episode.support_y)
        for episode in (tasks.episode(0), WithViews(tasks).episode(0))
    )
    assert not alone.z.any() and "single example" in alone.trace.choice
    assert bool(seen.z.any()) and not seen.trace.choice


@pytest.mark.parametrize(
    ("tasks", "copies"),
    [
        (Mixture({"views": WithViews(ONE_SHOT, 2), "more": MORE}), 3),
        (Mixture({"views": WithViews(ONE_SHOT, 2), "plain": ONE_SHOT}), 1),
        (Curriculum({0: WithViews(ONE_SHOT, 2), 9: MORE}), 3),
        (WithViews(Mixture({"one": ONE_SHOT, "more": MORE}), 2), 3),
        (Corrupted(WithViews(WithViews(ONE_SHOT, 1), 2)), 6),
    ],
)
def test_one_shot_is_trained_on_where_every_task_of_it_has_views(tasks: Any, copies: int) -> None:
    assert tasks.copies == copies
    if copies > 1:
        return _check(Problem(), tasks)
    with pytest.raises(AdaptError, match=r"task.shots=1.*task=views"):
        _check(Problem(), tasks)


def test_views_of_views_are_counted() -> None:
    twice = WithViews(WithViews(ONE_SHOT, 1), 2)
    assert len(twice.episode(0).support_y) == 3 * (1 + twice.described["views"])


def test_of_no_examples_there_are_no_views() -> None:
    assert views_of(torch.rand(0, 1, 8, 8), 2).shape == (0, 1, 8, 8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: views_of(torch.rand(2, 1, 8, 8), -1), "number=-1 is too small"),
        (lambda: views_of(torch.rand(2, 1, 8, 8), True), "number=True is no whole number"),
        (lambda: WithViews(ONE_SHOT, style="slight"), "task.style='slight' makes no view"),
        (lambda: WithViews(ONE_SHOT, views=0), "task.views=0"),
        (lambda: WithViews(FunctionTasks(Sinusoid())), "sinusoid has numbers, no labels"),
        (lambda: views_of(torch.zeros(3, 4), 2), r"views are made of images .* leave WithViews"),
        (lambda: views_of(torch.zeros(3, 4, dtype=torch.int64), 2), "texts, tables and series have none"),
    ],
)
def test_mistakes_are_named(make: Any, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        make()
