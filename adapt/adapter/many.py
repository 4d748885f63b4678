"""Many tasks at once: those of one size are stacked, and adapted by one program.

    (z_t, h_t) = adapt(support_t) ,   t = 1 … T ,   under one ``vmap``

Bradbury et al. (2018), *JAX: composable transformations of Python+NumPy programs*: a batch of programs as a
program of batches; ``torch.func.vmap``. What a task gets is what it would get alone, up to rounding. On a CPU
a small network spends its time on calls, which a stack makes once; a large one spends it on numbers, which a
stack only moves out of the cache, and adapts to one task after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.func import vmap
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.flop_counter import FlopCounterMode

from adapt.adapter.adapting import WORSE, Adapted, adapt, can_adapt
from adapt.adapter.fitted import FittedTask
from adapt.adapter.inputs import Examples, Labels, as_targets
from adapt.adapter.loaders import is_loader, paired
from adapt.adapter.made import There, task_of
from adapt.adapter.problem import features_of
from adapt.adapter.record import AdapterRecord
from adapt.adapter.rival import rival_of
from adapt.adapter.uncertainty import posterior_from
from adapt.backbones import call
from adapt.errors import AdaptError
from adapt.heads import is_transductive
from adapt.inner import Auto, Trace
from adapt.precision import outside_autocast

__all__ = ["CHUNK", "fit_many", "predict_many"]

#: Tasks in a stack.
CHUNK = 256
#: Floating-point operations of a pass over the examples of a task, up to which the calls are what it costs.
SMALL = 10_000_000
#: Numbers of the examples of a task, up to which it is stacked, and of all that are read at once, of which a
#: tenth is little enough to be kept for one of them.
NUMBERS, TOGETHER = 100_000, 10_000_000


class _Given(NamedTuple):
    """A task as the network and the loss take it, and its labels as they were given."""

    y: Any
    examples: Tensor
    targets: Tensor
    classes: np.ndarray


def fit_many(
    adapter: AdapterRecord,
    tasks: Iterable[tuple[Examples, Labels | None]],
    keep: bool,
    chunk: int,
    alone: Callable[[Any, Any], FittedTask],
) -> list[FittedTask]:
    """See :meth:`adapt.FewShotAdapter.fit_many`; ``alone`` fits one."""
    given = _read(adapter, [_named(number, _pair, task) for number, task in enumerate(tasks)])
    found: dict[int, FittedTask] = {}
    for numbers in _alike([(it.examples, it.targets) for it in given], chunk):
        same = [given[number] for number in numbers]
        if len(same) > 1 and _stacks(adapter, same):
            with suppress(Exception):  # a network, or a hook in it, that cannot be mapped over
                made = zip(numbers, _together(adapter, same, keep), strict=True)
                found.update((number, task) for number, task in made if task is not None)
        for number in numbers:
            if number not in found:
                found[number] = _named(number, alone, given[number].examples, given[number].y)
    return [found[number] for number in range(len(given))]


def predict_many(tasks: Iterable[FittedTask], xs: Iterable[Examples], chunk: int) -> list[Tensor]:
    """Outputs ``[m, C]`` of each of ``tasks`` for its own examples of ``xs``.

    Raises:
        AdaptError: other than one set of examples a task, or what is no task.
    """
    tasks, xs = [*tasks], [*xs]
    if len(tasks) != len(xs):
        raise AdaptError(f"{len(tasks)} tasks and {len(xs)} sets of examples: give each task its own")
    for number, task in enumerate(tasks):
        if not isinstance(task, FittedTask):
            raise AdaptError(f"task {number} is a {type(task).__name__}: give tasks that were fitted")
    found: dict[int, Tensor] = {}
    for adapter in {id(task.adapter): task.adapter for task in tasks}.values():
        own = [number for number, task in enumerate(tasks) if task.adapter is adapter]
        examples = dict(zip(own, _examples(adapter, [xs[number] for number in own], own, 0), strict=True))
        for places in _alike([(examples[number], tasks[number].head_state) for number in own], chunk):
            numbers = [own[place] for place in places]
            x = examples[numbers[0]]
            if len(numbers) > 1 and len(x) and not is_transductive(adapter.head) and _is_small(adapter, x):
                with suppress(Exception):
                    stack = torch.stack([examples[number] for number in numbers])
                    found.update(zip(numbers, _outputs([tasks[it] for it in numbers], stack), strict=True))
            for number in numbers:
                if number not in found:
                    found[number] = _named(number, tasks[number].logits, examples[number])
    return [found[number] for number in range(len(tasks))]


def _pair(task: Any) -> tuple[Any, Any]:
    if is_loader(task):
        return paired(task, None)
    if not isinstance(task, tuple | list) or len(task) != 2:
        raise AdaptError(f"it is a {type(task).__name__}: give a pair (x, y), or a Dataset of pairs")
    return paired(*task)


def _read(adapter: AdapterRecord, pairs: Sequence[tuple[Any, Any]]) -> list[_Given]:
    found, like = [], adapter.state.origin
    for number, examples in enumerate(_examples(adapter, [x for x, _ in pairs], range(len(pairs)))):
        y = pairs[number][1]
        classes, targets = _named(number, as_targets, y, len(examples), like, adapter.loss)
        found.append(_Given(y, examples, targets, classes))
    return found


def _examples(
    adapter: AdapterRecord, xs: Sequence[Any], numbers: Sequence[int], fewest: int = 1
) -> list[Tensor]:
    """Of the tasks of such ``numbers``; real tensors that differ in their number only, of which each number
    is judged by itself, are looked at together."""
    kinds = {
        (x.shape[1:], x.dtype, x.device)
        if isinstance(x, Tensor) and x.is_floating_point() and x.ndim and len(x)
        else None
        for x in xs
    }
    if len(kinds) == 1 and None not in kinds and sum(x.numel() for x in xs) <= TOGETHER:
        with suppress(AdaptError):  # which has to say of which task
            return [*adapter.examples(torch.cat([*xs])).split([len(x) for x in xs])]
    return [_named(number, adapter.examples, x, fewest) for number, x in zip(numbers, xs, strict=True)]


def _named(number: int, read: Callable[..., Any], *given: Any) -> Any:
    try:
        return read(*given)
    except AdaptError as error:
        raise AdaptError(f"task {number}: {error}") from None


def _alike(pairs: Sequence[tuple[Tensor, Tensor]], chunk: int) -> Iterator[list[int]]:
    """Numbers of those whose tensors are of the same shapes and kinds, ``chunk`` at most."""
    groups: dict[Any, list[int]] = {}
    for number, (x, t) in enumerate(pairs):
        groups.setdefault((x.shape, x.dtype, t.shape), []).append(number)
    for numbers in groups.values():
        yield from (numbers[start : start + chunk] for start in range(0, len(numbers), chunk))


def _stacks(adapter: AdapterRecord, tasks: Sequence[_Given]) -> bool:
    """Whether they are adapted together: norms that follow each task's examples, a subspace of each, a solver
    that decides by values, and a rival are of one task at a time, and what cannot be adapted is said of
    each."""
    alone = (
        adapter.state.is_mixture
        or adapter.match is not None
        or adapter.rows is not None
        or isinstance(adapter.solver, Auto)
    )
    if alone or rival_of(adapter) is not None or not _is_small(adapter, tasks[0].examples):
        return False
    return all(can_adapt(task.targets, adapter.loss) for task in tasks)


def _is_small(adapter: AdapterRecord, examples: Tensor) -> bool:
    if examples.numel() > NUMBERS:
        return False
    if examples.device.type != "cpu":
        return True
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call(adapter.backbone, {}, examples)
    return int(counter.get_total_flops()) <= SMALL


def _together(adapter: AdapterRecord, tasks: Sequence[_Given], keep: bool) -> list[FittedTask | None]:
    """Tasks of one size, adapted as a stack; None: of what is no number, which alone is said why."""
    passes = 0.0
    shape = tasks[0].targets.shape

    def one(x: Tensor, targets: Tensor) -> tuple[Any, ...]:
        nonlocal passes
        features = features_of(adapter.backbone, adapter.space, adapter.state, x)
        found = adapt(features, adapter.state, adapter.solver, targets, adapter.problem)
        z, (losses, passes, _, curvature, prior) = found.z, found.trace
        posterior: tuple[Any, ...] = ()
        finite = found.kept
        if curvature is not None and prior is not None:
            posterior = posterior_from(adapter, z, curvature, prior, found.value, shape)
            finite = torch.isfinite(curvature).all()
        ends = (*found[:3], found.value, found.kept)
        return ends, losses, adapter.subspace.parameters(z), posterior, finite

    x, targets = (torch.stack([getattr(it, name) for it in tasks]) for name in ("examples", "targets"))
    made: list[FittedTask | None] = []
    with torch.no_grad(), outside_autocast(x.device):
        columns, tree = tree_flatten(vmap(one, randomness="same")(x, targets))
        # Copies of what is large: one that is kept does not keep all others.
        large = [column.numel() > TOGETHER // 10 for column in columns]
        parts = (
            [own.clone() for own in column] if copy else column.unbind()
            for column, copy in zip(columns, large, strict=True)
        )
        rows = zip(*parts, strict=True)
        for task, row in zip(tasks, rows, strict=True):
            ends, losses, parameters, posterior, finite = tree_unflatten(row, tree)
            there = There(parameters, posterior if posterior and finite else None)
            z, features, head_state, value, kept = ends
            if not all(bool(it.isfinite().all()) for it in (z, features, head_state)):
                made.append(None)
                continue
            trace = Trace(losses, passes, "" if kept else WORSE)
            found = Adapted(z, features, head_state, trace, value, kept)
            made.append(task_of(adapter, found, task.examples, task.targets, task.classes, keep, there))
    return made


def _outputs(tasks: Sequence[FittedTask], x: Tensor) -> Tensor:
    """``[T, m, C]`` for ``x [T, m, …]``."""
    adapter = tasks[0].adapter
    names = tasks[0].parameters
    parameters = {name: torch.stack([task.parameters[name] for task in tasks]) for name in names}
    states = torch.stack([task.head_state for task in tasks])
    with torch.no_grad():
        features = vmap(lambda own, x: call(adapter.backbone, own, x))(parameters, x)
        with outside_autocast(x.device):
            logits: Tensor = vmap(adapter.head.logits)(states, features)
    return logits
