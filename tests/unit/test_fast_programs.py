"""The fast engine on whole functions: what has no rule, symbolic zeros, modes, threads, random programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from adapt.backbones import call
from adapt.forward import pushforward
from adapt.forward.fast import Dual, fast
from adapt.forward.reference import reference
from tests.helpers import distance

F64 = torch.float64


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def assert_equal_to_reference(
    f: Callable[[Any], Any], x: Tensor, k: int = 2, tolerance: float = 1e-10
) -> None:
    tangents = randn(k, *x.shape, seed=8)
    expected = reference(f, x, tangents)
    for chunk in (1, k):
        ours = fast(f, x, tangents, chunk)
        for mine, theirs in zip(tree_leaves(ours), tree_leaves(expected), strict=True):
            assert mine.dtype == theirs.dtype
            assert distance(mine.double(), theirs.double()) <= tolerance


# ------------------------------------------------------------------------------------------- without a rule

Q, BAD = torch.ones(4, 3, 3, dtype=F64), torch.tensor([[True, False, True]] * 4)

WITHOUT_RULE: dict[str, Callable[[Tensor], Any]] = {
    "its parts": lambda x: (lambda found: found.values * found[0] + found.indices)(x.max(dim=1)),
    "a norm": lambda x: F.normalize(x, dim=1) + x.norm() + torch.linalg.norm(x, dim=0),
    "a number to a power": lambda x: 2**x + x.exp() ** x,
    "moving bounds": lambda x: x.clamp(min=x.flip(0)) + torch.maximum(x, -x),
    "softmax, by name": lambda x: torch.softmax(x, dim=1) + F.softmin(x, dim=1),
    "where, by name": lambda x: torch.where(x > 0, input=x, other=x * 2),
    "products, by name": lambda x: torch.dot(x[0], tensor=x[1]) + Q.baddbmm(batch1=Q, batch2=Q * x[0, 0]),
    "pooling with indices": lambda x: F.max_pool1d(x, 2, return_indices=True),
    "label probabilities": lambda x: F.cross_entropy(x, x.softmax(1)),
    "a type": lambda x: x.type(torch.float32) if "Tensor" in x.type() else x,
    "nothing that moves": lambda x: torch.ones_like(x) + (x > 0) + torch.logical_and(x > 0, x),
    "whole numbers": lambda x: (x.argmax(1), x > 0, x.long(), x.sum()),
    "a number": lambda x: x.sum() * x.sum() / (1 + x.sum() ** 2),
    "branches": lambda x: x * 2 if x.sum() > 0 else x**2 if x[0, 0].item() < 0 else x,
    "detached": lambda x: x * x.detach() + x.data * torch.detach(x),
    "a structure": lambda x: {"a": [x, (x * 2,)], "b": x.unbind(1)},
}


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # vmap of a few derivatives
@pytest.mark.parametrize("name", WITHOUT_RULE)
def test_what_has_no_rule_equals_the_reference(name: str) -> None:
    assert_equal_to_reference(WITHOUT_RULE[name], randn(4, 3))


def test_named_tuples_stay_named() -> None:
    def f(x: Tensor) -> Tensor:
        found = torch.max(x, dim=0)
        assert type(found) is torch.return_types.max
        assert type(found.values) is Dual and type(found.indices) is Tensor
        return found.values

    fast(f, randn(4, 3), randn(2, 4, 3))


# ------------------------------------------------------------------------------------------ symbolic zeros


class Count(TorchDispatchMode):
    """How often each operation is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[Any] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls[func] += 1
        return func(*args, **(kwargs or {}))


def layers() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 4), nn.Linear(4, 2)).double()


@pytest.mark.parametrize(("adapted", "products"), [("0.bias", 3 + 2 * 5), ("2.bias", 3 + 5), ("3.bias", 3)])
def test_a_frozen_layer_costs_one_product_before_what_adapts_and_one_per_tangent_after(
    adapted: str, products: int
) -> None:
    network, k = layers(), 5
    start = network.get_parameter(adapted).detach()
    with Count() as count, torch.no_grad():
        fast(lambda b: functional_call(network, {adapted: b}, (randn(2, 3),)), start, randn(k, *start.shape))
    aten = torch.ops.aten
    assert count.calls[aten.addmm.default] + count.calls[aten.mm.default] == products


def test_what_does_not_move_stays_a_plain_tensor() -> None:
    kinds = []

    def f(p: dict[str, Tensor]) -> Tensor:
        before = torch.tanh(randn(3) * 2)
        kinds.extend([type(before), type(p["a"].detach()), type(p["a"].argmax()), type(p["a"] + before)])
        return p["a"] + before

    fast(f, {"a": randn(3)}, {"a": randn(2, 3)})
    assert kinds == [Tensor, Tensor, Tensor, Dual]


# ------------------------------------------------------------------------------------------ modes and threads


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
@pytest.mark.parametrize("inside", [False, True], ids=["around", "inside"])
def test_gradient_modes_do_not_change_the_columns(mode: Callable[[], Any], inside: bool) -> None:
    x, tangents = randn(3), randn(2, 3, seed=1)

    def f(x: Tensor) -> Tensor:
        if not inside:
            return torch.tanh(x) * x
        with mode():
            y = torch.tanh(x)
        return y * x

    expected = pushforward(f, x, tangents, engine="reference")
    if inside:
        ours = pushforward(f, x, tangents)
    else:
        with mode():
            ours = pushforward(f, x, tangents)
    for mine, theirs in zip(ours, expected, strict=True):
        assert distance(mine, theirs) <= 1e-12


def test_threads_do_not_meet() -> None:
    """Several passes at once, through one network and through operations without a rule."""
    network = layers()
    tangents = torch.eye(4, dtype=F64)

    def push(seed: int) -> tuple[Tensor, Tensor]:
        x = randn(2, 3, seed=seed)
        with torch.no_grad():
            return pushforward(lambda b: F.normalize(call(network, {"0.bias": b}, x)), randn(4), tangents)

    alone = [push(seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(push, range(8)))
    for mine, theirs in zip(tree_leaves(together), tree_leaves(alone), strict=True):
        assert distance(mine, theirs) <= 1e-12


# ------------------------------------------------------------------------------------------- random programs

#: Functions of [3, 3] matrices a (moving) and b (moving or not).
STEPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": lambda a, b: a + b[0],
    "subtract": lambda a, b: 1 - a - b[:, :1],
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / (1 + b * b),
    "matmul": lambda a, b: a @ b / 3,
    "linear": lambda a, b: F.linear(a, b, b[0]) / 3,
    "tanh": lambda a, b: torch.tanh(a),
    "gelu": lambda a, b: F.gelu(a),
    "relu": lambda a, b: F.relu(a) + 0.1 * b,
    "softmax": lambda a, b: a.softmax(-1),
    "layer norm": lambda a, b: F.layer_norm(a, (3,), b[0], b[1]),
    "group norm": lambda a, b: F.group_norm(a[:, :, None], 1, weight=b[0])[..., 0],
    "attention": lambda a, b: F.scaled_dot_product_attention(a, b, a),
    "where": lambda a, b: torch.where(b > 0, a, b),
    "transpose": lambda a, b: a.T,
    "concatenate": lambda a, b: torch.cat([a[1:], b[:1]]),
    "split": lambda a, b: a.split(2)[1] * b.split(2)[1],
    "pool": lambda a, b: F.max_pool1d(a, 3, 1, 1),
    "in place": lambda a, b: a.clone().mul_(a).sub_(a.flip(0)),
    "item": lambda a, b: a.index_put((torch.tensor([0]),), b[:1]),
    "detach": lambda a, b: a.detach() + b,
    "no rule": lambda a, b: a.cummax(0).values + b.norm(),
}


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=6),
    moves=st.lists(st.booleans(), min_size=6, max_size=6),
    seed=st.integers(0, 1000),
)
def test_random_programs_equal_the_reference(names: list[str], moves: list[bool], seed: int) -> None:
    """Each step is applied to the result of the one before and to an earlier one or a constant."""
    constant = randn(3, 3, seed=seed + 1)
    # Of equal numbers a norm makes their rounding 1/√ε times as large.
    norms = sum(name.endswith("norm") for name in names)
    assume(norms <= 3)

    def f(x: Tensor) -> Tensor:
        seen = [x]
        for name, moving in zip(names, moves, strict=False):
            step = STEPS[name](seen[-1], seen[0] if moving else constant)
            seen.append(step.expand(3, 3))
        return seen[-1]

    assert_equal_to_reference(f, randn(3, 3, seed=seed), tolerance=max(1e-10, 1e-13 * 316**norms))
