"""Sinusoid: the formula, the ranges and the uniform draws of the paper."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

from tasks import FunctionTasks, Sinusoid


def test_targets_are_the_formula() -> None:
    for episode in FunctionTasks(Sinusoid()).episodes(0, 50):
        amplitude, phase = episode.meta.parameters["amplitude"], episode.meta.parameters["phase"]
        for x, y in ((episode.support_x, episode.support_y), (episode.query_x, episode.query_y)):
            assert torch.equal((amplitude * torch.sin(x.double() - phase)).float(), y)


@pytest.mark.parametrize("split", Sinusoid.splits)
def test_draws_are_uniform_in_the_ranges_of_the_paper(split: str) -> None:
    tasks = FunctionTasks(Sinusoid(), 5, 5, split)
    metas = [episode.meta.parameters for episode in tasks.episodes(0, 2000)]
    batch = tasks.batch(0, 400)
    samples = {
        (0.1, 5.0): np.array([meta["amplitude"] for meta in metas]),
        (0.0, np.pi): np.array([meta["phase"] for meta in metas]),
        (-5.0, 5.0): torch.cat([batch.support_x, batch.query_x], 1).double().flatten().numpy(),
    }
    for (low, high), values in samples.items():
        assert low <= values.min() and values.max() <= high
        assert scipy.stats.kstest(values, "uniform", (low, high - low)).pvalue > 1e-3


def test_inputs_tell_nothing_of_the_function() -> None:
    tasks = FunctionTasks(Sinusoid(), 1, 1)
    pairs = [(e.meta.parameters["phase"], float(e.support_x)) for e in tasks.episodes(0, 2000)]
    assert abs(np.corrcoef(np.array(pairs).T)[0, 1]) < 0.1
