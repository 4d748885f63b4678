"""A mixture of subspaces: what is mixed, who picks, and that the solver sees one subspace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import adapt
from adapt import AdaptError, FewShotAdapter
from adapt.adapter import AdapterState, initial_state
from adapt.adapter.mixture import mixed_state, mixture_of, shares_of, summary
from adapt.adapter.routing import routed
from adapt.edge import save_edge
from adapt.heads import Direct
from adapt.inner import Auto, GaussNewton, SquaredError
from adapt.meta import MetaTraining, initial_basis
from adapt.meta.batches import stacked
from adapt.meta.gradient import mean_shares, outer_gradient
from adapt.meta.groups import discriminant, groups_of
from adapt.meta.query import Learner
from tasks import FunctionTasks, Sinusoid
from tests.planted import REGRESSION, tiny_mlp

K, MANY = 2, 3
X = torch.linspace(-3, 3, 12)[:, None]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def parts(many: int = MANY) -> list[AdapterState]:
    """Subspaces around starts of their own."""
    _, space = tiny_mlp()
    found = []
    for seed in range(many):
        start = space.initial + 0.5 * drawn(space.size, seed=seed)
        state = initial_state(start, 0.3 * drawn(space.size, K, seed=10 + seed))
        found.append(state._replace(log_precision=drawn(K, seed=20 + seed)))
    return found


def adapter(state: AdapterState, solver: Any = GaussNewton(steps=2)) -> FewShotAdapter:  # noqa: B008
    network, space = tiny_mlp()
    return FewShotAdapter(
        network, space, state, solver=solver, loss=SquaredError(), head=Direct(), support_head=Direct()
    )


def always(number: int, many: int = MANY, features: int = 6) -> Tensor:
    """A router that picks ``number`` whatever it sees."""
    router = torch.zeros(many, features + 1)
    router[number, -1] = 100.0
    return router


@pytest.mark.parametrize("number", range(MANY))
def test_all_the_weight_on_one_is_that_one(number: int) -> None:
    mixture, one = mixture_of(parts(), always(number)), parts()[number]
    assert mixture.k == MANY + MANY * K
    found = mixed_state(mixture, torch.eye(MANY)[number])
    for name in ("origin", "basis", "log_precision", "log_rates"):
        torch.testing.assert_close(getattr(found, name), getattr(one, name), msg=name)
    assert not found.is_mixture and found.k == K


def test_shares_weigh_starts_directions_and_precisions() -> None:
    shares = torch.tensor([0.5, 0.2, 0.3])
    found = mixed_state(mixture_of(parts(), torch.zeros(MANY, 7)), shares)
    for name in ("origin", "basis", "log_precision"):
        wanted = sum(float(w) * getattr(part, name) for w, part in zip(shares, parts(), strict=True))
        torch.testing.assert_close(getattr(found, name), wanted, msg=name)


def test_a_task_is_that_of_the_subspace_that_is_picked() -> None:
    one = adapter(parts()[1]).fit(X, X.sin())
    mixed = adapter(mixture_of(parts(), always(1))).fit(X, X.sin())
    torch.testing.assert_close(mixed.logits(X), one.logits(X))
    assert mixed.z.shape == (K,)
    assert mixed.trace.forward_equivalents == one.trace.forward_equivalents + 1  # who picks looks once


def test_the_summary_is_moments_of_outputs_targets_and_what_is_left() -> None:
    network, space = tiny_mlp()
    state = mixture_of(parts(), torch.zeros(MANY, 7))
    found = summary(network, space, state, X, X.sin(), SquaredError())
    middle = torch.stack([part.origin for part in parts()]).mean(0)
    network.load_state_dict(space.tensors(middle))
    values = network(X).numpy()[:, 0], X.sin().numpy()[:, 0]
    columns = [*values, values[1] - values[0]]
    wanted = np.array([*(it.mean() for it in columns), *(it.std() for it in columns)])
    np.testing.assert_allclose(found, np.sign(wanted) * np.log1p(np.abs(wanted)), rtol=1e-5, atol=1e-6)


def test_shares_are_the_softmax_of_a_linear_map() -> None:
    state = mixture_of(parts(2), torch.tensor([[1.0, 0.0, 0.5], [0.0, 2.0, 0.0]]))
    found = shares_of(state, torch.tensor([0.5, 1.0]))
    torch.testing.assert_close(found, torch.tensor([1.0, 2.0]).softmax(0))


def test_auto_picks_the_subspace_with_the_evidence() -> None:
    """Nothing tells the subspaces apart beforehand; the data lie in one of them."""
    mixture = mixture_of(parts(), torch.zeros(MANY, 7))
    y = routed(adapter(mixture), X, X, shares=torch.eye(MANY)[2]).fit(X, X.sin()).logits(X)
    soft, chosen = (adapter(mixture, it).fit(X, y) for it in (GaussNewton(steps=2), Auto()))
    assert "subspace 2 alone has the evidence on its side" in (chosen.trace.choice or "")
    assert (chosen.logits(X) - y).square().mean() < 0.1 * (soft.logits(X) - y).square().mean()


def test_auto_stays_with_what_was_learned() -> None:
    state = mixture_of(parts(), always(0))
    y = adapter(parts()[0], GaussNewton(steps=0)).fit(X, X).logits(X)
    assert "the mixture has the evidence" in (adapter(state, Auto()).fit(X, y).trace.choice or "")


def test_saved_and_read_it_is_the_same(tmp_path: Path) -> None:
    ours = adapter(mixture_of(parts(), drawn(MANY, 7, seed=3)))
    task = ours.fit(X, X.sin())
    ours.save_pretrained(tmp_path / "adapter")
    task.save_pretrained(tmp_path / "task")
    theirs = FewShotAdapter.from_pretrained(tmp_path / "adapter", tiny_mlp()[0])
    assert theirs.state.is_mixture and torch.equal(theirs.state.router, ours.state.router)
    assert torch.equal(theirs.fit(X, X.sin()).logits(X), task.logits(X))
    read = adapt.load(tmp_path / "task", backbone=tiny_mlp()[0])
    assert torch.equal(read.logits(X), task.logits(X)) and not read.adapter.state.is_mixture


def test_many_tasks_are_those_one_by_one() -> None:
    ours = adapter(mixture_of(parts(), drawn(MANY, 7, seed=3)))
    for task, shift in zip(ours.fit_many([(X, (X + s).sin()) for s in (0.0, 1.0)]), (0.0, 1.0), strict=True):
        torch.testing.assert_close(task.logits(X), ours.fit(X, (X + shift).sin()).logits(X))


def test_the_balance_has_the_slope_of_its_formula() -> None:
    """β M Σ_m w̄_m² over the tasks of a step, by differentiating all of it at once."""
    network, space = tiny_mlp(torch.float64)
    state = AdapterState(*(it.double() for it in mixture_of(parts(), drawn(MANY, 7, seed=3))))
    learner = Learner(network, space, GaussNewton(), REGRESSION)
    batch = stacked(FunctionTasks(Sinusoid(), shots=5, queries=4), 0, 4)
    batch = type(batch)._make([*(it.double() for it in batch[:4]), batch.meta])
    mean = mean_shares(learner, state, batch, chunk=3)
    beta, fields = 0.7, ("router", "origin")
    found, _ = outer_gradient(learner, state, batch, fields, chunk=3, pressure=2 * beta * MANY * mean)
    plain, _ = outer_gradient(learner, state, batch, fields, chunk=4)
    leaves = [getattr(state, name).clone().requires_grad_(True) for name in fields]
    moving = state._replace(**dict(zip(fields, leaves, strict=True)))
    episodes = [type(batch)._make([*(it[t] for it in batch[:4]), batch.meta]) for t in range(4)]
    shares = torch.stack([learner.shares(moving, episode) for episode in episodes])
    torch.testing.assert_close(shares.mean(0), mean)
    wanted = torch.autograd.grad(beta * MANY * shares.mean(0).square().sum(), leaves)
    for name, slope in zip(fields, wanted, strict=True):
        torch.testing.assert_close(found[name] - plain[name], slope, rtol=1e-8, atol=1e-10, msg=name)


def test_groups_are_those_that_were_planted() -> None:
    centres = torch.tensor([[0.0, 0.0], [40.0, 0.0], [0.0, 4.0]])  # scales differ
    own = torch.arange(30) % 3
    found = groups_of(centres[own] + drawn(30, 2) * torch.tensor([1.0, 0.1]), 3)
    assert len({(int(a), int(b)) for a, b in zip(own, found, strict=True)}) == 3


def test_a_task_like_no_other_is_no_group() -> None:
    own = torch.arange(30) % 2
    summaries = torch.tensor([[-3.0, 0.0], [3.0, 0.0]])[own] + 0.3 * drawn(30, 2)
    summaries[7] = torch.tensor([0.0, 500.0])
    assert torch.bincount(groups_of(summaries, 2)).min() >= 5


def test_the_discriminant_leads_to_the_own_group() -> None:
    groups = torch.arange(40) % 2
    summaries = drawn(40, 3) + torch.tensor([[6.0, 0, 0], [-6.0, 0, 2]])[groups]
    router = discriminant(summaries, groups)
    logits = summaries @ router[:, :-1].T + router[:, -1]
    assert torch.equal(logits.argmax(1), groups)
    assert 1 < (logits.amax(1) - logits.amin(1)).mean() <= 3.01  # soft: training can still change it


def test_tasks_that_are_all_alike_make_no_groups() -> None:
    with pytest.raises(AdaptError, match=r"meta\.subspaces=2: only 1 of the 5 tasks"):
        groups_of(torch.ones(5, 2), 2)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"basis": "identity"}, "not with meta.basis=identity"),
        ({"gradient": "reptile", "learn": ("origin",)}, "meta.gradient=reptile"),
        ({"nested": (1, 2), "k": 2}, "meta.nested"),
        ({"balance": -1.0}, "meta.balance=-1.0"),
    ],
)
def test_settings_that_do_not_go_with_subspaces(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(AdaptError, match=said):
        MetaTraining(subspaces=2, **settings)


def test_a_group_of_too_few_tasks_says_what_to_do() -> None:
    network, space = tiny_mlp()
    settings = MetaTraining(k=4, basis="displacements", basis_steps=1, subspaces=2)
    episodes = FunctionTasks(Sinusoid(), shots=5, queries=2).episodes(0, 7)
    with pytest.raises(AdaptError, match=r"directions, not 4: set more meta\.basis_tasks"):
        initial_basis(network, space, REGRESSION, episodes, settings)


def test_a_router_is_learned_only_with_subspaces() -> None:
    assert "router" in MetaTraining(subspaces=2).learn
    with pytest.raises(AdaptError, match=r"meta\.learn"):
        MetaTraining(learn=("router",))


def test_a_router_of_another_network_is_refused() -> None:
    with pytest.raises(AdaptError, match="router reads 4 numbers of a task, and this network makes 6"):
        adapter(mixture_of(parts(), torch.zeros(MANY, 5))).fit(X, X.sin())


def test_what_a_mixture_cannot_be(tmp_path: Path) -> None:
    state = mixture_of(parts(), always(0))
    with pytest.raises(AdaptError, match="directions of a mixture of subspaces have no order"):
        state.leading(2)
    with pytest.raises(AdaptError, match="router is of shape"):
        adapter(state._replace(router=torch.zeros(5, 7)))
    with pytest.raises(AdaptError, match="a mixture of subspaces"):
        save_edge(adapter(state), tmp_path, X)
