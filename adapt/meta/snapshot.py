"""Everything that meta-training knows between two steps, in memory and on disk.

A run that goes on from a snapshot does the same to the last bit as one that was never interrupted: tasks,
learning rates and random choices are functions of the number of the step, so these tensors and counters are
all there is.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapt.adapter.state import AdapterState
from adapt.errors import AdaptError
from adapt.files import parse_json, read_metadata, read_tensors, write_tensors
from adapt.hashes import sha256_of
from adapt.meta.adam import Moments
from adapt.ranks import Ranks

__all__ = ["Snapshot", "first_snapshot", "read_snapshot", "same_snapshot", "write_snapshot"]

ROLES = ("state", "average", "best")
COUNTERS = ("step", "updates", "skipped", "stale", "chunk", "metrics")


@dataclass(frozen=True)
class Snapshot:
    """Between two outer steps.

    Attributes:
        state: being trained.
        average: its moving average; the state itself if there is none.
        best: the average with the least validation loss so far.
        moments: of Adam, by field of the state.
        step: steps done, of which ``updates`` changed the state and ``skipped`` were not finite.
        stale: validations in a row without improvement.
        chunk: tasks at once.
        metrics: validation of ``best``.
    """

    state: AdapterState
    average: AdapterState
    best: AdapterState
    moments: dict[str, Moments]
    step: int
    updates: int
    skipped: int
    stale: int
    chunk: int
    metrics: dict[str, float]


def first_snapshot(state: AdapterState, learn: tuple[str, ...], chunk: int) -> Snapshot:
    """Before the first step.

    A file knows values, not how a tensor lies in memory; but kernels round differently for transposed ones.
    So every tensor lies as it will after reading.
    """
    state = AdapterState(*(tensor.clone(memory_format=torch.contiguous_format) for tensor in state))
    moments = {name: Moments(*(torch.zeros_like(getattr(state, name)),) * 2) for name in learn}
    return Snapshot(state, state, state, moments, 0, 0, 0, 0, chunk, {})


def write_snapshot(path: Path, snapshot: Snapshot, run: dict[str, Any]) -> None:
    """Write ``snapshot`` atomically; ``run`` says what makes this run different from others (JSON)."""
    tensors, counters = _parts(snapshot)
    # Not json_text, which refuses infinite numbers: the loss of a hopeless start may be one.
    texts = {"counters": json.dumps(counters), "run": json.dumps(run)}
    write_tensors(path, tensors, {**texts, "sha256": sha256_of(tensors, texts)})


def same_snapshot(ranks: Ranks, snapshot: Snapshot | None, device: torch.device) -> Snapshot:
    """``snapshot`` of the first of several processes; the others give None."""
    tensors, counters = ({}, {}) if snapshot is None else _parts(snapshot)
    return _whole(ranks.same(tensors, device), ranks.said(counters))


def _parts(snapshot: Snapshot) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Its tensors and its counters (JSON), by name."""
    tensors: dict[str, Tensor] = {}
    for role in ROLES:
        tensors |= {f"{role}.{name}": value for name, value in getattr(snapshot, role).tensors().items()}
    for name, moments in snapshot.moments.items():
        tensors |= {f"first.{name}": moments.first, f"second.{name}": moments.second}
    return tensors, {name: getattr(snapshot, name) for name in COUNTERS}


def _whole(tensors: Mapping[str, Tensor], counters: dict[str, Any]) -> Snapshot:
    """The snapshot with these :func:`_parts`."""
    state, average, best = (
        AdapterState.of({name.removeprefix(f"{role}."): value for name, value in tensors.items()})
        for role in ROLES
    )
    learned = [name.removeprefix("first.") for name in tensors if name.startswith("first.")]
    moments = {name: Moments(tensors[f"first.{name}"], tensors[f"second.{name}"]) for name in learned}
    return Snapshot(state, average, best, moments, **counters)


def read_snapshot(path: Path, run: dict[str, Any], device: torch.device) -> Snapshot:
    """Read what :func:`write_snapshot` wrote.

    Raises:
        AdaptError: no readable checkpoint, a damaged one, or one of a run with other settings than ``run``.
    """
    tensors, metadata = read_tensors(path), read_metadata(path)
    texts: dict[str, str] = {name: metadata[name] for name in ("counters", "run") if name in metadata}
    if len(texts) < 2:
        raise AdaptError(f"{path} is not a checkpoint of meta-training: it does not say of which run")
    then = parse_json(texts["run"], path, finite=False)
    if not isinstance(then, dict):
        raise _damaged(path, "run")
    _compare(path, then, json.loads(json.dumps(run)))
    counters = _counters(path, parse_json(texts["counters"], path, finite=False))
    learned = [name.removeprefix("first.") for name in tensors if name.startswith("first.")]
    _check(path, tensors, learned)
    if metadata.get("sha256", "") not in ("", sha256_of(tensors, texts)):  # earlier versions wrote none
        raise _damaged(path, "sha256")
    # Copies: where a file's bytes begin in memory is chance, and kernels may round differently for it.
    return _whole({name: tensor.to(device, copy=True) for name, tensor in tensors.items()}, counters)


def _check(path: Path, tensors: Mapping[str, Tensor], learned: list[str]) -> None:
    """Every role has every field, moments are those of fields, and all are of the shape of the state's."""
    roles = [*ROLES, *(role for role in ("first", "second") if learned)]
    fields = [name for name in AdapterState._fields if name != "router" or "state.router" in tensors]
    names = {f"{role}.{name}" for role in ROLES for name in fields}
    names |= {f"{role}.{name}" for role in roles[len(ROLES) :] for name in learned}
    if odd := sorted(names ^ set(tensors)):
        raise _damaged(path, odd[0])
    for name, value in tensors.items():
        field = f"state.{name.partition('.')[2]}"
        like = tensors.get(field, value.new_empty(0, 0, 0))
        if value.shape != like.shape or value.dtype != like.dtype or not value.is_floating_point():
            raise _damaged(path, name)
        if bool(value.isnan().any()):
            raise _damaged(path, name)


def _counters(path: Path, found: Any) -> dict[str, Any]:
    if not isinstance(found, dict) or set(found) != set(COUNTERS):
        raise _damaged(path, "counters")
    for name, value in found.items():
        if name == "metrics":
            numbers = value.values() if isinstance(value, dict) else [None]
            fits = all(isinstance(number, int | float) for number in numbers)
        else:
            fits = type(value) is int and 0 <= value < 2**63
        if not fits:
            raise _damaged(path, name)
    return found


def _damaged(path: Path, what: str) -> AdaptError:
    return AdaptError(
        f"{path} is no whole checkpoint of meta-training ({what[:80]}): it is damaged, start anew"
    )


def _compare(path: Path, then: dict[str, Any], now: dict[str, Any]) -> None:
    for name in sorted({*then, *now}):
        if then.get(name) != now.get(name):
            raise AdaptError(
                f"{path} cannot be resumed: {name} was {then.get(name)} there and is {now.get(name)} here; "
                "use the same settings, or start anew"
            )
