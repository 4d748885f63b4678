"""The contract of gradient estimators, for every row of the table."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import vmap

from adapt.forward.estimators import SPSA, Estimator
from tests.conformance.tables import (
    DTYPES,
    ESTIMATORS,
    F64,
    TOLERANCE,
    EstimatorRow,
    randn,
    rows,
)
from tests.estimates import draws
from tests.helpers import distance


@DTYPES
@rows(ESTIMATORS)
def test_estimator_returns_the_value_and_says_what_it_did(row: EstimatorRow, dtype: torch.dtype) -> None:
    f, z = row.loss(5, dtype)
    before = z.clone()
    value, gradient, info = row.estimator(f, z, generator=torch.Generator().manual_seed(0))
    assert distance(value, f(z)) <= TOLERANCE[dtype]
    assert torch.equal(z, before), "changed its argument"
    assert gradient.shape == z.shape
    assert gradient.dtype == dtype
    assert info.exact == row.estimator.exact
    assert info.tangents >= 0
    assert info.tangents + info.passes > 0, "a gradient costs something"
    if row.estimator.exact:
        expected = torch.autograd.grad(f(leaf := z.clone().requires_grad_(True)), leaf)[0]
        assert distance(gradient, expected) <= TOLERANCE[dtype]


@rows(ESTIMATORS)
def test_estimator_depends_on_its_generator_alone(row: EstimatorRow) -> None:
    f, z = row.loss(5, F64)
    before = torch.get_rng_state()
    first, second, other = (
        row.estimator(f, z, generator=torch.Generator().manual_seed(seed))[1] for seed in (3, 3, 4)
    )
    assert torch.equal(first, second)
    assert torch.equal(first, other) == row.estimator.exact
    assert torch.equal(torch.get_rng_state(), before)


@rows(ESTIMATORS)
def test_estimator_under_vmap_over_tasks(row: EstimatorRow) -> None:
    """With the directions shared by the tasks: the only way that all of them support."""
    f, z = row.loss(5, F64)
    points = z + 0.1 * randn(3, z.numel(), seed=4)

    def estimate(point: Tensor) -> tuple[Tensor, Tensor]:
        return row.estimator(f, point, generator=torch.Generator().manual_seed(0))[:2]

    together = vmap(estimate, randomness="same")(points)
    for t, point in enumerate(points):
        for ours, alone in zip(together, estimate(point), strict=True):
            assert distance(ours[t], alone) <= TOLERANCE[F64]


def one_by_one(estimator: Estimator, f: Callable[[Tensor], Tensor], x: Tensor, n: int) -> Tensor:
    """As ``draws``, of an estimator that looks at numbers, which vmap does not allow."""
    generator = torch.Generator().manual_seed(0)
    return torch.stack([estimator(f, x, generator=generator)[1] for _ in range(n)])


@rows(ESTIMATORS)
def test_estimator_has_the_mean_and_the_variance_it_states(row: EstimatorRow) -> None:
    """Mean and second moment of 7000 draws, at p = 3, within 5 standard errors of those draws.

    A right estimator fails for one seed in a million (the seed is fixed). Power: the standard error of the
    mean is checked to be below 3 % of ‖∇f‖, so a bias of 30 % in a coordinate escapes once in a million
    seeds; that of the second moment is checked to be below 3.5 %, so P for P + 1 (25 % less) is seen in 98 %.
    """
    p, n = 3, 7000
    f, z = row.loss(p, F64)
    expected = torch.autograd.grad(f(leaf := z.clone().requires_grad_(True)), leaf)[0]
    if row.estimator.exact:
        assert row.variance(p) == 0  # and the value has been compared above
        return
    drawn = (one_by_one if isinstance(row.estimator, SPSA) else draws)(row.estimator, f, z, n)  # [n, P]
    length = expected.norm()
    mean_error, standard = (drawn.mean(0) - row.mean(p) * expected).abs(), drawn.std(0) / n**0.5
    assert bool((standard < 0.03 * length).all())
    assert bool((mean_error < 5 * standard).all())
    moments = (drawn - expected).square().sum(1) / length**2
    standard = moments.std() / n**0.5
    assert standard < 0.035 * row.variance(p)
    assert abs(moments.mean() - row.variance(p)) < 5 * standard
