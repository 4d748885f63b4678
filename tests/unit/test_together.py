"""Statistics come from somebody else: what is no sum over examples of this adapter is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import adapt
from adapt import AdaptError, FewShotAdapter
from adapt.adapter import Statistics
from adapt.heads import Direct
from tests.unit.test_uncertainty import X as LINE_X
from tests.unit.test_uncertainty import Y as LINE_Y
from tests.unit.test_uncertainty import line  # noqa: F401 (a fixture)

X = torch.linspace(-3, 3, 10)[:, None]
BAD: list[tuple[Callable[[Statistics], Any], str]] = [
    (lambda it: replace(it, gradient=it.gradient * torch.nan), r"statistics\[1\] hold NaN"),
    (lambda it: replace(it, curvature=it.curvature + torch.inf), r"statistics\[1\] hold NaN"),
    (lambda it: replace(it, value=float("nan")), r"statistics\[1\] hold NaN"),
    (lambda it: replace(it, value=-1.0), "negative loss"),
    (lambda it: replace(it, examples=0), "no examples"),
    (lambda it: replace(it, curvature=-it.curvature), "not symmetric and positive"),
    (lambda it: replace(it, curvature=2 * it.curvature.triu()), "not symmetric and positive"),
    (lambda it: replace(it, curvature=it.curvature[:2]), r"shapes \[\(4,\), \(4,\), \(2, 4\)\], but k is 4"),
    (lambda it: replace(it, at=it.at + 1), "in one round"),
    (lambda it: replace(it, outputs=2), "in one round"),
    (lambda it: replace(it, adapter="0" * 16), "of another adapter or network"),
    (lambda it: (it.curvature, it.gradient), "pass a list of what adapter.statistics"),
]


@pytest.mark.parametrize(("change", "said"), BAD)
def test_what_is_no_sum_over_examples_is_refused(change: Callable[[Statistics], Any], said: str) -> None:
    adapter = adapt.load("mlp_sinusoid")
    one, other = (adapter.statistics(part, part.sin()) for part in (X[:4], X[4:]))
    assert bool(adapter.fit_statistics([one, other]).z.any())
    with pytest.raises(AdaptError, match=said):
        adapter.fit_statistics([one, change(other)])


def test_statistics_of_another_network_with_as_many_directions_are_refused() -> None:
    networks = [nn.Sequential(nn.Linear(1, 4), nn.LayerNorm(4), nn.Linear(4, 1)) for _ in range(2)]
    heads = {"head": Direct(), "support_head": Direct()}
    one, other = (FewShotAdapter.of(network, regression=True, **heads) for network in networks)
    assert torch.equal(one.state.origin, other.state.origin)  # ones and zeros, of norms
    with pytest.raises(AdaptError, match="of another adapter or network"):
        other.fit_statistics([one.statistics(X, X.sin())])


def test_each_argument_says_what_is_wrong_with_it() -> None:
    adapter = adapt.load("mlp_sinusoid")
    for at, said in (
        (torch.zeros(3), "4 finite numbers"),
        ([np.nan] * 4, "4 finite numbers"),
        ("z", "a str"),
    ):
        with pytest.raises(AdaptError, match=said):
            adapter.statistics(X, X.sin(), at=at)  # type: ignore[arg-type]
    with pytest.raises(AdaptError, match="regression, which has none"):
        adapter.statistics(X, X.sin(), classes=[0, 1])
    with pytest.raises(AdaptError, match="regression, which has none"):
        adapter.fit_statistics([adapter.statistics(X, X.sin())], classes=[0, 1])
    for none in ([], None):
        with pytest.raises(AdaptError, match="statistics"):
            adapter.fit_statistics(none)  # type: ignore[arg-type]


def test_classes_of_all_clients() -> None:
    """Each sees two of three; together they are the joint fit."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 3))
    adapter = FewShotAdapter.of(network, head=Direct(), support_head=Direct())
    y = np.array(["a", "b"] * 2 + ["c", "b"] * 3)
    names = ["c", "a", "b"]
    sent = [adapter.statistics(X[part], y[part], classes=names) for part in (slice(4), slice(4, 10))]
    task, whole = adapter.fit_statistics(sent, classes=names), adapter.fit(X, y)
    assert torch.allclose(task.z, whole.z, atol=1e-6)
    assert task.classes_.tolist() == whole.classes_.tolist()
    assert task.predict(X).tolist() == whole.predict(X).tolist()
    for classes, said in (
        (None, "give the labels of all"),
        (["a"], "at least two"),
        (["a", 1], "classes mixes strings"),
        (["a", "b"], r"y\[4\] is 'c', no class here: give classes= the labels of all"),
    ):
        with pytest.raises(AdaptError, match=said):
            adapter.statistics(X, y, classes=classes)
    with pytest.raises(AdaptError, match="give the 3 labels of all clients"):
        adapter.fit_statistics(sent, classes=["a", "b"])


def test_where_nothing_was_learned_it_is_as_sure_as_the_joint_fit(line: FewShotAdapter) -> None:  # noqa: F811
    line = line.replace(calibration=None)
    parts = list(zip(LINE_X.split([2, 3, 4]), LINE_Y.split([2, 3, 4]), strict=True))
    sent = [Statistics(**asdict(line.statistics(*part))) for part in parts]
    together, whole = line.fit_statistics(sent), line.fit(LINE_X, LINE_Y)
    assert together.predict(LINE_X, return_std=True)[1] == pytest.approx(
        whole.predict(LINE_X, return_std=True)[1]
    )
    assert together.posterior is not None
    rows = torch.cat([torch.ones_like(LINE_X), LINE_X], 1)
    z = torch.linalg.solve(rows.T @ rows + torch.eye(2, dtype=LINE_X.dtype), rows.T @ LINE_Y)
    noise = ((rows @ z - LINE_Y).square().sum() + z.square().sum()) / 9
    assert float(together.posterior.noise) == pytest.approx(float(noise))
