"""Tasks of the caller's own as a list of labelled data sets, one for each task."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapt.adapter.inputs import as_targets
from adapt.adapter.record import AdapterRecord
from adapt.errors import AdaptError
from tasks import Card, GroupArrays, GroupedTasks
from tasks.readers.texts import holds_texts

__all__ = ["WANTED", "Sets", "tasks_of"]

#: Pairs (x, y) as ``fit`` takes them.
Sets = Sequence[tuple[Any, Any]]
#: Examples of a class (of a regression: in all) that a task is adapted to and judged by, at most.
SUPPORT, QUERIES = 10, 15
#: Share of the sets that choices are made on, if there are two or more.
HELD_BACK = 0.2
WANTED = "pass a list of pairs (x, y), one for each task, or a distribution of tasks (tasks.Distribution)"
UNKNOWN = "not known"
CARD = Card(
    "sets", "data sets of the caller's own, one for each task", UNKNOWN, UNKNOWN, UNKNOWN, {}, (), UNKNOWN
)


def tasks_of(adapter: AdapterRecord, sets: Sets, seed: int) -> tuple[GroupedTasks, GroupedTasks]:
    """Tasks to train on, and others to judge by, drawn from ``sets``: a task is one of them, its examples
    divided anew each time.

    Args:
        adapter: whose backbone is to read the examples.
        sets: each with two classes or more, and three examples or more of each; in regression four.
        seed: of the drawing.

    Raises:
        AdaptError: no sets, one that is too small, or examples or labels that cannot be used.
    """
    pairs = _pairs(sets)
    examples = [*_examples(adapter, [x for x, _ in pairs])]
    regression, like = adapter.loss.regression, adapter.state.origin
    rows = np.split(np.arange(sum(map(len, examples))), np.cumsum([*map(len, examples)])[:-1])
    members: dict[str, dict[str, np.ndarray]] = {}
    values: list[Tensor] = []
    fewest = 4 if regression else 3
    rooms: list[int] = []
    for number, ((_, y), found, mine) in enumerate(zip(pairs, examples, rows, strict=True)):
        try:
            classes, targets = as_targets(y, len(found), like, adapter.loss)
        except AdaptError as error:
            raise AdaptError(f"tasks[{number}]: {error}") from None
        positions = targets.argmax(1).cpu().numpy()
        names = [*map(str, classes.tolist())]
        parts = {"": mine} if regression else {name: mine[positions == i] for i, name in enumerate(names)}
        least = min(parts, key=lambda name: len(parts[name]))
        if len(parts[least]) < fewest:
            of = "examples" if regression else f"examples of class {least!r}"
            raise AdaptError(f"tasks[{number}] has {len(parts[least])} {of}: {fewest} or more are needed")
        rooms.append(len(parts[least]))
        members[f"task {number}"] = parts
        values.append(targets)
    room = min(rooms)
    support = max(2, min(SUPPORT, room // 2))
    arrays = torch.cat(examples).cpu().numpy()
    outputs = torch.cat(values).float().cpu().numpy() if regression else None
    groups = [*members.items()]
    held = max(1, round(HELD_BACK * len(groups))) if len(groups) > 1 else 0
    split = {"train": dict(groups[: len(groups) - held]), "validation": dict(groups[len(groups) - held :])}
    source = GroupArrays(CARD, arrays, split, outputs)
    queries = min(QUERIES, room - support)
    judged = "validation" if held else "train"
    return (
        GroupedTasks(source, support, queries, support_split="train", seed=seed),
        GroupedTasks(source, support, queries, support_split=judged, seed=seed + 1),
    )


def _pairs(sets: Sets) -> list[tuple[Any, Any]]:
    if isinstance(sets, list | tuple) and sets:
        pairs = [*sets]
        if all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs):
            return [(x, y) for x, y in pairs]
    raise AdaptError(f"tasks is no list of pairs: {WANTED}")


def _examples(adapter: AdapterRecord, xs: list[Any]) -> Sequence[Tensor]:
    """What the backbone is given, of each set. Texts are read together: padded to one length."""
    if all(map(holds_texts, xs)):
        return adapter.examples([text for x in xs for text in x]).split([*map(len, xs)])
    found = [adapter.examples(x) for x in xs]
    if len({part.shape[1:] for part in found}) > 1:
        raise AdaptError(
            f"tasks hold examples of shapes {sorted({tuple(p.shape[1:]) for p in found})}: use one"
        )
    return found
