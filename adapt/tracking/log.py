"""What an operation of a journal does to an MLflow run; doing it twice is as doing it once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from adapt.tracking.journal import Operation
from adapt.tracking.record import Point

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput as MlflowInput

__all__ = ["MOST_METRICS", "apply", "log_batches", "log_files", "log_inputs", "log_model"]

T = TypeVar("T")
FIGURES = {".png", ".svg", ".pdf"}
#: MLflow's limits of one call.
MOST_METRICS, MOST_ENTRIES = 1000, 100


def apply(client: MlflowClient, run_id: str, operation: Operation, file: Callable[[str], Path]) -> None:
    """Do what ``operation`` says to the run ``run_id``; ``file`` says where a path of it is now.

    Raises:
        ValueError: an operation that this version does not know.
    """
    match operation["do"]:
        case "metrics":
            log_batches(client, run_id, metrics=operation["points"])
        case "params":
            log_batches(client, run_id, params=operation["params"])
        case "tags":
            log_batches(client, run_id, tags=operation["tags"])
        case "inputs":
            log_inputs(client, run_id, operation["datasets"])
        case "text":
            client.log_text(run_id, operation["content"], operation["path"])
        case "dict":
            client.log_dict(run_id, operation["content"], operation["path"])
        case "files":
            log_files(client, run_id, [file(path) for path in operation["paths"]])
        case "model":
            log_model(client, run_id, file(operation["paths"][0]), operation["name"])
        case "mark":
            pass
        case "reopen":
            client.update_run(run_id, status="RUNNING")
        case "end":
            client.set_terminated(run_id, operation["status"], operation.get("time"))
        case unknown:
            raise ValueError(f"the journal says '{unknown}', which is damaged or of a later version")


def log_batches(
    client: MlflowClient,
    run_id: str,
    *,
    metrics: Sequence[Point] = (),
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write any number of metrics, parameters and tags, in batches of the sizes that MLflow takes: one call
    costs about as much as a hundred entries."""
    from mlflow.entities import Metric, Param, RunTag

    for points in _batches([Metric(*point) for point in metrics], MOST_METRICS):
        client.log_batch(run_id, metrics=points)
    for entries in _batches([Param(*entry) for entry in (params or {}).items()], MOST_ENTRIES):
        client.log_batch(run_id, params=entries)
    for labels in _batches([RunTag(*entry) for entry in (tags or {}).items()], MOST_ENTRIES):
        client.log_batch(run_id, tags=labels)


def log_inputs(client: MlflowClient, run_id: str, datasets: Iterable[Mapping[str, Any]]) -> None:
    """Name, digest and data sheet of every data source."""
    if inputs := [_input(dataset) for dataset in datasets]:
        client.log_inputs(run_id, inputs)


def log_files(client: MlflowClient, run_id: str, files: Iterable[Path]) -> None:
    """Upload files; figures go to ``figures/``."""
    for path in files:
        client.log_artifact(run_id, str(path), "figures" if path.suffix in FIGURES else None)


def log_model(client: MlflowClient, run_id: str, folder: Path, registered_name: str | None) -> None:
    """Log the adapter in ``folder`` as a model."""
    from adapt.tracking import model

    model.log_model(client, run_id, folder, registered_name)


def _batches(entries: list[T], size: int) -> Iterator[list[T]]:
    return (entries[start : start + size] for start in range(0, len(entries), size))


def _input(dataset: Mapping[str, Any]) -> MlflowInput:
    from mlflow.entities import Dataset, InputTag
    from mlflow.entities import DatasetInput as MlflowInput

    entity = Dataset(**{key: value for key, value in dataset.items() if key != "tags"})
    return MlflowInput(entity, [InputTag(*tag) for tag in dataset["tags"].items()])
