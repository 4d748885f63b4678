"""Rules of the fast engine where numbers lie in memory in unlike ways, and where a function is affine.

Expected values are reverse-mode Jacobians, or of formulas written out here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from adapt.errors import AdaptError
from adapt.forward import pushforward
from adapt.forward.fast import fast
from adapt.forward.preflight import preflight
from adapt.spaces import Subspace, bias
from tests.helpers import distance, make_adapter, randomised

F64 = torch.float64


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def assert_exact(f: Callable[[Tensor], Tensor], x: Tensor, columns: Tensor | None = None) -> None:
    """The fast engine itself, one by one and as one batch, against the Jacobian."""
    columns = draw(2, *x.shape, seed=9) if columns is None else columns
    dense = jacrev(f)(x).flatten(f(x).ndim)
    right = torch.einsum("...p,kp->k...", dense, columns.flatten(1))
    for chunk in (1, len(columns)):
        value, found = fast(f, x, columns, chunk)
        assert distance(value, f(x)) == 0
        assert distance(found, right) <= 1e-12


# ------------------------------------------------------------------------------------------ a constant part


@pytest.mark.parametrize(
    "pad",
    [
        nn.ConstantPad2d(1, 0.7),
        nn.ConstantPad2d((-1, 2, 0, 3), -3.0),
        lambda x: F.pad(x, (1, 2), value=5.0),
        lambda x: F.pad(x, (2, -1, 1, 1), "constant", -1.0),
        lambda x: F.pad(x, (1, 1), mode="constant", value=float("inf")).clamp(max=2),
        lambda x: torch.constant_pad_nd(x, (1, 1, 2, 0), 4.0),
        nn.ReflectionPad2d(1),
        nn.ReplicationPad2d((2, 1, 0, 1)),
        nn.CircularPad2d(1),
    ],
)
def test_what_is_padded_with_a_number_does_not_move_there(pad: Callable[[Tensor], Tensor]) -> None:
    x = draw(2, 3, 4, 4)
    assert_exact(lambda x: pad(x) * 2, x)
    inside = fast(pad, x, torch.zeros(1, *x.shape, dtype=F64))[1]
    assert inside.abs().nan_to_num(9.0).max() == 0


class Padded(nn.Module):
    """A background of 1 around the image, as some scanners have it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4)
        self.second = nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.pad(self.norm(self.first(x)), (2, 2, 2, 2), value=1.0)
        return self.second(h).relu().mean((2, 3))


def test_a_padded_network_adapts(support: Any) -> None:
    network = randomised(Padded())
    assert not preflight(network, support[0]).blocked
    task = make_adapter(network).fit(*support)
    assert task.z.abs().max() > 0


# -------------------------------------------------------------------------------------------------- views

IMAGES, FIVE, THREE = draw(2, 4, 3, 3), draw(2, 1, 5, 5), draw(4, 1, 3, 3)


@pytest.mark.parametrize(
    "f",
    [
        lambda b: (IMAGES + b[:, None, None]).view(2, -1),
        lambda b: (IMAGES + b[:, None, None]).view(size=(2, 36)),
        lambda b: (IMAGES + b[:, None, None]).view_as(IMAGES.view(8, 9)),
        lambda b: (IMAGES[0, 0, :2, :1] + b).view(2, 2, 2).view(-1),
        lambda b: F.conv2d(FIVE, THREE, b).view(2, -1),
        lambda b: b.expand(3, 4).contiguous().view(12),
        lambda b: (IMAGES + b[:, None, None]).unflatten(1, (2, 2)).flatten(2),
    ],
)
def test_a_tangent_that_is_spread_out_can_be_viewed(f: Callable[[Tensor], Tensor]) -> None:
    assert_exact(f, draw(4))


def test_a_tangent_in_another_memory_format_can_be_viewed() -> None:
    x = draw(2, 4, 3, 3)
    columns = draw(2, 2, 3, 3, 4).permute(0, 1, 4, 2, 3)
    assert_exact(lambda x: (x * 2).view(2, 36), x, columns)


class Viewed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 4, 3), nn.Linear(4 * 14 * 14, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).view(len(x), -1))


def test_a_convolution_then_a_view_adapts_in_its_biases(support: Any) -> None:
    network = randomised(Viewed())
    space = bias(network)
    basis = torch.eye(space.size)[:, :3].clone()
    subspace = Subspace(space, space.initial, basis)

    def f(z: Tensor) -> Tensor:
        return functional_call(network, subspace.parameters(z), (support[0],))

    _, columns = pushforward(f, torch.zeros(3), torch.eye(3))
    assert distance(columns, jacrev(f)(torch.zeros(3)).movedim(-1, 0)) <= 1e-5


def test_bits_have_no_derivative_and_numbers_read_as_others_are_refused() -> None:
    _, columns = pushforward(lambda x: x * (x.view(torch.int64) > 0), draw(3), torch.eye(3, dtype=F64))
    assert torch.equal(columns, torch.diag((draw(3) > 0).double()))
    for dtype in (torch.float32, torch.complex128):
        for engine in ("fast", "reference"):
            with pytest.raises(AdaptError, match=r"^Tensor\.view cannot"):
                pushforward(
                    lambda x, d=dtype: x.view(d).abs(), draw(2), torch.eye(2, dtype=F64), engine=engine
                )


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x.as_strided((2, 2), (1, 2)),
        lambda x: x.as_strided((3,), (2,), 1) * x[0, :3],
        lambda x: x.T.as_strided((4, 3), (1, 4)),
        lambda x: x.T.as_strided((2, 2), (4, 1), 3),
        lambda x: torch.as_strided(x, (3, 3), (0, 4)),
        lambda x: torch.as_strided_copy(x, (2, 3), (1, 3), 2),
        lambda x: (x * x).as_strided((2, 2), (1, 2)) + (x.T * 2).as_strided((2, 2), (1, 2)),
        lambda x: (x[:, None] + x).as_strided((3, 4), (4, 1), 12),
    ],
)
def test_strides_are_those_of_the_value(f: Callable[[Tensor], Tensor]) -> None:
    """The tangents lie elsewhere: spread out, transposed, or as slices of one tensor."""
    x = draw(3, 4)
    for columns in (draw(2, 3, 4, seed=1), draw(2, 4, 3, seed=1).mT, draw(2, 1, 1, seed=1).expand(2, 3, 4)):
        assert_exact(f, x, columns)


def test_reading_outside_of_a_tensor_is_refused() -> None:
    x, columns = draw(6), draw(2, 6, seed=1)
    with pytest.raises(AdaptError, match=r"^Tensor\.as_strided cannot"):
        pushforward(lambda x: x[3:].as_strided((2,), (1,), 1), x, columns)


# ---------------------------------------------------------------------------------------------- attention


def written_out(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    scores = q @ k.mT * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -1e30) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(-1) @ v


Q, KV = (2, 3, 5, 4), (2, 3, 6, 4)


@pytest.mark.parametrize(
    ("shapes", "mask"),
    [
        ((Q, KV, KV), (5, 6)),
        ((Q, KV, KV), (2, 1, 1, 6)),
        ((Q, KV, KV), (1, 3, 5, 6)),
        (((2, 1, 5, 4), (1, 3, 6, 4), (1, 1, 6, 2)), (2, 3, 5, 6)),
        (((5, 4), (3, 6, 4), (2, 1, 6, 4)), (1, 6)),
        (((3, 5, 4), KV, (3, 6, 4)), (2, 3, 5, 6)),
        (((1, 3, 5, 4), (1, 3, 6, 4), (1, 3, 6, 4)), (2, 3, 5, 6)),  # torch's plain kernel refuses this one
        (((5, 4), (6, 4), (6, 4)), (7, 5, 6)),
    ],
)
@pytest.mark.parametrize("kind", ["added", "boolean", "moving"])
def test_attention_broadcasts_queries_keys_values_and_masks(shapes: Any, mask: Any, kind: str) -> None:
    parts = [draw(*shape, seed=i) for i, shape in enumerate(shapes)]
    sizes = [part.numel() for part in parts]
    drawn = draw(*mask, seed=7)
    plain = drawn > -1 if kind == "boolean" else drawn
    if kind == "moving":
        parts.append(drawn)
        sizes.append(drawn.numel())

    def split(x: Tensor) -> list[Tensor]:
        pieces = [piece.view(part.shape) for piece, part in zip(x.split(sizes), parts, strict=True)]
        return pieces if kind == "moving" else [*pieces, plain]

    x = torch.cat([part.flatten() for part in parts])
    columns = draw(2, x.numel(), seed=8)
    dense = jacrev(lambda x: written_out(*split(x)))(x)
    for chunk in (1, 2):
        value, found = fast(lambda x: F.scaled_dot_product_attention(*split(x)), x, columns, chunk)
        assert distance(value, written_out(*split(x))) <= 1e-12
        assert distance(found, torch.einsum("...p,kp->k...", dense, columns)) <= 1e-12


def test_grouped_queries_with_a_mask_of_their_own() -> None:
    q, k, v, mask = draw(2, 4, 5, 4), draw(2, 2, 6, 4, seed=1), draw(2, 2, 6, 4, seed=2), draw(1, 4, 5, 6)
    columns = draw(2, *k.shape, seed=9)
    value, found = fast(lambda k: F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True), k, columns)

    def right(k: Tensor) -> Tensor:
        return written_out(q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1), mask)

    assert distance(value, right(k)) <= 1e-12
    dense = jacrev(right)(k).flatten(4)
    assert distance(found, torch.einsum("...p,kp->k...", dense, columns.flatten(1))) <= 1e-12


# ----------------------------------------------------------------------------------- what torch drops

ROWS, LABELS = draw(3, 4), torch.tensor([0, 3, 1])
POSITIVE = torch.tensor([0.5, 1.0, 2.0, 1.5], dtype=F64)


@pytest.mark.parametrize(
    "f",
    [
        lambda w: F.nll_loss(ROWS, LABELS, w),
        lambda w: F.nll_loss(ROWS * w, LABELS, w, reduction="sum"),
        lambda w: F.cross_entropy(ROWS * w, LABELS, weight=w, ignore_index=3),
        lambda w: F.nll_loss(ROWS[:, :, None] * w[:, None], LABELS[:, None], w, reduction="none"),
        lambda w: F.batch_norm(ROWS, w, POSITIVE),
        lambda w: F.batch_norm(ROWS * w, POSITIVE, w, w, w),
        lambda w: F.instance_norm(IMAGES, POSITIVE, w, use_input_stats=False),
    ],
)
def test_weights_of_classes_and_running_statistics_that_move(f: Callable[[Tensor], Tensor]) -> None:
    """Torch's own derivative along them is 0, without a word: expected are central differences."""
    columns = draw(2, 4, seed=3)
    right = torch.stack([(f(POSITIVE + 1e-6 * v) - f(POSITIVE - 1e-6 * v)) / 2e-6 for v in columns])
    value, found = fast(f, POSITIVE, columns)
    assert distance(value, f(POSITIVE)) <= 1e-12
    assert distance(found, right) <= 1e-8


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(F64, 1e-12), (torch.bfloat16, 3e-2), (torch.float16, 3e-3)]
)
def test_gated_linear_units_in_any_precision(dtype: torch.dtype, tolerance: float) -> None:
    """Torch's own forward derivative knows no lower precision on a CPU."""
    x, columns = draw(3, 4), draw(2, 3, 4, seed=5)
    value, found = fast(lambda x: F.glu(x, 1), x.to(dtype), columns.to(dtype))
    a, gate = x[:, :2], x[:, 2:].sigmoid()
    right = columns[..., :2] * gate + a * gate * (1 - gate) * columns[..., 2:]
    assert value.dtype == dtype
    assert distance(value.double(), a * gate) <= tolerance
    assert distance(found.double(), right) <= tolerance
