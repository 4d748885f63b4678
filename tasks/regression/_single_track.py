"""The nonlinear single-track model. Rajamani (2012), *Vehicle Dynamics and Control*, chapters 2, 4 and 13.

    v̇x = (Fxf cos δ − Fyf sin δ + Fxr − D vx² − R) / m + vy r
    v̇y = (Fyf cos δ + Fxf sin δ + Fyr) / m − vx r,    ṙ = (a (Fyf cos δ + Fxf sin δ) − b Fyr) / J
    αf = δ − atan((vy + a r) / vx),   αr = −atan((vy − b r) / vx),   Fx = s μ N,
    Fy = √(1 − s²) μ N sin(C atan(B α)),   B = c / (C μ)

The tyre is the magic formula (Pacejka, *Tyre and Vehicle Dynamics*, no curvature) in a friction circle: c N
is its cornering stiffness, N the static load of the axle, s the share of the grip that drive or brake takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

__all__ = ["CONSTANTS", "G", "State", "Vehicle"]

G = 9.81  # m/s²
SHAPE = 1.3  # C, the usual one for lateral force
TRACTION, BRAKING = 6e3, 14e3  # N at throttle 1 and at −1, the same for all: the heavy ones are the slow ones
ROLLING = 0.012  # R / (m g)
SUBSTEPS = 2
CONSTANTS = (G, SHAPE, TRACTION, BRAKING, ROLLING, SUBSTEPS)

State = tuple[float, float, float]  # vx and vy in m/s along and across the vehicle, yaw rate r in rad/s


@dataclass(frozen=True)
class Vehicle:
    """One vehicle on one road.

    Args:
        mass: m in kg.
        wheelbase: a + b in m.
        front_share: share of the weight on the front axle, b / (a + b).
        inertia_ratio: J / (m a b).
        front_stiffness: c of the front axle, cornering stiffness per load in 1/rad.
        rear_over_front: c of the rear axle over that of the front axle; above 1 the vehicle understeers.
        friction: μ of the road.
        drag: D, half of air density times drag area, in N s²/m².
    """

    mass: float = 1500.0
    wheelbase: float = 2.7
    front_share: float = 0.55
    inertia_ratio: float = 1.0
    front_stiffness: float = 12.0
    rear_over_front: float = 1.2
    friction: float = 0.9
    drag: float = 0.4

    @cached_property
    def _constants(self) -> tuple[float, ...]:
        """What no control changes; forces are per kg."""
        a, b = self.wheelbase * (1 - self.front_share), self.wheelbase * self.front_share
        grip = self.friction * G
        stiffness = self.front_stiffness / (SHAPE * self.friction)
        return (
            *(a, b, grip, grip * self.front_share, grip * (1 - self.front_share)),
            *(stiffness, stiffness * self.rear_over_front),
            *(self.drag / self.mass, ROLLING * G, self.inertia_ratio * a * b),
        )

    def under(self, steering: float, throttle: float) -> Callable[[float, float, float], State]:
        """State → its time derivative, at a steering angle (rad) and a throttle in −1 (brake) … 1."""
        # Plain floats: for three numbers at a time they are ten times as fast as NumPy.
        a, b, grip, grip_f, grip_r, stiff_f, stiff_r, drag, rolling, inertia = self._constants
        force = throttle * (TRACTION if throttle > 0 else BRAKING) / (self.mass * grip)
        s = min(
            max(force, -0.95), 0.95
        )  # traction control and anti-lock brakes leave some grip to steer with
        left = math.sqrt(1 - s * s)
        fxf, fxr = s * grip_f, s * grip_r
        sine, cosine, sin, atan = math.sin(steering), math.cos(steering), math.sin, math.atan

        def derivative(vx: float, vy: float, r: float) -> State:
            v = vx if vx > 1 else 1.0  # slip angles lose their meaning at a standstill
            fyf = left * grip_f * sin(SHAPE * atan(stiff_f * (steering - atan((vy + a * r) / v))))
            fyr = left * grip_r * sin(SHAPE * atan(stiff_r * -atan((vy - b * r) / v)))
            side = fyf * cosine + fxf * sine
            along = fxf * cosine - fyf * sine + fxr - drag * vx * vx - rolling
            return along + vy * r, side + fyr - vx * r, (a * side - b * fyr) / inertia

        return derivative

    def advance(
        self, state: State, steering: float, throttle: float, seconds: float, substeps: int = SUBSTEPS
    ) -> State:
        """The state after `seconds` with the controls held, by classical Runge-Kutta steps."""
        f, h = self.under(steering, throttle), seconds / substeps
        x, y, z = state
        for _ in range(substeps):
            x1, y1, z1 = f(x, y, z)
            x2, y2, z2 = f(x + h / 2 * x1, y + h / 2 * y1, z + h / 2 * z1)
            x3, y3, z3 = f(x + h / 2 * x2, y + h / 2 * y2, z + h / 2 * z2)
            x4, y4, z4 = f(x + h * x3, y + h * y3, z + h * z3)
            x += h / 6 * (x1 + 2 * x2 + 2 * x3 + x4)
            y += h / 6 * (y1 + 2 * y2 + 2 * y3 + y4)
            z += h / 6 * (z1 + 2 * z2 + 2 * z3 + z4)
        return x, y, z
