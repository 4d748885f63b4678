"""Layered networks: gradients from perturbed activations, and from losses of every stage."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy

from adapt.forward.estimators import (
    ActivityPerturbation,
    Block,
    Exact,
    Guess,
    Layered,
    LocalGradients,
    Reverse,
)
from tests.estimates import draws, randn, seeded
from tests.helpers import distance, randomised


def identity(a: Tensor) -> Tensor:
    return a


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
