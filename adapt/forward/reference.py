"""The reference implementation of the pushforward: ``vmap(jvp)``, as torch itself differentiates forward.

    f(x), J·V    with J·V_j = jvp(f, x, V_j), all j in one batched pass

Simple, and right wherever torch has a forward derivative; the other implementations are held against it. It
spends more than it must: torch fills in zeros for tangents that are zero (a frozen convolution costs two
passes per tangent), and the k tangents travel as one large batch, whose buffers leave the cache.
"""

from contextlib import nullcontext

import torch
from torch import Tensor
from torch.func import jvp, vmap
from torch.utils._pytree import tree_map

from adapt.forward.custom import TangentGuard
from adapt.forward.kernels import ONE_AT_A_TIME, differentiable_kernels
from adapt.forward.norms import WrittenNorms
from adapt.forward.types import Function, Pytree

__all__ = ["batched_jvp", "reference"]


def reference(f: Function, x: Pytree, tangents: Pytree) -> tuple[Pytree, Pytree]:
    """``(f(x), J·V)`` by ``vmap(jvp)``; see :func:`adapt.forward.pushforward`."""
    norms = WrittenNorms() if torch.is_grad_enabled() else nullcontext()  # the outer derivative needs them
    own = tree_map(torch.clone, tangents)  # where f writes to x, torch writes to them
    with ONE_AT_A_TIME, differentiable_kernels(), TangentGuard(), norms:
        return batched_jvp(f, x, own)


def batched_jvp(f: Function, x: Pytree, tangents: Pytree) -> tuple[Pytree, Pytree]:
    """The reference in itself, without the settings that torch needs for it; also what is compiled."""

    def along(v: Pytree) -> tuple[Pytree, Pytree]:
        result = jvp(f, (x,), (v,))
        return result[0], result[1]

    def column_of(column: Tensor, leaf: Tensor) -> Tensor:
        # torch 2.13: under vmap, the float32 tangent of a number (shape []) that meets a Python float is
        # float64.
        return column.to(leaf.dtype)

    # The value does not depend on the tangent: vmap computes it once and hands it out as k views of the same
    # memory. (``out_dims=None`` would say so, but is refused under an outer vmap, as over tasks.)
    values, columns = vmap(along)(tangents)
    value = tree_map(lambda leaf: leaf[0], values)
    return value, tree_map(column_of, columns, value)
