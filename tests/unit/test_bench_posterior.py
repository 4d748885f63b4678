"""What the benchmark of the posterior computes itself, on numbers that are known."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import adapt
from bench.lib.posterior_classes import calibration_error, held_out_logits, start_features, temperature
from bench.lib.posterior_rivals import RIVALS, Setting, affine, nll, prior
from bench.lib.posterior_tables import uncertainty
from bench.lib.posterior_values import tasks_of
from tasks import Digits, Distribution


def test_calibration_error_is_that_of_the_bins() -> None:
    sure = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    right = np.array([1, 1, 1, 0, 1, 0])
    # 4 of 6 are 20 points too sure, 2 of 6 five: their sum, not their difference
    assert calibration_error(sure, right) == pytest.approx(100 * (4 * 0.2 + 2 * 0.05) / 6)
    assert calibration_error(np.array([1.0]), np.array([1])) == 0


def test_a_temperature_undoes_a_scale() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4000, 3, generator=generator)
    y = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    assert temperature(logits, y) == pytest.approx(1, abs=0.1)
    assert temperature(3 * logits, y) == pytest.approx(3, abs=0.3)


def test_folds_do_not_see_the_labels_that_they_judge() -> None:
    adapter = adapt.load("conv4_glyphs_film")
    digits = Distribution(Digits(), 3, 4, 1, support_split="support", query_split="query").episode(0)
    features = start_features(adapter, digits.support_x)
    before = held_out_logits(adapter, features, digits.support_y)
    moved = features.clone()
    moved[0] = -moved[0]  # in no fold but its own
    fold = [row for row in range(12) if row % 4 == 0]  # the first of each class
    assert digits.support_y.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    after = held_out_logits(adapter, moved, digits.support_y)
    assert torch.allclose(after[fold[1:]], before[fold[1:]]), "fitted without any of their fold"
    rest = [row for row in range(12) if row not in fold]
    assert not torch.allclose(after[rest], before[rest])


def test_two_numbers_scale_the_variance_of_an_ensemble() -> None:
    rng = np.random.default_rng(0)
    spread = rng.uniform(0, 4, (40_000, 1))
    truth = np.sqrt(0.5 + 3 * spread) * rng.standard_normal((40_000, 1))
    episode = SimpleNamespace(query_y=torch.from_numpy(truth))
    assert affine([(np.zeros_like(truth), spread)], [episode]) == pytest.approx((0.5, 3), rel=0.15)


def test_the_shared_prior_is_that_of_the_functions() -> None:
    """Of functions of one length, each of few points: together they tell it."""
    rng = np.random.default_rng(0)
    sets = []
    for _ in range(12):
        x = rng.uniform(-3, 3, (12, 1))
        k = 4 * np.exp(-((x - x.T) ** 2) / 2 / 0.7**2) + 1e-3 * np.eye(12)
        sets.append((x, np.linalg.cholesky(k) @ rng.standard_normal(12)))
    kernel = prior(sets)
    assert kernel.k1.k2.length_scale == pytest.approx(0.7, rel=0.15)
    assert kernel.k1.k1.constant_value == pytest.approx(4, rel=0.6)


@pytest.mark.parametrize("name", ["one variance", "BayesianRidge", "process of the task"])
def test_rivals_say_more_of_what_they_have_seen(name: str, tmp_path: Path) -> None:
    tasks = tasks_of("mlp_vehicle_dynamics", 20)
    judged = [*tasks_of("mlp_vehicle_dynamics", 20, "validation").episodes(0, 3)]
    rival = RIVALS[name](Setting("x", adapt.load("mlp_vehicle_dynamics"), tasks, judged, tmp_path, True))
    episode = tasks.episode(0)
    seen = episode._replace(query_x=episode.support_x, query_y=episode.support_y)
    mean, variance = rival(episode)
    assert mean.shape == variance.shape == (60, 3) and (variance > 0).all()
    assert nll(rival(seen), seen) < nll((mean, variance), episode)


def test_tables_say_where_a_rival_is_better() -> None:
    def row(method: str, metric: str, value: float, ci95: float | None = None) -> dict[str, object]:
        case = f"sinusoid, 5 examples: {method}"
        return {
            "case": case,
            "metric": metric,
            "value": value,
            "ci95": ci95,
            "n": 9,
            "goal": None,
            "note": "",
        }

    methods = {"posterior": 1.0, "worse": 2.0, "better": 0.5}
    rows = [row(m, "eval/nll", value, 0.1) for m, value in methods.items()]
    rows += [row(m, f"eval/{it}", 90.0) for m in methods for it in ("coverage", "sharpness")]
    rows += [row("posterior", "eval/error_of_surer_half", 0.5)]
    for method in ("worse", "better"):
        difference = 1.0 - methods[method]
        rows += [row(method, "compare/nll_of_posterior_minus", difference, 0.1)]
        rows += [row(method, "compare/posterior_better", 30.0)]
    where = {"name": "posterior", "commit": None, "command": "x", "device": "y", "threads": 1, "date": "z"}
    text = uncertainty({**where, "versions": {}, "rows": rows})
    assert "| -1.00 ± 0.10 (30 %) | **0.50 ± 0.10 (30 %)** |" in text
    assert "**missed**; better: better with sinusoid, 5 examples" in text
    assert "inside everywhere: **missed** by sinusoid, 5 examples (90.0 %)" in text
