"""VehicleDynamics: the physics against closed forms, the drives within bounds, vehicles that differ."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import FunctionTasks, VehicleDynamics
from tasks.regression._single_track import BRAKING, ROLLING, TRACTION, G, State, Vehicle
from tasks.regression.vehicle_dynamics import INTERVAL, RANGES, X_UNIT, X_ZERO, Y_UNIT

VEHICLES = st.builds(Vehicle, **{name: st.floats(*bounds) for name, bounds in RANGES.items()})
STATES = st.tuples(st.floats(8, 35), st.floats(-4, 4), st.floats(-1, 1))
STEERING = st.floats(-0.3, 0.3)

# ------------------------------------------------------------------------------------------- the model


@pytest.mark.parametrize("speed", [10.0, 20.0, 30.0])
@pytest.mark.parametrize("rear_over_front", [1.0, 1.1, 1.4])
@pytest.mark.parametrize("front_share", [0.45, 0.6])
def test_yaw_rate_approaches_that_of_the_linear_model(
    speed: float, rear_over_front: float, front_share: float
) -> None:
    """r = v δ / (L + K v²), with K = m/L (b/Cf − a/Cr): Rajamani, chapter 3."""
    vehicle = Vehicle(front_share=front_share, rear_over_front=rear_over_front)
    a, b = vehicle.wheelbase * (1 - front_share), vehicle.wheelbase * front_share
    stiff_f = vehicle.front_stiffness * vehicle.mass * G * front_share  # N/rad
    stiff_r = vehicle.front_stiffness * rear_over_front * vehicle.mass * G * (1 - front_share)
    understeer = vehicle.mass / vehicle.wheelbase * (b / stiff_f - a / stiff_r)
    state: State = (speed, 0.0, 0.0)
    for _ in range(200):
        _, vy, r = vehicle.advance(state, 0.001, 0.0, INTERVAL)
        state = (speed, vy, r)  # as if speed were held
    assert state[2] == pytest.approx(speed * 0.001 / (vehicle.wheelbase + understeer * speed**2), rel=5e-3)


@given(vehicle=VEHICLES, state=STATES, steering=STEERING, throttle=st.floats(-1, 1))
def test_no_acceleration_beyond_friction(
    vehicle: Vehicle, state: State, steering: float, throttle: float
) -> None:
    dvx, dvy, _ = vehicle.under(steering, throttle)(*state)
    vx, vy, r = state
    along = dvx - vy * r + vehicle.drag / vehicle.mass * vx * vx + ROLLING * G  # of the tyres alone
    assert math.hypot(along, dvy + vx * r) <= vehicle.friction * G * (1 + 1e-9)


def test_a_slippery_road_carries_less() -> None:
    most = []
    for friction in (0.4, 0.6, 0.9):
        vehicle, state, seen = Vehicle(friction=friction), (25.0, 0.0, 0.0), []
        for step in range(80):  # steering turned in further and further, for four seconds
            derivative = vehicle.under(0.0015 * step, 0.1)(*state)
            seen.append(abs(derivative[1] + state[0] * state[2]))
            state = vehicle.advance(state, 0.0015 * step, 0.1, INTERVAL)
        most.append(max(seen) / (friction * G))
    assert all(0.9 < used <= 1 for used in most), most


@given(vehicle=VEHICLES, speed=st.floats(8, 35), throttle=st.floats(-1, 1))
def test_straight_driving_stays_straight(vehicle: Vehicle, speed: float, throttle: float) -> None:
    state: State = (speed, 0.0, 0.0)
    for _ in range(5):
        state = vehicle.advance(state, 0.0, throttle, INTERVAL)
    assert state[1:] == (0.0, 0.0)
    coasting = vehicle.advance((speed, 0.0, 0.0), 0.0, 0.0, INTERVAL)
    assert coasting[0] < speed


@given(vehicle=VEHICLES, speed=st.floats(8, 35))
def test_braking_and_accelerating_straight_are_the_closed_form(vehicle: Vehicle, speed: float) -> None:
    limit = 0.95 * vehicle.friction * G
    resistance = vehicle.drag * speed**2 / vehicle.mass + ROLLING * G
    brake, drive = vehicle.under(0.0, -1.0)(speed, 0, 0)[0], vehicle.under(0.0, 1.0)(speed, 0, 0)[0]
    assert brake == pytest.approx(-min(BRAKING / vehicle.mass, limit) - resistance)
    assert drive == pytest.approx(min(TRACTION / vehicle.mass, limit) - resistance)


@given(vehicle=VEHICLES, state=STATES, steering=STEERING, throttle=st.floats(-1, 0))
def test_braking_takes_energy(vehicle: Vehicle, state: State, steering: float, throttle: float) -> None:
    def energy(vx: float, vy: float, r: float) -> float:
        arms = vehicle.wheelbase**2 * vehicle.front_share * (1 - vehicle.front_share)
        return 0.5 * vehicle.mass * (vx * vx + vy * vy + vehicle.inertia_ratio * arms * r * r)

    assert energy(*vehicle.advance(state, steering, throttle, INTERVAL)) < energy(*state)


@given(vehicle=VEHICLES, state=STATES, steering=STEERING, throttle=st.floats(-1, 1))
def test_left_is_the_mirror_image_of_right(
    vehicle: Vehicle, state: State, steering: float, throttle: float
) -> None:
    vx, vy, r = vehicle.advance(state, steering, throttle, INTERVAL)
    mirrored = vehicle.advance((state[0], -state[1], -state[2]), -steering, throttle, INTERVAL)
    assert mirrored == (vx, -vy, -r)


def test_heavy_vehicles_are_slow_to_start_and_long_ones_to_turn() -> None:
    light, state = Vehicle(), (20.0, 0.0, 0.0)
    heavy, long = replace(light, mass=2500.0), replace(light, wheelbase=3.2)
    assert heavy.advance(state, 0.0, 1.0, 1.0)[0] < light.advance(state, 0.0, 1.0, 1.0)[0]
    assert long.advance(state, 0.01, 0.0, 1.0, 20)[2] < light.advance(state, 0.01, 0.0, 1.0, 20)[2]


def test_integration_is_accurate() -> None:
    """The steps that are taken, against fifty times as many, in the units of the targets."""
    worst = 0.0
    for episode in FunctionTasks(VehicleDynamics(), 100, 1).episodes(0, 40):
        vehicle = Vehicle(**episode.meta.parameters)
        for row in episode.support_x[::5].double().numpy() * X_UNIT + X_ZERO:
            state, steering, throttle = (row[0], row[1], row[2]), row[3], row[4]
            taken, fine = (
                np.array(vehicle.advance(state, steering, throttle, INTERVAL, n)) for n in (2, 100)
            )
            worst = max(worst, float(np.abs((taken - fine) / Y_UNIT).max()))
    assert worst < 1e-3


# ------------------------------------------------------------------------------------------ the source


def test_targets_are_the_model_and_rows_follow_each_other() -> None:
    for episode in FunctionTasks(VehicleDynamics(), 30, 40).episodes(0, 10):
        vehicle = Vehicle(**episode.meta.parameters)
        for x, y in ((episode.support_x, episode.support_y), (episode.query_x, episode.query_y)):
            rows = x.double().numpy() * X_UNIT + X_ZERO
            after = rows[:, :3] + y.double().numpy() * Y_UNIT
            assert np.allclose(after[:-1], rows[1:, :3], atol=1e-5)
            again = [vehicle.advance((row[0], row[1], row[2]), row[3], row[4], INTERVAL) for row in rows]
            assert np.allclose(after, again, atol=1e-5)


def test_queries_are_another_drive_that_the_shots_do_not_change() -> None:
    few, many = (FunctionTasks(VehicleDynamics(), shots, 40).episode(0) for shots in (2, 40))
    assert np.array_equal(few.query_x, many.query_x)
    assert np.array_equal(few.query_y, many.query_y)
    assert np.array_equal(few.support_x, many.support_x[:2])
    assert not np.isclose(many.support_x, many.query_x).all(1).any()


@pytest.fixture(scope="module")
def vehicles() -> tuple[np.ndarray, ...]:
    """Drives of 10 and 5 seconds of 200 vehicles, scaled: [T, n, 5] and [T, n, 3], float64."""
    batch = FunctionTasks(VehicleDynamics(), 200, 100).batch(0, 200)
    return tuple(tensor.double().numpy() for tensor in batch[:4])


def test_speeds_are_sane_and_units_are_the_spread(vehicles: tuple[np.ndarray, ...]) -> None:
    support_x, support_y, query_x, query_y = vehicles
    for x, y in ((support_x, support_y), (query_x, query_y)):
        rows = x * X_UNIT + X_ZERO
        assert rows[..., 0].min() > 8 and rows[..., 0].max() < 35
        assert np.abs(rows[..., 1] / rows[..., 0]).max() < 0.25  # none spins
        assert np.abs(rows[..., 3]).max() <= 0.3 + 1e-6
        assert np.abs(rows[..., 4]).max() <= 1 + 1e-6
        assert np.all((x.std((0, 1)) > 0.75) & (x.std((0, 1)) < 1.3)), x.std((0, 1))
        assert np.all((y.std((0, 1)) > 0.75) & (y.std((0, 1)) < 1.3)), y.std((0, 1))
        assert np.abs(x.mean((0, 1))).max() < 0.6


def test_parameters_are_uniform_within_the_stated_ranges() -> None:
    drawn = [e.meta.parameters for e in FunctionTasks(VehicleDynamics(), 1, 1).episodes(0, 1000)]
    assert drawn[0].keys() == RANGES.keys()
    for name, (low, high) in RANGES.items():
        share = (np.array([parameters[name] for parameters in drawn]) - low) / (high - low)
        assert 0 <= share.min() < 0.01 and 0.99 < share.max() < 1
        assert share.mean() == pytest.approx(0.5, abs=0.04)


def test_vehicles_differ(vehicles: tuple[np.ndarray, ...]) -> None:
    """A predictor that is linear in what the physics suggests, fitted to all vehicles, is worse than one that
    is fitted further to two and a half seconds of the vehicle at hand, and better than one fitted further to
    another vehicle."""
    support_x, support_y, query_x, query_y = vehicles
    features, targets = features_of(support_x), support_y
    size = features.shape[-1]
    common = np.linalg.lstsq(features.reshape(-1, size), targets.reshape(-1, 3), rcond=None)[0]

    def errors(other: int) -> np.ndarray:
        """Mean squared error of each vehicle [T], after fitting to the one that is `other` places further."""
        a, y = (np.roll(part, -other, 0)[:, :50] for part in (features, targets))
        at = np.swapaxes(a, 1, 2)  # ridge: what the drive does not show stays as it is for all
        step = np.linalg.solve(at @ a + 30 * np.eye(size), at @ (y - a @ common))
        return np.square(features_of(query_x) @ (common + step) - query_y).mean((1, 2))

    nobody = np.square(features_of(query_x) @ common - query_y).mean((1, 2))
    own, neighbour = errors(0), errors(1)
    assert np.median(own) < 0.8 * np.median(nobody) < 0.8 * np.median(neighbour)
    assert (own < nobody).mean() > 0.7
    assert (own < neighbour).mean() > 0.7


def features_of(x: np.ndarray) -> np.ndarray:
    """Scaled inputs [..., 5] → what enters the linear model and the forces along the road, [..., 10]."""
    vx, vy, r, steering, throttle = np.moveaxis(x * X_UNIT + X_ZERO, -1, 0)
    drive, brake = np.maximum(throttle, 0) / 0.3, np.minimum(throttle, 0) / 0.3
    linear = (vx / 20, vy / vx / 0.02, r / vx / 0.01, steering / 0.04, vx * r / 3)
    return np.stack([np.ones_like(vx), *linear, vy * r / 0.05, drive, brake, (vx / 20) ** 2], -1)
