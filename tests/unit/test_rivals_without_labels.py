"""T3A, LAME and evolution against what they compute, written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from adapt import AdaptError
from adapt.adapter import Context, FewShotAdapter, Support, initial_state
from adapt.backbones import FrozenBatchNorm
from adapt.baselines import T3A, CmaEs, Lame
from adapt.heads import Logistic
from adapt.inner import GaussNewton, SquaredError, plain
from adapt.spaces import film

CENTRES = torch.tensor([[3.0, 0.0], [-2.0, 2.0], [-1.0, -3.0]])
CLASSES = ("a", "b", "c")


def clusters(n: int, seed: int) -> tuple[Tensor, Tensor]:
    y = torch.arange(n) % 3
    return CENTRES[y] + 0.5 * torch.randn(n, 2, generator=torch.Generator().manual_seed(seed)), y


@pytest.fixture
def context() -> Context:
    network = nn.Sequential(FrozenBatchNorm(2))
    space = film(network)
    state = initial_state(space.initial.clone(), 0.3 * torch.eye(space.size))
    adapter = FewShotAdapter(network, space, state, GaussNewton(steps=0), Logistic(0.01))

    def pool(
        classes: tuple[str, ...], reserved: tuple[int, ...] = (), most: int | None = None
    ) -> tuple[Tensor, Tensor]:
        return clusters(30, 1)

    return Context(network, adapter, pool)


def turned(x: Tensor) -> Tensor:
    """By 50 degrees: further than half way to the next cluster, of some."""
    a = torch.tensor(50.0).deg2rad()
    return x @ torch.tensor([[a.cos(), a.sin()], [-a.sin(), a.cos()]])


def logits_of(context: Context, x: Tensor) -> Tensor:
    """Of the classifier as it is."""
    return torch.as_tensor(context.adapter.fit(*context.pool(CLASSES)).logits(x))


def test_t3a_is_nearest_to_weights_and_sure_examples(context: Context) -> None:
    (x, y), (new, _) = clusters(12, 2), clusters(9, 3)
    x, new = turned(x), turned(new)
    found = T3A(most=2).prepare(context)(Support(x, y, CLASSES), lambda _: None)(new)
    state = context.adapter.fit(*context.pool(CLASSES)).head_state
    weights = normalize(state[:-1].T)
    p = logits_of(context, x).softmax(-1)
    for c in range(3):
        members = [(float(-(q * q.log()).sum()), f) for q, f in zip(p, x, strict=True) if q.argmax() == c]
        surest = [normalize(f, dim=0) for _, f in sorted(members, key=lambda it: it[0])[:2]]
        centre = normalize(torch.stack([weights[c], *surest]).mean(0), dim=0)
        torch.testing.assert_close(found[:, c], new @ centre, rtol=1e-3, atol=1e-3)


def test_lame_settles_where_its_equation_holds(context: Context) -> None:
    (x, y), (new, _) = clusters(12, 2), clusters(9, 3)
    x, new = turned(x), turned(new)
    found = Lame(neighbours=2).prepare(context)(Support(x, y, CLASSES), lambda _: None)(new).softmax(-1)
    f, p = normalize(x), logits_of(context, x).softmax(-1)
    near = torch.zeros(12, 12)
    for i in range(12):
        others = [j for j in range(12) if j != i]
        for j in sorted(others, key=lambda j: -float(f[i] @ f[j]))[:2]:
            near[i, j] = near[j, i] = 1
    z = p
    for _ in range(500):
        z = p * (near @ z).exp()
        z = z / z.sum(-1, keepdim=True)
    for q, at, there in zip(logits_of(context, new).softmax(-1), normalize(new), found, strict=True):
        both = (f @ at).argsort(descending=True)[:2]
        expected = q * z[both].sum(0).exp()
        torch.testing.assert_close(there, expected / expected.sum(), rtol=1e-3, atol=1e-4)


def test_labels_are_not_looked_at(context: Context) -> None:
    x, y = clusters(12, 2)
    for method in (T3A(), Lame()):
        adapt = method.prepare(context)
        first, other = (adapt(Support(x, it, CLASSES), lambda _: None)(x) for it in (y, y.flip(0)))
        assert torch.equal(first, other)


def test_evolution_finds_the_minimum_of_a_quadratic() -> None:
    target, learned = (
        torch.tensor([[2.0, 3.0, -1.0]]),
        plain(torch.zeros(3))._replace(precision=torch.ones(3)),
    )
    solver = CmaEs(population=12, generations=60, sigma=0.5)
    z, trace = solver(lambda z: z[None], target, SquaredError(), learned)
    torch.testing.assert_close(z, target[0] / 2, atol=1e-3, rtol=1e-3)  # ½‖z − t‖² + ½‖z‖²
    assert trace.forward_equivalents == 12 * 60 and np.all(np.diff(trace.losses.numpy()) <= 0)
    again, _ = solver(lambda z: z[None], target, SquaredError(), learned)
    assert torch.equal(z, again)
    with pytest.raises(AdaptError, match="a covariance needs two"):
        solver(lambda z: z[None], target[:, :1], SquaredError(), plain(torch.zeros(1)))


def test_evolution_keeps_away_from_what_is_no_number_and_leaves_frozen_directions() -> None:
    precision = torch.tensor([1.0, torch.inf, 1.0])
    learned = plain(torch.zeros(3))._replace(precision=precision)
    z, _ = CmaEs(generations=30)(
        lambda z: torch.where(z[:1] > 0.2, z.new_tensor(torch.nan), z)[None],
        torch.tensor([[1.0, 1.0, 0.0]]),
        SquaredError(),
        learned,
    )
    assert z[1] == 0 and 0.1 < z[0] <= 0.2
