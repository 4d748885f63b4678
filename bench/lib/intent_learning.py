"""What ``bench/intents.py`` learns: a start φ₀ and directions U from other intents, and how it then adapts.

φ₀ = argmin_φ E CE(prototypes of the support at φ, query)         Adam, backprop, offline
U  = V_k Σ_k / √T   of the displacements of T tasks that descend from φ₀     (adapt.meta.start)
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from adapt.adapter.problem import Problem, model_of
from adapt.adapter.state import AdapterState, identity_state, initial_state
from adapt.backbones import FrozenPrefix, call
from adapt.files import read_tensors, write_tensors
from adapt.forward import pushforward
from adapt.heads import Logistic, Prototype, one_hot
from adapt.inner import CrossEntropy, Model, Solver, Trace
from adapt.inner.linearised import solve_linear
from adapt.spaces import Space, Subspace
from bench.lib.intent_data import Pool

__all__ = ["Encoder", "Settings", "choose_forward", "descend", "forward", "learn_basis", "learn_start"]

ROWS = 64  # texts at a time, of similar lengths
PROBLEM = Problem(CrossEntropy(), Prototype(), Logistic(l2=0.03))


@dataclass(frozen=True)
class Settings:
    """Of the learning from other intents."""

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
    seed: int = field(default=0)


class Batch(NamedTuple):
    """Texts as token ids, the shortest first, in ``parts [≤ ROWS, L]``; ``inverse`` restores their order."""

    parts: list[Tensor]
    inverse: Tensor


@dataclass(frozen=True)
class Encoder:
    """A frozen backbone that reads texts, and the space that moves in it."""

    backbone: nn.Module
    space: Space

    def batch(self, texts: Sequence[str]) -> Batch:
        """Texts of similar lengths together: padding costs as much as words."""
        ids = torch.from_numpy(self.backbone.tokenise(texts))  # type: ignore[operator]
        lengths = (ids != 0).sum(1)
        order = lengths.argsort(stable=True)
        parts = [ids[rows, : int(lengths[rows].max())] for rows in order.split(ROWS)]
        return Batch(parts, order.argsort())

    def features(self, batch: Batch, phi: Tensor | None = None) -> Tensor:
        """Features ``[n, D]`` at φ ``[P]`` (None: of the backbone as it is)."""
        parameters = {} if phi is None else self.space.parameters(phi)
        return torch.cat([call(self.backbone, parameters, part) for part in batch.parts])[batch.inverse]

    def plain(self, texts: Sequence[str], phi: Tensor | None = None) -> Tensor:
        """Features of ``texts``, without derivatives."""
        with torch.no_grad():
            return self.features(self.batch(texts), phi)

    def model(self, texts: Sequence[str], targets: Tensor, state: AdapterState) -> Model:
        """The support set as a function of z; what does not depend on it is computed once."""
        batch, subspace = self.batch(texts), Subspace(self.space, state.origin, state.basis)
        prefixes = [FrozenPrefix(self.backbone, part) for part in batch.parts]

        def features(z: Tensor) -> Tensor:
            parameters = subspace.parameters(z)
            return torch.cat([prefix(parameters) for prefix in prefixes])[batch.inverse]

        return model_of(features, state, targets, PROBLEM)


def learn_start(
    encoder: Encoder, learn: Pool, validate: Pool, settings: Settings, folder: Path
) -> tuple[Tensor, list[list[float]]]:
    """φ₀ ``[P]``, the best by validation, and ``[step, loss, validation accuracy, seconds]`` on the way; a
    run that was broken off goes on."""
    path = folder / "start.safetensors"
    phi = encoder.space.initial.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([phi], lr=settings.lr)
    best, first = phi.detach().clone(), 0
    if path.exists():
        kept = read_tensors(path)
        log, best = kept["log"].tolist(), kept["best"]
        phi.data.copy_(kept["phi"])
        first = int(log[-1][0])
        moments = {"step": torch.tensor(float(first)), "exp_avg": kept["m"], "exp_avg_sq": kept["v"]}
        if first:
            optimizer.state[phi] = moments
    else:
        log = [[0.0, 0.0, validation(encoder, validate, settings), 0.0]]
    begun, before, mean = time.process_time(), log[-1][3], 0.0
    for step in range(first, settings.steps):
        optimizer.param_groups[0]["lr"] = settings.lr * _rate(step, settings)
        loss = episode_loss(encoder, phi, learn, settings, np.random.default_rng((settings.seed, step)))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        mean += float(loss.detach()) / settings.validate_every
        if (step + 1) % settings.validate_every == 0:
            seconds = before + time.process_time() - begun
            accuracy = validation(encoder, validate, settings, phi.detach())
            if accuracy > max(row[2] for row in log):
                best = phi.detach().clone()
            log.append([step + 1.0, mean, accuracy, seconds])
            print(
                f"  step {step + 1}: loss {mean:.3f}, validation {accuracy:.2f} %, {seconds:.0f} s",
                flush=True,
            )
            moments = optimizer.state[phi]
            kept = {"phi": phi.detach(), "best": best, "m": moments["exp_avg"], "v": moments["exp_avg_sq"]}
            write_tensors(path, {**kept, "log": torch.tensor(log)})
            mean = 0.0
    return best, log


def _rate(step: int, settings: Settings) -> float:
    """Warming up, then a half cosine down to a twentieth."""
    cosine = 0.5 * (1 + np.cos(np.pi * step / settings.steps))
    return min(1.0, (step + 1) / settings.warm_up) * (0.05 + 0.95 * cosine)


def episode_loss(
    encoder: Encoder, phi: Tensor, pool: Pool, settings: Settings, rng: np.random.Generator
) -> Tensor:
    """Cross-entropy of queries under the prototypes of a random support set."""
    (support, labels), (query, truth) = pool.draw(settings.ways, (settings.shots, settings.queries), rng)
    features = encoder.features(encoder.batch([*support, *query]), phi)
    there, head = features[: len(support)], Prototype()
    state = head.fit(there, one_hot(labels, int(labels.max()) + 1, there.dtype))
    return cross_entropy(head.logits(state, features[len(support) :]), truth)


def tasks_of(
    pool: Pool, settings: Settings, queries: int
) -> Iterator[tuple[list[str], Tensor, list[str], Tensor]]:
    """5-shot tasks of many validation intents: support, labels, queries, their labels."""
    for index in range(settings.validation_tasks):
        rng = np.random.default_rng((settings.seed, 10**6, index))
        ways = min(settings.validation_ways, len(pool.intents))
        (support, labels), (query, truth) = pool.draw(ways, (5, queries), rng)
        yield support, labels, query, truth


def validation(encoder: Encoder, pool: Pool, settings: Settings, phi: Tensor | None = None) -> float:
    """Accuracy of prototypes at φ, %."""
    scores = []
    for support, labels, query, truth in tasks_of(pool, settings, settings.start_queries):
        features = encoder.plain([*support, *query], phi)
        there, rest = features[: len(support)], features[len(support) :]
        scores.append(_accuracy(Prototype(), there, labels, rest, truth))
    return 100 * float(np.mean(scores))


def _accuracy(head: Prototype | Logistic, x: Tensor, y: Tensor, q: Tensor, truth: Tensor) -> float:
    state = head.fit(x, one_hot(y, int(y.max()) + 1, x.dtype))
    return float((head.logits(state, q).argmax(-1) == truth).double().mean())


def learn_basis(
    encoder: Encoder, origin: Tensor, pool: Pool, settings: Settings, folder: Path
) -> AdapterState:
    """φ₀ and U from the displacements of tasks; kept."""
    path = folder / "basis.safetensors"
    if not path.exists():
        moves = []
        for index in range(settings.basis_tasks):
            rng = np.random.default_rng((settings.seed, 2 * 10**6, index))
            ((support, labels),) = pool.draw(settings.basis_ways, (5,), rng)
            *_, (_, phi) = descend(encoder, origin, support, labels, settings.basis_lr, settings.basis_steps)
            moves.append(phi - origin)
        _, values, rows = torch.linalg.svd(torch.stack(moves), full_matrices=False)
        write_tensors(
            path, {"basis": (rows[: settings.k].T * values[: settings.k] / len(moves) ** 0.5).contiguous()}
        )
    return initial_state(origin, read_tensors(path)["basis"])


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
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        yield step, phi.detach().clone()


def forward(
    encoder: Encoder, state: AdapterState, solver: Solver, texts: Sequence[str], labels: Tensor
) -> tuple[Tensor, Trace]:
    """Ours: φ ``[P]`` from exact forward tangents, without a backward pass."""
    targets = one_hot(labels, int(labels.max()) + 1, state.origin.dtype)
    with torch.no_grad():
        z, trace = solver(encoder.model(texts, targets, state), targets, PROBLEM.loss, state.learned)
        return state.origin + state.basis @ z, trace


def choose_forward(
    encoder: Encoder,
    state: AdapterState,
    pool: Pool,
    settings: Settings,
    grid: Sequence[tuple[int, int, float]],
) -> dict[tuple[int, int, float], float]:
    """Validation accuracy, %, of a logistic head at φ₀ + U z for every (directions, steps, damping); all of
    them from the same tangents."""
    scores: dict[tuple[int, int, float], list[float]] = {setting: [] for setting in grid}
    for support, labels, query, truth in tasks_of(pool, settings, settings.validation_queries):
        targets = one_hot(labels, int(labels.max()) + 1, state.origin.dtype)
        with torch.no_grad():
            model = encoder.model(support, targets, state)
            zero = state.origin.new_zeros(state.k)
            there, columns = pushforward(model.features, zero, torch.eye(state.k, dtype=zero.dtype))
            for k, steps, damping in grid:
                few = state.leading(k).learned
                learned = few._replace(precision=damping * few.precision, damping=damping * few.damping)
                args = (model.readout, targets, PROBLEM.loss, learned, steps)
                z, _ = solve_linear(there, columns[:k], *args)
                features = encoder.plain([*support, *query], state.origin + state.basis[:, :k] @ z)
                n = len(support)
                scores[k, steps, damping].append(
                    _accuracy(Logistic(l2=0.03), features[:n], labels, features[n:], truth)
                )
    return {setting: 100 * float(np.mean(found)) for setting, found in scores.items()}
