"""How sure an adapter may be, learned from tasks whose noise is known."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

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


def test_of_a_shipped_adapter_values_of_a_task_together_are_no_surprise() -> None:
    """Its network has errors that its directions cannot move: p-values are still near uniform, for any number
    of values, and those of another task small."""
    adapter = adapt.load("mlp_sinusoid")
    assert adapter.calibration is not None and adapter.calibration.tail > 0
    same, other = [], []
    episodes = [*FunctionTasks(Sinusoid(noise=0.0), 6, 30, "validation").episodes(200, 260)]
    for one, two in pairwise(episodes):
        task = adapter.fit(one.support_x, one.support_y)
        for found, it in ((same, one), (other, two)):
            found.append([task.surprise(it.query_x[:n], it.query_y[:n]).p_value for n in (3, 30)])
    assert (np.mean(np.array(same) < 0.05, 0) < 0.15).all()
    assert np.mean(np.array(same) < 0.5, 0) == pytest.approx(0.5, abs=0.2)
    assert (np.median(other, 0) < 0.02).all()


def test_what_is_found_is_most_probable_by_single_values_and_together() -> None:
    """Against densities of the whole covariance matrix: no other numbers are better."""
    line = FewShotAdapter.of(Line(), regression=True, head=Direct(), support_head=Direct())
    state = initial_state(line.state.origin, torch.eye(2, dtype=torch.float64))
    line, lines = line.replace(state=state), Lines(8)
    found = calibrated(line, lines, 12).calibration  # type: ignore[arg-type]
    assert found is not None
    seen = []
    for number, episode in enumerate(lines.episodes(0, 12)):
        n = (8, 4, 2)[number % 3]
        rows, new = (torch.cat([torch.ones_like(x), x], 1) for x in (episode.support_x[:n], episode.query_x))
        inverse = torch.linalg.inv(rows.T @ rows + torch.eye(2))
        mean = new @ inverse @ rows.T @ episode.support_y[:n]
        seen.append((n, new @ inverse @ new.T, (episode.query_y - mean)[:, 0]))

    def negative(spread: float, noise: float, decline: float) -> float:
        total = 0.0
        for n, shared, left in seen:
            whole = spread * n**-decline * shared + noise * torch.eye(len(left))
            together = torch.distributions.MultivariateNormal(0 * left, whole).log_prob(left)
            alone = torch.distributions.Normal(0, whole.diagonal().sqrt()).log_prob(left).sum()
            total -= float(together + alone)
        return total

    best = negative(found.spread, found.noise, found.decline)
    for factor in (0.9, 1.1):
        assert negative(factor * found.spread, found.noise, found.decline) > best
        assert negative(found.spread, factor * found.noise, found.decline) > best
        assert negative(found.spread, found.noise, found.decline + factor - 1) > best


def test_an_adapter_saved_before_there_were_tails_has_none(tmp_path: Path) -> None:
    adapter = adapt.load("mlp_sinusoid").replace(calibration=Calibration(0.5, 0.1, 1.0, 0.2))
    adapter.save_pretrained(tmp_path)
    assert adapt.load(tmp_path).calibration == adapter.calibration
    path = tmp_path / "adapter_config.json"
    config = json.loads(path.read_text("utf-8"))
    config.pop("settings_sha256", None)
    del config["calibration"]["tail"]
    path.write_text(json.dumps(config), "utf-8")
    assert adapt.load(tmp_path).calibration == Calibration(0.5, 0.1, 1.0)
    for damage in ({"tail": 0.5}, {"tail": -0.1}, {"tails": 0.1}):
        path.write_text(json.dumps(config | {"calibration": config["calibration"] | damage}), "utf-8")
        with pytest.raises(AdaptError, match="calibration"):
            adapt.load(tmp_path)


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
