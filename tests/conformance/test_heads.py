"""The contract of heads, for every row of the table."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.func import vmap
from torch.nn.functional import cross_entropy

from adapt.heads import Head, Logistic, one_hot
from adapt.heads.base import state_shape
from adapt.heads.leave_one_out import fit_and_leave_out
from tests.conformance.head_tables import HEADS, HeadRow
from tests.conformance.tables import DTYPES, F64, TOLERANCE, randn, rows
from tests.helpers import distance


def normal_rows(x: Tensor) -> np.ndarray:
    return (x / x.norm(dim=1, keepdim=True) * x.shape[1] ** 0.5).numpy()


def classification(n: int, d: int, c: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    return randn(n, d, seed=seed), one_hot(torch.arange(n) % c, c, F64)


#: (n, D, C): more features than examples, fewer, and as many with the intercept.
SIZES = pytest.mark.parametrize("size", [(6, 10, 3), (9, 3, 2), (6, 5, 2)], ids=str)


def learning() -> pytest.MarkDecorator:
    """Parametrise ``row`` over the heads that learn something."""
    return rows({name: row for name, row in HEADS.items() if row.learns})


def targets_for(head: Head, n: int, c: int) -> list[Tensor]:
    kinds = [one_hot(torch.arange(n) % c, c, F64)]
    return [*kinds, randn(n, c, seed=9)] if head.supports_regression else kinds


@SIZES
@rows({name: row for name, row in HEADS.items() if row.reference is not None})
def test_head_equals_its_reference(row: HeadRow, size: tuple[int, int, int]) -> None:
    n, d, c = size
    x, q = randn(n, d), randn(4, d, seed=1)
    for y in targets_for(row.head, n, c):
        ours = row.head.logits(row.head.fit(x, y), q)
        arrays = [normal_rows(it) if row.learns else it.numpy() for it in (x, q)]
        assert row.reference is not None
        theirs = torch.from_numpy(row.reference(row.head, arrays[0], y.numpy(), arrays[1]))
        assert distance(ours, theirs) <= 1e-6


@SIZES
@rows(HEADS)
def test_a_head_says_what_its_state_looks_like(row: HeadRow, size: tuple[int, int, int]) -> None:
    n, d, c = size
    for y in targets_for(row.head, n, c):
        state = row.head.fit(randn(n, d), y)
        known, unknown = state_shape(row.head, d, c), state_shape(row.head, None, c)
        assert known is not None and unknown is not None and state.ndim == len(known) == len(unknown)
        for found, *said in zip(state.shape, known, unknown, strict=True):
            assert {*said} <= {found, None}
        # A state of other features or outputs is told from it.
        assert row.head.fit(randn(n, d), y).numel() == 0 or known != state_shape(row.head, d + 1, c)


@SIZES
@rows(HEADS)
def test_leave_one_out_is_fitting_without_each_example(row: HeadRow, size: tuple[int, int, int]) -> None:
    n, d, c = size
    x = randn(n, d)
    for y in targets_for(row.head, n, c):
        refitted = []
        for i in range(n):
            others = torch.arange(n) != i
            refitted.append(row.head.logits(row.head.fit(x[others], y[others]), x[i : i + 1])[0])
        assert distance(row.head.loo_logits(x, y), torch.stack(refitted)) <= 1e-8


@pytest.mark.parametrize("size", [(18, 24, 3), (18, 5, 3)], ids=str)
@rows(HEADS)
def test_one_fit_says_nearly_what_leaving_out_does(row: HeadRow, size: tuple[int, int, int]) -> None:
    """The same state; of the way from outputs of the fit on all examples, a fourth remains at most. In a
    batch as alone. A regularisation is not chosen anew for each example."""
    n, d, c = size
    for y in targets_for(row.head, n, c):
        x = torch.stack([randn(n, d, seed=seed) + y @ randn(c, d, seed=5) for seed in (0, 1)])
        states, found = vmap(lambda x, y=y: fit_and_leave_out(row.head, x, y))(x)
        for i in (0, 1):
            assert distance(states[i], row.head.fit(x[i], y)) <= 1e-6
            choice = getattr(row.head, "chosen", None)
            fixed = row.head if choice is None else Logistic(choice(x[i], y), steps=10)
            exact, seen = fixed.loo_logits(x[i], y), row.head.logits(states[i], x[i])
            assert (found[i] - exact).norm() <= 0.25 * (seen - exact).norm() + 1e-9


@rows(HEADS)
def test_leave_one_out_of_a_class_of_one(row: HeadRow) -> None:
    x, y = randn(4, 6), one_hot(torch.tensor([0, 1, 1, 1]), 2, F64)
    loo = row.head.loo_logits(x, y)
    others = torch.arange(4) != 0
    assert distance(loo[:1], row.head.logits(row.head.fit(x[others], y[others]), x[:1])) <= 1e-8


@pytest.mark.parametrize("size", [(4, 6, 2), (6, 2, 2)], ids=str)
@rows(HEADS)
def test_head_is_differentiable(row: HeadRow, size: tuple[int, int, int]) -> None:
    x, y = classification(*size)
    q = randn(2, size[1], seed=1)
    inputs = (x.requires_grad_(True), q.requires_grad_(True))
    assert gradcheck(lambda x, q: row.head.logits(row.head.fit(x, y), q).softmax(-1), inputs, fast_mode=True)
    assert gradcheck(lambda x: row.head.loo_logits(x, y).softmax(-1), inputs[:1], fast_mode=True)


@DTYPES
@rows(HEADS)
def test_head_under_vmap_is_a_loop_over_tasks(row: HeadRow, dtype: torch.dtype) -> None:
    x, q = randn(3, 6, 8, dtype=dtype), randn(3, 4, 8, seed=1, dtype=dtype)
    y = one_hot(
        torch.stack([torch.arange(6) % 3, torch.arange(6) // 2, torch.tensor([2, 2, 1, 1, 0, 0])]), 3, dtype
    )

    def run(x: Tensor, y: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        return row.head.logits(row.head.fit(x, y), q), row.head.loo_logits(x, y)

    together = vmap(run)(x, y, q)
    alone = [run(x[t], y[t], q[t]) for t in range(3)]
    # Iterative solvers amplify the different rounding of batched kernels.
    tolerance = 20 * TOLERANCE[dtype]
    for k in range(2):
        assert distance(together[k], torch.stack([outputs[k] for outputs in alone])) <= tolerance


@learning()
def test_head_does_not_care_for_order_or_scale(row: HeadRow) -> None:
    """Examples permuted or features scaled: nothing changes. Classes permuted: columns follow."""
    (x, y), q = classification(9, 4, 3), randn(5, 4, seed=1)
    order, columns = torch.tensor([3, 1, 8, 0, 7, 2, 6, 4, 5]), torch.tensor([2, 0, 1])
    logits, loo = row.head.logits(row.head.fit(x, y), q), row.head.loo_logits(x, y)
    again = row.head.logits(row.head.fit(x[order], y[order][:, columns]), 7 * q)
    assert distance(again, logits[:, columns]) <= 1e-8
    assert distance(row.head.loo_logits(5 * x[order], y[order][:, columns]), loo[order][:, columns]) <= 1e-8


@learning()
def test_head_survives_what_real_features_do(row: HeadRow) -> None:
    """Repeated examples, and rows of zeros as a dead ReLU layer makes them: finite values and gradients."""
    x = randn(4, 12, dtype=torch.float32).repeat(5, 1)
    x[3] = 0
    x.requires_grad_(True)
    y = one_hot(torch.arange(20) % 4, 4)
    logits = row.head.logits(row.head.fit(x, y), x)
    loss = cross_entropy(logits, y) + cross_entropy(row.head.loo_logits(x, y), y)
    (gradient,) = torch.autograd.grad(loss, x)
    assert bool(torch.isfinite(loss)) and bool(torch.isfinite(gradient).all())
    living = [i for i in range(20) if i != 3]
    assert torch.equal(logits.argmax(1)[living], y.argmax(1)[living])


WEIGHTS = torch.tensor([1, 1, 0, 1, 1, 1, 0, 0, 1], dtype=F64)


@pytest.mark.parametrize("d", [14, 3], ids=["n < D", "n > D"])
@rows(HEADS)
def test_head_of_weight_zero_is_without_those_examples(row: HeadRow, d: int) -> None:
    """Outputs, leave-one-out outputs, and their gradients, equal those of the remaining rows alone."""
    kept, q = WEIGHTS.bool(), randn(4, d, seed=1)
    for y in targets_for(row.head, 9, 3):
        x = randn(9, d).requires_grad_(True)
        few = x.detach()[kept].requires_grad_(True)

        def outputs(x: Tensor, y: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
            return row.head.logits(row.head.fit(x, y, weights), q), row.head.loo_logits(x, y, weights)

        ours, ours_loo = outputs(x, y, WEIGHTS)
        theirs, theirs_loo = outputs(few, y[kept], None)
        assert distance(ours, theirs) <= 1e-9
        assert distance(ours_loo[kept], theirs_loo) <= 1e-9
        if not row.learns:
            continue
        pulls = randn(4, 3, seed=2), randn(6, 3, seed=3)
        (got,) = torch.autograd.grad((ours, ours_loo[kept]), x, pulls)
        (expected,) = torch.autograd.grad((theirs, theirs_loo), few, pulls)
        assert distance(got[kept], expected) <= 1e-7
        assert got[~kept].abs().max() <= 1e-12  # Newton's decimals, at most


@rows(HEADS)
def test_head_of_weights_of_one_is_that_of_no_weights(row: HeadRow) -> None:
    x, q, ones = randn(9, 5), randn(2, 5, seed=1), torch.ones(9, dtype=F64)
    for y in targets_for(row.head, 9, 3):
        plainly = row.head.logits(row.head.fit(x, y), q)
        assert distance(row.head.logits(row.head.fit(x, y, ones), q), plainly) <= 1e-12
        assert distance(row.head.loo_logits(x, y, ones), row.head.loo_logits(x, y)) <= 1e-12


@rows(HEADS)
def test_head_under_vmap_over_weights_is_a_loop(row: HeadRow) -> None:
    x, q, y = randn(9, 5), randn(2, 5, seed=1), one_hot(torch.arange(9) % 3, 3, F64)
    weights = torch.stack([WEIGHTS, WEIGHTS.flip(0), torch.ones(9, dtype=F64)])

    def run(weights: Tensor) -> tuple[Tensor, Tensor]:
        return row.head.logits(row.head.fit(x, y, weights), q), row.head.loo_logits(x, y, weights)

    together = vmap(run)(weights)
    for k in range(2):
        assert distance(together[k], torch.stack([run(w)[k] for w in weights])) <= 1e-9
