"""A classifier that stays as it is, under other conditions, from examples with or without labels.

    z = solver( Σ_l −log p_i[y_i] + Σ_u H(p_i) − d n_u H(p̄) + s n ‖m‖² / 2D )

in outputs of the task's own head at φ + U z (:mod:`adapt.inner.semi_supervised`). What half of the examples
ask for must help the other half, and the other way round, as against the classifier as it was; otherwise it
stays so. Without labels nothing else says whether it helped. The halves are drawn, with as many examples of
each class in the one as in the other: how the examples are ordered decides nothing but the draw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from adapt.adapter.inputs import Examples, Labels, no_other
from adapt.adapter.loaders import is_loader, paired, parts_of
from adapt.adapter.matching import Matching, matched_state
from adapt.adapter.problem import features_of
from adapt.adapter.record import TaskRecord
from adapt.adapter.source import FEWEST, Source, read_as, source_of
from adapt.adapter.state import AdapterState
from adapt.errors import AdaptError
from adapt.heads import is_transductive, one_hot
from adapt.inner import Descent, GaussNewton, Solver, Trace
from adapt.inner.semi_supervised import SemiSupervised
from adapt.precision import outside_autocast
from adapt.spaces import Subspace

__all__ = ["under_conditions"]

Task = TypeVar("Task", bound=TaskRecord)
FEW = "not adapted: fewer than four examples, which have no halves to judge by"
#: How the choice of a task begins that was adapted.
FOLLOWED = "under other conditions"
WORSE = "not adapted: what half of the examples asked for did not help the other half"


class _There(NamedTuple):
    """Where some examples lead: a start, z around it, and what that cost in passes over all examples."""

    state: AdapterState
    z: Tensor
    losses: Tensor
    passes: float
    choice: str = ""


def under_conditions(
    task: Task,
    x: Examples,
    y: Labels | None,
    unlabelled: Examples | None,
    source: Examples | Source | None,
    match: Matching | None,
    solver: Solver | None,
    loss: SemiSupervised | None,
    checked: bool,
) -> Task:
    """See :meth:`adapt.FittedTask.fit`."""
    adapter = task.adapter
    if adapter.loss.regression:
        raise AdaptError(
            "values have no classes that stay: go on with partial_fit(x, y), or fit the adapter anew"
        )
    if is_transductive(adapter.head):
        raise AdaptError(
            f"the head {type(adapter.head).__name__} predicts examples together and is no classifier that "
            "could stay: use one that predicts each alone, such as heads.Logistic()"
        )
    if not isinstance(loss, SemiSupervised | None):
        raise AdaptError(f"loss is a {type(loss).__name__}: give an adapt.inner.SemiSupervised, or None")
    everything_moves = adapter.state.basis.ndim == 1  # along a direction of its own: too many for tangents
    solve = solver or (Descent() if everything_moves else GaussNewton(steps=3))
    adapter.replace(match=match, solver=solve)  # or it says what they are
    examples, targets = _examples(task, x, y, unlabelled)
    n = len(examples)
    if checked and n < FEWEST:
        return replace(task, trace=Trace(task.z.new_zeros(0), 0.0, FEW))
    loss = replace(loss or SemiSupervised(), classes=task.outputs)
    start = adapter.state._replace(origin=adapter.state.origin + adapter.subspace.move(task.z))
    known = None
    if isinstance(source, str | Path):
        raise AdaptError(f"source is a path: give adapt.adapter.Source.load({str(source)!r})")
    if source is not None:
        known = source.of(task) if isinstance(source, Source) else source_of(task, source)
    outputs = _outputs(task, known)

    def at(state: AdapterState, part: Tensor) -> Callable[[Tensor], Tensor]:
        features = features_of(adapter.backbone, adapter.space, state, part, adapter.rows)
        return lambda z: outputs(features(z))

    def arrive(rows: Tensor | slice) -> _There:
        part, state = examples[rows], start
        if match is not None:
            means = None if known is None else known.means
            state = matched_state(match, adapter.backbone, adapter.space, start, part, means)
        z, trace = solve(at(state, part), targets[rows], loss, state.learned)
        passes = trace.forward_equivalents + (match is not None)
        return _There(state, z, trace.losses, passes * len(part) / n, trace.choice)

    def value(there: _There, rows: Tensor | slice) -> float:
        return float(loss.value(at(there.state, examples[rows])(there.z), targets[rows]))

    with torch.no_grad(), outside_autocast(examples.device):
        source_like = _There(start, torch.zeros_like(start.log_precision), examples.new_zeros(0), 0.0)
        everything = slice(None)
        all_of_them, said = arrive(everything), FOLLOWED
        passes = all_of_them.passes
        if checked:
            halves = _halves(targets)
            ways = [arrive(half) for half in halves]
            held_out = [value(there, half) for there, half in zip(ways, halves[::-1], strict=True)]
            after, before = sum(held_out), sum(value(source_like, half) for half in halves)
            passes += sum(there.passes for there in ways) + 3
            if not after < before:  # also where it is no number
                why = all_of_them.choice if all_of_them.choice.startswith("not adapted") else WORSE
                return replace(task, trace=Trace(all_of_them.losses, passes, why))
            if not value(all_of_them, everything) <= after:  # no solver looks where its last step led
                all_of_them = ways[held_out.index(min(held_out))]
            of = "without labels " if unlabelled is None and y is None else ""
            said += f": held-out loss {of}{after / n:.3g} against {before / n:.3g} before"
        said += f"; {all_of_them.choice}" if all_of_them.choice else ""
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


def _halves(targets: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of either half, drawn: of every class of ``targets [n, C]``, and of none, as many in both."""
    drawn = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0)).to(targets.device)
    none = 1 - targets.sum(-1, keepdim=True)
    class_of = torch.cat([targets, none], -1)[drawn].argmax(-1)
    order = drawn[class_of.argsort(stable=True)]
    return order[::2], order[1::2]


def _examples(
    task: TaskRecord, x: Examples, y: Labels | None, unlabelled: Examples | None
) -> tuple[Tensor, Tensor]:
    """All examples ``[n, …]``, and for each the row of its class among the task's, or zeros ``[n, C]``."""
    adapter, classes = task.adapter, len(task.classes_)
    x, y = parts_of(x, ordered=False) if y is None and is_loader(x) else paired(x, y)
    further = None if unlabelled is None else read_as("unlabelled", adapter, unlabelled, fewest=0)
    examples = adapter.examples(x, fewest=1 if further is None or not len(further) else 0)
    targets = task.z.new_zeros(len(examples), classes)
    if y is not None and (len(examples) or len(y)):
        why = "the classes of a task stay; fit the adapter anew to learn others"
        place = torch.as_tensor(no_other(y, len(examples), task.classes_, why), device=targets.device)
        targets = one_hot(place, classes, targets.dtype)
    if further is None or not len(further):
        return examples, targets
    if not len(examples):
        return further, targets.new_zeros(len(further), classes)
    return torch.cat([examples, further]), torch.cat([targets, targets.new_zeros(len(further), classes)])


def _outputs(task: TaskRecord, source: Source | None) -> Callable[[Tensor], Tensor]:
    """Features → logits, and behind them features in units of those of the source, if any of it are given."""
    head, state = task.adapter.head, task.head_state
    if source is None:
        return lambda features: head.logits(state, features)
    return lambda features: torch.cat([head.logits(state, features), source.units(features)], -1)
