"""The gridworld: the solver against other ways of finding the same, rules, planes, splits."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import Gridworld, GroupedTasks, TaskError
from tasks.control._solver import DISCOUNT, NO_WIND, STEPS, WIND, action_values
from tasks.control.gridworld import ACTIONS, COMPASS, Rules, best_actions

SIDES = st.integers(4, 6)


def board(seed: int, side: int, walls: float = 0.25) -> tuple[np.ndarray, int]:
    """Walls [1, n, n] and the cell of a goal."""
    rng = np.random.default_rng(seed)
    goal = int(rng.integers(side * side))
    blocked = rng.random((1, side, side)) < walls
    blocked.reshape(-1)[goal] = False
    return blocked, goal


def step(walls: np.ndarray, cell: int, direction: int) -> int:
    side = walls.shape[-1]
    row, column = cell // side + STEPS[direction][0], cell % side + STEPS[direction][1]
    inside = 0 <= row < side and 0 <= column < side
    return row * side + column if inside and not walls[0, row, column] else cell


def shortest(walls: np.ndarray, goal: int) -> dict[int, int]:
    """Breadth-first: cell -> steps to the goal."""
    found, queue = {goal: 0}, deque([goal])
    while queue:
        cell = queue.popleft()
        for direction in range(4):
            # Moves can be undone on a board without wind: a step away is a step towards.
            if (other := step(walls, cell, direction)) not in found:
                found[other] = found[cell] + 1
                queue.append(other)
    return found


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), SIDES)
def test_without_wind_values_are_those_of_shortest_paths(seed: int, side: int) -> None:
    walls, goal = board(seed, side)
    q = action_values(walls, np.ones_like(walls, int), np.array([goal]), NO_WIND)[0]
    steps = shortest(walls, goal)
    for cell in range(side * side):
        if cell == goal or walls.reshape(-1)[cell]:
            continue
        for direction in range(4):
            after = step(walls, cell, direction)
            expected = DISCOUNT ** (1 + steps[after]) if after in steps else 0.0
            assert q[cell, direction] == pytest.approx(expected, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), SIDES, st.integers(0, 3))
def test_with_wind_and_mud_values_solve_the_linear_system_of_the_best_policy(
    seed: int, side: int, wind: int
) -> None:
    walls, goal = board(seed, side)
    cells = side * side
    seconds = np.random.default_rng(seed + 1).integers(1, 4, (1, side, side))
    q = action_values(walls, seconds, np.array([goal]), wind)[0]
    worth = DISCOUNT ** seconds.reshape(-1)

    def transitions(direction: int) -> np.ndarray:
        """Discounted probabilities [cells, cells] of one direction, cell by cell."""
        matrix = np.zeros((cells, cells))
        for cell in range(cells):
            there = step(walls, cell, direction)
            blown = there if there == goal else step(walls, there, wind)
            matrix[cell, there] += (1 - WIND) * worth[there]
            matrix[cell, blown] += WIND * worth[blown]
        return matrix

    every = np.stack([transitions(direction) for direction in range(4)], 1)  # [cell, direction, next]
    policy = every[np.arange(cells), q.argmax(-1)]
    policy[goal] = 0
    reward = np.zeros(cells)
    reward[goal] = 1
    values = np.linalg.solve(np.eye(cells) - policy, reward)  # of the greedy policy, exactly
    open_cells = ~walls.reshape(-1)
    open_cells[goal] = False
    assert np.allclose((every @ values)[open_cells], q[open_cells], atol=1e-9)
    assert np.allclose(values[open_cells], q.max(-1)[open_cells], atol=1e-9)  # no direction is better


def read(planes: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Terrain [1, 2, n·n], objects [1, 3] and the agent's cell of a board."""
    flat = planes.reshape(6, -1)
    return flat[None, :2] > 0, flat[2:5].argmax(1)[None], int(flat[5].argmax())


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 161))
def test_labels_are_the_only_best_actions_under_the_rules(seed: int, number: int) -> None:
    world = Gridworld(size=5)
    group = [*world.groups("test")][number]
    drawn = world.sample(np.random.default_rng(seed), group, 2, 1)
    rules = world._rules["test"][group]
    for x, y in ((drawn.support_x, drawn.support_y), (drawn.query_x, drawn.query_y)):
        for planes, label in zip(x, y, strict=True):
            assert {*np.unique(planes)} <= {0.0, 1.0} and planes[2:].sum((1, 2)).tolist() == [1] * 4
            terrain, objects, cell = read(planes)
            assert not (terrain[0, 0] & terrain[0, 1]).any(), "a wall of mud"
            assert not terrain[0, :, objects[0]].any() and not terrain[0, 0, cell]
            assert best_actions(terrain, objects, rules)[0, cell] == label


def test_a_corridor_by_hand() -> None:
    """A row of four cells, the agent left of goal B and right of goal A: what each rule makes of it."""
    terrain = np.zeros((1, 2, 16), bool)
    terrain[0, 0, 4:] = True  # one row is left: cells 0 to 3
    objects = np.array([[0, 3, 15]])
    ask = lambda **rule: best_actions(terrain, objects, Rules(**rule))[0].tolist()[:4]  # noqa: E731
    plain = {"moves": (0, 1, 2, 3), "wind": NO_WIND, "mud": 0}
    assert ask(goal=0, **plain) == [-1, 3, 3, 3]  # west; at the goal nothing is asked
    assert ask(goal=1, **plain) == [1, 1, 1, -1]
    turned = {**plain, "moves": (3, 0, 1, 2)}  # the first action goes west, the third east
    assert ask(goal=0, **turned) == [-1, 0, 0, 0]
    assert ask(goal=1, **turned) == [2, 2, 2, -1]
    terrain[0, 1, 2] = True  # mud between
    assert ask(goal=1, **{**plain, "mud": 1}) == [1, 1, 1, -1]
    assert ask(goal=1, **{**plain, "mud": 2}) == [-1, -1, -1, -1], "cells cut off, and closed mud"
    assert ask(goal=0, **{**plain, "mud": 2}) == [-1, 3, -1, -1]


def test_slow_mud_is_walked_around_and_wind_changes_the_choice() -> None:
    # Rows of 4: start 8, goal 11; straight on lies mud at 9 and 10, two rows are free above.
    terrain = np.zeros((1, 2, 16), bool)
    terrain[0, 1, [9, 10]] = True
    terrain[0, 0, 12:] = True
    objects = np.array([[11, 0, 1]])
    plain = Rules(0, (0, 1, 2, 3), NO_WIND, 0)
    assert best_actions(terrain, objects, plain)[0, 8] == 1  # 3 seconds straight on
    assert best_actions(terrain, objects, plain._replace(mud=1))[0, 8] == 0  # 5 around, 7 through
    # In the open, two ways to a goal on the diagonal are equal. From the one that goes west first, a wind
    # from the south blows right into the goal.
    terrain[:] = False
    objects = np.array([[0, 14, 15]])
    assert best_actions(terrain, objects, plain)[0, 5] == -1
    assert best_actions(terrain, objects, plain._replace(wind=0))[0, 5] == 3


def test_rules_are_divided_and_named() -> None:
    world = Gridworld()
    names = {split: [*world.groups(split)] for split in world.splits}
    every = [name for part in names.values() for name in part]
    assert len({*every}) == 3 * 24 * 5 * 3 == world.card.counts["rules"]
    assert [len(part) for part in names.values()] == [756, 162, 162]
    for part in names.values():  # each part of a rule is met in each split
        for said in ("goal A", "goal C", "wind none", "wind W", "mud closed", "mud slow", "moves N"):
            assert any(said in name for name in part)
    rules = Rules(2, (1, 0, 3, 2), 3, 1)
    assert rules.name == "goal C, moves ENWS, wind W, mud slow"
    assert COMPASS == "NESW"


def test_the_agents_view_is_the_board_around_the_agent() -> None:
    boards, seen = Gridworld(5), Gridworld(5, view="agent")
    group = next(iter(boards.groups("train")))
    a, b = (w.sample(np.random.default_rng(0), group, 3, 1).support_x for w in (boards, seen))
    assert b.shape == (12, 5, 9, 9)
    flat = Gridworld(5, view="agent", flat=True)
    assert np.array_equal(flat.sample(np.random.default_rng(0), group, 3, 1).support_x, b.reshape(12, -1))
    for planes, view in zip(a, b, strict=True):
        row, column = np.argwhere(planes[5])[0]
        assert np.array_equal(view[:, 4 - row : 9 - row, 4 - column : 9 - column], planes[:5])
        outside = np.ones((9, 9), bool)
        outside[4 - row : 9 - row, 4 - column : 9 - column] = False
        assert view[0][outside].all() and not view[1:, outside].any()


def test_supports_and_queries_are_of_different_boards() -> None:
    episode = GroupedTasks(Gridworld(5), 3, 3).episode(2)
    terrain = [{x[:5].numpy().tobytes() for x in part} for part in (episode.support_x, episode.query_x)]
    assert not terrain[0] & terrain[1]
    assert episode.meta.classes == ACTIONS


def test_settings_that_cannot_be_and_digests() -> None:
    with pytest.raises(TaskError, match="gridworld: size=3 is too small: use size>=4"):
        Gridworld(3)
    with pytest.raises(TaskError, match="gridworld: view=eye is unknown: use board or agent"):
        Gridworld(view="eye")
    settings_ = [(8, "board", False), (7, "board", False), (8, "agent", False), (8, "board", True)]
    assert len({Gridworld(*each).digest() for each in settings_}) == 4
    assert Gridworld(4).shape == (6, 4, 4) and Gridworld(4, "agent").shape == (5, 7, 7)
