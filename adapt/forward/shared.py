"""The tangents of one function, divided among processes: what travels are its outputs along them.

    process r:  J v_j   for its part of j = 1 … k ,   then one all-reduce of  J V  [k, n, C]

A gradient of P numbers never leaves a process: along a direction a loss changes by one number, and features
or outputs of n examples by n·C. Random directions that all processes draw from the same seed need not travel
either, so that a forward gradient of k of them costs k numbers: Malladi et al. (2023), *Fine-Tuning Language
Models with Just Forward Passes*, section 2.1, for one direction and finite differences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from adapt.forward.types import Pytree
from adapt.ranks import ALONE, Ranks

__all__ = ["divided", "shared", "sharing"]

_SHARING: ContextVar[Ranks] = ContextVar("processes that share tangents", default=ALONE)


def sharing() -> Ranks:
    """Who shares the tangents here."""
    return _SHARING.get()


@contextmanager
def shared(ranks: Ranks) -> Iterator[None]:
    """Inside, each of ``ranks`` pushes its part of the tangents of every :func:`adapt.forward.pushforward`
    forward. All of them do the same with the same values: fit the same task, say. Not within vmap or grad.

    Example:
        >>> import adapt, torch
        >>> from adapt.ranks import ranks
        >>> adapter, x = adapt.load("mlp_sinusoid"), torch.linspace(-3, 3, 10)[:, None]
        >>> with shared(ranks()):  # `torchrun --nproc-per-node=4 …`: each a quarter of the directions
        ...     task = adapter.fit(x, x.sin())
    """
    token = _SHARING.set(ranks)
    try:
        yield
    finally:
        _SHARING.reset(token)


def divided(push: Callable[[Pytree], tuple[Pytree, Pytree]], tangents: Pytree) -> tuple[Pytree, Pytree]:
    """``push(tangents)``, of which each process that shares does a part."""
    ranks, k = sharing(), len(tree_leaves(tangents)[0])
    part = ranks.part(k)
    with shared(ALONE):
        value, own = push(tree_map(lambda column: column[part.start : part.stop], tangents))
    columns, structure = tree_flatten(own)
    whole = [column.new_zeros(k, *column.shape[1:]) for column in columns]
    for place, column in zip(whole, columns, strict=True):
        place[part.start : part.stop] = column.detach()
    return value, tree_unflatten(ranks.total(whole), structure)
