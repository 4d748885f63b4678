"""One step of meta-training, as functions from one snapshot to the next."""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from adapt.adapter.state import AdapterState
from adapt.meta.adam import adam, clipped, cosine
from adapt.meta.batches import stacked
from adapt.meta.gradient import Gradients, mean_shares, outer_gradient, reptile_direction
from adapt.meta.memory import affordable
from adapt.meta.query import Learner
from adapt.meta.settings import MetaTraining
from adapt.meta.snapshot import Snapshot, first_snapshot
from adapt.meta.start import masked, movable, trainable
from adapt.meta.validation import Metrics, validate
from adapt.ranks import ALONE, Ranks
from tasks import Episode, Tasks

__all__ = ["Training"]

LOSS = "validation/loss"
#: Scalars, logarithms and what picks among subspaces move so many times as fast as φ₀ and U.
FASTER = 10.0


@dataclass(frozen=True)
class Training:
    """What stays the same from step to step; step i is a pure function of the snapshot and of i.

    Of the tasks of a step, as of those of a validation, each of ``ranks`` does its part; all of them come to
    the same snapshot.
    """

    learner: Learner
    train: Tasks
    settings: MetaTraining
    seed: int
    ranks: Ranks = ALONE

    def begin(self, start: AdapterState) -> Snapshot:
        """The first snapshot, without metrics; what is learned gets a finite start, what may not move a zero
        row in U."""
        start = start._replace(basis=masked(start.basis, self._mask))
        state = trainable(start, self.settings.learn)
        return first_snapshot(state, self.settings.learn, self._first_chunk(state))

    def valued(self, now: Snapshot, validation: Episode) -> Snapshot:
        """``now`` with the metrics of its average."""
        return replace(now, metrics=self._validate(now, validation))

    def step(self, now: Snapshot) -> tuple[Snapshot, Metrics]:
        """One update of the state; one that is not finite is left out and counted."""
        settings = self.settings
        gradients, loss, chunk = self._gradients(now, self._batch(now.step))
        now = replace(now, step=now.step + 1, chunk=chunk)
        gradients, norm = clipped(gradients, settings.clip if settings.gradient != "reptile" else math.inf)
        if not (math.isfinite(norm) and math.isfinite(loss)):
            now = replace(now, skipped=now.skipped + 1)
            return now, {"train/skipped": float(now.skipped)}
        now = self._update(now, gradients)
        if settings.ema:
            now = replace(now, average=_mixed(now.average, now.state, settings.ema, settings.learn))
        else:
            now = replace(now, average=now.state)
        return now, {"train/loss": loss}

    def judge(self, now: Snapshot, validation: Episode) -> tuple[Snapshot, Metrics]:
        """Validate, and keep the average if it is the best so far."""
        metrics = self._validate(now, validation)
        if metrics[LOSS] < now.metrics[LOSS] or math.isnan(now.metrics[LOSS]):
            return replace(now, best=now.average, metrics=metrics, stale=0), metrics
        return replace(now, stale=now.stale + 1), metrics

    def _batch(self, step: int) -> Episode:
        """This one's part of the tasks of a step."""
        first, distinct = step * self.settings.tasks_per_step, self.settings.distinct_tasks
        part = self.ranks.part(self.settings.tasks_per_step)
        if not distinct:
            return stacked(self.train, first + part.start, first + part.stop)
        chosen = torch.arange(first + part.start, first + part.stop) % distinct
        return Episode._make([*(tensor[chosen] for tensor in self._pool[:4]), self._pool.meta])

    @cached_property
    def _pool(self) -> Episode:
        return stacked(self.train, 0, self.settings.distinct_tasks)

    @cached_property
    def _mask(self) -> Tensor:
        return movable(self.learner.space, self.settings.moves)

    def _validate(self, now: Snapshot, validation: Episode) -> Metrics:
        sizes = self._sizes(now.state)
        return validate(self.learner, now.average, validation, chunk=now.chunk, sizes=sizes, ranks=self.ranks)

    def _sizes(self, state: AdapterState) -> tuple[int, ...]:
        """Of the settings; no more than there are (a first basis of few tasks has few directions)."""
        return tuple(dict.fromkeys(min(size, state.k) for size in self.settings.nested))

    def _first_chunk(self, state: AdapterState) -> int:
        settings = self.settings
        if settings.chunk is not None:
            return settings.chunk
        leaves = AdapterState(*(tensor.detach().requires_grad_(True) for tensor in state))
        episode = self.train.episode(0)
        loss, _ = self.learner.score(self.learner.adapt(leaves, episode)[1], episode)
        return affordable(loss, settings.memory_mb)

    def _gradients(self, now: Snapshot, batch: Episode) -> tuple[Gradients, float, int]:
        """Gradients and loss of one step, of all ranks, with as many tasks at once as the device turns out to
        have memory for."""
        chunk, share = now.chunk, len(batch.support_y) / self.settings.tasks_per_step  # they are means
        pressure = None
        if now.state.is_mixture:
            mean = share * mean_shares(self.learner, now.state, batch, chunk=chunk)
            pressure = 2 * self.settings.balance * len(mean) * self.ranks.total([mean])[0]
        while True:
            try:
                found, loss = self._direction(now, batch, chunk, pressure)
                break
            except torch.OutOfMemoryError:
                if chunk == 1:
                    raise
                chunk //= 2
        *sums, loss = self.ranks.total([share * value for value in (*found.values(), loss)])
        return dict(zip(found, sums, strict=True)), float(loss), chunk

    def _direction(
        self, now: Snapshot, batch: Episode, chunk: int, pressure: Tensor | None
    ) -> tuple[Gradients, Tensor]:
        settings, size = self.settings, None
        if settings.gradient == "reptile":
            found, loss = reptile_direction(self.learner, now.state, batch, chunk=chunk)
            return found, loss
        if sizes := self._sizes(now.state):
            size = int(np.random.default_rng([self.seed, now.step]).choice(sizes))
        found, loss = outer_gradient(
            self.learner,
            now.state,
            batch,
            settings.learn,
            chunk=chunk,
            size=size,
            first_order=settings.gradient == "first_order",
            pressure=pressure,
        )
        if "basis" in found:
            found["basis"] = masked(found["basis"], self._mask)
        return found, loss

    def _update(self, now: Snapshot, gradients: Gradients) -> Snapshot:
        settings, state = self.settings, now.state
        lr = settings.lr * cosine(now.step - 1, settings.steps)
        updates, moments = now.updates + 1, dict(now.moments)
        for name, gradient in gradients.items():
            value = getattr(state, name)
            if settings.gradient == "reptile":
                value = value - lr * gradient
            else:
                rate = lr * (FASTER if name.startswith(("log_", "router")) else 1.0)
                rate /= (
                    value.shape[-1] if name == "router" else 1
                )  # its logits, sums of so many, move so fast
                value, moments[name] = adam(value, gradient, moments[name], updates, rate)
            state = state._replace(**{name: value})
        return replace(now, state=state, moments=moments, updates=updates)


def _mixed(average: AdapterState, state: AdapterState, decay: float, learn: tuple[str, ...]) -> AdapterState:
    """The moving average after one more state; what is not learned may be infinite, and stays."""
    return average._replace(
        **{name: getattr(average, name).lerp(getattr(state, name), 1 - decay) for name in learn}
    )
