"""A classifier that stays as it is, under other conditions, from examples without labels.

    z = solver( Σ_i H(p_i) − d n H(p̄) + s n ‖m‖² / 2D )      outputs of the task's own head at φ + U z

(:mod:`adapt.inner.unlabelled`). Without labels nothing says whether that helped. What half of the examples
ask for must therefore help the other half, and the other way round, as against the classifier as it was;
otherwise it stays so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from adapt.adapter.inputs import Examples
from adapt.adapter.matching import Matching, matched_state
from adapt.adapter.problem import features_of
from adapt.adapter.record import TaskRecord
from adapt.adapter.state import AdapterState
from adapt.backbones import call
from adapt.errors import AdaptError
from adapt.inner import GaussNewton, Solver, Trace
from adapt.inner.unlabelled import Unlabelled
from adapt.precision import outside_autocast
from adapt.spaces import Subspace

__all__ = ["Source", "followed", "source_of"]

Task = TypeVar("Task", bound=TaskRecord)
#: Two for each half.
FEWEST = 4
FEW = "not adapted: fewer than four examples, which have no halves to judge by"
WORSE = "not adapted: what half of the examples asked for did not help the other half"


class Source(NamedTuple):
    """Mean and deviation of each feature over examples like those that a head was fitted to ``[D]``."""

    centre: Tensor
    spread: Tensor


class _There(NamedTuple):
    """Where some examples lead: a start, z around it, and what that cost in passes over all examples."""

    state: AdapterState
    z: Tensor
    losses: Tensor
    passes: float


def followed(
    task: Task,
    x: Examples,
    source: Examples | Source | None,
    match: Matching | None,
    solver: Solver | None,
    diversity: float,
    statistics: float,
    checked: bool,
) -> Task:
    """See :meth:`adapt.FittedTask.fit`."""
    adapter = task.adapter
    if adapter.loss.regression:
        raise AdaptError(
            "values have no classes to be sure of: without targets a regression cannot be fitted"
        )
    examples = adapter.examples(x)
    n = len(examples)
    if checked and n < FEWEST:
        return replace(task, trace=Trace(task.z.new_zeros(0), 0.0, FEW))
    loss = Unlabelled(task.outputs, diversity, statistics)
    solve = GaussNewton(steps=3) if solver is None else solver
    start = adapter.state._replace(origin=adapter.state.origin + adapter.subspace.move(task.z))
    outputs = _outputs(task, source)

    def at(state: AdapterState, part: Tensor) -> Callable[[Tensor], Tensor]:
        features = features_of(adapter.backbone, adapter.space, state, part, adapter.rows)
        return lambda z: outputs(features(z))

    def arrive(part: Tensor) -> _There:
        state = start if match is None else matched_state(match, adapter.backbone, adapter.space, start, part)
        nothing = examples.new_zeros(len(part), 0, dtype=start.origin.dtype)
        z, trace = solve(at(state, part), nothing, loss, state.learned)
        passes = trace.forward_equivalents + (match is not None)
        return _There(state, z, trace.losses, passes * len(part) / n)

    def value(there: _There, part: Tensor) -> float:
        found = at(there.state, part)(there.z)
        return float(loss.value(found, found))

    with torch.no_grad(), outside_autocast(examples.device):
        source_like = _There(start, torch.zeros_like(start.log_precision), examples.new_zeros(0), 0.0)
        halves, all_of_them, said = (examples[::2], examples[1::2]), arrive(examples), ""
        passes = all_of_them.passes
        if checked:
            ways = [arrive(part) for part in halves]
            after = sum(value(there, part) for there, part in zip(ways, halves[::-1], strict=True))
            before = sum(value(source_like, part) for part in halves)
            passes += sum(there.passes for there in ways) + 2
            if not after < before:  # also where it is no number
                return replace(task, trace=Trace(all_of_them.losses, passes, WORSE))
            said = f"held-out loss without labels {after / n:.3g} against {before / n:.3g} before"
        found = adapter.replace(state=all_of_them.state, match=None)
        parameters = Subspace(found.space, found.state.origin, found.state.basis).parameters(all_of_them.z)
        return replace(
            task,
            adapter=found,
            parameters=parameters,
            z=all_of_them.z,
            trace=Trace(all_of_them.losses, passes, said),
            posterior=None,
            memory=None,
        )


def source_of(task: TaskRecord, x: Examples) -> Source:
    """What :func:`followed` has to know of examples ``x`` like those that the head was fitted to."""
    with torch.no_grad():
        known = call(task.adapter.backbone, task.parameters, task.adapter.examples(x))
    spread = known.std(0)
    return Source(
        known.mean(0), torch.where(spread > 1e-3 * spread.max(), spread, spread.max().clamp(min=1e-12))
    )


def _outputs(task: TaskRecord, source: Examples | Source | None) -> Callable[[Tensor], Tensor]:
    """Features → logits, and behind them features in units of those of the source, if any of it are given."""
    head, state = task.adapter.head, task.head_state
    if source is None:
        return lambda features: head.logits(state, features)
    centre, spread = source if isinstance(source, Source) else source_of(task, source)
    return lambda features: torch.cat([head.logits(state, features), (features - centre) / spread], -1)
