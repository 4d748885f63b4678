"""What goes into a run, written with few calls: one costs about as much as a hundred entries."""

from __future__ import annotations

import getpass
import json
import platform
import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from adapt.compare import Comparison, MethodResult
from adapt.compare.figures import mean_curve
from adapt.tracking.git import git_state
from adapt.tracking.params import flatten, method_config
from adapt.tracking.settings import DatasetInput

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput as MlflowInput

__all__ = [
    "Point",
    "log_batches",
    "log_children",
    "log_files",
    "log_inputs",
    "milliseconds",
    "packages",
    "points",
    "source_tags",
]

T = TypeVar("T")
#: Metric name, value, time (ms since 1970), step.
Point = tuple[str, float, int, int]
FIGURES = {".png", ".svg", ".pdf"}
# MLflow's limits. The whole digest and the whole card are in the source of the data set.
NAME_LENGTH, DIGEST_LENGTH, TAG_LENGTH, SOURCE_LENGTH = 500, 36, 500, 65_535
CUT = "(cut: too long for MLflow)"
#: Of the card, what can be read without opening the data set.
TAGGED = ("licence", "commercial", "domain", "personal_data")


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
    lines = sorted({f"{found.name}=={found.version}" for found in distributions()}, key=str.lower)
    return "\n".join([f"# Python {platform.python_version()}, {platform.platform()}", *lines]) + "\n"


def milliseconds() -> int:
    """Now, as MLflow counts time."""
    return int(time.time() * 1000)


def points(values: Mapping[str, float], timestamp: int | None = None, step: int = 0) -> list[Point]:
    """One point of each metric, by default now."""
    when = milliseconds() if timestamp is None else timestamp
    return [(key, value, when, step) for key, value in values.items()]


def log_batches(
    client: MlflowClient,
    run_id: str,
    *,
    metrics: Sequence[Point] = (),
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write any number of metrics, parameters and tags, in batches of the sizes that MLflow takes."""
    from mlflow.entities import Metric, Param, RunTag

    for points in _batches([Metric(*point) for point in metrics], 1000):
        client.log_batch(run_id, metrics=points)
    for entries in _batches([Param(*entry) for entry in (params or {}).items()], 100):
        client.log_batch(run_id, params=entries)
    for labels in _batches([RunTag(*entry) for entry in (tags or {}).items()], 100):
        client.log_batch(run_id, tags=labels)


def _batches(entries: list[T], size: int) -> Iterator[list[T]]:
    return (entries[start : start + size] for start in range(0, len(entries), size))


def log_inputs(client: MlflowClient, run_id: str, datasets: Iterable[DatasetInput]) -> None:
    """Name, digest and data sheet of every data source; the data itself stays where it is."""
    if inputs := [_input(dataset) for dataset in datasets]:
        client.log_inputs(run_id, inputs)


def log_files(client: MlflowClient, run_id: str, files: Iterable[Path]) -> None:
    """Upload files; figures go to ``figures/``."""
    for path in files:
        client.log_artifact(run_id, str(path), "figures" if path.suffix in FIGURES else None)


def log_children(
    client: MlflowClient,
    parent_id: str,
    comparison: Comparison,
    tags: Mapping[str, str],
    config: Mapping[str, Any],
    datasets: Sequence[DatasetInput],
) -> None:
    """One finished run per method below the parent: tags, parameters, metrics, curve, data."""
    experiment_id = client.get_run(parent_id).info.experiment_id
    for method in comparison.methods.values():
        own = {"mlflow.parentRunId": parent_id, "method": method.name, "role": method.role}
        child = client.create_run(experiment_id, tags={**tags, **own}, run_name=method.name)
        run_id, start = child.info.run_id, child.info.start_time
        status = "FAILED"
        try:
            metrics = [*points(comparison.method_metrics(method), start), *_curve(comparison, method, start)]
            params = flatten(method_config(config, method.name))
            log_batches(client, run_id, metrics=metrics, params=params)
            log_inputs(client, run_id, datasets)
            status = "FINISHED"
        finally:
            client.set_terminated(run_id, status)


def _curve(comparison: Comparison, method: MethodResult, start: int) -> Iterator[Point]:
    """Mean score by look, at ``start`` plus elapsed time (ms): the UI's relative time axis shows it."""
    if not method.curves:
        return
    curve = mean_curve(method.curves)
    for step, (seconds, score) in enumerate(zip(curve.seconds, curve.score, strict=True)):
        when = start + round(1000 * seconds)
        values = {f"curve/{comparison.metric.name}": score, "curve/seconds": seconds}
        yield from points(values, when, step)


def _input(dataset: DatasetInput) -> MlflowInput:
    from mlflow.entities import Dataset, InputTag
    from mlflow.entities import DatasetInput as MlflowInput

    counts = dict(dataset.card.get("counts", {}))
    entity = Dataset(
        name=dataset.name[:NAME_LENGTH],
        digest=dataset.digest[:DIGEST_LENGTH],
        source_type="code",
        source=_data_source(dataset),
        # num_rows is the one number that MLflow's page of a data set knows.
        profile=json.dumps(({"num_rows": counts["examples"]} if "examples" in counts else {}) | counts),
    )
    tags = {"mlflow.data.context": dataset.context, "sha256": dataset.digest}
    tags |= {key: _short(dataset.card[key]) for key in TAGGED if dataset.card.get(key) not in (None, "")}
    return MlflowInput(entity, [InputTag(*tag) for tag in tags.items()])


def _data_source(dataset: DatasetInput) -> str:
    """Name, digest and card as JSON; a card that is too long for MLflow loses the longest of its texts."""
    # "code" is MLflow's source type for data that a program makes or loads; it carries any tags.
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
