"""Statistics that say little of any single example."""

from __future__ import annotations

from math import exp, sqrt

import pytest
import torch
from scipy.stats import norm
from torch import Tensor

import adapt
from adapt import AdaptError
from adapt.adapter import Privacy
from adapt.adapter.private import deviation, private_sums
from adapt.inner import SquaredError
from adapt.inner.levenberg_marquardt import quadratic

X = torch.linspace(-3, 3, 20)[:, None]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def given(n: int = 12, k: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    generator = seeded(1)
    return tuple(torch.randn(shape, generator=generator) for shape in ((n, 2), (k, n, 2), (n, 2)))  # type: ignore[return-value]


def sums(clip: float, epsilon: float = 1e6, seed: int = 0, rows: slice = slice(None)) -> Tensor:
    """What is sent, as one vector, in units of a prior of deviation 1/2."""
    outputs, columns, targets = given()
    privacy = Privacy(epsilon, clip=clip)
    precision = torch.full((3,), 4.0)
    found = private_sums(
        outputs[rows], columns[:, rows], targets[rows], SquaredError(), precision, privacy, seeded(seed)
    )
    above = torch.triu_indices(3, 3, 1)
    scaled = found.curvature / 4
    beside = sqrt(2) * scaled[above[0], above[1]]
    return torch.cat([found.value[None], found.gradient / 2, scaled.diagonal(), beside])


@pytest.mark.parametrize(
    ("epsilon", "delta"), [(0.1, 1e-5), (1.0, 1e-5), (1.0, 1e-2), (8.0, 1e-6), (50.0, 1e-5)]
)
def test_the_deviation_spends_all_of_delta(epsilon: float, delta: float) -> None:
    sigma = deviation(epsilon, delta)

    def spent(s: float) -> float:
        half, shift = 1 / (2 * s), epsilon * s
        return float(norm.cdf(half - shift) - exp(epsilon + norm.logcdf(-half - shift)))

    assert spent(sigma) == pytest.approx(delta, rel=1e-3, abs=1e-9)
    assert spent(0.99 * sigma) > delta


def test_the_deviation_is_the_published_one() -> None:
    """Of the authors' own code, for ε = 1 and δ = 1e-5."""
    assert deviation(1.0, 1e-5) == pytest.approx(3.7306, abs=1e-3)


def test_without_noise_and_clipping_they_are_the_sums() -> None:
    outputs, columns, targets = given()
    plain = quadratic(outputs, columns, targets, SquaredError())
    privacy = Privacy(1e6, clip=1e4)
    found = private_sums(outputs, columns, targets, SquaredError(), torch.ones(3), privacy, seeded())
    for ours, theirs in zip(found, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=20.0 * 1e4 * deviation(1e6, 1e-5))


def test_one_example_moves_what_is_sent_by_the_clip_at_most() -> None:
    """Of the same noise, which here is next to none."""
    whole = sums(0.7)
    moved = [
        float((whole - sums(0.7, rows=slice(0, 11))).norm()),
        float((whole - sums(0.7, rows=slice(1, 12))).norm()),
    ]
    assert 0.6 < max(moved) <= 0.75


def test_noise_is_as_large_as_it_must_be() -> None:
    values = torch.stack([sums(0.5, 4.0, seed)[1:4] for seed in range(400)])  # gradients: nothing is cut off
    assert values.std(0).mean() == pytest.approx(0.5 * deviation(4.0, 1e-5), rel=0.06)


def test_what_is_sent_can_be_adapted_to() -> None:
    adapter = adapt.load("mlp_sinusoid")
    parts = [(X[start::4], X[start::4].sin()) for start in range(4)]
    plain = adapter.fit_statistics([adapter.statistics(*part) for part in parts])
    hidden = Privacy(200.0, clip=50.0)
    sent = [adapter.statistics(*part, private=hidden, generator=seeded(i)) for i, part in enumerate(parts)]
    private = adapter.fit_statistics(sent)
    assert private.z.shape == plain.z.shape and not torch.equal(private.z, plain.z)
    again = adapter.statistics(*parts[0], private=hidden, generator=seeded(0))
    assert torch.equal(again.gradient, sent[0].gradient)
    unknown = [adapter.statistics(*parts[0], private=hidden).gradient for _ in range(2)]
    assert not torch.equal(*unknown)


def test_directions_that_are_held_say_nothing() -> None:
    outputs, columns, targets = given()
    precision = torch.tensor([1.0, float("inf"), 4.0])
    found = private_sums(outputs, columns, targets, SquaredError(), precision, Privacy(1.0), seeded())
    assert found.gradient[1] == 0 and not found.curvature[1].any() and found.curvature[0, 0] != 0


def test_a_task_of_private_sums_does_not_say_how_sure_it_is() -> None:
    adapter = adapt.load("mlp_sinusoid")
    task = adapter.fit_statistics([adapter.statistics(X, X.sin(), private=Privacy(1.0), generator=seeded())])
    with pytest.raises(AdaptError, match="its sums are private"):
        task.predictive(X)
    assert adapter.fit_statistics([adapter.statistics(X, X.sin())]).posterior is not None
    with pytest.raises(AdaptError, match="generator is a int"):
        adapter.statistics(X, X.sin(), private=Privacy(1.0), generator=3)  # type: ignore[arg-type]


def test_a_number_is_no_promise() -> None:
    with pytest.raises(AdaptError, match=r"private is a float: pass adapt\.adapter\.Privacy"):
        adapt.load("mlp_sinusoid").statistics(X, X.sin(), private=1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "how", [{"epsilon": 0.0}, {"epsilon": 1.0, "delta": 1.0}, {"epsilon": 1.0, "clip": -1.0}]
)
def test_promises_that_are_none(how: dict[str, float]) -> None:
    with pytest.raises(AdaptError, match="privacy"):
        Privacy(**how)
