"""Settings are chosen on tasks that share nothing with those that are measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from adapt.app.stages.session import Parts, distribution
from adapt.app.sweeps.tuning.composing import composed
from adapt.app.sweeps.tuning.search import Search
from adapt.app.sweeps.tuning.trials import ComparisonTrials
from adapt.app.sweeps.tuning.validation import HeldOut, one_pool, origin, splits_of, validation_tasks
from adapt.errors import AdaptError
from tasks import ArraySource, Digits, TaskError
from tests.conformance import test_sources
from tests.helpers import make_source

SMALL = ("task.ways=2", "task.shots=2", "task.queries=3", "method=head")
ONE_SPLIT = ("task=glyphs", "task.source.max_classes=20", *SMALL)


def search(**changes: Any) -> Search:
    return Search(space={}, trials=1, tasks=3, **changes)


def choose(*overrides: str, **changes: Any) -> Any:
    config = composed([*SMALL, *overrides])
    return validation_tasks(config, Parts(config), search(**changes))


# --------------------------------------------------------------------------------------- held-out parts


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_held_out_parts_are_the_pool_and_share_nothing(share: float) -> None:
    source = make_source(per_class=10)
    parts = HeldOut(source, "train", share, seed=3)
    pool = source.classes("train")
    for name, rows in pool.items():
        support, query = (parts.classes(split)[name] for split in parts.splits)
        assert sorted([*support, *query]) == sorted(rows)
        assert len(query) == share * len(rows)
    assert list(parts.classes("query")) == list(pool)
    rows = parts.classes("query")["c0"]
    assert parts.load(rows).equal(source.load(rows))
    assert (parts.name, parts.shape, parts.card) == (source.name, source.shape, source.card)


def test_held_out_parts_follow_from_the_seed() -> None:
    source = make_source()
    first, again, other = (HeldOut(source, "train", 0.25, seed) for seed in (0, 0, 1))
    assert first.digest() == again.digest() != other.digest()
    assert first.digest() != HeldOut(source, "train", 0.5).digest() != source.digest()
    assert all((first.classes("query")[c] == again.classes("query")[c]).all() for c in first.classes("query"))
    assert any((first.classes("query")[c] != other.classes("query")[c]).any() for c in first.classes("query"))
    with pytest.raises(TaskError, match="are support and query, not 'train'"):
        first.classes("train")


def test_held_out_parts_are_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"held out": lambda: HeldOut(make_source(), "train", 0.2)}
    monkeypatch.setattr(test_sources, "SOURCES", row)
    test_sources.test_source_keeps_its_contract("held out")


# ------------------------------------------------------------------------------------ where tasks come from


def test_digits_hold_out_a_part_of_their_pool() -> None:
    tasks = choose(held_out=0.2)
    digits = Digits()
    pool = np.concatenate([*digits.classes("support").values()])
    measured = np.concatenate([*digits.classes("query").values()])
    for episode in tasks.episodes(0, 5):
        used = np.concatenate([episode.meta.support_indices, episode.meta.query_indices])
        assert np.isin(used, pool).all() and not np.isin(used, measured).any()
        assert not np.isin(episode.meta.support_indices, episode.meta.query_indices).any()
    assert splits_of(tasks) == ("support", "query") and not one_pool(tasks)
    assert origin(tasks) == "split support, of which 20% are held out as queries"


def test_validation_split_comes_first() -> None:
    tasks = choose(*ONE_SPLIT, held_out=0.2)
    assert splits_of(tasks) == ("validation", "validation") and one_pool(tasks)
    assert origin(tasks) == "split validation"


def test_tasks_follow_the_seed_of_the_search_alone() -> None:
    def rows(*overrides: str, seed: int = 0) -> list[int]:
        return choose(*overrides, held_out=0.2, seed=seed).episode(0).meta.query_indices.tolist()

    assert rows() == rows("seed=5") != rows(seed=1)


def test_task_validation_has_its_say() -> None:
    told = "task.validation={support_split:support,query_split:null}"
    assert splits_of(choose(told)) == ("support", "support")


def test_functions_have_splits_of_their_own() -> None:
    config = composed(["experiment=sinusoid"])
    tasks = validation_tasks(config, Parts(config), search())
    assert splits_of(tasks)[0] == "validation" != splits_of(distribution(config))[0]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            (),
            "task 'digits' has no split 'validation' (it has support, query): say what to choose on, as "
            "task.validation={support_split: ..., query_split: ...}",
        ),
        ((), "or hold out a part of split 'support', as hparams_search.held_out=0.2"),
        (
            ("task.validation={support_split:query,query_split:null}",),
            "examples with its split 'query', which is measured on: set task.validation to splits",
        ),
        (
            (*ONE_SPLIT, "task.validation={support_split:test}"),
            "with its split 'test', which is measured on",
        ),
    ],
)
def test_nothing_to_choose_on_and_what_is_measured_are_refused(
    overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(AdaptError) as caught:
        choose(*overrides)
    assert message in str(caught.value)


def test_functions_that_are_measured_are_refused() -> None:
    config = composed(["experiment=sinusoid", "task.validation={support_split:test}"])
    with pytest.raises(AdaptError, match="are of its split 'test', which is measured on"):
        validation_tasks(config, Parts(config), search())


def test_retraining_needs_a_pool_without_the_queries() -> None:
    config = composed([*ONE_SPLIT, "method=[head,retrain]"])
    space: Any = {"ridge": {}, "retrain": {}}
    with pytest.raises(AdaptError, match=r"search hparams_search\.methods=\[ridge\] only"):
        ComparisonTrials(config, Search(space=space, trials=1, tasks=1))


def test_pool_of_retraining_is_what_is_not_held_out() -> None:
    config = composed([*SMALL, "method=retrain"])
    trials = ComparisonTrials(config, Search(space={"retrain": {}}, trials=1, tasks=1, held_out=0.2))
    source = trials.tasks.source
    assert isinstance(source, HeldOut) and not isinstance(source, ArraySource)
    x, y = trials.context.pool(("3", "8"))
    kept = [source.classes("support")[name] for name in ("3", "8")]
    assert x.equal(source.load(np.concatenate(kept)))
    assert y.tolist() == [0] * len(kept[0]) + [1] * len(kept[1])
    assert OmegaConf.select(config, "task.support_split") == "support"
