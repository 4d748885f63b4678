"""What simulated systems have in common: a group is an environment, an example a whole trajectory.

    ds/dt = f(s, u; c) ,   x = (s(0), u_1, …, u_T) ,   y = (s(Δ), s(2Δ), …, s(TΔ))

The constants c belong to the environment and are not told; the controls u, if the system has any, are held
over an interval Δ each. As in Kirchmeyer et al. (2022), *Generalizing to New Physical Systems via
Context-Informed Dynamics Model*, section 5.1: few environments to learn from, a handful of trajectories of
each, and others, between and beyond them, to adapt to from a single one.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from itertools import product
from typing import ClassVar

import numpy as np

from tasks._settings import between, check_setting, least
from tasks.grouped import GroupDraw
from tasks.source import Card, TaskError

__all__ = ["Environments"]

SPLITS = ("train", "validation", "test", "seen", "wide")
KEPT_SEED = 0  # fixed: which trajectories there are to learn from belongs to the source
TOLERANCE = 1e-8  # relative, of the solver; far below what float32 holds

Constants = tuple[float, ...]


class Environments(ABC):
    """Trajectories of one system, by environment.

    Split ``train`` has ``kept`` trajectories of each of its environments, always the same. Those of
    ``validation`` and ``test``, other environments, are drawn anew for every task. ``seen`` is of the
    environments of ``train``: supports are the kept trajectories, if there are enough, queries are new.
    ``wide`` has more new environments than ``test``, which is as small as others publish it.

    Args:
        points: T, moments of a trajectory after its beginning.
        kept: trajectories of each environment of split ``train``.
        noise: standard deviation of the noise on the targets of supports; queries have none.
    """

    grouped: ClassVar[bool] = True
    regression: ClassVar[bool] = True
    splits: ClassVar[tuple[str, ...]] = SPLITS

    #: To be raised with any change to what is drawn or computed.
    version: ClassVar[str] = "1"
    card: ClassVar[Card]
    #: Seconds, or whatever unit of time the system has, from point to point.
    interval: ClassVar[float]
    #: Numbers of a state, and of the controls over an interval.
    states: ClassVar[int]
    controls: ClassVar[int] = 0
    #: Split -> constant -> the values that it takes there, each with each of the others.
    grid: ClassVar[Mapping[str, Mapping[str, tuple[float, ...]]]]

    def __init__(self, points: int = 20, kept: int = 4, noise: float = 0.0) -> None:
        name = self.card.name
        for setting, value in (("points", points), ("kept", kept)):
            check_setting(f"{name}: {setting}", value, least(1, most=10_000))
        check_setting(f"{name}: noise", noise, between(0, None))
        self.name, self.points, self.kept, self.noise = name, points, kept, noise
        self.shape = (self.states + points * self.controls,)
        self.outputs = points * self.states
        self._of: dict[str, dict[str, Constants]] = {split: self._environments(split) for split in SPLITS}
        self._split_of: dict[str, str] = {}
        for split, groups in self._of.items():
            for group in groups:
                if (other := self._split_of.setdefault(group, split)) != split:
                    raise TaskError(f"{name}: {group!r} is in {other} and in {split}: keep it in one")

    def _environments(self, split: str) -> dict[str, Constants]:
        """Name -> constants, in the order of those of training."""
        own = "train" if split == "seen" else split
        known, values = self.grid["train"], self.grid.get(own)
        if values is None or set(values) != set(known):
            raise TaskError(f"{self.card.name}: the grid of {own!r} is to hold values of {', '.join(known)}")
        every = [*product(*(values[constant] for constant in known))]
        found = {_named(known, chosen, split): chosen for chosen in every}
        if len(found) < len(every):
            raise TaskError(f"{self.card.name}: values of {own!r} are alike to six digits: keep them apart")
        return found

    def _split(self, group: str) -> str:
        if group not in self._split_of:
            raise TaskError(f"{self.name} has no environment {group!r}: see groups(split)")
        return self._split_of[group]

    def groups(self, split: str) -> Mapping[str, int | None]:
        """Environment -> how many trajectories it has; None: any number."""
        if split not in self._of:
            raise TaskError(f"{self.name} has no split {split!r}: use one of {', '.join(self._of)}")
        return dict.fromkeys(self._of[split], self.kept if split == "train" else None)

    def constants(self, group: str) -> dict[str, float]:
        """The constants of an environment, by name."""
        split = self._split(group)
        return dict(zip(self.grid["train"], self._of[split][group], strict=True))

    def sample(self, rng: np.random.Generator, group: str, shots: int, queries: int) -> GroupDraw:
        """Inputs ``[n, states + T · controls]`` and trajectories ``[n, T · states]``, a moment after the
        other; see `GroupSource.sample`."""
        split = self._split(group)
        constants = self._of[split][group]
        if split == "train":
            x, y = self._kept(constants)
            rows = rng.permutation(self.kept)[: shots + queries]
            x, y = x[rows], y[rows]
        elif split == "seen":
            rows = rng.permutation(self.kept)[:shots]
            (x, y), new = self._kept(constants), self._drawn(rng, shots + queries - len(rows), constants)
            x, y = np.concatenate([x[rows], new[0]]), np.concatenate([y[rows], new[1]])
        else:
            x, y = self._drawn(rng, shots + queries, constants)
        if self.noise:
            y[:shots] += self.noise * rng.standard_normal(y[:shots].shape)
        x, y = x.astype(np.float32), y.astype(np.float32)
        return GroupDraw(x[:shots], y[:shots], x[shots:], y[shots:])

    def digest(self) -> str:
        """sha256 (hex) of version, equations' settings and what was asked for."""
        grid = {split: dict(values) for split, values in self.grid.items()}
        numbers = int(self.points), int(self.kept), float(self.noise)
        decisive = (self.name, self.version, self.interval, grid, *numbers)
        return hashlib.sha256(repr(decisive).encode()).hexdigest()

    @abstractmethod
    def begin(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """States ``[states, n]`` that trajectories begin with."""

    def drive(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Controls ``[T, controls, n]``."""
        return np.zeros((self.points, 0, n))

    @abstractmethod
    def derivative(self, state: np.ndarray, control: np.ndarray, constants: Constants) -> np.ndarray:
        """ds/dt ``[states, n]`` at ``state [states, n]`` under ``control [controls, n]``."""

    def trajectories(self, begin: np.ndarray, drive: np.ndarray, constants: Constants) -> np.ndarray:
        """States ``[T, states, n]`` after each interval, float64, from ``begin [states, n]`` under ``drive
        [T, controls, n]``: Dormand and Prince's method of order 8 (Hairer, Nørsett, Wanner 1993)."""
        from scipy.integrate import solve_ivp

        shape, state, found = begin.shape, begin.reshape(-1), []
        # Without controls the intervals are one: nothing changes from one to the next.
        steps = [1] * self.points if self.controls else [self.points]
        for index, length in enumerate(steps):
            control = drive[index]
            solved = solve_ivp(
                lambda _, s, u=control: self.derivative(s.reshape(shape), u, constants).reshape(-1),
                (0.0, length * self.interval),
                state,
                "DOP853",
                self.interval * np.arange(1, length + 1),
                rtol=TOLERANCE,
                atol=TOLERANCE / 100,
            )
            if not solved.success:
                raise TaskError(f"{self.name}: no trajectory of {constants} from there: {solved.message}")
            found.append(solved.y.T.reshape(length, *shape))
            state = solved.y[:, -1]
        return np.concatenate(found)

    def _kept(self, constants: Constants) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([KEPT_SEED, *np.array(constants).view(np.uint64).tolist()])
        return self._drawn(rng, self.kept, constants)

    def _drawn(self, rng: np.random.Generator, n: int, constants: Constants) -> tuple[np.ndarray, np.ndarray]:
        begin, drive = self.begin(rng, n), self.drive(rng, n)
        after = self.trajectories(begin, drive, constants)
        x = np.concatenate([begin.T, drive.transpose(2, 0, 1).reshape(n, -1)], 1)
        return x, after.transpose(2, 0, 1).reshape(n, -1)


def _named(values: Mapping[str, tuple[float, ...]], chosen: Constants, split: str) -> str:
    """An environment by its constants: ``beta 0.5, delta 0.75``."""
    name = ", ".join(f"{constant} {value:g}" for constant, value in zip(values, chosen, strict=True))
    return f"{name} (seen)" if split == "seen" else name
