"""Vehicles: how state and controls change the state a twentieth of a second later, for a vehicle that is new.

    y = (state(t + 0.05 s) − state(t)) / Y_UNIT,   x = ((vx, vy, r, steering, throttle)(t) − X_ZERO) / X_UNIT

The vehicle is a nonlinear single-track model with magic-formula tyres: Rajamani (2012), *Vehicle Dynamics and
Control*; Pacejka, *Tyre and Vehicle Dynamics*; the equations are in `tasks/regression/_single_track.py`.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict

import numpy as np

from tasks._settings import between, check_setting
from tasks.functions import SPLITS, Drawn
from tasks.regression._single_track import CONSTANTS, G, State, Vehicle
from tasks.source import Card

__all__ = ["VehicleDynamics"]

VERSION = "1"  # to be raised with any change to what is drawn or computed
INTERVAL = 0.05  # seconds from sample to sample; the controls are held in between
#: What is drawn for a vehicle, uniformly; the units are those of `Vehicle`.
RANGES = {
    "mass": (900.0, 2500.0),  # a small car, a loaded van
    "wheelbase": (2.3, 3.2),
    "front_share": (0.45, 0.62),
    "inertia_ratio": (0.85, 1.15),
    "front_stiffness": (9.0, 16.0),  # 0.16 to 0.28 of the load per degree
    "rear_over_front": (1.05, 1.4),  # production cars are built to understeer
    "friction": (0.35, 1.05),  # packed snow, dry asphalt
    "drag": (0.3, 0.7),
}
#: Spread over vehicles and drives, rounded: inputs and targets have a variance of about 1.
X_ZERO, X_UNIT = np.array([20.0, 0, 0, 0, 0]), np.array([4.2, 0.33, 0.17, 0.037, 0.32])  # m/s, rad/s, rad
Y_UNIT = np.array([0.084, 0.061, 0.034])  # m/s, m/s, rad/s


class VehicleDynamics:
    """One vehicle per task. One drive gives the support, a later one, on the same road, the queries.

    Rows are successive moments of a drive, 20 a second. Speeds stay between 8 and 35 m/s.

    Args:
        noise: standard deviation of the noise on the targets of the support, in their units; queries have
            none. Vehicles and drives are the same whatever it is.

    Example:
        >>> vehicles = VehicleDynamics()
        >>> vehicles.shape, vehicles.outputs
        ((5,), 3)
    """

    regression = True
    splits = SPLITS
    shape = (5,)
    outputs = 3

    def __init__(self, noise: float = 0.0) -> None:
        check_setting("vehicle_dynamics: noise", noise, between(0, None))
        self.noise = noise
        self.card = CARD
        self.name = CARD.name

    def draw(self, rng: np.random.Generator, support: int, queries: int) -> Drawn:
        """A vehicle, as inputs [n, 5] and targets [n, 3]; see `FunctionSource.draw`."""
        low, high = zip(*RANGES.values(), strict=True)
        vehicle = Vehicle(*rng.uniform(low, high).tolist())
        support_x, support_y = _drive(vehicle, rng, support)
        query_x, query_y = _drive(vehicle, rng, queries)
        if self.noise:
            support_y += self.noise * rng.standard_normal(support_y.shape)
        return support_x, support_y.astype(np.float32), query_x, query_y.astype(np.float32), asdict(vehicle)

    def digest(self) -> str:
        """sha256 (hex) of version, constants, ranges, units and noise."""
        units = [*X_ZERO.tolist(), *X_UNIT.tolist(), *Y_UNIT.tolist()]
        decisive = ("vehicle_dynamics", VERSION, CONSTANTS, INTERVAL, RANGES, units, float(self.noise))
        return hashlib.sha256(repr(decisive).encode()).hexdigest()


def _drive(vehicle: Vehicle, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Scaled inputs [n, 5], float32, and targets [n, 3], float64, of n successive moments of a drive."""
    cruise = rng.uniform(14, 28)
    speeds = (cruise + 4 * _wander(rng, n, 0.05, 0.5)).tolist()
    # Up to a tenth more than the road holds. The driver knows the road, steers as for an average vehicle, and
    # counters yaw and slip; without that some vehicles spin.
    sideways = (1.1 * vehicle.friction * G * _wander(rng, n, 0.1, 1.0)).tolist()
    state: State = (cruise, 0.0, 0.0)
    before, after = [], []
    for speed, side in zip(speeds, sideways, strict=True):
        vx, vy, r = state
        throttle = min(max(0.25 * (speed - vx), -1.0), 1.0)
        steering = side * (2.7 / (vx * vx) + 0.002) + 0.3 * (side / vx - r) + 0.5 * vy / vx
        steering = min(max(steering, -0.3), 0.3)
        before.append((*state, steering, throttle))
        state = vehicle.advance(state, steering, throttle, INTERVAL)
        after.append(state)
    x = np.array(before)
    return ((x - X_ZERO) / X_UNIT).astype(np.float32), (np.array(after) - x[:, :3]) / Y_UNIT


def _wander(rng: np.random.Generator, n: int, slowest: float, fastest: float) -> np.ndarray:
    """A smooth random curve in [−1, 1]: the mean of three sinusoids of frequencies (Hz) in between, [n]."""
    hertz, phase = rng.uniform(slowest, fastest, (3, 1)), rng.uniform(0, 2 * np.pi, (3, 1))
    return np.sin(2 * np.pi * hertz * INTERVAL * np.arange(n) + phase).mean(0)


CARD = Card(
    name="vehicle_dynamics",
    description=(
        "Simulated drives of random cars and vans on random roads, 20 samples a second: speed along and "
        "across, yaw rate, steering angle and throttle, and how the first three change until the next sample."
    ),
    origin=(
        "Computed here by a nonlinear single-track model after R. Rajamani (2012), Vehicle Dynamics and "
        "Control, 2nd edition, Springer, with tyres after H. B. Pacejka, Tyre and Vehicle Dynamics."
    ),
    licence="Apache-2.0 (generated)",
    terms="As for this software; nothing is asked for the numbers themselves.",
    counts={"inputs": 5, "outputs": 3, "parameters": len(RANGES)},
    known_issues=(
        "A simplified model: no roll, pitch, load transfer, tyre relaxation, wheel spin or actuator lag.",
        "Parameters are drawn independently of each other; those of real vehicles are correlated.",
        "The driver knows the friction of the road, so that the inputs alone say something about it.",
        "Vehicles drive with all wheels and brake in proportion to static load.",
        "Splits differ by random stream, not by range: every test vehicle has near neighbours in training.",
        "Points of a drive follow each other and are not independent.",
    ),
    personal_data="None.",
    domain="autonomous vehicles",
    commercial=True,
)
