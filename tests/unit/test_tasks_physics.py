"""Simulated systems: their equations against what is known of them, and what their splits promise."""

from __future__ import annotations

import numpy as np
import pytest

from tasks import CartPole, GroupedTasks, LotkaVolterra, Pendulum, Selkov, TaskError
from tasks.physics import Environments


def still(source: Environments, begin: np.ndarray, constants: tuple[float, ...]) -> np.ndarray:
    """Trajectories ``[T + 1, states, n]`` without controls, the beginning included."""
    drive = np.zeros((source.points, source.controls, begin.shape[1]))
    return np.concatenate([begin[None], source.trajectories(begin, drive, constants)])


def test_predators_and_prey_keep_what_volterra_found_to_be_constant() -> None:
    beta, delta = 0.625, 1.125
    x, y = still(LotkaVolterra(points=40), np.array([[1.0, 1.7], [2.0, 1.1]]), (beta, delta)).transpose(
        1, 0, 2
    )
    kept = delta * x - 0.5 * np.log(x) + beta * y - 0.5 * np.log(y)
    assert np.abs(kept - kept[0]).max() < 1e-6
    assert np.ptp(x) > 0.5  # and they do move


def test_a_cell_rests_where_nothing_changes_and_oscillates_where_it_should() -> None:
    a, b = 0.1, 0.4
    rest = np.array([[b], [b / (a + b * b)]])  # Strogatz, example 7.3.2
    cell = Selkov(points=200)
    assert np.abs(still(cell, rest, (a, b)) - rest).max() < 1e-5
    turning = still(cell, np.array([[1.0], [1.0]]), (0.06, 0.55))[100:, 0, 0]
    assert np.ptp(turning) > 0.5  # a limit cycle: example 7.3.3


def test_a_pendulum_without_friction_keeps_its_energy() -> None:
    mass, length = 0.8, 1.4
    angle, speed = still(
        Pendulum(points=60), np.array([[3.0, 0.5], [-2.0, 1.0]]), (mass, length, 0.0)
    ).transpose(1, 0, 2)
    energy = mass * length**2 / 6 * speed**2 + mass * 10 * length / 2 * np.cos(angle)
    assert np.abs(energy - energy[0]).max() < 1e-5
    slower = still(Pendulum(points=60), np.array([[3.0], [-2.0]]), (mass, length, 0.3))
    lost = mass * length**2 / 6 * slower[:, 1] ** 2 + mass * 10 * length / 2 * np.cos(slower[:, 0])
    assert (np.diff(lost[:, 0]) < 1e-9).all()


def test_a_cart_and_its_pole_keep_their_energy() -> None:
    mass, half = 0.3, 0.6
    _, v, angle, turning = still(
        CartPole(points=40), np.array([[0.0], [0.5], [2.0], [1.0]]), (mass, half, 0.0)
    ).transpose(1, 0, 2)
    # The pole is a rod of length 2 half: its middle moves, and it turns about it.
    middle = (v + half * turning * np.cos(angle)) ** 2 + (half * turning * np.sin(angle)) ** 2
    energy = 0.5 * v**2 + 0.5 * mass * (middle + half**2 / 3 * turning**2) + mass * 9.8 * half * np.cos(angle)
    assert np.abs(energy - energy[0]).max() < 1e-5


@pytest.mark.parametrize(
    ("source", "name"), [(Pendulum(points=1), "Pendulum"), (CartPole(points=1), "CartPole")]
)
def test_one_short_step_is_that_of_gymnasium(source: Environments, name: str) -> None:
    gymnasium = pytest.importorskip("gymnasium", reason="gymnasium is not installed")
    moment, push = 1e-5, 1.3 if name == "Pendulum" else 10.0
    env = gymnasium.make(f"{name}-v1").unwrapped
    env.reset(seed=0)
    if name == "Pendulum":
        env.dt, env.m, env.l = moment, 0.8, 1.4
        env.state, constants = np.array([1.0, -2.0]), (0.8, 1.4, 0.0)
        env.step(np.array([push]))
    else:
        env.tau, env.masspole, env.length = moment, 0.3, 0.6
        env.total_mass, env.polemass_length = 1.3, 0.18
        env.state, constants = np.array([0.1, 0.5, 0.2, -0.7]), (0.3, 0.6, 0.0)
        env.step(1)
    begin = np.array([1.0, -2.0]) if name == "Pendulum" else np.array([0.1, 0.5, 0.2, -0.7])
    slope = source.derivative(begin[:, None], np.array([[push]]), constants)[:, 0]
    assert np.allclose((np.array(env.state) - begin) / moment, slope, atol=1e-3)


def test_what_there_is_to_learn_from_is_always_the_same() -> None:
    source = LotkaVolterra(kept=3)
    drawn = [source.sample(np.random.default_rng(seed), "beta 0.5, delta 0.75", 1, 2) for seed in (0, 1)]
    every = [{tuple(row) for row in np.concatenate([d.support_x, d.query_x]).tolist()} for d in drawn]
    assert every[0] == every[1] and len(every[0]) == 3
    seen = source.sample(np.random.default_rng(2), "beta 0.5, delta 0.75 (seen)", 3, 5)
    assert {tuple(row) for row in seen.support_x.tolist()} == every[0]
    assert not {tuple(row) for row in seen.query_x.tolist()} & every[0]
    new = [source.sample(np.random.default_rng(seed), "beta 0.625, delta 1.125", 1, 1) for seed in (0, 1)]
    assert not np.array_equal(new[0].support_x, new[1].support_x)
    assert source.constants("beta 0.625, delta 1.125") == {"beta": 0.625, "delta": 1.125}


def test_noise_is_on_supports_only() -> None:
    clean, noisy = (
        LotkaVolterra(noise=noise).sample(np.random.default_rng(0), "beta 0.625, delta 0.625", 20, 5)
        for noise in (0.0, 0.2)
    )
    assert np.array_equal(clean.query_y, noisy.query_y) and np.array_equal(clean.support_x, noisy.support_x)
    assert 0.15 < (noisy.support_y - clean.support_y).std() < 0.25


def test_trajectories_are_told_moment_by_moment() -> None:
    source = Pendulum(points=4)
    episode = GroupedTasks(source, 1, 1, "test").episode(0)
    assert episode.support_x.shape == (1, 2 + 4) and episode.support_y.shape == (1, 8)
    begin, drive = episode.support_x[0, :2].double().numpy(), episode.support_x[0, 2:].double().numpy()
    constants = tuple(source.constants(str(episode.meta.group)).values())
    after = source.trajectories(begin[:, None], drive[:, None, None], constants)
    assert np.allclose(after[:, :, 0].reshape(-1), episode.support_y[0], atol=1e-5)


def test_what_cannot_be_asked_for_is_refused() -> None:
    for settings in ({"points": 0}, {"kept": 0}, {"noise": -1.0}):
        with pytest.raises(TaskError, match=next(iter(settings))):
            Selkov(**settings)  # type: ignore[arg-type]
    with pytest.raises(TaskError, match="no group of split 'train' has more than 4"):
        GroupedTasks(LotkaVolterra(), 2, 3, "train")
    with pytest.raises(TaskError, match="no split 'elsewhere'"):
        LotkaVolterra().groups("elsewhere")
    assert (
        len({LotkaVolterra().digest(), LotkaVolterra(points=3).digest(), LotkaVolterra(kept=2).digest()}) == 3
    )


def of(**grid: dict[str, tuple[float, ...]]) -> type[LotkaVolterra]:
    return type("Own", (LotkaVolterra,), {"grid": {**LotkaVolterra.grid, **grid}})


@pytest.mark.parametrize(
    ("grid", "why"),
    [
        ({"test": {"beta": (0.5,), "delta": (0.5,)}}, "'beta 0.5, delta 0.5' is in train and in test"),
        ({"test": {"beta": (0.6,)}}, "the grid of 'test' is to hold values of beta, delta"),
        ({"test": {"beta": (0.6000001, 0.6000002), "delta": (0.6,)}}, "alike to six digits"),
    ],
)
def test_environments_are_told_apart(grid: dict[str, dict[str, tuple[float, ...]]], why: str) -> None:
    with pytest.raises(TaskError, match=why):
        of(**grid)()


def test_constants_have_the_names_that_they_are_given() -> None:
    source = of(test={"delta": (0.61,), "beta": (1.11,)})()
    (name,) = source.groups("test")
    assert name == "beta 1.11, delta 0.61" and source.constants(name) == {"beta": 1.11, "delta": 0.61}
    for ask in (source.constants, lambda group: source.sample(np.random.default_rng(0), group, 1, 1)):
        with pytest.raises(TaskError, match="has no environment 'nope'"):
            ask("nope")
    assert LotkaVolterra(points=np.int64(19)).digest() == LotkaVolterra(points=19).digest()


def test_what_blows_up_is_said() -> None:
    class Exploding(LotkaVolterra):
        def derivative(
            self, state: np.ndarray, control: np.ndarray, constants: tuple[float, ...]
        ) -> np.ndarray:
            return state**2

    with pytest.raises(TaskError, match="no trajectory of"):
        Exploding().sample(np.random.default_rng(0), "beta 0.5, delta 0.5", 1, 1)
