"""The MLflow store: created once, also by processes that start together, and without chatter."""

from __future__ import annotations

import logging
import os
import re
import shlex
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from adapt.errors import AdaptError
from adapt.tracking.settings import TrackingSettings

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["open_experiment", "prepare_store", "quiet", "ui_hint"]

DATABASE = "mlflow.db"

#: Unless the user's environment says otherwise: give up on a dead server after seconds (MLflow's own defaults
#: wait for many minutes), keep stdout for our own report, and send no usage statistics to anybody.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
#: Creating the store takes seconds; whoever waits longer than this waits for something else.
LOCK_SECONDS = 120.0


def prepare_store(root: Path, uri: str | None = None) -> str:
    """The tracking URI of the store: ``uri``, or ``mlflow.db`` below ``root``, which is created if need be.

    MLflow's migrations crash when two processes run them on one fresh SQLite file; here the first creates the
    store while the others wait.

    Raises:
        AdaptError: SQLite cannot write there.
        mlflow.exceptions.MlflowException: MLflow cannot use the store, for example one of another version.
    """
    if uri is None:
        uri = f"sqlite:///{root.resolve() / DATABASE}"
    if not uri.startswith("sqlite:///"):
        return uri
    path = Path(uri.removeprefix("sqlite:///"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with quiet(), _lock(path.with_name(f"{path.name}.lock")):
            _check_writable(path)
            from mlflow import MlflowClient

            MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
    except (OSError, sqlite3.Error) as error:
        raise AdaptError(
            f"{path} cannot be written ({error}): set tracking.root to a folder that can"
        ) from error
    return uri


def open_experiment(client: MlflowClient, name: str, artifacts: Path | None) -> str:
    """Id of experiment ``name``; created with its artifacts below ``artifacts`` (None: the server decides).

    An experiment that was deleted in the UI is restored: a run must not be lost because of its name.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        kind = {"mlflow.experimentKind": "custom_model_development"}  # or the UI asks what it is
        location = None
        if artifacts is not None:
            location = (artifacts.resolve() / re.sub(r"[^\w.-]+", "_", name)).as_uri()
        try:
            return client.create_experiment(name, location, kind)
        except MlflowException:  # another process was faster
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return found.experiment_id


def ui_hint(settings: TrackingSettings, experiment_id: str, run_id: str) -> str:
    """How to see a run: a command for the terminal, or on a server the address of its page."""
    uri = settings.uri
    if uri is not None and uri.startswith("http"):
        return f"{uri.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}"
    if uri is None:
        path, here = Path(settings.root).resolve() / DATABASE, Path.cwd()
        uri = f"sqlite:///{path.relative_to(here) if path.is_relative_to(here) else path}"
    return f"mlflow ui --backend-store-uri {shlex.quote(uri)}"


@contextmanager
def quiet() -> Iterator[None]:
    """Use MLflow inside: its log lines and warnings are not for our users; errors still raise."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow  # noqa: F401  (sets the levels of its loggers, so it comes before we do)

        loggers = [logging.getLogger(name) for name in ("mlflow", "alembic", "urllib3.connectionpool")]
        levels = [logger.level for logger in loggers]
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _check_writable(path: Path) -> None:
    """Ask SQLite before MLflow does, which would try for minutes to open what cannot be opened."""
    with closing(sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """One process at a time. The lock is SQLite's own, on an empty file: it ends with its process."""
    with closing(sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
