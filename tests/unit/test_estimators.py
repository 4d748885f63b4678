"""Estimators beyond their contract: how their errors fall, what they cost, which arguments are refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.functional import avg_pool2d, cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import adapt
from adapt import AdaptError
from adapt.app.build import build
from adapt.app.config import config_folder
from adapt.forward.estimators import (
    SPSA,
    ActivityPerturbation,
    Block,
    Estimator,
    Exact,
    Gaussian,
    Guess,
    Layered,
    LocalGradients,
    Orthogonal,
    Rademacher,
    Reverse,
)
from adapt.inner import CrossEntropy, Descent, SquaredError, plain
from tests.helpers import distance, make_adapter, randomised, tiny_conv4

F64 = torch.float64


def bowl(z: Tensor) -> Tensor:
    return (torch.arange(1.0, len(z) + 1, dtype=z.dtype) * z.square()).sum()


def linear(c: Tensor) -> Callable[[Tensor], Tensor]:
    """A loss whose gradient is ``c``."""
    return lambda z: z @ c


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = F64) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=F64).to(dtype)


def identity(a: Tensor) -> Tensor:
    return a


def draws(estimator: Estimator, f: Callable[[Tensor], Tensor], x: Tensor, n: int) -> Tensor:
    """``[n, P]``: n independent estimates."""
    generator = seeded()
    return vmap(lambda _: estimator(f, x, generator=generator)[1], randomness="different")(torch.zeros(n))


class Watched(TorchDispatchMode):
    """Notes the size of the largest tensor that any operator makes."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.largest = max(self.largest, *sizes, 0)
        return result


# ------------------------------------------------------------------------------------- what they cost


GUESSES = Guess(lambda x, generator: torch.eye(len(x), dtype=x.dtype)[:2])
COSTS = [
    (Exact(), 7, 0.0),
    (Gaussian(tangents=3), 3, 0.0),
    (Rademacher(tangents=3), 3, 0.0),
    (Orthogonal(tangents=3), 3, 0.0),
    (GUESSES, 2, 0.0),
    (Reverse(), 0, 2.0),
    (SPSA(samples=3), 0, 6.0),
]


@pytest.mark.parametrize(
    ("estimator", "tangents", "passes"), COSTS, ids=[type(estimator).__name__ for estimator, *_ in COSTS]
)
def test_costs_are_counted(estimator: Estimator, tangents: int, passes: float) -> None:
    info = estimator(bowl, torch.ones(7), generator=seeded())[2]
    assert (info.tangents, info.passes) == (tangents, passes)
    prior, target = plain(torch.ones(7)), torch.ones(1, 7)
    _, trace = Descent("sgd", 0.1, 4, estimator)(lambda z: z[None], target, SquaredError(), prior)
    assert trace.forward_equivalents == 4 * (1 + tangents + passes)


@pytest.mark.parametrize("gradient", [Gaussian(), Rademacher(), Orthogonal(2), SPSA()], ids=str)
def test_descent_draws_from_its_seed_alone(gradient: Estimator) -> None:
    before = torch.get_rng_state()
    prior, target = plain(torch.ones(4)), torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    first, again, other = (
        Descent("sgd", 0.1, 3, gradient, seed)(lambda z: z[None], target, CrossEntropy(), prior)[0]
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("gradient", [Rademacher(tangents=3), Orthogonal(2), SPSA(2, 0.01)], ids=str)
def test_estimators_that_are_plain_settings_can_be_saved(gradient: Estimator, tmp_path: Path) -> None:
    made = make_adapter(tiny_conv4()).replace(solver=Descent(gradient=gradient, seed=5))
    made.save_pretrained(tmp_path / "it")
    assert adapt.load(tmp_path / "it", backbone=tiny_conv4()).solver == made.solver


def test_spsa_can_be_chosen_in_a_config() -> None:
    option = OmegaConf.load(config_folder() / "inner" / "spsa.yaml")
    config = OmegaConf.create({"seed": 3, "inner": option})
    assert build(config.inner, "inner") == Descent("adam", 0.3, 5, SPSA(samples=4, epsilon=1e-3), seed=3)


# ------------------------------------------------------------------------------------- random tangents


def test_a_gaussian_estimate_lies_in_the_span_of_its_tangents() -> None:
    v = torch.randn(2, 5, generator=seeded())
    gradient = Gaussian(tangents=2)(bowl, torch.ones(5), generator=seeded())[1]
    weights = torch.linalg.lstsq(v.T, gradient[:, None]).solution
    assert torch.allclose(v.T @ weights, gradient[:, None], atol=1e-4)


def test_many_tangents_point_where_the_gradient_does() -> None:
    z = torch.ones(4)
    exact = Exact()(bowl, z)[1]
    estimate = Gaussian(tangents=4000)(bowl, z, generator=seeded())[1]
    assert torch.cosine_similarity(estimate, exact, dim=0) > 0.99


def test_a_rademacher_tangent_has_signs_only() -> None:
    gradient = Rademacher()(bowl, torch.ones(50), generator=seeded())[1]
    assert torch.equal(gradient.abs(), gradient.abs()[:1].expand(50))
    assert 15 <= int((gradient > 0).sum()) <= 35  # both signs; less than 1 seed in 100 is outside


@pytest.mark.parametrize("k", [1, 5, 20])
def test_cosine_of_a_random_projection(k: int) -> None:
    """cos² ~ Beta(k/2, (P − k)/2), P = 30: its mean and that of cos, of 4000 draws, within 5 standard errors.

    A right estimator fails for two seeds in a million. Power: the standard error is checked to be below 1.5 %
    of the mean (2.5 % for cos²), so that √((k + 1)/P) for √(k/P), at k = 1 and 5 (41 and 9.5 %), is seen in
    90 % or more.
    """
    p, n = 30, 4000
    z = randn(p)
    cosines = torch.cosine_similarity(draws(Orthogonal(k), bowl, z, n), Exact()(bowl, z)[1], dim=1)
    log_ratio = math.lgamma((k + 1) / 2) + math.lgamma(p / 2) - math.lgamma(k / 2) - math.lgamma((p + 1) / 2)
    for drawn, expected, precise in (
        (cosines, math.exp(log_ratio), 0.015),
        (cosines.square(), k / p, 0.025),
    ):
        standard = drawn.std() / n**0.5
        assert standard < precise * expected
        assert abs(drawn.mean() - expected) < 5 * standard


def test_as_many_orthogonal_tangents_as_parameters_leave_rounding_only() -> None:
    """No flag promises more: `exact` is a property of the object, and fewer tangents are an estimate."""
    z = randn(12)
    _, gradient, info = Orthogonal(12)(bowl, z, generator=seeded())
    assert distance(gradient, Exact()(bowl, z)[1]) <= 1e-12
    assert not info.exact


# ----------------------------------------------------------------------------------------- projections


def projections(seed: int, p: int, k: int) -> list[tuple[Estimator, Tensor | None]]:
    """Estimators that project, with what they project on where that is known."""
    guesses = randn(k, p, seed=seed) * 10.0 ** torch.randint(-9, 9, (k, 1), generator=seeded(seed))
    guesses[k // 2] = guesses[0] * 3  # dependent, or all there is
    return [(Orthogonal(min(k, p)), None), (Guess(lambda x, generator: guesses), guesses)]


@given(seed=st.integers(0, 2**31), p=st.integers(1, 8), k=st.integers(1, 10))
def test_projections_never_lengthen_and_are_idempotent(seed: int, p: int, k: int) -> None:
    c, z = randn(p, seed=seed + 1), torch.zeros(p, dtype=F64)
    for estimator, directions in projections(seed, p, k):
        once = estimator(linear(c), z, generator=seeded(seed))[1]
        twice = estimator(linear(once), z, generator=seeded(seed))[1]
        assert once.norm() <= c.norm() * (1 + 1e-12)
        assert distance(twice, once) <= 1e-10
        if directions is not None:  # what is missed is orthogonal to every direction
            assert bool(((directions @ (c - once)).abs() <= 1e-9 * directions.norm(dim=1) * c.norm()).all())


@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
@pytest.mark.parametrize("angle", [1e-2, 1e-4])
def test_projection_on_nearly_parallel_guesses(dtype: torch.dtype, angle: float) -> None:
    """Where forming VᵀV squares the condition number: in float32 it would be singular at 1e-4."""
    guesses = torch.tensor([[1.0, 0.0, 0.0], [1.0, angle, 0.0]], dtype=dtype)
    c = torch.tensor([1.0, 2.0, 3.0], dtype=dtype)
    found = Guess(lambda x, generator: guesses)(linear(c), torch.zeros(3, dtype=dtype))[1]
    tolerance = 30 * torch.finfo(dtype).eps / angle
    assert distance(found, torch.tensor([1.0, 2.0, 0.0], dtype=dtype)) <= tolerance


@pytest.mark.parametrize("scale", [1e-38, 1e-20, 1.0, 1e20])
def test_length_of_a_guess_does_not_matter(scale: float) -> None:
    v, c = torch.tensor([3.0, 4.0]), torch.tensor([1.0, 2.0])
    found = Guess(lambda x, generator: scale * v[None])(linear(c), torch.zeros(2))[1]
    assert distance(found, (c @ v) * v / 25) <= 1e-5


def test_a_sparse_guess_counts_as_much_as_a_dense_one() -> None:
    """Scaled by their largest entries alone, the lengths of these would be some 1000 to 1."""
    p = 4_000_000
    dense, sparse = torch.rand(p, generator=seeded()) - 0.5, torch.zeros(p)
    sparse[0] = 1.0
    guesses = torch.stack([dense, sparse])
    found = Guess(lambda x, generator: guesses)(lambda z: z[0], torch.zeros(p))[1]
    assert distance(found, sparse) <= 0.01  # float32 sums of four million terms


def test_a_guess_of_nothing_gives_nothing() -> None:
    _, gradient, info = Guess(lambda x, generator: torch.zeros(2, 3))(bowl, torch.ones(3))
    assert torch.equal(gradient, torch.zeros(3))
    assert not info.exact


# ----------------------------------------------------------------------------------------------- SPSA


def cubic(z: Tensor) -> Tensor:
    return z.pow(3).sum()


def test_bias_of_spsa_falls_with_the_square_of_its_step() -> None:
    z = randn(6)
    at = [SPSA(epsilon=epsilon)(cubic, z, generator=seeded())[1] for epsilon in (0.2, 0.1, 0.05)]
    assert torch.allclose((at[0] - at[1]) / (at[1] - at[2]), torch.tensor(4.0, dtype=F64), rtol=1e-6)


def test_spsa_of_a_quadratic_has_no_bias_at_any_step() -> None:
    z = randn(6)
    small, large = (SPSA(epsilon=epsilon)(bowl, z, generator=seeded())[1] for epsilon in (1e-3, 10.0))
    assert distance(small, large) <= 1e-8


def test_spsa_follows_a_loss_without_derivatives() -> None:
    """A staircase has slope 0 wherever it has one; over a wide step it has one."""
    stairs, z = (lambda z: (10 * z).round().sum() / 10), torch.full((2,), 0.32)
    assert torch.equal(Exact()(stairs, z)[1], torch.zeros(2))
    mean = SPSA(samples=2000, epsilon=1.0)(stairs, z, generator=seeded())[1]
    assert distance(mean, torch.ones(2)) < 0.2  # standard error √(3/2000) = 0.04


def test_spsa_evaluates_twice_per_sample_and_never_holds_more_than_one_direction() -> None:
    calls: list[int] = []
    c = torch.ones(500)

    def f(z: Tensor) -> Tensor:
        calls.append(1)
        return z @ c

    with Watched() as watched:
        SPSA(samples=30)(f, c, generator=seeded())
    assert len(calls) == 1 + 2 * 30
    assert watched.largest == 500


def test_spsa_leaves_its_point_alone_even_when_the_loss_raises() -> None:
    z = randn(5, dtype=torch.float32)
    before, calls = z.clone(), [0]

    def f(z: Tensor) -> Tensor:
        calls[0] += 1
        if calls[0] == 3:
            raise ZeroDivisionError
        return cubic(z)

    with pytest.raises(ZeroDivisionError):
        SPSA(samples=2)(f, z, generator=seeded())
    assert torch.equal(z, before)
    SPSA(samples=2)(cubic, z, generator=seeded())
    assert torch.equal(z, before)


# ------------------------------------------------------------------------------------ layered networks


def mixed(local: bool) -> tuple[Layered, nn.Sequential, Tensor]:
    """Convolution, two linear layers, three examples; the same network and labels for torch."""
    conv, hidden, out = nn.Conv2d(2, 4, 3, 2, 1, groups=2), nn.Linear(4, 4, bias=False), nn.Linear(4, 3)
    y = torch.tensor([0, 2, 1])
    inputs = randn(3, 2, 4, 4, seed=1)

    def losses(h: Tensor) -> Tensor:
        return cross_entropy(h, y, reduction="none")

    def pooled(a: Tensor) -> Tensor:
        return avg_pool2d(a.tanh(), 2).flatten(1)  # [3, 4]

    first = Block(conv, pooled, (lambda h: losses(2 * h[:, :3])) if local else None)
    f = Layered(inputs, [first, Block(hidden, torch.tanh), Block(out, identity, losses)])
    network = nn.Sequential(conv, nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), hidden, nn.Tanh(), out).double()
    randomised(network).requires_grad_(True)
    return f, network, y


def local_gradient(f: Layered, x: Tensor) -> Tensor:
    """Backprop of the sum of the local losses, nothing flowing from one stage into the one before."""
    leaf, h, total = x.clone().requires_grad_(True), f.inputs, torch.zeros((), dtype=x.dtype)
    for stage in f.stages(leaf):
        h = h.detach()
        for block, parameters in stage:
            h = block(parameters, h)
        total = total + stage[-1][0].losses(h).mean()
    return torch.autograd.grad(total, leaf)[0]


def test_layered_is_the_network_that_its_layers_make() -> None:
    f, network, y = mixed(local=True)
    x = f.start
    assert x.shape == (sum(p.numel() for p in network.parameters()),)
    expected = cross_entropy(network(f.inputs), y)
    assert distance(f(x), expected.detach()) <= 1e-12
    gradients = torch.autograd.grad(expected, list(network.parameters()))
    dense = torch.cat([gradient.flatten() for gradient in gradients])
    for estimator in (Exact(), Reverse()):  # local losses are for those who ask
        assert distance(estimator(f, x)[1], dense) <= 1e-12


def test_start_of_a_layered_loss_is_a_copy() -> None:
    f, _, _ = mixed(local=False)
    before = f.start
    f.start.add_(1)
    assert torch.equal(f.start, before)
    assert not before.requires_grad
    assert [tuple(part.shape) for part in f.split(before)[0]] == [(4, 1, 3, 3), (4,)]


@pytest.mark.parametrize("local", [False, True], ids=["end to end", "local losses"])
def test_activity_perturbation_is_unbiased(local: bool) -> None:
    """For the gradient of the loss, or of the local losses. 50 000 draws, P = 71.

    Tested at 5 standard errors: each of the 71 entries of the mean, and its component along the gradient. A
    right estimator fails for one seed in 20 000. Power: the standard error of the component is checked to be
    below 2 %, so that a factor of 0.87 or 1.13 is seen in 93 % (a mean over units or over examples misses by
    far more); that of an entry below 2 % of ‖∇‖, so that an error of 13 % of ‖∇‖ in one is seen as often.
    """
    f, _, _ = mixed(local)
    x, n = f.start, 50_000
    expected = local_gradient(f, x)
    if not local:
        assert distance(Reverse()(f, x)[1], expected) <= 1e-12  # one stage
    drawn = draws(ActivityPerturbation(), f, x, n)
    along = drawn @ expected / expected.square().sum()  # [n]
    for sample, mean, scale in ((along, torch.tensor(1.0), 1.0), (drawn, expected, expected.norm())):
        standard = sample.std(0) / n**0.5
        assert bool((standard < 0.02 * scale).all())
        assert bool(((sample.mean(0) - mean).abs() < 5 * standard).all())


@pytest.mark.parametrize("k", [1, 4])
def test_variance_of_activity_perturbation_counts_units(k: int) -> None:
    """Several layers and examples, from the gradients g_il at the pre-activations:

        E‖G − ∇‖² = (1/(k n²)) Σ_i Σ_l (‖h_(i,l−1)‖² + 1) (M_l ‖g_i‖² + ‖g_il‖²) ,   g_i = (g_i1 … g_iL)

    Within 5 standard errors of 20 000 draws, checked to be below 2 % of it: 13 % too much or too little is
    seen in 93 %.
    """
    first, second, n = nn.Linear(3, 5).double(), nn.Linear(5, 2).double(), 20_000
    randomised(nn.Sequential(first, second))
    blocks = [Block(first, torch.tanh), Block(second, identity, lambda h: (h.square() - h).sum(1))]
    f = Layered(randn(4, 3, seed=1), blocks)
    a = first(f.inputs).detach().requires_grad_(True)  # [4, 5]
    b = second(a.tanh()).detach()  # [4, 2]
    g2 = 2 * b - 1
    g1 = torch.autograd.grad(second(a.tanh()), a, g2)[0]
    inputs = (f.inputs.square().sum(1) + 1, a.detach().tanh().square().sum(1) + 1)
    whole = g1.square().sum(1) + g2.square().sum(1)
    terms = [h * (g.shape[1] * whole + g.square().sum(1)) for h, g in zip(inputs, (g1, g2), strict=True)]
    expected = float(torch.stack(terms).sum()) / (k * 4**2)
    drawn = draws(ActivityPerturbation(k), f, f.start, n)
    errors = (drawn - local_gradient(f, f.start)).square().sum(1)
    standard = float(errors.std()) / n**0.5
    assert standard < 0.02 * expected
    assert abs(float(errors.mean()) - expected) < 5 * standard


def test_activity_perturbation_keeps_nothing_for_a_backward_pass() -> None:
    """Reverse mode cannot run where tensors must not be saved for it."""
    f, _, _ = mixed(local=True)
    x = f.start

    def refuse(tensor: Tensor) -> Tensor:
        raise AssertionError("saved for a backward pass")

    with torch.autograd.graph.saved_tensors_hooks(refuse, refuse):
        ActivityPerturbation(2)(f, x, generator=seeded())
        for reverse in (lambda: Reverse()(f, x), lambda: LocalGradients(f)(x), lambda: local_gradient(f, x)):
            with pytest.raises((AssertionError, RuntimeError), match="saved"):
                reverse()


def test_local_gradients_are_those_of_backprop_stage_by_stage() -> None:
    f, _, _ = mixed(local=True)
    x = f.start + 0.3 * randn(71, seed=2)
    guesses = LocalGradients(f)(x)
    assert guesses.shape == (2, 71)
    assert bool((guesses[0, 40:] == 0).all()) and bool((guesses[1, :40] == 0).all())
    assert distance(guesses.sum(0), local_gradient(f, x)) <= 1e-12


def test_guess_from_local_gradients() -> None:
    f, _, _ = mixed(local=True)
    x = f.start
    exact = Reverse()(f, x)[1]
    estimate, info = Guess(LocalGradients(f))(f, x)[1:]
    assert info.tangents == 2
    assert distance(estimate[40:], exact[40:]) <= 1e-12  # the last stage's guess is right
    guess = LocalGradients(f)(x)[0]
    assert distance(estimate[:40], ((exact @ guess) * guess / guess.square().sum())[:40]) <= 1e-12
    whole, _, _ = mixed(local=False)  # a single stage: the gradient is in the span
    assert (
        distance(Guess(LocalGradients(whole))(whole, whole.start)[1], Reverse()(whole, whole.start)[1])
        <= 1e-12
    )


def test_a_network_learns_digits_from_perturbed_activations() -> None:
    """Two layers, each with its own loss; real images; no backward pass. And local losses make better guesses
    than chance (√(k/P) = 0.03 for k = 2 of P = 2410)."""
    data = pytest.importorskip("sklearn.datasets").load_digits()
    images = torch.tensor(data.data[:300], dtype=torch.float32) / 16
    y = torch.tensor(data.target[:300])
    readout = randn(32, 10, seed=5, dtype=torch.float32) / 32**0.5

    def losses(h: Tensor) -> Tensor:
        return cross_entropy(h, y, reduction="none")

    hidden = Block(nn.Linear(64, 32), torch.relu, lambda h: losses(h @ readout))
    f = Layered(images, [hidden, Block(nn.Linear(32, 10), identity, losses)])
    x, generator = 0.1 * randn(2410, seed=1, dtype=torch.float32), seeded()
    guessed = Guess(LocalGradients(f))(f, x)[1]
    assert torch.cosine_similarity(guessed, Reverse()(f, x)[1], dim=0) > 0.3
    before = float(f(x))
    for _ in range(60):
        x = x - ActivityPerturbation(4)(f, x, generator=generator)[1]
    assert before > 2.2  # chance: log 10 = 2.3
    assert float(f(x)) < 0.5


# --------------------------------------------------------------------------------------- bad arguments


def one(layer: Any, **settings: Any) -> Layered:
    return Layered(torch.ones(2, 3), [Block(layer, identity, **settings)])


MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "no Gaussian tangents": (lambda: Gaussian(tangents=0), r"tangents=0: .*at least one"),
    "no signs": (lambda: Rademacher(tangents=0), r"tangents=0: .*at least one"),
    "no directions": (lambda: Orthogonal(tangents=0), r"tangents=0: .*at least one"),
    "no perturbations": (lambda: ActivityPerturbation(tangents=0), r"tangents=0: .*at least one"),
    "no samples": (lambda: SPSA(samples=0), r"samples=0: .*at least one"),
    "no step": (lambda: SPSA(epsilon=0.0), r"epsilon=0.0: .*positive"),
    "step of no size": (lambda: SPSA(epsilon=float("nan")), r"epsilon=nan .*positive"),
    "too many directions": (lambda: Orthogonal(4)(bowl, torch.ones(3)), r"tangents=4: 3 parameters.*Exact"),
    "a plain function": (
        lambda: ActivityPerturbation()(bowl, torch.ones(3)),
        r"f is a function: pass an adapt.forward.estimators.Layered",
    ),
    "guess without rows": (
        lambda: Guess(lambda x, generator: x)(bowl, torch.ones(3)),
        r"the guess gave torch.float32 \[3\].*\[k, 3\]",
    ),
    "guess of another dtype": (
        lambda: Guess(lambda x, generator: x[None].double())(bowl, torch.ones(3)),
        r"the guess gave torch.float64 \[1, 3\] for x torch.float32.*the same dtype",
    ),
    "no blocks": (lambda: Layered(torch.ones(2, 3), []), r"at least one block"),
    "no loss at the end": (lambda: one(nn.Linear(3, 1)), r"the last one needs a loss"),
    "no affine layer": (lambda: one(nn.BatchNorm1d(3)), r"BatchNorm1d: .*nn.Linear or nn.Conv2d"),
    "padding by name": (lambda: one(nn.Conv2d(1, 1, 3, padding="same")), r"padding in numbers"),
    "padding by reflection": (
        lambda: one(nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")),
        r"padding in numbers, with zeros",
    ),
    "a loss for the batch": (
        lambda: one(nn.Linear(3, 1), loss=lambda h: h.sum())(torch.ones(4)),
        r"a loss gave \[\] for 2 examples: .*reduction='none'",
    ),
    "a vector of another network": (
        lambda: one(nn.Linear(3, 1), loss=lambda h: h.sum(1))(torch.ones(5)),
        r"x has the shape \[5\]: these blocks have 4 parameters",
    ),
}


@pytest.mark.parametrize(("mistake", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_named(mistake: Callable[[], Any], message: str) -> None:
    with pytest.raises(AdaptError, match=message):
        mistake()
