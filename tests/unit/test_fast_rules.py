"""Every rule of the fast engine against torch's own forward mode, on the table of ``tests.operators``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any, NoReturn

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.func import vmap
from torch.utils._pytree import tree_leaves

import adapt.forward.fast.fallback as fallback_module
from adapt.forward.errors import Unsupported, operation_name
from adapt.forward.fast import fast
from adapt.forward.fast.dual import RULES
from adapt.forward.fast.rules import (
    arithmetic,
    attention,
    elementwise,
    inplace,
    linear,
    losses,
    metadata,
    normalization,
    products,
)
from adapt.forward.reference import reference
from tests.helpers import distance
from tests.operators import ARGUMENTS, FAMILIES, POSITIVE, SHAPES, Call, M, V, constant, operands

F64 = torch.float64
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
CALLS = {f"{family}: {name}": call for family, calls in FAMILIES.items() for name, call in calls.items()}
ROWS = pytest.mark.parametrize("row", CALLS.values(), ids=CALLS.keys())
K = 4


@pytest.fixture
def rules_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operation that is left to torch's ``jvp`` fails the test."""

    def refuse(func: Any, *_: Any) -> NoReturn:
        raise AssertionError(f"no rule for {operation_name(func)} called like this")

    users = (arithmetic, attention, elementwise, linear, losses, normalization, products)
    for module in (fallback_module, *users):
        monkeypatch.setattr(module, "fallback", refuse)


def moving_subsets(
    call: Call, dtype: torch.dtype
) -> Iterator[tuple[Callable[[Any], Any], tuple[Tensor, ...]]]:
    """``(f, point)`` for each choice of operands that move; the others are constants."""
    values = operands(call, dtype)
    for size in range(len(values), 0, -1):
        for chosen in combinations(range(len(values)), size):

            def f(point: tuple[Tensor, ...], chosen: tuple[int, ...] = chosen) -> Any:
                filled = list(values)
                for i, value in zip(chosen, point, strict=True):
                    filled[i] = value
                return call.f(*filled)

            yield f, tuple(values[i] for i in chosen)


def directions(point: tuple[Tensor, ...], k: int = K, seed: int = 9) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(k, *leaf.shape, generator=generator, dtype=F64).to(leaf.dtype) for leaf in point)


def assert_same(ours: Any, theirs: Any, tolerance: float) -> None:
    pairs = list(zip(tree_leaves(ours), tree_leaves(theirs), strict=True))
    assert pairs
    for a, b in pairs:
        assert a.dtype == b.dtype
        assert distance(a.detach(), b.detach()) <= (tolerance if a.dtype == F64 else 1e-5)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@ROWS
def test_a_rule_equals_the_reference(row: Call, dtype: torch.dtype, rules_only: None) -> None:
    """Whichever operands move, and however many tangents travel as one batch."""
    for f, point in moving_subsets(row, dtype):
        tangents = directions(point)
        expected = reference(f, point, tangents)
        for chunk in (1, 2, K):
            assert_same(fast(f, point, tangents, chunk), expected, TOLERANCE[dtype])


@ROWS
def test_a_rule_under_no_grad_equals_itself_with_gradients(row: Call) -> None:
    """Without gradients, rules write into memory that they have just allocated."""
    for f, point in moving_subsets(row, F64):
        tangents = directions(point)
        copies = [t.clone() for t in (*point, *tangents)]
        with torch.no_grad():
            ours = fast(f, point, tangents)
        assert_same(ours, fast(f, point, tangents), 1e-12)
        assert all(torch.equal(a, b) for a, b in zip((*point, *tangents), copies, strict=True))


@ROWS
def test_a_rule_under_vmap_over_tasks(row: Call) -> None:
    """Every task has its own operands and tangents."""
    tasks = [operands(row, seed=seed) for seed in range(3)]
    if row is CALLS["linear: __getitem__, a mask"]:
        pytest.skip("vmap does not know shapes that depend on values")
    points = tuple(torch.stack(parts) for parts in zip(*tasks, strict=True))
    tangents = tuple(
        torch.stack(parts) for parts in zip(*(directions(p, 2, i) for i, p in enumerate(tasks)), strict=True)
    )

    def push(chunk: int) -> Callable[..., Any]:
        return lambda point, v: fast(lambda p: row.f(*p), point, v, chunk)

    alone = [push(1)(task, directions(task, 2, i)) for i, task in enumerate(tasks)]
    for chunk in (1, 2):
        together = tree_leaves(vmap(push(chunk))(points, tangents))
        for t, result in enumerate(alone):
            assert_same([leaf[t] for leaf in together], tree_leaves(result), 1e-10)


@ROWS
def test_a_rule_can_be_differentiated_in_reverse(row: Call) -> None:
    """Reverse over forward: the gradient of values and columns, against differences."""
    point = operands(row)
    if row is CALLS["elementwise: F.hardsigmoid"]:
        pytest.skip("torch itself cannot differentiate its slope")
    if any(leaf.numel() == 0 for leaf in point):
        return
    tangents = directions(point, 2)
    inputs = tuple(leaf.clone().requires_grad_(True) for leaf in (*point, *tangents))

    def push(*flat: Tensor) -> tuple[Tensor, ...]:
        n = len(point)
        leaves = tree_leaves(fast(lambda p: row.f(*p), flat[:n], flat[n:]))
        return tuple(leaf for leaf in leaves if leaf.dtype == F64 and leaf.requires_grad)

    if push(*inputs):  # float32 results are too coarse for differences
        assert gradcheck(push, inputs, fast_mode=True)


# --------------------------------------------------------------------------------------------- in place

#: Of the methods that a rule writes back in place: those that need no more than ``ARGUMENTS``.
IN_PLACE = {
    plain.__name__: method
    for method, plain in inplace._pairs().items()
    if RULES.get(plain) not in (None, metadata.constant)
}


@pytest.mark.parametrize("name", sorted(IN_PLACE))
def test_in_place_methods_write_value_and_tangents(name: str, rules_only: None) -> None:
    """As the method without underscore, which torch can differentiate more often."""
    plain, arguments = getattr(Tensor, name), ARGUMENTS.get(name, ())
    shift = 1 if name == "acosh" else 0

    def written(x: Tensor) -> Tensor:
        copy = x + shift
        assert IN_PLACE[name](copy, *arguments) is copy
        return copy * x

    point = operands(Call(written, (SHAPES.get(name, M),), positive=name in POSITIVE.split()))[0]
    tangents = directions((point,))[0]
    expected = reference(lambda x: plain(x + shift, *arguments) * x, point, tangents)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            assert_same(fast(written, point, tangents), expected, 1e-10)


@pytest.mark.parametrize(
    "change",
    {
        "a rule": lambda x, y: x.mul_(y),
        "no rule": lambda x, y: x.lerp_(y, 0.3),
        "a power": lambda x, y: x.__ipow__(2),
        "a step function": lambda x, y: x.floor_(),
        "a comparison": lambda x, y: x.gt_(0),
        "an activation": lambda x, y: torch.nn.functional.silu(x, inplace=True),
        "copy": lambda x, y: x.copy_(y[0]),
        "copy, plain": lambda x, y: x.copy_(constant(3, 4)),
        "fill": lambda x, y: x.fill_(0.1),
        "fill, moving": lambda x, y: x.fill_(y[0, 0]),
        "zero": lambda x, y: x.zero_(),
        "an item": lambda x, y: x.__setitem__((slice(None), 1), y[0, :3]),
        "an item, a number": lambda x, y: x.__setitem__(0, 2.0),
        "a mask": lambda x, y: x.__setitem__(constant(3, 4) > 0, 2.0),
        "another dtype": lambda x, y: x.mul_(y.float()),
        "itself": lambda x, y: x.sub_(x.flip(0)),
    }.items(),
    ids=lambda item: item[0],
)
def test_what_is_written_in_place_is_right(change: tuple[str, Callable[[Tensor, Tensor], Any]]) -> None:
    def f(p: tuple[Tensor, Tensor]) -> Tensor:
        copy = p[0].clone()
        change[1](copy, p[1])
        return copy * p[1] + p[0]

    point = operands(Call(f, (M, M)))
    tangents = directions(point)
    expected = reference(f, point, tangents)
    for chunk in (1, 2):
        assert_same(fast(f, point, tangents, chunk), expected, 1e-10)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x.view(-1).mul_(2) * 0 + x.view(-1),
        lambda x: (x[0].exp_(), x)[1],
        lambda x: x.t_() * 1,
        lambda x: x.unsqueeze_(0) * 1,
        lambda x: torch.relu_(x),
        lambda x: torch.zeros(3, 4, dtype=F64).add_(x),
        lambda x: torch.zeros(3, 4, dtype=F64).index_add_(0, torch.tensor([0, 0, 1]), x),
        lambda x: x.detach().zero_() + x,
        lambda x: torch.exp(x, out=torch.empty(3, 4, dtype=F64)),
        lambda x: x.__dlpack__(),
        lambda x: torch.fft.fft(x).abs(),
    ],
)
def test_what_is_not_sound_is_refused(f: Callable[[Tensor], Any]) -> None:
    with pytest.raises(Unsupported):
        fast(lambda x: f(x * 1), torch.ones(3, 4, dtype=F64), torch.ones(2, 3, 4, dtype=F64))


# -------------------------------------------------------------------------------- what has no derivative

#: What a method of no derivative is called with.
CONSTANT = {
    "new_full": ((2,), 1.0),
    "new_zeros": (2,),
    "new_ones": (2,),
    "new_empty": (0,),
    "__format__": ("",),
}
CONSTANT |= {"new_tensor": (2.0,), "result_type": (1.0,), "searchsorted": (0.5,), "full_like": (2.0,)}
CONSTANT |= {"bucketize": (constant(3),), "empty_like": (), "size": (0,)}
NUMBERS = ("__bool__", "__float__", "__int__", "item")


NO_DERIVATIVE = [key for key, found in RULES.items() if found is metadata.constant]


@pytest.mark.parametrize(
    "function", NO_DERIVATIVE, ids=lambda function: getattr(function, "__name__", "property")
)
def test_what_has_no_derivative_is_that_of_the_value(function: Any) -> None:
    name = getattr(function, "__name__", "")
    if name in ("__index__", "one_hot", "data_ptr", "empty_like", "new_empty", "__hash__", "get_device"):
        pytest.skip("of whole numbers, or of memory")
    value = operands(Call(abs, (() if name in NUMBERS else V,)))[0].sort()[0]
    arguments = CONSTANT.get(name, ARGUMENTS.get(name, ()))
    if arguments and isinstance(arguments[0], Tensor) and name != "bucketize":
        arguments = (constant(4),)
    expected = function(value, *arguments)
    seen = []
    fast(
        lambda x: (seen.append(function(x, *arguments)), x)[1], value, torch.ones(1, *value.shape, dtype=F64)
    )
    assert type(seen[0]) is type(expected)
    if isinstance(expected, Tensor):
        assert torch.equal(seen[0], expected)
    else:
        assert seen[0] == expected


#: No different from functions that are tested: other dtypes, and names that Python's operators do not use.
SAME = (
    "bfloat16 cuda half sigmoid special_erf tanh __add__ __matmul__ __mul__ __radd__ __rmul__ __sub__ "
    "__truediv__"
)


def test_every_rule_is_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each key of the table of rules is called by a row, or belongs to a test above."""
    above = (metadata.__name__, inplace.__name__)
    expected = {function for function, found in RULES.items() if found.__module__ not in above}
    expected -= {
        function for function, found in RULES.items() if found in (linear.as_strided, arithmetic.glu)
    }  # test_fast_layout
    called = set()
    for function, found in list(RULES.items()):

        def noted(func: Any, *args: Any, found: Any = found, **kwargs: Any) -> Any:
            called.add(func)
            return found(func, *args, **kwargs)

        monkeypatch.setitem(RULES, function, noted)
    for row in CALLS.values():
        point = operands(row)
        fast(lambda p, row=row: row.f(*p), point, directions(point, 1))
    missing = {function.__name__ for function in expected - called}
    assert missing <= {*SAME.split()}
