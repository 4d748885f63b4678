"""A small comparison, and what the tests of tracking ask an MLflow store."""

from __future__ import annotations

import socket
from typing import Any

from adapt.compare import Comparison, Curve, MethodResult
from adapt.tracking import DatasetInput, TrackingSettings

CARD = {"name": "digits", "licence": "CC BY 4.0", "counts": {"examples": 1797, "classes": 10}}
DATA = DatasetInput("digits", "5" * 64, CARD, "evaluation")
CONFIG = {
    "name": "toy",
    "seed": 3,
    "task": {"ways": 5, "source": {"_target_": "tasks.Digits", "size": 32}, "transform": None},
    "method": {"forward": {"k": 4}, "retrain": {"lr": 0.003, "batch": 32}},
}
#: Of a journal that is sent nowhere.
HEADER: dict[str, Any] = {
    "uri": None,
    "root": "/nowhere",
    "experiment": "e",
    "name": "n",
    "time": 0,
    "tags": {},
}

#: Environment of MLflow's servers: without eight processes, each with all its imports, that would run jobs.
SPARING = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def comparison() -> Comparison:
    """Three methods, two tasks, one of them watched."""
    curves = (Curve((0.5, 2.0), (0.2, 0.9)), Curve((0.7, 3.0), (0.4, 1.0)))
    methods = {
        "head": MethodResult("head", "head", (0.7, 0.8), (0.01, 0.01), 1.0, 2.0),
        "forward": MethodResult("forward", "forward", (0.8, 0.95), (0.1, 0.1), 9.0, 4.0),
        "retrain": MethodResult("retrain", "retrain", (0.9, 1.0), (2.0, 3.0), 900.0, 8.0, curves),
    }
    return Comparison("toy", {"source": "digits", "ways": 5, "shots": 1}, 3, "cpu", methods)


def settings(**changes: Any) -> TrackingSettings:
    """Without system metrics, so that what is recorded is what the test recorded."""
    return TrackingSettings(**{"system_metrics_seconds": None, **changes})


def paths(client: Any, run_id: str, folder: str | None = None) -> set[str]:
    """Of the artifacts of a run."""
    return {entry.path for entry in client.list_artifacts(run_id, folder)}


def runs(client: Any, experiment: str) -> list[Any]:
    """All runs of an experiment, children included."""
    return list(client.search_runs([client.get_experiment_by_name(experiment).experiment_id]))


def fresh(client: Any, experiment: str) -> Any:
    """The one run of an experiment that has no parent."""
    (run,) = [run for run in runs(client, experiment) if "mlflow.parentRunId" not in run.data.tags]
    return run


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def content(client: Any, experiment: str) -> dict[str, Any]:
    """What a store says of an experiment, by name of run, without ids and times."""
    told = {}
    for run in runs(client, experiment):
        history = {
            key: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, key)]
            for key in run.data.metrics
        }
        tags = {
            key: value for key, value in run.data.tags.items() if not key.startswith(("mlflow.", "adapt."))
        }
        data = sorted(entry.dataset.digest for entry in run.inputs.dataset_inputs)
        told[run.info.run_name] = {
            "status": run.info.status,
            "metrics": history,
            "params": run.data.params,
            "tags": tags,
            "data": data,
            "artifacts": sorted(paths(client, run.info.run_id)),
            "child": "mlflow.parentRunId" in run.data.tags,
        }
    return told
