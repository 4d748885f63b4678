"""The contract of sources of groups, for every row of its table."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tasks import FunctionSource, GroupedTasks, GroupSource, Source
from tasks.text.reviews import TokenGroups
from tests.conformance.task_tables import GROUPS


@pytest.mark.parametrize("name", GROUPS)
def test_group_source_keeps_its_contract(name: str) -> None:
    source, again = GROUPS[name](), GROUPS[name]()
    assert isinstance(source, GroupSource)
    assert not isinstance(source, Source) and not isinstance(source, FunctionSource)
    assert source.grouped is True
    assert source.name == source.card.name
    assert json.loads(json.dumps(source.card.to_dict())) == source.card.to_dict()
    assert source.card.licence and source.card.origin
    assert source.splits == again.splits and source.splits[:3] == ("train", "validation", "test")
    assert again.digest() == source.digest() == source.digest()
    assert len(source.digest()) == 64 and int(source.digest(), 16) >= 0
    with pytest.raises(ValueError, match="no such split"):
        source.groups("no such split")

    every = [group for split in source.splits for group in source.groups(split)]
    assert len(every) == len({*every}), "a group is in two splits"
    rows: dict[str, set[int]] = {}
    for split in source.splits:
        rooms = source.groups(split)
        assert rooms and [*again.groups(split)] == [*rooms]
        rows[split] = set()
        for group in [*rooms][:: max(len(rooms) // 5, 1)]:
            room = rooms[group]
            most = 7 if room is None else room
            for shots in (1, most - 1):  # all that it promises to have
                queries = most - shots
                drawn, copy = (
                    each.sample(np.random.default_rng(3), group, shots, queries) for each in (source, again)
                )
                for a, b in zip(drawn, copy, strict=True):
                    assert np.array_equal(a, b)
                ways = 1 if source.regression else len(drawn.classes)
                for x, y, n in (
                    (drawn.support_x, drawn.support_y, shots),
                    (drawn.query_x, drawn.query_y, queries),
                ):
                    if isinstance(source, TokenGroups):  # of texts, as long as the longest of them
                        assert x.ndim == 2 and len(x) == ways * n and x.dtype == np.int64
                    else:
                        assert x.shape == (ways * n, *source.shape) and x.dtype == np.float32
                    assert np.isfinite(x).all() and np.isfinite(y).all()
                    if source.regression:
                        assert y.dtype == np.float32 and y.shape[0] == n and y.ndim == 2
                    else:
                        assert y.dtype == np.int64 and ways >= 2
                        assert y.tolist() == np.repeat(np.arange(ways), n).tolist()
                assert (drawn.classes == ()) == source.regression
                support, query = {*drawn.support_rows.tolist()}, {*drawn.query_rows.tolist()}
                assert not support & query, "an example is in support and queries"
                rows[split] |= support | query
                for array in drawn[:4]:
                    array[:] = 0  # what was handed out is the caller's
                fresh = source.sample(np.random.default_rng(3), group, shots, queries)
                assert np.array_equal(fresh.support_x, copy.support_x)
    assert not rows["train"] & rows["test"] and not rows["train"] & rows["validation"]
    assert not rows["validation"] & rows["test"]


@pytest.mark.parametrize("name", GROUPS)
def test_tasks_of_groups_are_pure(name: str) -> None:
    source = GROUPS[name]()
    tasks = GroupedTasks(source, 2, 2, "test", seed=5)
    forwards = [tasks.episode(index) for index in range(4)]
    backwards = [GroupedTasks(source, 2, 2, "test", "test", 5).episode(index) for index in (3, 2, 1, 0)]
    for a, b in zip(forwards, backwards[::-1], strict=True):
        assert all(s.equal(t) for s, t in zip(a[:4], b[:4], strict=True))
    others = [GroupedTasks(source, 2, 2, split, seed=seed) for split, seed in (("test", 6), ("train", 5))]
    for other in others:
        assert any(not a.query_x.equal(other.episode(i).query_x) for i, a in enumerate(forwards))
