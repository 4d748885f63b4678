"""A comparison that was interrupted goes on where it was: every finished task is a line of a file.

The first line says what was asked (:func:`asked`) and holds what was measured before the first task; each
further line holds the scores, seconds and curves of all methods on one task, in the order of the tasks. A
line counts once it is whole: one that was cut off by a crash is done again.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from adapt.adapter import Context, Method
from adapt.compare.examples import Examples
from adapt.compare.meters import Meter
from adapt.compare.metric import Metric
from adapt.compare.reliability import Reliability
from adapt.compare.result import MEASURED, Curve, from_text, in_text
from adapt.compare.robustness import Robustness
from adapt.errors import AdaptError
from adapt.files import parse_json, reading
from tasks import Episode
from tasks.readers.regular import read_regular

__all__ = ["Checkpoint", "Probe", "Result", "asked", "entry_of"]

FORMAT = 1
#: How a file begins.
BEGINS = b'{"format": '
#: Key of a line: hash of all others.
HASH = "sha256"


class Result(NamedTuple):
    """One method on one task: score on the queries, seconds to adapt, the curve between if it was watched, of
    a fixed task the score of each query, how far its probabilities may be believed, if it gives any, and how
    it does on worse queries."""

    score: float
    seconds: float
    curve: Curve | None = None
    queries: tuple[float, ...] = ()
    reliability: Reliability | None = None
    robustness: Robustness | None = None


class Probe(NamedTuple):
    """What one adaptation by a method takes, measured once; see :class:`adapt.compare.MethodResult`.

    Attributes:
        watts: mean power; None: not known.
    """

    forward_equivalents: float
    peak_mb: float | None = None
    process_mb: float | None = None
    watts: float | None = None


def asked(
    methods: Mapping[str, Method],
    context: Context,
    first: Episode,
    *,
    experiment: str,
    task: Mapping[str, Any],
    metric: Metric,
    weights: str,
) -> dict[str, str]:
    """What makes two comparisons the same but for their number of tasks, as texts by name.

    Args:
        first: episode 0, whose content stands for the data.
        weights: fingerprint of the backbone.
    """
    state = getattr(context.adapter, "state", None)
    tensors = [value for value in (state or ()) if isinstance(value, torch.Tensor)]
    drawn = {key: value for key, value in task.items() if key != "tasks"}
    return {
        "experiment": experiment,
        "task": json.dumps(drawn, sort_keys=True, default=str),
        "seed": str(context.seed),
        "device": first.support_x.device.type,
        "metric": metric.name,
        "data": _digest([first.support_x, first.support_y, first.query_x, first.query_y]),
        "backbone": weights,
        "adapter": _digest(tensors),
        # Where an object lies in memory says nothing about it.
        **{
            f"method {name}": re.sub(r" at 0x[0-9a-f]+", "", repr(method)) for name, method in methods.items()
        },
    }


def _digest(tensors: list[torch.Tensor]) -> str:
    """Of dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for tensor in tensors:
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class Checkpoint:
    """``path``, or nothing where it is None: then nothing is found and nothing is kept.

    Attributes:
        probes: by method, of the process that began; None in a new file.
        energy_source: what their powers are: measured, estimated; None: there are none.
        meter: by what they were found, in words.
        done: results by method, one entry per finished task.
        examples: what each of them was drawn from; None in a file of a version that did not say.

    Raises:
        AdaptError: the file is of another comparison, or damaged before its last line.
    """

    def __init__(self, path: Path | None, question: Mapping[str, str]) -> None:
        self._path, self._question = path, dict(question)
        self.probes: dict[str, Probe] | None = None
        self.energy_source: str | None = None
        self.meter: str | None = None
        self.done: list[dict[str, Result]] = []
        self.examples: list[Examples | None] = []
        if path is not None and os.path.lexists(path):
            self._read(path)

    def begin(self, probes: Mapping[str, Probe], meter: Meter | None) -> None:
        """Write the first line of a new file."""
        self.probes = dict(probes)
        if meter is not None:
            self.energy_source, self.meter = meter.source, str(meter)
        head = {
            "format": FORMAT,
            "asked": self._question,
            "energy_source": self.energy_source,
            "meter": self.meter,
            "probes": {name: probe._asdict() for name, probe in probes.items()},
        }
        self._append(head)

    def add(self, entry: Mapping[str, Any]) -> None:
        """Keep the :func:`entry_of` the next task; it is on the disk when this returns."""
        self._append({"task": len(self.done), **entry})
        self._take(entry)

    def _take(self, entry: Mapping[str, Any]) -> None:
        results = {name: _result(one) for name, one in entry["results"].items()}
        examples = entry.get("examples")
        self.examples.append(None if examples is None else Examples.from_dict(examples))
        self.done.append(results)

    def discard(self) -> None:
        """Delete the file: its results are void."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _append(self, entry: Mapping[str, Any]) -> None:
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.write(json.dumps({**entry, HASH: _hash(entry)}, allow_nan=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _read(self, path: Path) -> None:
        with reading(path, "cannot be read"):
            content = read_regular(path)
        whole = content.rfind(b"\n") + 1
        lines = content[:whole].splitlines()
        if not lines and content[: len(BEGINS)] != BEGINS[: len(content)]:
            raise _damaged(path, 0)  # not a first line that was cut off, but a file of somebody else
        if lines:
            with _understood(path, 0):
                self._read_head(path, _entry(path, lines[0], 0))
        for number, line in enumerate(lines[1:], start=1):
            with _understood(path, number):
                entry = _entry(path, line, number)
                self._take(entry)
                names = set(self.done[-1])
                if entry["task"] != number - 1 or not names or not names <= set(self.probes or ()):
                    raise _damaged(path, number)
        if whole < len(content):
            os.truncate(path, whole)

    def _read_head(self, path: Path, head: Mapping[str, Any]) -> None:
        if head.get("format") != FORMAT:
            raise AdaptError(f"{path} is not a checkpoint of a comparison: delete it, or use another folder")
        there = {str(key): str(value) for key, value in head["asked"].items()}
        differing = [key for key in {**there, **self._question} if there.get(key) != self._question.get(key)]
        if differing:
            raise AdaptError(
                f"{path} is of another comparison, which differs in {', '.join(differing)}"
                f"{_both(differing, there, self._question)}: use another folder, or delete the file"
            )
        self.probes = {name: _probe(probe) for name, probe in head["probes"].items()}
        self.energy_source, self.meter = head["energy_source"], head["meter"]


def entry_of(results: Mapping[str, Result], examples: Examples) -> dict[str, Any]:
    """Results by method on a task, and what it was drawn from (JSON)."""
    plain = {name: _plain(one) for name, one in results.items()}
    return {"results": plain, "examples": examples.to_dict()}


def _both(differing: list[str], there: Mapping[str, str], here: Mapping[str, str]) -> str:
    """The two values of the only difference, if they are short enough to say something."""
    values = [values.get(differing[0], "not there") for values in (there, here)]
    if len(differing) > 1 or max(map(len, values)) > 40:
        return ""
    return f" ({values[0]} there, {values[1]} here)"


def _entry(path: Path, line: bytes, number: int) -> dict[str, Any]:
    try:
        entry = parse_json(line, path)
    except AdaptError:
        raise _damaged(path, number) from None
    if not isinstance(entry, dict) or entry.pop(HASH, None) not in (None, _hash(entry)):
        raise _damaged(path, number)  # lines of earlier versions have no hash
    return entry


def _hash(entry: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def _understood(path: Path, number: int) -> Iterator[None]:
    """What is JSON but no line of ours lacks something, or holds it in another type."""
    try:
        yield
    except AdaptError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        raise _damaged(path, number) from None


def _damaged(path: Path, number: int) -> AdaptError:
    return AdaptError(f"{path} is damaged in line {number + 1}: delete it, and the comparison starts anew")


def _plain(result: Result) -> dict[str, Any]:
    curve = result.curve and {"seconds": result.curve.seconds, "score": result.curve.score}
    kept: dict[str, Any] = {"queries": in_text(result.queries)} if result.queries else {}
    for name in MEASURED:
        if (found := getattr(result, name)) is not None:
            kept[name] = found.to_dict()
    return {"score": result.score, "seconds": result.seconds, "curve": curve, **kept}


def _result(entry: Mapping[str, Any]) -> Result:
    curve = entry["curve"] and Curve(
        *(tuple(_number(value) for value in entry["curve"][name]) for name in ("seconds", "score"))
    )
    queries = from_text(entry.get("queries", ""))
    known = {name: kind.from_dict(entry[name]) for name, kind in MEASURED.items() if name in entry}
    return Result(_number(entry["score"]), _number(entry["seconds"]), curve or None, queries, **known)


def _probe(entry: Mapping[str, Any]) -> Probe:
    unknown = {name for name, value in entry.items() if value is None and name in Probe._field_defaults}
    known = {name: _number(value) for name, value in entry.items() if name not in unknown}
    return Probe(**{**dict.fromkeys(unknown), **known})  # type: ignore[arg-type]


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError
    return value
