"""Torch's own database of its operators, as functions of what in their samples can move.

``op_db`` has, for nearly every operator of torch, samples of arguments that cover its options, and says what
the operator can do. It is pinned with torch.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.opinfo.core import OpInfo, SampleInput
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

__all__ = ["OPERATORS", "Case", "cases", "name_of"]

F64 = torch.float64


def name_of(op: OpInfo) -> str:
    return " ".join(filter(None, (op.name, op.variant_test_name)))


def _differentiable(op: OpInfo) -> bool:
    return F64 in op.dtypes and (op.supports_autograd or op.supports_forward_ad)


#: All that torch can differentiate in float64, in one way or the other.
OPERATORS: dict[str, OpInfo] = {name_of(op): op for op in op_db if _differentiable(op)}


@dataclass(frozen=True)
class Case:
    """``f`` of the ``point``: the operator applied to a sample, in which all dense float64 tensors move."""

    f: Callable[[tuple[Tensor, ...]], Any]
    point: tuple[Tensor, ...]


def cases(op: OpInfo, variant: Callable[..., Any] | None = None, most: int | None = None) -> Iterator[Case]:
    """The samples of ``op`` in which something moves, the first ``most`` of them, as calls of ``variant`` (a
    method or an in-place method; None = the function)."""
    call = variant or op.op
    with warnings.catch_warnings(action="ignore"):
        torch.manual_seed(0)
        samples = op.sample_inputs_func(op, torch.device("cpu"), F64, False)
        for _, sample in zip(range(most or 10**6), samples, strict=False):
            case = _case(call, sample)
            if case.point:
                yield case


def _case(call: Callable[..., Any], sample: SampleInput) -> Case:
    leaves, structure = tree_flatten((sample.input, sample.args, sample.kwargs))
    moving = [i for i, leaf in enumerate(leaves) if _moves(leaf)]

    def f(point: tuple[Tensor, ...]) -> Any:
        filled = list(leaves)
        for i, value in zip(moving, point, strict=True):
            filled[i] = value
        input, args, kwargs = tree_unflatten(filled, structure)
        result = call(input, *args, **kwargs)
        return [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]

    return Case(f, tuple(leaves[i] for i in moving))


def _moves(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.dtype == F64 and leaf.layout is torch.strided
