"""Every operator of torch that can be differentiated, on every sample of torch's own database of operators.

Expected is what torch's forward mode says (the reference), and where it has no rule what central differences
say. Left out is what has no derivative in float64 by the database's own account (``OPERATORS``). What the
engine refuses must be what the reference fails at too.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing._internal.common_utils import noncontiguous_like

from adapt.errors import AdaptError
from adapt.forward import pushforward
from adapt.forward.reference import reference
from tests.operator_database import OPERATORS, Case, cases

F64 = torch.float64
Point = tuple[Tensor, ...]
Result = tuple[list[Tensor], list[Tensor]]
#: Of an operator with very many samples, those behind the first take turns with what else is varied.
THOROUGH = 6
#: Samples that are also called as a method and in place.
FEW = 2
EVERY = pytest.mark.parametrize("name", OPERATORS)


@pytest.fixture(autouse=True)
def as_when_adapting() -> Iterator[None]:
    """Samples include calls that torch warns of. Without gradients, as when adapting: rules then write into
    memory that they have just allocated."""
    with warnings.catch_warnings(action="ignore"), torch.no_grad():
        yield


def tangents(point: Point, alone: int = 0) -> tuple[Point, Point]:
    """Three tangents of independent numbers; and one of a single number spread out without memory, along
    which only the operand ``alone`` moves."""
    generator = torch.Generator().manual_seed(0)
    dense = tuple(torch.randn(3, *leaf.shape, generator=generator, dtype=F64) for leaf in point)
    spread = tuple(
        torch.tensor(1.3 * (i == alone), dtype=F64).expand(1, *leaf.shape) for i, leaf in enumerate(point)
    )
    return dense, spread


def only(case: Case, point: Point, alone: int) -> Callable[[Point], list[Tensor]]:
    """``case.f`` of one operand; the others are constants."""
    return lambda moving: case.f((*point[:alone], moving[0], *point[alone + 1 :]))


def expected(case: Case, *columns: Point) -> list[Result | None]:
    """What the reference says for each of several stacks of tangents, in one pass; None where it fails."""
    try:
        value, found = reference(case.f, case.point, tuple(map(torch.cat, zip(*columns, strict=True))))
    except Exception:
        return [None] * len(columns)
    counts = [len(column[0]) for column in columns]
    return [(value, list(part)) for part in zip(*(leaf.split(counts) for leaf in found), strict=True)] or [
        (value, [])
    ] * len(columns)


def differences(
    f: Callable[[Point], list[Tensor]], point: Point, columns: Point, step: float = 1e-6
) -> Result:
    """Central differences."""
    found = list[list[Tensor]]()
    for along in zip(*columns, strict=True):
        there, back = (
            f(tuple(leaf + sign * t for leaf, t in zip(point, along, strict=True))) for sign in (step, -step)
        )
        found.append([((a - b) / (2 * step)).to(a.dtype) for a, b in zip(there, back, strict=True)])
    return f(point), [torch.stack(parts) for parts in zip(*found, strict=True)]


def assert_right(
    f: Callable[[Point], list[Tensor]], point: Point, columns: Point, right: Result | None, chunk: int = 1
) -> None:
    """The pushforward of ``f`` is ``right``."""
    try:
        found = pushforward(f, point, columns, chunk=chunk)
    except AdaptError:
        refused = right is None or expected(Case(f, point), columns)[0] is None
        assert refused, "although torch has a derivative"
        return
    except Exception as error:  # of the operator itself, which does not take this layout
        with pytest.raises(type(error), match=re.escape(str(error)[:40])):
            f(point)
        return
    if right is not None and _close(found, right, 1e-8):
        assert not _dropped(f, point, columns, found), "torch has dropped the tangents"
        return
    if not _close((f(point), []), (f(point), []), 0):
        return  # random: it has no derivative to be held against
    (right,) = expected(Case(f, point), columns)  # of this very layout, which some read (``as_strided``)
    if right is None or not _close(found, right, 1e-8):
        # Also where the two differ: torch 2.13 rolls the tangents of a number among each other.
        assert _close(found, differences(f, point, columns), 1e-5)


def _dropped(f: Callable[[Point], list[Tensor]], point: Point, columns: Point, found: Result) -> bool:
    """Whether the result, of which torch says that it does not move at all, moves smoothly."""
    if any(leaf.any() for leaf in found[1]) or not any(leaf.numel() for leaf in point):
        return False
    steps = [differences(f, point, columns, step)[1][0] for step in (1e-6, 1e-5)]
    moved = steps[0].isfinite().all() and steps[0].abs().max() > 1e-4 if steps[0].numel() else False
    return bool(moved) and torch.allclose(*steps, rtol=1e-3)


def _close(found: Result, right: Result, tolerance: float) -> bool:
    pairs = [
        pair for ours, theirs in zip(found, right, strict=True) for pair in zip(ours, theirs, strict=True)
    ]
    return all(
        a.shape == b.shape
        and (a.dtype == b.dtype or a.dtype.is_floating_point == b.dtype.is_floating_point)
        and torch.allclose(a.to(b.dtype), b, rtol=tolerance, atol=tolerance, equal_nan=True)
        for a, b in pairs
    )


@EVERY
def test_every_sample(name: str) -> None:
    """Values and columns: all operands moving, with three tangents, one by one or as one batch; and operands
    that are not contiguous, of which one moves, along a tangent that is spread out."""
    for number, case in enumerate(cases(OPERATORS[name])):
        alone = number % len(case.point)
        dense, spread = tangents(case.point, alone)
        right, right_alone = expected(case, dense, spread)
        both = number < THOROUGH
        if both or number % 2:
            assert_right(case.f, case.point, dense, right, 3 if number % 3 else 1)
        if right is not None and (both or not number % 2):
            elsewhere = tuple(map(noncontiguous_like, case.point))
            f = only(case, elsewhere, alone)
            assert_right(f, (elsewhere[alone],), (spread[alone],), right_alone)


@EVERY
def test_as_methods_and_in_place(name: str) -> None:
    """An in-place method is right where the function is, whether or not torch can differentiate it."""
    op = OPERATORS[name]
    methods = [op.method_variant] if op.method_variant not in (None, op.op) else []
    for method in methods:
        for case in cases(op, method, FEW):
            dense, _ = tangents(case.point)
            assert_right(case.f, case.point, dense, expected(case, dense)[0])
    if op.inplace_variant is None:
        return
    for plain, case in zip(cases(op, None, FEW), cases(op, _written(op.inplace_variant), FEW), strict=True):
        try:
            (value,) = case.f(plain.point)
        except Exception:
            continue  # its result has another shape or dtype
        if value.shape != plain.point[0].shape:
            continue  # resized, which torch itself advises against
        dense, _ = tangents(plain.point)
        assert_right(case.f, plain.point, dense, expected(plain, dense)[0])


def _written(method: Callable[..., Any]) -> Callable[..., Any]:
    def call(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        copy = input.clone()
        method(copy, *args, **kwargs)
        return copy

    return call
