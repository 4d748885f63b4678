"""Meta-training on a backbone of low precision, or under autocast: a float32 state near that of float64."""

from __future__ import annotations

import copy

import pytest
import torch

from adapt import AdaptError
from adapt.adapter import FewShotAdapter, Problem
from adapt.heads import KernelRidge, Logistic, Prototype, Ridge
from adapt.inner import CrossEntropy, GaussNewton, SquaredError
from adapt.meta import MetaTraining, initial_basis, meta_train
from adapt.spaces import film
from tasks import Distribution
from tests.helpers import distance, make_source, tiny_conv4

PROBLEM = Problem(CrossEntropy(), Prototype(), Logistic())


@pytest.mark.parametrize("basis", ["gradients", "displacements", "random"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_a_state_is_learned_in_float32(dtype: torch.dtype, basis: str) -> None:
    """(float32: under autocast.)"""
    train, held = (
        Distribution(make_source(), support_split=split, ways=2, shots=2, queries=2, seed=1)
        for split in ("train", "validation")
    )
    settings = MetaTraining(
        steps=2,
        tasks_per_step=2,
        validate_every=2,
        validation_tasks=2,
        k=2,
        basis=basis,
        basis_tasks=4,
        basis_steps=2,
        lr=1e-2,
    )
    low = tiny_conv4().to(dtype)
    states = []
    for net in (low, copy.deepcopy(low).double()):
        with torch.autocast("cpu", torch.bfloat16, enabled=net is low and dtype == torch.float32):
            space = film(net)
            start = initial_basis(net, space, PROBLEM, train.episodes(100, 104), settings)
            state, metrics = meta_train(net, space, start, GaussNewton(), PROBLEM, train, held, settings)
        adapter = FewShotAdapter(net, space, state)
        assert adapter.fit(train.episode(0).support_x, train.episode(0).support_y).z.shape == (2,)
        assert metrics["validation/loss"] == metrics["validation/loss"]
        states.append(state)
    ours, theirs = states
    assert {tensor.dtype for tensor in ours} == {torch.float32}
    assert {tensor.dtype for tensor in theirs} == {torch.float64}
    assert distance(ours.origin.double(), theirs.origin) <= 0.05


@pytest.mark.parametrize("role", ["head", "support_head"])
def test_a_factor_on_predictions_is_refused(role: str) -> None:
    problem = Problem(SquaredError(), Ridge(scale=1.0), Ridge(scale=1.0))._replace(**{role: KernelRidge()})
    train = Distribution(make_source(), ways=2, shots=2, queries=2)
    net = tiny_conv4()
    space = film(net)
    with pytest.raises(AdaptError, match=rf"^{role}.scale=10.0 turns outputs into logits"):
        meta_train(net, space, None, GaussNewton(), problem, train, train, MetaTraining())
