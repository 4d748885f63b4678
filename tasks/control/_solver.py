"""Value iteration on a board with wind. Sutton and Barto (2018), *Reinforcement Learning*, section 4.4.

    V(goal) = 1 ,   Q(s, d) = (1 − p) γ^c(s') V(s') + p γ^c(s'') V(s'') ,   V(s) = max_d Q(s, d)

A step in direction d leads from s to s' (or nowhere, if a wall or the edge is in the way); with probability p
the wind then blows on to s''. c is the time that the entered cell takes, γ the discount, and a goal is never
left. The windy gridworld of their example 6.5, with a wind that blows everywhere, but now and then only.
"""

from __future__ import annotations

import numpy as np

__all__ = ["DISCOUNT", "NO_WIND", "WIND", "action_values"]

DISCOUNT = 0.9
WIND = 0.3  # p
NO_WIND = 4  # instead of a direction
STEPS = ((-1, 0), (0, 1), (1, 0), (0, -1))  # rows and columns of north, east, south, west
TOLERANCE = 1e-12


def action_values(walls: np.ndarray, seconds: np.ndarray, goals: np.ndarray, wind: int) -> np.ndarray:
    """Q of every cell and direction (north, east, south, west) on each of M boards: float64 [M, n·n, 4].

    Args:
        walls: bool [M, n, n], where nobody can go.
        seconds: [M, n, n], c of each cell, at least 1.
        goals: int64 [M], the cell (row · n + column) of each board's goal.
        wind: number of the direction it blows to, or `NO_WIND`.
    """
    boards = np.arange(len(walls))[:, None]  # [M, 1]
    there = np.stack([_entered(walls, d) for d in range(4)])  # [4, M, n·n]
    blown = there
    if wind != NO_WIND:
        pushed = _entered(walls, wind)
        blown = np.where(there == goals[:, None], there, pushed[boards, there])
    worth = DISCOUNT ** seconds.reshape(len(walls), -1).astype(np.float64)  # [M, n·n]
    calm, gusty = (1 - WIND) * worth[boards, there], WIND * worth[boards, blown]  # [4, M, n·n]
    values = np.zeros(worth.shape)
    values[boards[:, 0], goals] = 1
    while True:
        q = calm * values[boards, there] + gusty * values[boards, blown]
        better = q.max(0)
        better[boards[:, 0], goals] = 1
        if np.abs(better - values).max() < TOLERANCE:
            return np.moveaxis(q, 0, -1)
        values = better


def _entered(walls: np.ndarray, direction: int) -> np.ndarray:
    """The cell in which a step from each cell ends: int64 [M, n·n]."""
    n = walls.shape[1]
    row, column = np.divmod(np.arange(n * n), n)
    to_row, to_column = row + STEPS[direction][0], column + STEPS[direction][1]
    inside = (to_row >= 0) & (to_row < n) & (to_column >= 0) & (to_column < n)
    here = np.arange(n * n)
    target = np.where(inside, to_row * n + to_column, here)
    return np.where(walls.reshape(len(walls), -1)[:, target], here, target)
