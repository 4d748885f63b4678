"""What a run has to say, as operations for its journal: plain JSON, made without MLflow."""

from __future__ import annotations

import getpass
import json
import os
import platform
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from adapt.compare import Comparison, MethodResult
from adapt.compare.figures import mean_curve
from adapt.tracking.git import git_state
from adapt.tracking.journal import Operation
from adapt.tracking.params import clean_key, flatten, method_config, plain
from adapt.tracking.settings import DatasetInput
from tasks.readers.shown import harmless

__all__ = [
    "CUT",
    "Point",
    "comparison_operations",
    "description",
    "milliseconds",
    "packages",
    "points",
    "source_tags",
]

#: Metric name, value, time (ms since 1970), step.
Point = tuple[str, float, int, int]
# MLflow's limits. The whole digest and the whole card are in the source of the data set.
NAME_LENGTH, DIGEST_LENGTH, TAG_LENGTH, SOURCE_LENGTH = 500, 36, 500, 65_535
CUT = "(cut: too long for MLflow)"
#: Of the card, what can be read without opening the data set.
TAGGED = ("licence", "commercial", "domain", "personal_data")


def milliseconds() -> int:
    """Now, as MLflow counts time."""
    return int(time.time() * 1000)


def points(values: Mapping[str, float], timestamp: int | None = None, step: int = 0) -> list[Point]:
    """One point of each metric, by default now; the names as MLflow takes them.

    Example:
        >>> points({"loss!": 0.5}, timestamp=0, step=3)
        [('loss_', 0.5, 0, 3)]
    """
    when = milliseconds() if timestamp is None else timestamp
    return [(clean_key(key), float(value), when, step) for key, value in values.items()]


def source_tags() -> dict[str, str]:
    """Who ran what: the commit, and what MLflow's own columns show."""
    tags = {"mlflow.source.name": "adapt", "mlflow.source.type": "LOCAL"}
    with suppress(OSError, KeyError, ImportError):  # a container may run under a user id without a name
        tags["mlflow.user"] = getpass.getuser()
    if (state := git_state()) is not None:
        sha, dirty = state
        tags |= {"git_sha": sha, "git_dirty": str(dirty).lower(), "mlflow.source.git.commit": sha}
    return tags


def packages() -> str:
    """Python, system, and everything installed, in the format of ``pip freeze``."""
    return _packages(tuple((place, _changed(place)) for place in sys.path))


def _changed(place: str) -> int | None:
    """When something was installed in ``place``, or removed."""
    with suppress(OSError):
        return os.stat(place).st_mtime_ns
    return None


@lru_cache(1)  # a sweep asks for every run, and reading takes longer than what many of its runs do
def _packages(_places: tuple[tuple[str, int | None], ...]) -> str:
    lines = sorted({f"{found.name}=={found.version}" for found in distributions()}, key=str.lower)
    return "\n".join([f"# Python {platform.python_version()}, {platform.platform()}", *lines]) + "\n"


def description(
    config: Mapping[str, Any], overrides: Sequence[str], datasets: Sequence[DatasetInput]
) -> Iterator[Operation]:
    """How to repeat the run: written before the work, so that a failed run has it too."""
    if overrides:
        yield {"do": "tags", "run": "", "tags": {"overrides": " ".join(overrides)}}
    yield {"do": "params", "run": "", "params": flatten(config)}
    yield {"do": "inputs", "run": "", "datasets": [_dataset(dataset) for dataset in datasets]}
    yield {"do": "dict", "run": "", "content": plain(config), "path": "config.yaml"}
    typed = "".join(f"{override}\n" for override in overrides)
    yield {"do": "text", "run": "", "content": typed, "path": "overrides.txt"}
    yield {"do": "text", "run": "", "content": packages(), "path": "packages.txt"}


def comparison_operations(
    comparison: Comparison,
    *,
    files: Sequence[Path],
    note: str,
    title: str,
    tags: Mapping[str, str],
    config: Mapping[str, Any],
    datasets: Sequence[DatasetInput],
) -> Iterator[Operation]:
    """Metrics, description and files of the run, and one finished child per method."""
    found = {"device": comparison.device, "seed": str(comparison.seed), "interval": comparison.interval}
    if comparison.energy_source is not None:
        found["energy_source"] = comparison.energy_source
    yield {"do": "metrics", "run": "", "points": points(comparison.metrics())}
    yield {"do": "tags", "run": "", "tags": {**found, "mlflow.note.content": harmless(note)}}
    yield {"do": "files", "run": "", "paths": [str(path.resolve()) for path in files]}
    for method in comparison.methods.values():
        name = f"{title} · {method.name}" if title else method.name
        yield from _child(comparison, method, name, {**tags, **found}, config, datasets)


def _child(
    comparison: Comparison,
    method: MethodResult,
    name: str,
    tags: Mapping[str, str],
    config: Mapping[str, Any],
    datasets: Sequence[DatasetInput],
) -> Iterator[Operation]:
    """A finished run below the run: tags, parameters, metrics, curve, data."""
    start, run = milliseconds(), f"method:{method.name}"
    own = {**tags, "method": method.name, "role": method.role}
    if method.transductive:
        own["transductive"] = "true"
    yield {"do": "child", "run": run, "name": name, "tags": own, "time": start}
    values = [*points(comparison.method_metrics(method), start), *_curve(comparison, method, start)]
    yield {"do": "metrics", "run": run, "points": values}
    yield {"do": "params", "run": run, "params": flatten(method_config(config, method.name))}
    yield {"do": "inputs", "run": run, "datasets": [_dataset(dataset) for dataset in datasets]}
    yield {"do": "end", "run": run, "status": "FINISHED", "time": milliseconds()}


def _curve(comparison: Comparison, method: MethodResult, start: int) -> Iterator[Point]:
    """Mean score by look, at ``start`` plus elapsed time (ms): the UI's relative time axis shows it."""
    if not method.curves:
        return
    curve = mean_curve(method.curves)
    for step, (seconds, score) in enumerate(zip(curve.seconds, curve.score, strict=True)):
        when = start + round(1000 * seconds)
        values = {f"curve/{comparison.metric.name}": score, "curve/seconds": seconds}
        yield from points(values, when, step)


def _dataset(dataset: DatasetInput) -> dict[str, Any]:
    """A data source within MLflow's limits; the data itself stays where it is."""
    counts = dict(dataset.card.get("counts", {}))
    tags = {"mlflow.data.context": dataset.context, "sha256": dataset.digest}
    tags |= {key: _short(dataset.card[key]) for key in TAGGED if dataset.card.get(key) not in (None, "")}
    return {
        "name": dataset.name[:NAME_LENGTH],
        "digest": dataset.digest[:DIGEST_LENGTH],
        "source_type": "code",  # MLflow's word for data that a program makes or loads; it carries any tags
        "source": _data_source(dataset),
        # num_rows is the one number that MLflow's page of a data set knows.
        "profile": json.dumps(({"num_rows": counts["examples"]} if "examples" in counts else {}) | counts),
        "tags": tags,
    }


def _data_source(dataset: DatasetInput) -> str:
    """Name, digest and card as JSON; a card that is too long for MLflow loses the longest of its texts."""
    card = dict(dataset.card)
    while True:
        source = {"tags": {"name": dataset.name, "sha256": dataset.digest, "card": card}}
        text = json.dumps(source, ensure_ascii=False)
        longest = max(card, key=lambda key: len(str(card[key])), default="")
        if len(text.encode()) <= SOURCE_LENGTH or card.get(longest) == CUT:
            return text
        card[longest] = CUT


def _short(value: Any) -> str:
    return textwrap.shorten(
        value if isinstance(value, str) else json.dumps(value), TAG_LENGTH, placeholder=" …"
    )
