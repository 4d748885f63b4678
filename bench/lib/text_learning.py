"""What the benchmarks of intents and of relations learn from other classes, and how they then adapt.

φ₀ = argmin_φ E CE(prototypes of the support at φ, query)         Adam, backprop, offline
U  = V_k Σ_k / √T   of the displacements of T tasks that descend from φ₀     (adapt.meta.start)

The settings of what moves from φ₀ are chosen on validation classes. Everything is kept in a folder.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from adapt.adapter.problem import Problem, model_of
from adapt.adapter.state import AdapterState, identity_state, initial_state
from adapt.backbones import FrozenPrefix
from adapt.files import read_json, read_tensors, write_json, write_tensors
from adapt.forward import pushforward
from adapt.heads import Head, Logistic, Prototype, one_hot
from adapt.inner import Auto, CrossEntropy, Linearised, Model, Solver, Trace
from adapt.inner.linearised import solve_linear
from adapt.spaces import Subspace
from bench.lib.record import Row
from bench.lib.texts import Encoder, Pool, Task, accuracy, fit

__all__ = ["Learning", "Settings", "best_of", "descend", "forward", "held_out", "kept_json", "kept_tensor"]

PROBLEM = Problem(CrossEntropy(), Prototype(), Logistic(l2=0.03))
#: Learning rates and steps of backprop.
BACKPROP = [(lr, steps) for lr in (3e-4, 1e-3) for steps in (1, 3)]


@dataclass(frozen=True)
class Settings:
    """Of the learning from other classes; ``choice_tasks``: validation tasks for choosing settings."""

    steps: int = 60
    ways: int = 24
    shots: int = 2
    queries: int = 2
    lr: float = 2e-3
    warm_up: int = 5
    validate_every: int = 20
    k: int = 8
    basis_tasks: int = 10
    basis_ways: int = 16
    basis_steps: int = 2
    basis_lr: float = 1e-3
    validation_tasks: int = 1
    validation_ways: int = 30
    start_queries: int = 5
    validation_queries: int = 15
    choice_tasks: int = 1
    seed: int = 0


def kept_json(path: Path, make: Callable[[], Any]) -> Any:
    """What ``make`` made, now or before."""
    if not path.exists():
        write_json(path, make())
    return read_json(path)


def kept_tensor(path: Path, make: Callable[[], Tensor]) -> Tensor:
    """What ``make`` made, now or before."""
    if not path.exists():
        write_tensors(path, {"value": make().contiguous()})
    return read_tensors(path)["value"]


def best_of(rows: Sequence[Sequence[Any]]) -> Sequence[Any]:
    """The first of those with the greatest last number."""
    return max(rows, key=lambda row: row[-1])


def held_out(head: Head, x: Tensor, y: Tensor) -> float:
    """Mean loss of examples, each left out."""
    targets = one_hot(y, int(y.max()) + 1, x.dtype)
    return float(PROBLEM.loss.values(head.loo_logits(x, targets), targets).mean())


def descend(
    encoder: Encoder, origin: Tensor, texts: Sequence[str], labels: Tensor, lr: float, steps: int
) -> Iterator[tuple[int, Tensor]]:
    """Backprop: Adam on the leave-one-out prototype loss in all of φ; φ ``[P]`` after every step."""
    state = identity_state(encoder.space, origin)
    targets = one_hot(labels, int(labels.max()) + 1, origin.dtype)
    batch, head = encoder.batch(texts), PROBLEM.support_head
    phi = state.origin.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([phi], lr=lr)
    for step in range(1, steps + 1):
        outputs = head.loo_logits(encoder.features(batch, phi), targets)
        loss = PROBLEM.loss.values(outputs, targets).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield step, phi.detach().clone()


def forward(
    encoder: Encoder, state: AdapterState, solver: Solver, texts: Sequence[str], labels: Tensor
) -> tuple[Tensor, Trace]:
    """Ours: φ ``[P]`` from exact forward tangents, without a backward pass."""
    targets = one_hot(labels, int(labels.max()) + 1, state.origin.dtype)
    with torch.no_grad():
        z, trace = solver(_model(encoder, texts, targets, state), targets, PROBLEM.loss, state.learned)
        return state.origin + state.basis @ z, trace


def _model(encoder: Encoder, texts: Sequence[str], targets: Tensor, state: AdapterState) -> Model:
    """The support set as a function of z; what does not depend on it is computed once."""
    batch, subspace = encoder.batch(texts), Subspace(encoder.space, state.origin, state.basis)
    prefixes = [FrozenPrefix(encoder.backbone, part) for part in batch.parts]

    def features(z: Tensor) -> Tensor:
        parameters = subspace.parameters(z)
        return torch.cat([prefix(parameters) for prefix in prefixes])[batch.inverse]

    return model_of(features, state, targets, PROBLEM)


@dataclass(frozen=True)
class Learning:
    """What ``learn`` taught: φ₀, U, and the settings of what moves from there, chosen on ``validate``.

    ``grid``: directions, steps and damping of ours; ``head``: what is fitted where backprop has got to.
    """

    encoder: Encoder
    learn: Pool
    validate: Pool
    settings: Settings
    folder: Path
    grid: Sequence[tuple[int, int, float]]
    head: Head = PROBLEM.head

    @property
    def start(self) -> Tensor:
        """φ₀ ``[P]``, the best by validation."""
        return self._learned[0]

    @property
    def log(self) -> list[list[float]]:
        """``[step, loss, validation accuracy, seconds]`` on the way to φ₀."""
        return self._learned[1]

    @cached_property
    def state(self) -> AdapterState:
        """φ₀ and U, from the displacements of tasks."""
        return initial_state(self.start, kept_tensor(self.folder / "basis.safetensors", self._basis))

    @cached_property
    def chosen(self) -> Mapping[str, Sequence[Any]]:
        """``forward``: k, steps, damping, ``backprop``: rate, steps; last the accuracy on validation tasks,
        %: the best, the cheaper of equals."""
        found = kept_json(self.folder / "choices.json", self._choices)
        return {name: best_of(rows) for name, rows in found.items()}

    def at(self, share: float) -> Tensor:
        """φ ``[P]`` at a share of the way from the pretrained network to φ₀."""
        return torch.lerp(self.encoder.space.initial, self.start, share)

    def rows(self, case: str, of: str = "") -> Iterator[Row]:
        """Of the learning of φ₀, if it has been learned. ``of``: what the validation classes are."""
        if (self.folder / "start.safetensors").exists() and len(self.log) > 1:
            note = f"{of}{self.log[0][2]:.2f} before; prototypes"
            yield Row.cost(case, "time/train_seconds", self.log[-1][3], "s", note="processor")
            yield Row(case, "validation/accuracy", max(row[2] for row in self.log), "%", note=note)

    # ------------------------------------------------------------------------------------ adapting

    def linearised(self, origin: Tensor, texts: Sequence[str], labels: Tensor) -> Tensor:
        """φ ``[P]`` from ``origin`` with the chosen settings."""
        k, steps, damping, _ = self.chosen["forward"]
        state = self.state._replace(origin=origin).leading(int(k))
        return forward(self.encoder, state, Linearised(int(steps), damping), texts, labels)[0]

    def auto(
        self, origin: Tensor, texts: Sequence[str], labels: Tensor, strength: float
    ) -> tuple[Tensor, Trace]:
        """φ ``[P]`` with as many directions as leaving out of the support set likes."""
        solver = Auto(directions=(2, 8), strengths=(strength,), folds=3)
        return forward(self.encoder, self.state._replace(origin=origin), solver, texts, labels)

    def backprop(self, origin: Tensor, texts: Sequence[str], labels: Tensor) -> Tensor:
        """φ ``[P]`` from ``origin`` with the chosen settings."""
        lr, steps, _ = self.chosen["backprop"]
        *_, (_, phi) = descend(self.encoder, origin, texts, labels, lr, int(steps))
        return phi

    # ------------------------------------------------------------------------------------ learning

    @cached_property
    def _learned(self) -> tuple[Tensor, list[list[float]]]:
        """φ₀ and the log; a run that was broken off goes on."""
        path, settings = self.folder / "start.safetensors", self.settings
        phi = self.encoder.space.initial.clone().requires_grad_(True)
        optimizer = torch.optim.Adam([phi], lr=settings.lr)
        best, first = phi.detach().clone(), 0
        if path.exists():
            kept = read_tensors(path)
            log, best = kept["log"].tolist(), kept["best"]
            phi.data.copy_(kept["phi"])
            first = int(log[-1][0])
            if first:
                step = torch.tensor(float(first))
                optimizer.state[phi] = {"step": step, "exp_avg": kept["m"], "exp_avg_sq": kept["v"]}
        else:
            log = [[0.0, 0.0, self._validation(), 0.0]]
        begun, before, mean = time.process_time(), log[-1][3], 0.0
        for step in range(first, settings.steps):
            optimizer.param_groups[0]["lr"] = settings.lr * _rate(step, settings)
            loss = self._episode_loss(phi, np.random.default_rng((settings.seed, step)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            mean += float(loss.detach()) / settings.validate_every
            if (step + 1) % settings.validate_every == 0:
                seconds = before + time.process_time() - begun
                score = self._validation(phi.detach())
                if score > max(row[2] for row in log):
                    best = phi.detach().clone()
                log.append([step + 1.0, mean, score, seconds])
                told = f"loss {mean:.3f}, validation {score:.2f} %, {seconds:.0f} s"
                print(f"  step {step + 1}: {told}", flush=True)
                m, v = (optimizer.state[phi][moment] for moment in ("exp_avg", "exp_avg_sq"))
                kept = {"phi": phi.detach(), "best": best, "m": m, "v": v, "log": torch.tensor(log)}
                write_tensors(path, kept)
                mean = 0.0
        return best, log

    def _episode_loss(self, phi: Tensor, rng: np.random.Generator) -> Tensor:
        """Cross-entropy of queries under the prototypes of a random support set."""
        settings, head = self.settings, Prototype()
        (support, labels), (query, truth) = self.learn.draw(
            settings.ways, (settings.shots, settings.queries), rng
        )
        features = self.encoder.features(self.encoder.batch([*support, *query]), phi)
        state = fit(head, features[: len(support)], labels)
        return cross_entropy(head.logits(state, features[len(support) :]), truth)

    def _tasks(self, number: int, queries: int) -> Iterator[Task]:
        """5-shot tasks of many validation classes."""
        for index in range(number):
            yield self.validate.task(
                self.settings.validation_ways, 5, queries, (self.settings.seed, 10**6, index)
            )

    def _score(self, head: Head, task: Task, phi: Tensor | None) -> float:
        """Accuracy of ``head`` at φ, 0 … 1; support and queries are read together."""
        support, labels, query, truth = task
        features = self.encoder.plain([*support, *query], phi)
        n = len(support)
        return accuracy(head, fit(head, features[:n], labels), features[n:], truth)

    def _validation(self, phi: Tensor | None = None) -> float:
        """Accuracy of prototypes at φ, %."""
        tasks = self._tasks(self.settings.validation_tasks, self.settings.start_queries)
        return 100 * float(np.mean([self._score(Prototype(), task, phi) for task in tasks]))

    def _basis(self) -> Tensor:
        moves, settings = [], self.settings
        for index in range(settings.basis_tasks):
            rng = np.random.default_rng((settings.seed, 2 * 10**6, index))
            (task,) = self.learn.draw(settings.basis_ways, (5,), rng)
            *_, (_, phi) = descend(self.encoder, self.start, *task, settings.basis_lr, settings.basis_steps)
            moves.append(phi - self.start)
        _, values, rows = torch.linalg.svd(torch.stack(moves), full_matrices=False)
        return rows[: settings.k].T * values[: settings.k] / len(moves) ** 0.5

    # ------------------------------------------------------------------------------------ choosing

    def _choices(self) -> dict[str, list[list[float]]]:
        scores: dict[str, dict[tuple[float, ...], list[float]]] = {"forward": {}, "backprop": {}}
        for task in self._tasks(self.settings.choice_tasks, self.settings.validation_queries):
            for name, found in (("forward", self._forward(task)), ("backprop", self._backprop(task))):
                for setting, score in found:
                    scores[name].setdefault(setting, []).append(score)
        return {
            name: [[*setting, 100 * float(np.mean(found))] for setting, found in by_setting.items()]
            for name, by_setting in scores.items()
        }

    def _forward(self, task: Task) -> Iterator[tuple[tuple[int, int, float], float]]:
        """Accuracy at φ₀ + U z for every setting of the grid; all of them from the same tangents."""
        support, labels, *_ = task
        state = self.state
        targets = one_hot(labels, int(labels.max()) + 1, state.origin.dtype)
        with torch.no_grad():
            model = _model(self.encoder, support, targets, state)
            zero = state.origin.new_zeros(state.k)
            there, columns = pushforward(model.features, zero, torch.eye(state.k, dtype=zero.dtype))
            for k, steps, damping in self.grid:
                few = state.leading(k).learned
                learned = few._replace(precision=damping * few.precision, damping=damping * few.damping)
                z, *_ = solve_linear(there, columns[:k], model.readout, targets, PROBLEM.loss, learned, steps)
                phi = state.origin + state.basis[:, :k] @ z
                yield (k, steps, damping), self._score(PROBLEM.head, task, phi)

    def _backprop(self, task: Task) -> Iterator[tuple[tuple[float, int], float]]:
        support, labels, query, truth = task
        scores = {}
        for lr in sorted({lr for lr, _ in BACKPROP}):
            most = max(steps for _, steps in BACKPROP)
            for step, phi in descend(self.encoder, self.start, support, labels, lr, most):
                if (lr, step) in BACKPROP:
                    fitted = fit(self.head, self.encoder.plain(support, phi), labels)
                    scores[lr, step] = accuracy(self.head, fitted, self.encoder.plain(query, phi), truth)
        yield from scores.items()


def _rate(step: int, settings: Settings) -> float:
    """Warming up, then a half cosine down to a twentieth."""
    cosine = 0.5 * (1 + np.cos(np.pi * step / settings.steps))
    return min(1.0, (step + 1) / settings.warm_up) * (0.05 + 0.95 * cosine)
