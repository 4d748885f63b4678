"""Many tasks at once are what each would be alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import adapt
from adapt import AdaptError
from adapt.adapter import FewShotAdapter, FittedTask, Matching, initial_state
from adapt.adapter import many as module
from adapt.adapter.adapting import WORSE
from adapt.heads import LaplacianShot, Logistic, Prototype, Ridge
from adapt.inner import Auto, Continuation, Descent, GaussNewton, Linearised, Solver
from adapt.spaces import full


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pictures(number: int, shots: int = 3) -> tuple[Tensor, list[str]]:
    labels = ["a", "b", "c"] * shots
    return drawn(number, 3 * shots, 5) + torch.arange(3).repeat(shots)[:, None], labels


@pytest.fixture
def adapter() -> FewShotAdapter:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 6)).eval().requires_grad_(False)
    space = full(network)
    return FewShotAdapter(network, space, initial_state(space.initial.clone(), 0.2 * drawn(9, space.size, 4)))


@pytest.fixture
def stacks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the stacks that were adapted."""
    seen: list[int] = []
    together = module._together
    monkeypatch.setattr(module, "_together", lambda *given: seen.append(len(given[1])) or together(*given))
    return seen


def check_alike(found: FittedTask, alone: FittedTask, x: Tensor) -> None:
    torch.testing.assert_close(found.z, alone.z, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.head_state, alone.head_state, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.trace.losses, alone.trace.losses, atol=1e-4, rtol=1e-4)
    assert found.trace.forward_equivalents == alone.trace.forward_equivalents
    assert found.trace.choice == alone.trace.choice and found.classes_.tolist() == alone.classes_.tolist()
    torch.testing.assert_close(found.logits(x), alone.logits(x), atol=1e-4, rtol=1e-4)
    assert (found.posterior is None) == (alone.posterior is None)
    if found.posterior is not None and alone.posterior is not None:
        for one, other in zip(found.posterior, alone.posterior, strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "solver",
    [
        GaussNewton(),
        GaussNewton(steps=3),
        Linearised(),
        Descent(steps=3),
        GaussNewton(steps=0),
    ],
    ids=repr,
)
@pytest.mark.parametrize("head", [Logistic(), Ridge(), Prototype()], ids=lambda head: type(head).__name__)
def test_alike(solver: Solver, head: Logistic, adapter: FewShotAdapter, stacks: list[int]) -> None:
    adapter, given = adapter.replace(solver=solver, head=head), [pictures(i) for i in range(6)]
    found = adapter.fit_many(given, keep=True)
    assert stacks == [6]
    for task, (x, y) in zip(found, given, strict=True):
        check_alike(task, adapter.fit(x, y, keep=True), x)
    queries = [drawn(50 + i, 4, 5) for i in range(6)]
    for labels, task, x in zip(adapter.predict_many(found, queries), found, queries, strict=True):
        assert labels.tolist() == task.predict(x).tolist()


def test_a_move_that_does_not_help_is_undone_in_its_task_only(adapter: FewShotAdapter) -> None:
    wild = adapter.replace(solver=Descent("sgd", lr=3.0, steps=1))
    given = [pictures(i) for i in range(12)]
    found = wild.fit_many(given)
    for task, (x, y) in zip(found, given, strict=True):
        check_alike(task, wild.fit(x, y), x)
    assert {task.trace.choice for task in found} == {"", WORSE}


def test_sizes_and_kinds_may_differ(adapter: FewShotAdapter, stacks: list[int]) -> None:
    given = [pictures(0), pictures(1, 2), pictures(2), pictures(3, 1), pictures(4, 2), pictures(5)]
    given += [(drawn(6, 4, 5), [1, 1, 2, 2]), (np.asarray(drawn(7, 9, 5)), pictures(7)[1])]
    mixed = [*given, (TensorDataset(drawn(8, 4, 5), torch.tensor([0, 1, 0, 1])), None)]
    found = adapter.fit_many(mixed, chunk=3)
    assert sorted(stacks) == [2, 2, 3]
    for task, (x, y) in zip(found, mixed, strict=True):
        check_alike(task, adapter.fit(x, y), drawn(9, 3, 5))
    empty = [drawn(0, 0, 5)] * len(found)
    assert [len(labels) for labels in adapter.predict_many(found, empty)] == [0] * len(found)


@pytest.mark.parametrize(
    "parts", [{"solver": Auto(directions=(2,))}, {"rows": 2}, {"head": LaplacianShot()}], ids=str
)
def test_what_decides_for_each_task_is_asked_for_each(
    parts: dict[str, object], adapter: FewShotAdapter, stacks: list[int]
) -> None:
    adapter, given = adapter.replace(**parts), [pictures(i) for i in range(3)]
    found, queries = adapter.fit_many(given), [drawn(5, 6, 5)] * 3
    assert stacks == ([3] if "head" in parts else [])
    for task, (x, y), labels in zip(found, given, adapter.predict_many(found, queries), strict=True):
        check_alike(task, adapter.fit(x, y), x)
        assert labels.tolist() == task.predict(queries[0]).tolist()


@pytest.mark.parametrize("name", ["mlp_sinusoid", "mlp_vehicle_dynamics"])
def test_values(name: str, stacks: list[int]) -> None:
    adapter = adapt.load(name)
    if name == "mlp_sinusoid":
        adapter = adapter.replace(solver=Continuation(shares=(0.5, 1.0), steps=(1, 2)))
    (inputs,) = adapter.input_shape or (1,)
    outputs = adapter.backbone(torch.zeros(1, inputs)).shape[1]
    given = [(drawn(i, 10, inputs), drawn(100 + i, 10, outputs)) for i in range(5)]
    found = adapter.fit_many(given)
    assert stacks == [5]
    for task, (x, y) in zip(found, given, strict=True):
        check_alike(task, adapter.fit(x, y), x)
    for values, task in zip(adapter.predict_many(found, [given[0][0]] * 5), found, strict=True):
        np.testing.assert_allclose(values, task.predict(given[0][0]), atol=1e-5)


def test_large_networks_and_norms_that_follow_go_one_by_one(stacks: list[int]) -> None:
    adapter = adapt.load("conv4_glyphs_film")
    given = [(torch.rand(4, 1, 32, 32), [0, 0, 1, 1]) for _ in range(2)]
    for each in (adapter, adapter.replace(match=Matching())):
        found = each.fit_many(given)
        assert stacks == [] and torch.equal(found[1].z, each.fit(*given[1]).z)


class Broken(nn.Module):
    """NaN where a number is large."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(5, 7), nn.LayerNorm(7)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.layer(x))
        return torch.where(x[:, :1] > 50, y * torch.nan, y)


class Recurrent(nn.Module):
    """Which ``vmap`` has no rule for."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.GRU(1, 6, batch_first=True), nn.LayerNorm(6)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.norm(self.layer(x[..., None])[0][:, -1])
        return found


@pytest.mark.parametrize("regression", [False, True])
def test_what_is_no_number_is_said_as_of_one_task(regression: bool) -> None:
    adapter = FewShotAdapter.of(Broken().eval(), regression=regression)
    given: list[tuple[Tensor, Any]] = [pictures(i) for i in range(3)]
    given = [(x, x.tanh() @ torch.ones(5, 7)) for x, _ in given] if regression else given
    given[1][0][0, 0] = 100.0
    for fit in (lambda: adapter.fit(*given[1]), lambda: adapter.fit_many(given)):
        with pytest.raises(AdaptError, match="NaN or infinit"):
            fit()
    with pytest.raises(AdaptError, match="task 1: "):
        adapter.fit_many(given)


def test_a_network_that_cannot_be_mapped_over_goes_one_by_one() -> None:
    torch.manual_seed(0)
    hooked, seen = nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7)).eval(), list[float]()
    for network in (Recurrent().eval(), hooked):
        adapter, given = FewShotAdapter.of(network), [pictures(i) for i in range(3)]
        if network is hooked:
            adapter.backbone.register_forward_hook(lambda *given: seen.append(float(given[-1].sum())))
        found, queries = adapter.fit_many(given), [x for x, _ in given]
        for task, (x, y), labels in zip(found, given, adapter.predict_many(found, queries), strict=True):
            check_alike(task, adapter.fit(x, y), x)
            assert labels.tolist() == task.predict(x).tolist()
    assert seen


def test_bytes_are_judged_task_by_task() -> None:
    network = nn.Sequential(nn.Conv2d(1, 6, 3), nn.Flatten(), nn.Linear(216, 8), nn.LayerNorm(8)).eval()
    adapter = FewShotAdapter.of(network, input_shape=(1, 8, 8), value_range=(0, 1))
    dark, light = (torch.randint(0, high, (8, 1, 8, 8), dtype=torch.uint8) for high in (2, 256))
    with pytest.raises(AdaptError, match="task 1: "):
        adapter.fit_many([(light, [0, 1] * 4), (dark, [0, 1] * 4)])
    task = adapter.fit(light, [0, 1] * 4)
    with pytest.raises(AdaptError, match="task 1: "):
        adapter.predict_many([task, task], [light, dark])


def test_errors_name_the_task(adapter: FewShotAdapter) -> None:
    good, (x, y) = pictures(0), pictures(1)
    for wrong, why in (
        ((x[:, :4], y), "task 1: x has examples of shape"),
        ((x.where(x < 0, torch.nan), y), r"task 1: x\[\d\] holds NaN"),
        ((x, y[:-1]), "task 1: y has shape|task 1: .*one label per example"),
        ((x, ["a"] * 9), "task 1: y holds only the class 'a'"),
        ((x[:0], []), "task 1: x holds no examples"),
    ):
        with pytest.raises(AdaptError, match=why):
            adapter.replace(input_shape=(5,)).fit_many([good, wrong])
    tasks = adapter.fit_many([good, (x, y)])
    with pytest.raises(AdaptError, match="2 tasks and 1 sets of examples"):
        adapter.predict_many(tasks, [x])
    with pytest.raises(AdaptError, match="task 1: x"):
        adapter.predict_many(tasks, [x, x.where(x < 0, torch.nan)])
    other = [*tasks, adapter.replace(head=Ridge()).fit(x, y)]
    for found, task in zip(adapter.predict_many(iter(other), iter([x] * 3)), other, strict=True):
        assert found.tolist() == task.predict(x).tolist()
    for strange, why in (((x, y, 3), "is a tuple"), ({"x": x}, "is a dict"), (x, "is a Tensor")):
        with pytest.raises(AdaptError, match=f"task 1: it {why}"):
            adapter.fit_many([good, strange])  # type: ignore[list-item]
    with pytest.raises(AdaptError, match="task 0 is a str"):
        adapter.predict_many({"a": 1}, [x])  # type: ignore[arg-type]
    with pytest.raises(AdaptError, match="at least one task at a time"):
        adapter.fit_many([good], chunk=0)
    assert adapter.fit_many([]) == [] and adapter.predict_many([], []) == []
