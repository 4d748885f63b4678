"""Logistic regression with many unknowns, leaving one out of it, and the heads built on it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.func import jacfwd, jacrev

from adapt import AdaptError
from adapt.heads import KernelRidge, Linear, Logistic, LogisticCV, Prototype, one_hot
from adapt.heads import leave_one_out as loo
from adapt.heads.base import normalise, with_constant
from tests.helpers import distance

F64 = torch.float64


def clusters(ways: int, shots: int, size: int, dtype: torch.dtype = F64) -> tuple[Tensor, Tensor]:
    """Features ``[n, size]`` that overlap, around a random mean for each class."""
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(ways, size, generator=generator, dtype=F64).repeat_interleave(shots, 0)
    x = means + torch.randn(ways * shots, size, generator=generator, dtype=F64)
    return x.to(dtype), one_hot(torch.arange(ways).repeat_interleave(shots), ways, dtype)


@pytest.mark.parametrize("shape", [(12, 3, 60), (12, 9, 24)], ids=["n < D", "n > D"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (F64, 1e-10)], ids=str)
def test_conjugate_gradients_reach_the_dense_optimum(
    shape: tuple[int, int, int], dtype: torch.dtype, tolerance: float
) -> None:
    x, y = clusters(*shape, dtype=dtype)
    for l2 in (0.003, 0.3):
        dense = Logistic(l2, steps=12, dense=10**6).fit(x, y)
        assert distance(Logistic(l2, steps=12, dense=0).fit(x, y), dense) <= tolerance * max(
            1, dense.abs().max()
        )


def test_two_derivatives_are_those_of_the_dense_solution() -> None:
    """As meta-training takes them: backward through forward tangents."""
    x, y = clusters(3, 2, 4)

    def outputs(head: Logistic) -> Callable[[Tensor], Tensor]:
        return lambda x: head.logits(head.fit(x, y), x).square().sum()

    dense, large = (outputs(Logistic(l2=0.1, steps=12, dense=limit)) for limit in (10**6, 0))
    assert distance(jacfwd(large)(x), jacfwd(dense)(x)) <= 1e-8
    assert distance(jacrev(jacfwd(large))(x), jacrev(jacfwd(dense))(x)) <= 1e-6


def test_a_problem_too_large_for_a_dense_system_is_solved() -> None:
    """60 classes: 3,900 unknowns, of which a dense system would hold 15 million numbers; the gradient
    vanishes."""
    x, y = clusters(60, 5, 64, torch.float32)
    head = Logistic(l2=0.03)
    inputs, w = with_constant(normalise(x)), head.fit(x, y)
    slope = inputs.T @ ((inputs @ w).softmax(-1) - y) + head.l2 * 64 * w
    assert slope.norm() <= 1e-5 * (inputs.T @ (1 / 60 - y)).norm()


@pytest.mark.parametrize("shape", [(8, 4, 48), (8, 8, 24)], ids=["n < D", "n > D"])
def test_one_step_is_close_to_leaving_out(
    shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An eighth of the way from the outputs of the fit on all examples to the exact ones remains, at
    most."""
    x, y = clusters(*shape)
    head = Logistic(l2=0.03, dense=0)
    monkeypatch.setattr(loo, "REFIT", 10**6)
    exact = head.loo_logits(x, y)
    monkeypatch.setattr(loo, "REFIT", 0)
    approximate, fitted = head.loo_logits(x, y), head.logits(head.fit(x, y), x)
    assert (approximate - exact).norm() <= 0.125 * (fitted - exact).norm()

    def cross_entropy(z: Tensor) -> Tensor:
        return -(y * z.log_softmax(-1)).sum(-1).mean()

    assert abs(cross_entropy(approximate) - cross_entropy(exact)) <= 0.1 * cross_entropy(exact)


def test_one_step_learns_nothing_from_examples_of_weight_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loo, "REFIT", 0)
    x, y = clusters(3, 4, 20)
    x.requires_grad_(True)
    kept = torch.arange(12) % 4 != 3
    ours = Logistic().loo_logits(x, y, kept.to(F64))[kept]
    assert distance(ours, Logistic().loo_logits(x[kept], y[kept])) <= 1e-9
    (gradient,) = torch.autograd.grad(ours.sum(), x)
    assert bool(torch.isfinite(gradient).all()) and gradient[~kept].abs().max() <= 1e-12


def test_the_choice_of_regularisation_is_that_of_leaving_one_out() -> None:
    """Noise wants much of it, clear classes little; the fit is that of the chosen one."""
    grid = (0.003, 0.1, 3.0)
    x, y = clusters(4, 4, 30)
    noise = torch.randn(16, 30, generator=torch.Generator().manual_seed(1), dtype=F64)
    head = LogisticCV(l2=grid)
    assert (head.chosen(torch.eye(4, dtype=F64).repeat_interleave(4, 0), y), head.chosen(noise, y)) == (
        0.003,
        3.0,
    )
    losses = [-(y * Logistic(l2).loo_logits(x, y).log_softmax(-1)).sum().item() for l2 in grid]
    best = grid[losses.index(min(losses))]
    assert head.chosen(x, y) == best
    assert distance(head.fit(x, y), Logistic(best).fit(x, y)) == 0


def test_a_large_choice_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapt.heads.logistic_cv.REFIT", 0)
    x, y = clusters(4, 4, 30)
    head = LogisticCV(l2=(0.01, 0.1, 1.0))
    assert distance(head.loo_logits(x, y), Logistic(head.chosen(x, y)).loo_logits(x, y)) <= 1e-12


def test_many_steps_of_descent_reach_the_logistic_optimum() -> None:
    x, y = clusters(3, 4, 10)
    slow = Linear(lr=1.0, steps=3000, momentum=0.9, l2=0.01)
    assert distance(slow.fit(x, y), Logistic(l2=0.01 * 12, steps=15).fit(x, y)) <= 1e-6


def test_kernel_ridge_is_scikit_learns_gaussian_process() -> None:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel

    x, _ = clusters(5, 4, 6)
    values, rows = x[:, :1].sin() + 2, normalise(x)
    head = KernelRidge(length=0.7, l2=0.05, scale=1.0)
    kernel = RBF(0.7 * 6**0.5, "fixed") + ConstantKernel(1.0, "fixed")
    theirs = GaussianProcessRegressor(kernel, alpha=0.05, optimizer=None).fit(
        rows.numpy(), values.numpy()[:, 0]
    )
    expected = torch.from_numpy(theirs.predict(rows.flip(1).numpy()))
    assert distance(head.logits(head.fit(x, values), x.flip(1))[:, 0], expected) <= 1e-8


def test_cosine_forgets_how_long_a_mean_is() -> None:
    """Two classes whose means point the same way, one of them spread out: the distance tells them apart."""
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0], [1.0, -1.0]], dtype=F64)
    y, q = one_hot(torch.tensor([0, 0, 1, 1]), 2, F64), torch.tensor([[1.0, 0.0]], dtype=F64)
    cosine, euclidean = Prototype(metric="cosine"), Prototype()
    assert distance(cosine.logits(cosine.fit(x, y), q), torch.full((1, 2), 10, dtype=F64)) <= 1e-9
    near, far = euclidean.logits(euclidean.fit(x, y), q)[0]
    assert near > far


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Prototype(metric="manhattan"), "head.metric=manhattan: choose euclidean or cosine"),  # type: ignore[arg-type]
        (lambda: LogisticCV(l2=()), "head.l2 is empty"),
        (lambda: LogisticCV(l2=(0.1, 0)), "head.l2=0: .*positive"),
        (lambda: Linear(lr=0), "head.lr=0: .*positive"),
        (lambda: Linear(steps=0), "head.steps=0: at least one"),
        (lambda: Linear(momentum=1.0), "head.momentum=1.0"),
        (lambda: KernelRidge(length=0), "head.length=0: .*positive"),
        (lambda: KernelRidge(l2=0), "head.l2=0: .*positive"),
    ],
)
def test_bad_settings_are_named(make: Callable[[], object], message: str) -> None:
    with pytest.raises(AdaptError, match=message):
        make()
