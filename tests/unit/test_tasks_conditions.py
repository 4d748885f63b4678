"""Tasks of the same classes under changed conditions: what is drawn, and what is divided."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import (
    ArraySource,
    Card,
    Conditions,
    Corrupted,
    Corruption,
    Digits,
    Distribution,
    Mixture,
    NoisyLabels,
    Sinusoid,
    TaskError,
    WithViews,
)
from tasks.conditions import DIVISION
from tasks.corruptions import EXTRA_KINDS, KINDS
from tasks.elsewhere import on_split, redrawn
from tests.unit.test_tasks_distribution import same

CARD = Card("grey", "", "here", "CC0", "", {}, (), "None.")


def shades(classes: int = 3, each: int = 12, channels: int = 3) -> ArraySource:
    """Example i of class c: the shade i / 100, its first row c / 10; half of each class in a split."""
    x = np.zeros((classes * each, channels, 8, 8), np.float32)
    x[:, :, 0] = np.repeat(np.arange(classes), each)[:, None, None] / 10
    x[:, :, 1:] = np.arange(classes * each)[:, None, None, None] / 100
    rows = np.arange(classes * each).reshape(classes, each)
    half = {"train": rows[:, : each // 2], "test": rows[:, each // 2 :]}
    return ArraySource(CARD, x, {split: {f"c{c}": r for c, r in enumerate(of)} for split, of in half.items()})


@settings(max_examples=40, deadline=None)
@given(
    shots=st.integers(0, 2),
    queries=st.integers(1, 3),
    unlabelled=st.integers(0, 3),
    apart=st.booleans(),
    kinds=st.sampled_from(["train", "seen", "validation", "test"]),
    index=st.integers(0, 2**40),
)
def test_rows_are_of_their_classes_and_none_is_twice(
    shots: int, queries: int, unlabelled: int, apart: bool, kinds: str, index: int
) -> None:
    if not shots + unlabelled:
        return
    source = shades()
    tasks = Conditions(
        source, None, shots, queries, "train", "test" if apart else None, unlabelled, kinds=kinds
    )
    episode = tasks.episode(index)
    meta = episode.meta
    assert meta.classes == tasks.class_names == ("c0", "c1", "c2") and tasks.ways == 3
    for y, each in ((episode.support_y, shots), (episode.query_y, queries)):
        assert y.tolist() == [label for label in range(3) for _ in range(each)] and y.dtype == torch.int64
    for rows, y, split in (
        (meta.support_indices, episode.support_y, "train"),
        (meta.query_indices, episode.query_y, "test" if apart else "train"),
    ):
        assert all(row in source.classes(split)[f"c{label}"] for row, label in zip(rows, y, strict=True))
    every = [*meta.support_indices, *meta.query_indices]
    if unlabelled:
        assert meta.unlabelled_indices is not None and meta.unlabelled_x is not None
        every += [*meta.unlabelled_indices]
        assert meta.unlabelled_x.shape == (unlabelled, 3, 8, 8)
        assert all(
            any(row in pool for pool in source.classes("train").values()) for row in every[-unlabelled:]
        )
    else:
        assert meta.unlabelled_indices is meta.unlabelled_x is None
    assert len({*every}) == len(every)
    assert episode.support_x.shape == (3 * shots, 3, 8, 8) and episode.query_x.shape == (3 * queries, 3, 8, 8)
    # Support, queries and what has no labels: all of them went through the condition that meta names.
    x = source.load(np.array(every))
    kept = [*meta.parameters.items()]
    assert meta.group == " + ".join(f"{kind} {severity:.0f}" for kind, severity in kept)
    parts = (episode.support_x, episode.query_x, *([meta.unlabelled_x] if unlabelled else []))
    if {kind for kind, _ in kept} <= {
        "brightness",
        "contrast",
        "gaussian_blur",
        "saturate",
        "zoom_blur",
        "pixelate",
    }:
        for kind, severity in kept:
            x = Corruption(kind, int(severity), "cifar")(x, torch.Generator())
        assert torch.equal(torch.cat(parts), x)
    again = replace(tasks).episode(index)
    assert same(episode, again) and (
        not unlabelled or torch.equal(again.meta.unlabelled_x, meta.unlabelled_x)
    )  # type: ignore[arg-type]


def test_kinds_are_divided_once() -> None:
    assert sorted(kind for part in DIVISION.values() for kind in part) == sorted((*KINDS, *EXTRA_KINDS))
    families = (
        {"noise"},
        {"blur"},
        {"snow", "fog", "brightness"},
        {"contrast", "elastic", "pixelate", "jpeg"},
    )
    for part in ("train", "test"):
        for family in families:
            assert any(word in kind for kind in DIVISION[part] for word in family)
    source = shades()
    drawn: dict[str, set[str]] = {}
    for part in ("train", "seen", "validation", "test"):
        metas = [episode.meta for episode in Conditions(source, queries=2, kinds=part).episodes(0, 150)]
        drawn[part] = {
            f"{kind} {severity:.0f}" for meta in metas for kind, severity in meta.parameters.items()
        }
        severities = {"train": "135", "seen": "24"}.get(part, "12345")
        kinds = DIVISION["train" if part == "seen" else part]
        assert drawn[part] == {f"{kind} {severity}" for kind in kinds for severity in severities}
    assert not drawn["train"] & drawn["seen"]


def test_conditions_are_drawn_as_often_as_they_should() -> None:
    tasks = Conditions(shades(), queries=1, shots=1, kinds=["contrast", "fog", "snow"], severities=[2, 5])
    drawn = [tasks.condition(np.random.default_rng(i)) for i in range(3000)]
    assert scipy.stats.binomtest(sum(len(c) == 2 for c in drawn), 3000, 0.5).pvalue > 1e-3
    ones = Counter(str(c[0]) for c in drawn if len(c) == 1)
    assert len(ones) == 6 and scipy.stats.chisquare([*ones.values()]).pvalue > 1e-3
    pairs = Counter((c[0].kind, c[1].kind) for c in drawn if len(c) == 2)
    assert len(pairs) == 6 and scipy.stats.chisquare([*pairs.values()]).pvalue > 1e-3  # in both orders
    for share, lengths in ((0, {1}), (1, {2})):
        some = replace(tasks, composed=share)
        assert {len(some.condition(np.random.default_rng(i))) for i in range(20)} == lengths
    alone = replace(tasks, kinds=["fog"], composed=1)
    assert {len(alone.condition(np.random.default_rng(i))) for i in range(20)} == {1}


def test_tasks_are_pure_and_differ_by_seed_split_and_index() -> None:
    tasks = Conditions(shades(), queries=2, unlabelled=2)
    forwards = [*tasks.episodes(0, 4)]
    assert all(same(a, tasks.episode(i)) for i, a in reversed([*enumerate(forwards)]))
    groups = [episode.meta.group for episode in tasks.episodes(0, 12)]
    for other in (replace(tasks, seed=1), replace(tasks, support_split="test")):
        assert groups != [episode.meta.group for episode in other.episodes(0, 12)]
    assert len({*groups}) > 6


def test_classes_may_be_chosen_and_ordered() -> None:
    tasks = Conditions(shades(), classes=["c2", "c0"], queries=1, kinds=["pixelate"], severities=[1])
    episode = tasks.episode(0)
    assert episode.meta.classes == ("c2", "c0") and tasks.ways == 2
    assert [row // 12 for row in episode.meta.query_indices] == [2, 0]


def test_images_of_one_channel_have_kinds_that_fit_them() -> None:
    grey = shades(channels=1)
    named = {c[0].kind for c in Conditions(grey, queries=1, kinds="validation").choices}
    assert named == {"speckle_noise", "gaussian_blur"}
    with pytest.raises(TaskError, match=r"task.kinds names 'saturate', which images of 1 channels"):
        Conditions(grey, kinds=["fog", "saturate"])


def test_other_tasks_may_hold_them() -> None:
    tasks = Conditions(shades(), queries=1, unlabelled=2, kinds=["contrast"], severities=[1])
    clean, bad = tasks.episode(1), Corrupted(tasks, Corruption("contrast", 5), "support").episode(1)
    assert not torch.equal(clean.support_x, bad.support_x) and torch.equal(clean.query_x, bad.query_x)
    assert not torch.equal(clean.meta.unlabelled_x, bad.meta.unlabelled_x)  # type: ignore[arg-type]
    both = Mixture({"a": Distribution(shades(), 2, 1, 1), "b": tasks}, {"a": 1e-9, "b": 1.0})
    mixed = both.episode(1)
    load = both.source.load
    raw = load(mixed.meta.unlabelled_indices)  # type: ignore[arg-type]
    assert torch.equal(Corruption("contrast", 1, "cifar")(raw, torch.Generator()), mixed.meta.unlabelled_x)  # type: ignore[arg-type]
    bare = replace(tasks, shots=0)
    assert WithViews(bare, 2).episode(0).support_x.shape == (0, 3, 8, 8)
    with pytest.raises(TaskError, match=r"task.base.shots=0: .* use task.base.shots>=2"):
        NoisyLabels(bare, 0.3)
    chosen_on = on_split(replace(tasks, validation={"kinds": "validation"}), "test", 3)
    assert (chosen_on.support_split, chosen_on.kinds, chosen_on.seed) == ("test", "validation", 3)
    assert redrawn(tasks, 1, lambda part: {}).seed == 1


def test_a_report_says_what_changed() -> None:
    tasks = Conditions(Digits(size=8), support_split="query", kinds="seen", unlabelled=4)
    assert tasks.described == {"conditions": "seen (severities 2, 4 of cifar)", "unlabelled": 4}
    listed = Conditions(shades(), queries=1, kinds=["fog", "snow"], severities=[3], strengths="imagenet")
    assert listed.described == {"conditions": "fog, snow (severities 3 of imagenet)"}


SOURCE: Any = shades()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shots": 0}, "task.shots=0 and task.unlabelled=0 leave nothing to adapt to"),
        ({"shots": 4, "queries": 3}, "7 examples per class, but class 'c0' of grey has 6 in split 'train'"),
        ({"shots": 7, "query_split": "test"}, "need 7 examples per class, .* has 6 in split 'train'"),
        ({"queries": 7, "query_split": "test"}, "need 7 examples per class, .* has 6 in split 'test'"),
        ({"queries": 2, "unlabelled": 7}, "task.unlabelled=7 but 6 examples are left .* task.unlabelled<=6"),
        ({"kinds": "foggy"}, "task.kinds='foggy' is unknown: use one of train, seen, validation, test, or"),
        ({"kinds": ["rain"]}, "task.kinds: 'rain' is unknown: use one of gaussian_noise"),
        ({"kinds": ["frost"]}, "task.kinds: 'frost' is left out: it needs six photographs"),
        ({"kinds": ["fog", "snow", "fog"]}, "task.kinds names 'fog' twice"),
        ({"kinds": []}, "task.kinds is empty"),
        ({"severities": []}, "task.severities is empty"),
        ({"severities": [0, 1]}, "task.severities=0 is too small: use task.severities>=1"),
        ({"strengths": "strong"}, "task.strengths='strong' is unknown: use one of imagenet, cifar"),
        ({"composed": 1.5}, "task.composed=1.5 is too large: use task.composed<=1"),
        ({"classes": ["c0", "c9"]}, "names 'c9', which split 'train' of grey has not: use some of c0"),
        ({"classes": ["c0", "c0"]}, "give two classes or more, each once"),
        ({"validation": {"kind": "test"}}, "task.validation.kind is not a setting: did you mean kinds"),
        ({"source": Sinusoid()}, "has examples of shape .* use a source of images"),
        ({"support_split": "support"}, "no split 'support'"),
    ],
)  # fmt: skip
def test_mistakes_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        Conditions(**{"source": SOURCE, "queries": 2, **settings})
