"""Gridworld: what would the expert do here? Few-shot behaviour cloning, under rules that are not told.

A task is one set of rules: which of three objects is the goal, what the four actions do, where the wind
blows, and what mud does. An example is a board, its label the one best action by value iteration
(`tasks/control/_solver.py`). After Duan et al. (2017), *One-Shot Imitation Learning*, and the windy gridworld
of Sutton and Barto (2018), *Reinforcement Learning*, example 6.5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import permutations, product
from typing import ClassVar, NamedTuple

import numpy as np

from tasks._settings import check_setting, least
from tasks.control._solver import DISCOUNT, NO_WIND, WIND, action_values
from tasks.functions import SPLITS
from tasks.grouped import GroupDraw
from tasks.source import Card, TaskError

__all__ = ["Gridworld"]

VERSION = "1"  # to be raised with any change to what is drawn or computed
SPLIT_SEED = 0  # fixed: which rules are for testing belongs to the source, not to an experiment
SHARES = (0.7, 0.15)  # of the rules, for training and validation; the rest is for testing
WALLS, MUD = 0.15, 0.2  # share of the cells
MARGIN = 1e-6  # a best action is better than the others by more than rounding errors
VIEWS = ("board", "agent")
OBJECTS, COMPASS = "ABC", "NESW"
ACTIONS = tuple(f"action {number}" for number in range(1, 5))
MUD_RULES = ("free", "slow", "closed")


class Rules(NamedTuple):
    """`goal` numbers an object; `moves[a]` is the direction that action a takes; `wind` a direction or
    `NO_WIND`; `mud` numbers a rule."""

    goal: int
    moves: tuple[int, ...]
    wind: int
    mud: int

    @property
    def name(self) -> str:
        wind = (*COMPASS, "none")[self.wind]
        moves = "".join(COMPASS[d] for d in self.moves)
        return f"goal {OBJECTS[self.goal]}, moves {moves}, wind {wind}, mud {MUD_RULES[self.mud]}"


class Gridworld:
    """Boards with walls, mud and three objects, as 0/1 planes; 1,080 sets of rules.

    Support and queries are cells of different boards. Only cells with a single best action are asked about.

    Args:
        size: side of the board, n >= 4.
        view: "board": planes walls, mud, A, B, C and agent, [6, n, n]; "agent": the first five with the agent
            in the middle, [5, 2n−1, 2n−1], where what lies off the board counts as wall.
        flat: as one vector, for networks that take vectors.

    Example:
        >>> world = Gridworld()
        >>> world.shape, [len(world.groups(split)) for split in world.splits]
        ((6, 8, 8), [756, 162, 162])
        >>> next(iter(world.groups("test")))
        'goal A, moves NESW, wind N, mud slow'
    """

    grouped: ClassVar[bool] = True
    regression: ClassVar[bool] = False
    splits: ClassVar[tuple[str, ...]] = SPLITS

    def __init__(self, size: int = 8, view: str = "board", flat: bool = False) -> None:
        check_setting("gridworld: size", size, least(4, most=256))
        if view not in VIEWS:
            raise TaskError(f"gridworld: view={view} is unknown: use {' or '.join(VIEWS)}")
        self.size, self.view, self.flat = size, view, flat
        planes = (6, size, size) if view == "board" else (5, 2 * size - 1, 2 * size - 1)
        self.shape: tuple[int, ...] = (int(np.prod(planes)),) if flat else planes
        self.card = CARD
        self.name = CARD.name
        every = [Rules(*r) for r in product(range(3), permutations(range(4)), range(NO_WIND + 1), range(3))]
        order = np.random.default_rng(SPLIT_SEED).permutation(len(every))
        cuts = np.cumsum([round(share * len(every)) for share in SHARES])
        self._rules = {
            split: {every[i].name: every[i] for i in sorted(part.tolist())}
            for split, part in zip(SPLITS, np.split(order, cuts), strict=True)
        }

    def groups(self, split: str) -> Mapping[str, int | None]:
        """The sets of rules of a split; of each there are as many boards as anybody wants."""
        if split not in self._rules:
            raise TaskError(f"{self.name} has no split {split!r}: use one of {', '.join(SPLITS)}")
        return dict.fromkeys(self._rules[split])

    def sample(self, rng: np.random.Generator, group: str, shots: int, queries: int) -> GroupDraw:
        """Cells of new boards under the rules `group`; see `GroupSource.sample`."""
        rules = next(by[group] for by in self._rules.values() if group in by)
        labels = np.arange(4)
        x, q = self._cells(rng, rules, shots), self._cells(rng, rules, queries)
        return GroupDraw(x, labels.repeat(shots), q, labels.repeat(queries), ACTIONS)

    def digest(self) -> str:
        """sha256 (hex) of version, constants and settings."""
        constants = (SPLIT_SEED, SHARES, WALLS, MUD, MARGIN, DISCOUNT, WIND)
        decisive = ("gridworld", VERSION, constants, self.size, self.view, self.flat)
        return hashlib.sha256(repr(decisive).encode()).hexdigest()

    def _cells(self, rng: np.random.Generator, rules: Rules, each: int) -> np.ndarray:
        """`each` examples per action, action by action: float32 [4·each, *shape]."""
        found: list[list[np.ndarray]] = [[] for _ in ACTIONS]
        while min(map(len, found)) < each:
            terrain, objects = self._boards(rng, max(2, each // 2))
            best = best_actions(terrain, objects, rules)  # [M, n·n]
            boards, cells = np.nonzero(best >= 0)
            mixed = rng.permutation(len(boards))
            for board, cell in zip(boards[mixed], cells[mixed], strict=True):
                examples = found[best[board, cell]]
                if len(examples) < each:
                    examples.append(self._seen(terrain[board], objects[board], cell))
        return np.stack([example for examples in found for example in examples])

    def _boards(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Terrain bool [M, 2, n·n], walls and mud, and the cells of the three objects, int64 [M, 3]."""
        cells = self.size**2
        u = rng.random((count, cells))
        walls, mud = u < WALLS, (u >= WALLS) & (u < WALLS + MUD)
        objects = rng.permuted(np.tile(np.arange(cells), (count, 1)), axis=1)[:, :3]
        for terrain in (walls, mud):
            np.put_along_axis(terrain, objects, False, axis=1)
        return np.stack([walls, mud], 1), objects

    def _seen(self, terrain: np.ndarray, objects: np.ndarray, cell: int) -> np.ndarray:
        n = self.size
        marked = np.zeros((6, n * n), np.float32)
        marked[:2] = terrain
        marked[[2, 3, 4], objects] = 1
        marked[5, cell] = 1
        planes = marked.reshape(6, n, n)
        if self.view == "agent":
            row, column = divmod(int(cell), n)
            wide = np.zeros((5, 3 * n - 2, 3 * n - 2), np.float32)
            wide[0] = 1
            wide[:, n - 1 : 2 * n - 1, n - 1 : 2 * n - 1] = planes[:5]
            planes = wide[:, row : row + 2 * n - 1, column : column + 2 * n - 1]
        return planes.reshape(self.shape)


def best_actions(terrain: np.ndarray, objects: np.ndarray, rules: Rules) -> np.ndarray:
    """The best action in every cell, −1 where there are several, or none (walls, the goal, cells cut off).

    Args:
        terrain: bool [M, 2, n·n], walls and mud.
        objects: int64 [M, 3], their cells.

    Returns:
        int64 [M, n·n].
    """
    count, _, cells = terrain.shape
    side = round(cells**0.5)
    rule = MUD_RULES[rules.mud]
    walls = terrain[:, 0] | (terrain[:, 1] if rule == "closed" else False)
    seconds = np.where(terrain[:, 1] & (rule == "slow"), 3, 1)
    goals = objects[:, rules.goal]
    q = action_values(
        walls.reshape(count, side, side), seconds.reshape(count, side, side), goals, rules.wind
    )[..., rules.moves]  # columns: actions
    ranked = np.sort(q, -1)
    asked = ~walls & (ranked[..., 3] - ranked[..., 2] > MARGIN)
    asked[np.arange(count), goals] = False
    return np.where(asked, q.argmax(-1), -1)


CARD = Card(
    name="gridworld",
    description=(
        "Boards of a gridworld with walls, mud and three objects, and the best action of an agent, under "
        "rules that differ from task to task: goal, effect of the actions, wind, mud."
    ),
    origin=(
        "Computed here by value iteration, after R. Sutton, A. Barto (2018), Reinforcement Learning, 2nd "
        "edition, section 4.4 and example 6.5."
    ),
    licence="Apache-2.0 (generated)",
    terms="As for this software; nothing is asked for the examples themselves.",
    counts={"classes": 4, "rules": 1080},
    known_issues=(
        "A toy: the expert sees everything and never errs, and single decisions are judged, not games.",
        "Cells with several best actions are never asked about, so that labels are unique.",
        "Every part of a rule of a test task occurs in training, in another combination.",
        "Cells of one board are not independent of each other; support and queries are of different boards.",
    ),
    personal_data="None.",
    domain="control",
    commercial=True,
)
