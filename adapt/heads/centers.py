"""Where the middle of a class is, for features some of which are wrong.

    median      of every feature by itself
    trimmed     the mean of every feature without the least and the greatest tenth of its values (rounded: of
                five one at either end)

Huber (1964), *Robust Estimation of a Location Parameter*, section 1. Without one of the examples: every class
is sorted once, and sums over it without one of its values follow from sums over all that are less.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from adapt.precision import double

__all__ = ["Center", "centers", "centers_left_out", "counted"]

Center = Literal["mean", "median", "trimmed"]
#: The share of values that is left out at either end.
TRIMMED = 0.1


def counted(targets: Tensor, weights: Tensor | None) -> Tensor:
    """Which rows count for each class, bools ``[n, C]``, of one-hot ``targets [n, C]``; weights other than 0
    count as 1."""
    return targets > 0 if weights is None else (targets > 0) & (weights > 0)[:, None]


def centers(f: Tensor, members: Tensor, center: Center) -> Tensor:
    """Of rows ``f [n, D]`` by class ``[C, D]``; 0 of a class without any.

    Example:
        >>> rows, members = torch.tensor([[0.0], [1.0], [90.0]]), torch.ones(3, 1, dtype=torch.bool)
        >>> centers(rows, members, "median")
        tensor([[1.]])
    """
    return torch.stack([_center(f, members[:, label], center) for label in range(members.shape[1])])


def centers_left_out(f: Tensor, members: Tensor, center: Center) -> Tensor:
    """Of the class of each row, without that row ``[n, D]``; 0 where nothing is left.

    Example:
        >>> rows, members = torch.tensor([[0.0], [1.0], [90.0]]), torch.ones(3, 1, dtype=torch.bool)
        >>> centers_left_out(rows, members, "median").flatten()
        tensor([45.5000, 45.0000,  0.5000])
    """
    wide, own = double(f), torch.zeros_like(double(f))
    for label in range(members.shape[1]):
        mine = members[:, label]
        ordered, order = torch.where(mine[:, None], wide, torch.inf).sort(0)
        rank, left = order.argsort(0), (mine.sum() - 1).clamp(min=0)
        sums = torch.where(ordered.isinf(), 0, ordered).cumsum(0)
        before = torch.cat([torch.zeros_like(sums[:1]), sums])  # [n + 1, D]
        low = _cut(left, center)
        high = left - low
        a, b, a1, b1 = (_row(before, place) for place in (low, high, low + 1, high + 1))
        inside = torch.where(rank >= high, b - a, b1 - a - wide)
        found = torch.where(rank < low, b1 - a1, inside) / (high - low).clamp(min=1)
        own = torch.where(mine[:, None], found, own)
    return own.to(f)


def _cut(count: Tensor, center: Center) -> Tensor:
    """How many of so many values are left out at either end."""
    if center == "median":
        return (count - 1).clamp(min=0) // 2  # of two in the middle the mean
    return (TRIMMED * count + 0.5).floor().to(count)


def _center(f: Tensor, members: Tensor, center: Center) -> Tensor:
    """Of the rows that are ``members [n]``: sorted, they come before all others."""
    count = members.sum()
    cut = _cut(count, center)
    ordered = torch.where(members[:, None], f, torch.inf).sort(0).values
    place = torch.arange(len(f), device=f.device)[:, None]
    inside = (place >= cut) & (place < count - cut)
    return torch.where(inside, ordered, 0).sum(0) / (count - 2 * cut).clamp(min=1)


def _row(table: Tensor, place: Tensor) -> Tensor:
    """One row of ``table [n, D]``, as ``[1, D]``; the last for those behind it, of which nothing is used."""
    return table.gather(0, place.clamp(max=len(table) - 1).expand(1, table.shape[1]))
