"""Control: how well a pendulum of unknown mass, length and friction is swung up after a hundred transitions.

``python -m bench.control [--quick]``. The field of ``experiment=meta_pendulum`` adapts to five seconds of
random torques; a controller plans with it for ten seconds, from hanging down. The same controller, with the
same random numbers, plans with the field as it was learned, with one that is trained anew on those
transitions, with all weights fine-tuned on them, and with the true equations. Every pendulum of split
``test`` is one task. The return is minus the cost of Pendulum-v1 of gymnasium, twenty times a second.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

import adapt
from adapt.adapter import FewShotAdapter
from adapt.app.progress import progress
from adapt.backbones import Mlp, Rollout, load_backbone
from adapt.compare.statistics import mean_interval, paired_difference
from adapt.files import read_json, write_json
from adapt.inner import GaussNewton
from adapt.memory import keep_freed_memory
from bench.lib.control import Planner, Simulator, cost
from bench.lib.record import Row, folder_of, options, report
from bench.lib.runs import command_line
from tasks import Pendulum
from tasks.physics.pendulum import G

DEPENDS = (
    "adapt/adapter", "adapt/backbones", "adapt/forward", "adapt/inner", "adapt/meta", "adapt/spaces",
    "bench/lib/control.py", "tasks/physics",
)  # fmt: skip
STEPS, TRAJECTORIES = 200, (5, 1)
SIZES, RATE = (4, 64, 64, 2), 1e-3
OURS, STILL, TRUE = "adapted, forward", "not adapted", "the true equations"


#: Model -> returns and seconds, a number for every pendulum.
Measured = dict[str, dict[str, list[float]]]


class Equations(nn.Module):
    """The pendulum itself, as a field of sine, cosine, speed and torque."""

    def __init__(self, mass: float, length: float, friction: float) -> None:
        super().__init__()
        self.mass, self.length, self.friction = mass, length, friction

    def forward(self, x: Tensor) -> Tensor:
        """Angle and speed, changing: ``[n, 2]``."""
        sine, _, speed, torque = x.unbind(1)
        pull = 3 / (self.mass * self.length**2) * (torque - self.friction * speed)
        return torch.stack([speed, 1.5 * G / self.length * sine + pull], 1)


def rollout(field: nn.Module, points: int) -> Rollout:
    return Rollout(field, 2, points, Pendulum.interval, controls=1, angles=(0,))


def simulator(field: nn.Module, horizon: int, parameters: Mapping[str, Tensor] | None = None) -> Simulator:
    """Plans through ``field``, with other ``parameters`` of its roll-out if given."""
    network = rollout(field, horizon)

    def simulate(states: Tensor, torques: Tensor) -> Tensor:
        x = torch.cat([states, torques], 1)
        found = network(x) if parameters is None else functional_call(network, dict(parameters), (x,))
        return found.reshape(len(x), horizon, 2)

    return simulate


def trained(field: nn.Module, x: Tensor, y: Tensor, steps: int, lr: float) -> nn.Module:
    """``field`` after ``steps`` of Adam on single transitions, which are easier than trajectories."""
    points = Pendulum().points
    states = torch.cat([x[:, None, :2], y.reshape(-1, points, 2)], 1)  # [n, T + 1, 2]
    before = torch.cat([states[:, :-1].reshape(-1, 2), x[:, 2:].reshape(-1, 1)], 1)
    after, network = states[:, 1:].reshape(-1, 2), rollout(field, 1)
    optimizer = torch.optim.Adam(network.parameters(), lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps)
    for _ in range(steps):
        loss = (network(before) - after).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return field.requires_grad_(False)


def models(
    adapter: FewShotAdapter,
    constants: Mapping[str, float],
    x: Tensor,
    y: Tensor,
    left_out: Sequence[str],
    quick: bool,
) -> Iterator[tuple[str, Simulator, float]]:
    """Name, simulator, and seconds that it took to make, without those ``left_out``."""
    horizon, steps = Planner.horizon, 5 if quick else 3000
    copy = lambda: Mlp(SIZES, "tanh")  # noqa: E731
    origin = adapter.space.parameters(adapter.state.origin)

    def ours() -> Simulator:
        with torch.no_grad():
            task = adapter.replace(solver=GaussNewton(steps=4)).fit(x, y)
        return simulator(copy(), horizon, task.parameters)

    def tuned() -> Simulator:
        field = copy()
        field.load_state_dict({name.removeprefix("field."): value for name, value in origin.items()})
        return simulator(trained(field, x, y, steps, RATE), horizon)

    ways: dict[str, Callable[[], Simulator]] = {
        STILL: lambda: simulator(copy(), horizon, origin),
        OURS: ours,
        "all weights, fine-tuned": tuned,
        "trained anew": lambda: simulator(trained(copy(), x, y, steps, 3 * RATE), horizon),
        TRUE: lambda: simulator(Equations(**constants), horizon),
    }
    for name in [name for name in ways if name not in left_out]:
        make = ways[name]
        started = time.perf_counter()
        model = make()
        yield name, model, time.perf_counter() - started


def returned(
    source: Pendulum, constants: Mapping[str, float], model: Simulator, steps: int, seed: int
) -> float:
    """What a controller that plans with ``model`` gets of the true pendulum, from hanging down."""
    planner, state, total = Planner(model, seed=seed), torch.tensor([torch.pi, 0.0]), 0.0
    for _ in range(steps):
        torque = planner.act(state)
        total -= float(cost(state, torch.tensor(torque)))
        begin, drive = state.double().numpy()[:, None], np.full((1, 1, 1), torque)
        after = source.trajectories(begin, drive, tuple(constants.values()))
        state = torch.from_numpy(after[0, :, 0]).float()
    return total


def measured(adapter: FewShotAdapter, given: int, folder: Path, quick: bool) -> Measured:
    """Returns and seconds of every model on every pendulum, of which ``given`` trajectories are known; what
    has been measured is not measured again, nor models that learn nothing with fewer trajectories."""
    source, one = Pendulum(), Pendulum(points=1)
    names = [*source.groups("test")][: 1 if quick else None]
    found: Measured = {}
    for number in progress(f"pendulums, {given} trajectories")(range(len(names))):
        path = folder / f"{given}_{number}.json"
        if not path.exists():
            constants = source.constants(names[number])
            drawn = source.sample(np.random.default_rng([7, number]), names[number], max(TRAJECTORIES), 1)
            x, y = torch.from_numpy(drawn.support_x)[:given], torch.from_numpy(drawn.support_y)[:given]
            results, left_out = {}, () if given == TRAJECTORIES[0] else (STILL, TRUE)
            for name, model, seconds in models(adapter, constants, x, y, left_out, quick):
                with torch.no_grad():
                    score = returned(one, constants, model, 3 if quick else STEPS, number)
                results[name] = [score, seconds]
            write_json(path, results)
        for name, (score, seconds) in read_json(path).items():
            kept = found.setdefault(name, {"returns": [], "seconds": []})
            kept["returns"].append(score)
            kept["seconds"].append(seconds)
    return found


def rows_of(given: int, found: Measured) -> Iterator[Row]:
    """Every model's return, what ours has more of it, and what making it took."""
    ours, transitions = found[OURS]["returns"], given * Pendulum().points
    for name, kept in found.items():
        case = f"pendulum, {transitions} transitions: {name}"
        yield Row.of(case, "return", mean_interval(kept["returns"]))
        yield Row.cost(case, "time/adapt_seconds", float(np.median(kept["seconds"])), "s", n=len(ours))
        if name != OURS:
            yield Row.of(case, "compare/forward_minus_this_return", paired_difference(ours, kept["returns"]))


def main() -> None:
    arguments = options(__doc__).parse_args()
    keep_freed_memory()
    folder, quick = folder_of("control", arguments), arguments.quick
    if quick:
        network = load_backbone("rollout:4-64-64-2:tanh", points=20, interval=0.05, controls=1, angles=[0])[0]
        adapter = FewShotAdapter.of(network, regression=True)
    else:
        learned = folder_of("physics", arguments) / "pendulum"
        if not (learned / "adapter_config.json").exists():
            made = ["tracking=none", f"hydra.run.dir={learned}.run", f"output={learned}"]
            command_line(["experiment=meta_pendulum", *made], quick=False)
        adapter = adapt.load(learned)
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[int, Measured] = {}
    for given in TRAJECTORIES:
        still = {name: found[TRAJECTORIES[0]][name] for name in (STILL, TRUE)} if found else {}
        found[given] = {**measured(adapter, given, folder, quick), **still}
    report("control", [row for given, part in found.items() for row in rows_of(given, part)], arguments)


if __name__ == "__main__":
    main()
