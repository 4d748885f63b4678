"""Everything that meta-training knows between two steps, in memory and on disk.

A run that goes on from a snapshot does the same to the last bit as one that was never interrupted: tasks,
learning rates and random choices are functions of the number of the step, so these tensors and counters are
all there is.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapt.adapter.state import AdapterState
from adapt.errors import AdaptError
from adapt.files import read_metadata, read_tensors, write_tensors
from adapt.meta.adam import Moments

__all__ = ["Snapshot", "first_snapshot", "read_snapshot", "write_snapshot"]

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
    tensors: dict[str, Tensor] = {}
    for role in ROLES:
        tensors |= {f"{role}.{name}": value for name, value in getattr(snapshot, role)._asdict().items()}
    for name, moments in snapshot.moments.items():
        tensors |= {f"first.{name}": moments.first, f"second.{name}": moments.second}
    counters = {name: getattr(snapshot, name) for name in COUNTERS}
    # Not json_text, which refuses infinite numbers: the loss of a hopeless start may be one.
    write_tensors(path, tensors, {"counters": json.dumps(counters), "run": json.dumps(run)})


def read_snapshot(path: Path, run: dict[str, Any], device: torch.device) -> Snapshot:
    """Read what :func:`write_snapshot` wrote.

    Raises:
        AdaptError: no readable checkpoint, or one of a run with other settings than ``run``.
    """
    tensors, metadata = read_tensors(path), read_metadata(path)
    try:
        then, counters = json.loads(metadata["run"]), json.loads(metadata["counters"])
        _compare(path, then, json.loads(json.dumps(run)))
        # Copies: where a file's bytes begin in memory is chance, and kernels may round differently for it.
        on_device = {name: tensor.to(device, copy=True) for name, tensor in tensors.items()}
        state, average, best = (
            AdapterState(**{name: on_device[f"{role}.{name}"] for name in AdapterState._fields})
            for role in ROLES
        )
        learned = [name.removeprefix("first.") for name in tensors if name.startswith("first.")]
        moments = {n: Moments(on_device[f"first.{n}"], on_device[f"second.{n}"]) for n in learned}
        return Snapshot(state, average, best, moments, **{name: counters[name] for name in COUNTERS})
    except (KeyError, json.JSONDecodeError) as error:
        raise AdaptError(f"{path} is not a checkpoint of meta-training ({error})") from None


def _compare(path: Path, then: dict[str, Any], now: dict[str, Any]) -> None:
    for name in sorted({*then, *now}):
        if then.get(name) != now.get(name):
            raise AdaptError(
                f"{path} cannot be resumed: {name} was {then.get(name)} there and is {now.get(name)} here; "
                "use the same settings, or start anew"
            )
