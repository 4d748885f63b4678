"""The dtype in which a backbone takes its input: that of its first layer, whatever is adapted or comes
first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapt import AdaptError, FewShotAdapter
from adapt.adapter import initial_state
from adapt.adapter.method import Context, Support
from adapt.backbones import Images, Mlp, input_dtype, inputs_for, own
from adapt.baselines import Finetune, HeadOnly
from adapt.heads import Logistic
from adapt.spaces import film, named
from tests.misbehaving import Tokens

F16, BF16, F32, F64, I64 = torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64
REAL = torch.rand(4, 6, generator=torch.Generator().manual_seed(0))
WHOLE = torch.randint(0, 5, (4, 6), generator=torch.Generator().manual_seed(0))
STEPS = REAL.reshape(4, 2, 3)


class Net(nn.Module):
    """Parts in the order in which they are registered, and what is done with them."""

    def __init__(self, does: Callable[[Any, Tensor], Tensor], **parts: Any) -> None:
        super().__init__()
        self.does = does
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.does(self, x)


def linear(inputs: int = 6, outputs: int = 4, dtype: torch.dtype = F32) -> nn.Linear:
    return nn.Linear(inputs, outputs, dtype=dtype)


def mixed(convert: Callable[[Tensor], Tensor], rest: Callable[[Tensor], Tensor]) -> nn.Module:
    """A column of categories, and columns of numbers."""
    return Net(
        lambda net, x: net.table(convert(x[:, 0])) + net.linear(rest(x[:, 1:])),
        table=nn.Embedding(5, 3),
        linear=linear(5, 3),
    )


def weight_norm(dtype: torch.dtype) -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.weight_norm(linear(dtype=dtype)))


def images() -> nn.Module:
    return Images(nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten()), size=4, mean=[0.5], std=[0.5])


def same(x: Tensor) -> Tensor:
    return x


#: Name → network, examples, and the dtype that it takes.
CASES: dict[str, tuple[Callable[[], nn.Module], Tensor, torch.dtype]] = {
    "single": (linear, REAL, F32),
    "single, given double": (linear, REAL.double(), F32),
    "double": (lambda: linear(dtype=F64), REAL, F64),
    "half": (lambda: linear(dtype=F16), REAL, F16),
    "brain float": (lambda: linear(dtype=BF16), REAL, BF16),
    "a wide head": (
        lambda: Net(lambda n, x: n.b(n.a(x).double()), a=linear(), b=linear(4, 2, F64)),
        REAL,
        F32,
    ),
    "a wide head that is registered first": (
        lambda: Net(lambda n, x: n.head(n.body(x).double()), head=linear(4, 2, F64), body=linear()),
        REAL,
        F32,
    ),
    "narrow norms that are registered first": (
        lambda: Net(
            lambda n, x: n.norm(n.body(x).bfloat16()).float(), norm=nn.LayerNorm(4, dtype=BF16), body=linear()
        ),
        REAL,
        F32,
    ),
    "a norm at the beginning": (
        lambda: nn.Sequential(nn.LayerNorm(6, dtype=F64), linear(dtype=F64)),
        REAL,
        F64,
    ),
    "converts its input": (lambda: Net(lambda n, x: n.a(x.bfloat16()), a=linear(dtype=BF16)), REAL, F32),
    "converts its input to double": (
        lambda: Net(lambda n, x: n.a(x.double()), a=linear(dtype=F64)),
        REAL,
        F64,
    ),
    "scales, then multiplies": (
        lambda: Net(lambda n, x: n.a(x * n.s), s=nn.Parameter(torch.ones(6, dtype=F64)), a=linear(dtype=F64)),
        REAL,
        F64,
    ),
    "a matrix of its own": (
        lambda: Net(lambda n, x: x @ n.w, w=nn.Parameter(torch.ones(6, 2, dtype=F64))),
        REAL,
        F64,
    ),
    "a fixed kernel": (
        lambda: Net(lambda n, x: F.linear(x, n.k), k=nn.Buffer(torch.ones(2, 6, dtype=F64))),
        REAL,
        F64,
    ),
    "computed weights": (lambda: weight_norm(F64), REAL, F64),
    "recurrent": (
        lambda: Net(lambda n, x: n.r(x)[0][:, -1], r=nn.GRU(3, 2, batch_first=True, dtype=F64)),
        STEPS,
        F64,
    ),
    "attention": (
        lambda: Net(
            lambda n, x: n.a(x, x, x)[0].mean(1), a=nn.MultiheadAttention(3, 1, batch_first=True, dtype=F64)
        ),
        STEPS,
        F64,
    ),
    "images, given double": (images, torch.rand(2, 3, 8, 8, dtype=F64), F32),
    "images, given bytes": (images, torch.ones(2, 3, 8, 8, dtype=torch.uint8), F32),
    "no weights": (nn.Flatten, REAL, F32),
    "whole numbers for a linear layer": (linear, WHOLE, F32),
    "bytes that are divided": (
        lambda: Net(lambda n, x: n.a(x / 255), a=linear()),
        WHOLE.to(torch.uint8),
        F32,
    ),
    "categories": (lambda: nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), linear(18, 2)), WHOLE, I64),
    "categories, given as real numbers": (
        lambda: nn.Sequential(nn.Embedding(5, 3), nn.Flatten()),
        WHOLE.double(),
        I64,
    ),
    "categories in a bag": (lambda: nn.EmbeddingBag(5, 3), WHOLE, I64),
    "categories, one-hot": (
        lambda: Net(lambda n, x: n.a(F.one_hot(x, 5).float().flatten(1)), a=linear(30)),
        WHOLE,
        I64,
    ),
    "categories, looked up by hand": (
        lambda: Net(lambda n, x: n.a(n.t.weight[x].flatten(1)), t=nn.Embedding(5, 3), a=linear(18)),
        WHOLE,
        I64,
    ),
    "categories and numbers": (lambda: mixed(lambda c: c.long(), same), REAL, F32),
    "categories and numbers, all whole": (lambda: mixed(lambda c: c.long(), same), WHOLE, F32),
    "categories and numbers, which it converts": (lambda: mixed(same, lambda r: r.float()), WHOLE, I64),
    "texts": (lambda: Tokens(True), WHOLE, I64),
}


@pytest.mark.parametrize(("build", "x", "expected"), CASES.values(), ids=CASES.keys())
def test_it_is_that_of_the_first_layer(
    build: Callable[[], nn.Module], x: Tensor, expected: torch.dtype
) -> None:
    network = build().eval()
    assert input_dtype(network, x) == expected
    with torch.no_grad():
        assert network(x.to(expected)).isfinite().all()  # which it takes
    assert input_dtype(network, x) == expected  # remembered


def test_it_may_be_stated() -> None:
    converting = Net(lambda n, x: n.a((x.double() - 1e9).float()), a=linear())
    backbone, info = own(converting, input_dtype="float64")
    assert info.input_dtype == "float64" and input_dtype(backbone, REAL) == F64
    assert inputs_for(backbone, REAL).dtype == F64 and inputs_for(backbone, WHOLE).dtype == I64
    with pytest.raises(AdaptError, match="input_dtype=flaot64: torch knows no such dtype"):
        own(linear(), input_dtype="flaot64")


def test_without_examples_it_is_what_was_found_or_that_of_the_first_parameter() -> None:
    network = Net(lambda n, x: n.head(n.body(x).double()), head=linear(4, 2, F64), body=linear())
    assert input_dtype(network) == F64
    input_dtype(network, REAL)
    assert input_dtype(network) == F32
    network.double()
    assert input_dtype(network, REAL) == F64  # it was changed
    assert torch.vmap(lambda x: inputs_for(network, x))(REAL[None].float()).dtype == F64


Y = np.array(["a", "b"] * 4)


def adapter_on(backbone: nn.Module, space: Any) -> FewShotAdapter:
    directions = torch.zeros(space.size, 2).to(space.initial)
    return FewShotAdapter(backbone, space, initial_state(space.initial, directions))


def test_an_adapter_of_a_wide_head_gives_the_network_what_it_takes() -> None:
    """The features are those of the network called by hand."""
    network = Net(lambda n, x: n.head(n.body(x).double()), head=linear(4, 3, F64), body=linear())
    adapter = adapter_on(network, named("head", network, ["head.bias"]))
    x = torch.rand(8, 6, dtype=F64, generator=torch.Generator().manual_seed(1))
    assert adapter.examples(x).dtype == F32
    assert adapter.fit(x, Y).predict(x).shape == (8,)


def test_an_adapter_of_narrow_norms_gives_the_network_what_it_takes() -> None:
    network = Net(
        lambda n, x: n.norm(n.body(x).bfloat16()).float(), norm=nn.LayerNorm(4, dtype=BF16), body=linear()
    )
    adapter = adapter_on(network, film(network))
    x = 1 + 1e-4 * torch.rand(8, 6, generator=torch.Generator().manual_seed(1))  # which bfloat16 would merge
    assert torch.equal(adapter.examples(x), x)


def test_an_adapter_takes_categories() -> None:
    network = nn.Sequential(nn.Embedding(30_000_001, 1), nn.Flatten(), linear(2, 3))
    adapter = adapter_on(network, named("last", network, ["2.bias"]))
    x = np.array([[2**24 + 1, 0], [2**24, 1]] * 4)  # which single precision would merge
    assert adapter.examples(x).tolist() == x.tolist()
    assert adapter.examples(x.astype(float)).dtype == I64
    with pytest.raises(AdaptError, match=r"x\[1\] holds numbers that are not whole"):
        adapter.examples(np.array([[1.0, 2.0], [1.0, 2.5]]))


@pytest.mark.parametrize("method", [HeadOnly(Logistic()), Finetune(steps=2)], ids=str)
@pytest.mark.parametrize(
    "build",
    [
        lambda: linear(dtype=F64),
        lambda: Net(lambda n, x: n.head(n.body(x).double()), head=linear(4, 2, F64), body=linear()),
        lambda: Net(
            lambda n, x: n.a(x) + n.whole.to(x), a=linear(), whole=nn.Parameter(torch.ones(4).int(), False)
        ),
        lambda: Mlp((6, 4)),
    ],
    ids=["double", "wide head", "whole numbers", "single"],
)
def test_baselines_give_the_network_what_it_takes(method: Any, build: Callable[[], nn.Module]) -> None:
    x = torch.rand(8, 6, generator=torch.Generator().manual_seed(1))
    support = Support(x, torch.tensor([0, 1] * 4), ("a", "b"))
    predict = method.prepare(Context(build(), None))(support, lambda watched: watched(x))  # type: ignore[arg-type]
    assert predict(x).shape == (8, 2)
