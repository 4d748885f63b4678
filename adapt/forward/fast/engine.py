"""The fast engine: k tangents through a function by operator overloading.

The k tangents go through every operation one after the other (on a CPU) or as one batch (elsewhere), next to
the value. To walk each tangent through several operations before the next one, so that it stays in the
processor's cache, was tried as well and gained nothing measurable.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.func import vmap
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from adapt.errors import AdaptError
from adapt.forward.fast import rules  # noqa: F401 (fills the table of rules)
from adapt.forward.fast.dual import BEFORE_WRITING, PASS, Dual, Pass, primal, version
from adapt.forward.types import Function, Pytree

__all__ = ["fast"]


def fast(f: Function, x: Pytree, tangents: Pytree, chunk: int | None = None) -> tuple[Pytree, Pytree]:
    """``(f(x), J·V)`` by :class:`Dual` tensors; see :func:`adapt.forward.pushforward`.

    ``chunk`` tangents travel as one batch (by ``vmap`` over the leading axis); k/chunk such batches travel
    side by side, one operation at a time, so that f runs once and nothing is computed twice.

    Raises:
        Unsupported: f does something that only the reference may be able to differentiate.
        Exception: any other, of f or of a rule; ``x`` is then as it was.
    """
    leaves, structure = tree_flatten(x)
    columns = tree_flatten(tangents)[0]
    k = len(columns[0])
    width = _width(k, chunk, leaves[0])

    def along(groups: list[Tensor]) -> tuple[Pytree, Pytree]:
        """``groups``: per leaf of x, its k/chunk tangents ``[k/chunk, …]`` of one place in the batch."""
        moving = [Dual(leaf, list(group.unbind(0))) for leaf, group in zip(leaves, groups, strict=True)]
        return _split(f(tree_unflatten(moving, structure)), k // width)

    with _kept_if_it_fails(leaves):
        if width == 1:
            return along(columns)
        batched = [column.unflatten(0, (k // width, width)) for column in columns]
        values, stacked = vmap(along, in_dims=1, out_dims=(0, 1))(batched)
    return tree_map(lambda leaf: leaf[0], values), tree_map(lambda leaf: leaf.flatten(0, 1), stacked)


@contextmanager
def _kept_if_it_fails(leaves: list[Tensor]) -> Iterator[None]:
    """Where f has written to x and then fails, x is put back: somebody may try again by other means."""
    before, copies = [version(leaf) for leaf in leaves], list[Tensor]()

    def copy() -> None:
        copies.extend(leaf.detach().clone() for leaf in leaves[len(copies) :])

    token, this = BEFORE_WRITING.set(copy), Pass()
    outer = PASS.set(this)
    try:
        yield
    except Exception as error:
        changed = [i for i, leaf in enumerate(leaves) if version(leaf) != before[i]]
        if changed and not copies:
            raise AdaptError(
                "f writes to x, by detach(), which it is given to read: copy it first"
            ) from error
        with torch.no_grad():
            for i in changed:
                leaves[i].copy_(copies[i])
        raise
    finally:
        this.over = True
        PASS.reset(outer)
        BEFORE_WRITING.reset(token)


def _split(result: Pytree, count: int) -> tuple[Pytree, Pytree]:
    for leaf in tree_leaves(result):
        if not isinstance(leaf, Tensor):
            raise AdaptError(
                f"f returns {leaf!r} ({type(leaf).__name__}) among its values: return tensors only"
            )
    value = tree_map(primal, result)
    columns = tree_map(
        lambda leaf: (
            torch.stack(list(leaf.tangents)) if type(leaf) is Dual else leaf.new_zeros(count, *leaf.shape)
        ),
        result,
    )
    return value, columns


def _width(k: int, chunk: int | None, like: Tensor) -> int:
    """Tangents per batch: one on a CPU, where the buffers of a larger batch leave the cache; all on other
    devices, which a few examples do not fill. A number that does not divide k is lowered until it does."""
    wanted = chunk or (1 if like.device.type == "cpu" else k)
    return next(width for width in range(min(wanted, k), 0, -1) if k % width == 0)
