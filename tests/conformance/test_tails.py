"""How improbable values are together, against scipy and draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from adapt.inner.tails import HEAVIEST, p_value, tail_of


@pytest.mark.parametrize("tail", [0.0, 1e-4, 0.05, 0.25, HEAVIEST])
@pytest.mark.parametrize("degrees", [1, 2, 15, 400])
def test_p_values_are_those_of_f(tail: float, degrees: int) -> None:
    for distance in (0.0, 1e-9, 0.3, 4.0, 20.0, 400.0, 1e6, 1e100):
        if tail:
            scaled = distance / degrees / (1 - 2 * tail)
            expected = float(stats.f.sf(scaled, degrees, 1 / tail))
        else:
            expected = float(stats.chi2.sf(distance, degrees))
        assert p_value(distance, degrees, tail) == pytest.approx(expected, rel=1e-8, abs=1e-300)
    assert p_value(float("inf"), degrees, tail) == 0.0


@pytest.mark.parametrize("tail", [0.0, 0.1, 0.3])
def test_the_tail_of_draws_is_found_and_makes_p_values_uniform(tail: float) -> None:
    """The scale differs from task to task, and is 1 on average."""
    generator, d = np.random.default_rng(0), np.array([2, 10, 30] * 300)
    q = generator.chisquare(d)
    if tail:
        q = q * (1 / tail - 2) / generator.chisquare(1 / tail, len(d))
    found = tail_of(q.tolist(), d.tolist())
    assert found == pytest.approx(tail, abs=0.03)
    p = [p_value(float(one), int(many), found) for one, many in zip(q, d, strict=True)]
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_the_density_that_is_maximised_is_student_s() -> None:
    """Against scipy's multivariate t with the same covariance."""
    rows = torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).numpy()
    rows[::4] *= 5
    found = tail_of([float(row @ row) for row in rows], [3] * 40)

    def likelihood(tail: float) -> float:
        nu = 1 / tail
        shape = np.eye(3) * (nu - 2) / nu
        return float(stats.multivariate_t.logpdf(rows, shape=shape, df=nu).sum())

    assert likelihood(found) >= max(likelihood(tail) for tail in np.linspace(0.01, 0.49, 25)) - 1e-3
