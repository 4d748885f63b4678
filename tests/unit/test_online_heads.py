"""Going on with every head that is fitted, and where it was saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import adapt
from adapt import FewShotAdapter
from adapt.heads import HEADS, Ridge, is_transductive

X = torch.randn(36, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(36) % 3
#: All of them but one that tries many, with every example left out: minutes.
APART = {"direct", "logistic_cv"} | {name for name, kind in HEADS.items() if is_transductive(kind)}
FITTED = sorted({*HEADS} - APART)
CASES = [
    *((name, False) for name in FITTED),
    *((name, True) for name in FITTED if getattr(HEADS[name], "supports_regression", False)),
]


@pytest.mark.parametrize(("name", "regression"), CASES)
def test_every_head_goes_on_and_predicts_the_same_bits_once_loaded(
    name: str, regression: bool, tmp_path: Path
) -> None:
    """Also those whose state is laid out by columns."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4))
    kind, y = HEADS[name], X[:, :4].sin() if regression else Y
    heads = {"head": kind(scale=1.0), "support_head": Ridge(scale=1.0)} if regression else {"head": kind()}
    adapter = FewShotAdapter.of(network, regression=regression, **heads)  # type: ignore[arg-type]
    task = adapter.fit(X[:18], y[:18], keep=True).partial_fit(X[18:30], y[18:30])
    task.save_pretrained(tmp_path)
    loaded = adapt.load(tmp_path, backbone=network)
    assert torch.equal(loaded.logits(X), task.logits(X))
    assert np.array_equal(loaded.influence(), task.influence()) and np.isfinite(task.influence()).all()
    here, there = (it.partial_fit(X[30:], y[30:], forget=0.8) for it in (task, loaded))
    assert here.memory is not None and len(here.memory.targets) == 30  # 24, and six new ones
    assert torch.equal(here.logits(X), there.logits(X)) and torch.equal(here.z, there.z)
    if not regression:
        assert task.partial_fit(X[:2], [9, 9]).classes_.tolist() == [0, 1, 2, 9]
