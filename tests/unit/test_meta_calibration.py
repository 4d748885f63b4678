"""How sure an adapter may be, learned from tasks whose noise is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import adapt
from adapt import AdaptError, FewShotAdapter
from adapt.adapter import Calibration, initial_state
from adapt.heads import Direct
from adapt.inner import Descent
from adapt.meta import calibrated
from tasks import Digits, Distribution, FunctionTasks, Sinusoid
from tests.unit.test_uncertainty import Line


class Lines:
    """Lines whose slope and offset have variance 0.09, seen with noise of variance 0.01."""

    regression = True

    def __init__(self, shots: int) -> None:
        self.shots = shots

    def episodes(self, first: int, last: int):  # type: ignore[no-untyped-def]
        for number in range(first, last):
            generator = torch.Generator().manual_seed(number)
            z = 0.3 * torch.randn(2, generator=generator, dtype=torch.float64)
            x = 2 * torch.rand(self.shots + 20, 1, generator=generator, dtype=torch.float64) - 1
            y = z[0] + z[1] * x + 0.1 * torch.randn(len(x), 1, generator=generator, dtype=torch.float64)
            yield _Episode(*(part.split([self.shots, 20]) for part in (x, y)))


class _Episode:
    def __init__(self, x: tuple[Tensor, ...], y: tuple[Tensor, ...]) -> None:
        (self.support_x, self.query_x), (self.support_y, self.query_y) = x, y


def test_the_noise_that_there_is_is_found() -> None:
    """With the right prior, Λ⁻¹ = noise / variance, spread and noise are both the noise, for any size."""
    line = FewShotAdapter.of(Line(), regression=True, head=Direct(), support_head=Direct())
    state = initial_state(line.state.origin, torch.eye(2, dtype=torch.float64))
    line = line.replace(state=state._replace(log_precision=state.log_precision + np.log(0.01 / 0.09)))
    found = calibrated(line, Lines(16), 300).calibration  # type: ignore[arg-type]
    assert found is not None
    assert found.noise == pytest.approx(0.01, rel=0.05)
    assert found.spread * 8**-found.decline == pytest.approx(0.01, rel=0.3)


def test_a_shipped_adapter_covers_what_it_says_of_tasks_of_any_size() -> None:
    adapter = adapt.load("mlp_sinusoid")
    assert adapter.calibration is not None
    for shots in (3, 5):
        inside = []
        for episode in FunctionTasks(Sinusoid(noise=0.0), shots, 40, "test").episodes(0, 100):
            mean, std = adapter.fit(episode.support_x, episode.support_y).predict(
                episode.query_x, return_std=True
            )
            inside.append(np.abs(mean - episode.query_y.numpy()) < 1.96 * std)
        assert np.mean(inside) == pytest.approx(0.95, abs=0.04)


def test_probabilities_of_classes_gain_a_temperature() -> None:
    digits = Distribution(Digits(), 5, 4, 10, support_split="support", query_split="query")
    plain = adapt.load("conv4_glyphs_film").replace(calibration=None)
    found = calibrated(plain, digits, 8)
    assert found.calibration is not None and found.calibration.noise != 1.0

    def loss(adapter: FewShotAdapter, average: bool) -> float:
        losses = []
        for episode in digits.episodes(0, 8):
            task = adapter.fit(episode.support_x, episode.support_y)
            chances = task.predict_proba(episode.query_x, average=average)
            losses.append(-np.log(chances[np.arange(len(chances)), episode.query_y.numpy()]).mean())
        return float(np.mean(losses))

    assert loss(found, True) < loss(plain, False)


def test_tasks_of_one_size_say_nothing_of_others() -> None:
    """Of two examples none is left out: how spread falls with their number is not made up."""
    line = FewShotAdapter.of(Line(), regression=True, head=Direct(), support_head=Direct())
    found = calibrated(line, Lines(2), 50).calibration  # type: ignore[arg-type]
    assert found is not None and found.decline == 0.0
    one = calibrated(line, Lines(16), 1).calibration  # type: ignore[arg-type]
    assert one is not None and one.decline == 0.0
    sine = calibrated(adapt.load("mlp_sinusoid"), FunctionTasks(Sinusoid(), 5, 10, "validation"), 1)
    assert sine.calibration is not None and sine.calibration.decline == 0.0
    task, episode = line.replace(calibration=one), next(iter(Lines(16).episodes(0, 1)))
    mean, std = task.fit(episode.support_x, episode.support_y).predict(episode.query_x, return_std=True)
    scaled = (mean - episode.query_y.numpy()) / std
    assert np.square(scaled).mean() == pytest.approx(1.0, abs=0.05)  # what the best scale makes of it


@pytest.mark.parametrize("count", [0, 1.5, "a", True])
def test_how_many_tasks_is_a_number(count: int) -> None:
    with pytest.raises(AdaptError, match="count="):
        calibrated(adapt.load("mlp_sinusoid"), FunctionTasks(Sinusoid(), 3, 5, "validation"), count)


def test_a_solver_without_a_posterior_is_left_as_it_is() -> None:
    adapter = adapt.load("mlp_sinusoid").replace(solver=Descent(steps=1), calibration=Calibration(1, 1))
    assert calibrated(adapter, FunctionTasks(Sinusoid(), 3, 5, "validation"), 2).calibration is None
