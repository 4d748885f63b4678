"""Estimators beyond their contract: how variance falls with tangents, and which arguments are refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from adapt import AdaptError
from adapt.forward.estimators import Exact, Gaussian, Reverse


def bowl(z: Tensor) -> Tensor:
    return (torch.arange(1.0, len(z) + 1) * z.square()).sum()


def test_tangents_are_counted() -> None:
    z = torch.ones(7)
    counts = [estimator(bowl, z)[2].tangents for estimator in (Exact(), Gaussian(tangents=3), Reverse())]
    assert counts == [7, 3, 0]


def test_a_gaussian_estimate_lies_in_the_span_of_its_tangents() -> None:
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    gradient = Gaussian(tangents=2)(bowl, torch.ones(5), generator=generator)[1]
    weights = torch.linalg.lstsq(v.T, gradient[:, None]).solution
    assert torch.allclose(v.T @ weights, gradient[:, None], atol=1e-4)


def test_many_tangents_point_where_the_gradient_does() -> None:
    z = torch.ones(4)
    exact = Exact()(bowl, z)[1]
    estimate = Gaussian(tangents=4000)(bowl, z, generator=torch.Generator().manual_seed(0))[1]
    assert torch.cosine_similarity(estimate, exact, dim=0) > 0.99


def test_no_tangents_are_refused() -> None:
    with pytest.raises(AdaptError, match=r"tangents=0: .*at least one"):
        Gaussian(tangents=0)
