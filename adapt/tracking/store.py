"""The MLflow store: created once, also by processes that start together, and without chatter."""

from __future__ import annotations

import logging
import os
import re
import shlex
import sqlite3
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from adapt.errors import AdaptError
from adapt.tracking.database import ensure, file_of, uri_of
from adapt.tracking.locks import exclusive
from adapt.tracking.relocate import relocate
from adapt.tracking.settings import TrackingSettings
from adapt.tracking.view import lacks_view, view_tag

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = [
    "ARTIFACTS",
    "DATABASE",
    "artifact_folder",
    "load_mlflow",
    "open_experiment",
    "prepare_store",
    "quiet",
    "silent",
    "ui_hint",
]

DATABASE, ARTIFACTS = "mlflow.db", "mlruns"

#: Unless the user's environment says otherwise: give up on a dead server at once (MLflow's own defaults wait
#: for many minutes; we try again ourselves), keep stdout for our report, and send nobody usage statistics.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # for a few small files
}
#: Creating the store takes seconds; whoever waits longer than this waits for something else.
LOCK_SECONDS = 120.0
LOGGERS = ("mlflow", "alembic", "urllib3.connectionpool")

#: MLflow's migrations are no matter for two threads either.
_creating = threading.Lock()
_silencing = threading.Lock()
#: The loggers' own levels while they are silent, and how many need them so.
_levels: list[int] = []
_silent = 0


def prepare_store(root: Path, uri: str | None = None) -> str:
    """The tracking URI of the store: ``uri``, or ``mlflow.db`` below ``root``, which is created if need be.

    MLflow's migrations crash when two processes run them on one fresh SQLite file, and leave one that cannot
    be opened when they are interrupted; here the first process creates the store, beside its place, while the
    others wait, see :func:`adapt.tracking.database.ensure`. A store whose folder was moved is told where its
    artifacts are now.

    Raises:
        AdaptError: SQLite cannot write there, or what is there holds something that this MLflow cannot open.
        mlflow.exceptions.MlflowException: MLflow cannot use the store.
    """
    own = uri is None
    if uri is None:
        uri = uri_of(root.resolve() / DATABASE)
    elif not uri.startswith("sqlite"):
        return uri
    load_mlflow()
    if (path := file_of(uri)) is None:
        return uri
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with silent(), _creating, _lock(path.with_name(f"{path.name}.lock")):
            ensure(path, uri, str(root.resolve() / ARTIFACTS) if own else f"./{ARTIFACTS}")
            _check_writable(path)
            from mlflow import MlflowClient

            MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
            if own:
                relocate(path, root.resolve() / ARTIFACTS)
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
        # Without a kind the UI asks what it is.
        tags = {"mlflow.experimentKind": "custom_model_development", **view_tag(int(time.time() * 1000))}
        location = None
        if artifacts is not None:
            location = (artifacts.resolve() / artifact_folder(name)).as_uri()
        try:
            return client.create_experiment(name, location, tags)
        except MlflowException:  # another process was faster
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    if lacks_view(found.tags):
        for key, view in view_tag(int(time.time() * 1000)).items():
            client.set_experiment_tag(found.experiment_id, key, view)
    return found.experiment_id


def artifact_folder(experiment: str) -> str:
    """The folder of an experiment's artifacts, below those of the store.

    Example:
        >>> artifact_folder("signs, 5-way & 10-way")
        'signs_5-way_10-way'
    """
    return re.sub(r"[^\w.-]+", "_", experiment).lstrip(".") or "_"  # no folder above, and none that is hidden


def ui_hint(settings: TrackingSettings, experiment_id: str, run_id: str) -> str:
    """How to see a run: a command for the terminal, or on a server the address of its page."""
    uri = settings.uri
    if uri is not None and uri.startswith("http"):
        return f"{uri.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}"
    if uri is None:
        path, here = Path(settings.root).resolve() / DATABASE, Path.cwd()
        uri = uri_of(path.relative_to(here) if path.is_relative_to(here) else path)
    return f"mlflow ui --backend-store-uri {shlex.quote(uri)}"


def load_mlflow() -> None:
    """Import MLflow, and set what it reads from the environment; what its import says is not for our users.

    In the main thread, since warnings are silenced for the whole process.

    Raises:
        ImportError: it is not installed.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if threading.current_thread() is not threading.main_thread():
        import mlflow
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import mlflow.store.tracking.sqlalchemy_store  # noqa: F401 (declares what is configured here)
            from sqlalchemy.orm import configure_mappers

            configure_mappers()


@contextmanager
def silent() -> Iterator[None]:
    """MLflow's log lines are not for our users; errors still raise. Any number of threads may be inside."""
    global _silent
    loggers = [logging.getLogger(name) for name in LOGGERS]
    with _silencing:
        if not _silent:
            _levels[:] = [logger.level for logger in loggers]
            for logger in loggers:
                logger.setLevel(logging.CRITICAL)
        _silent += 1
    try:
        yield
    finally:
        with _silencing:
            _silent -= 1
            if not _silent:
                for logger, level in zip(loggers, _levels, strict=True):
                    logger.setLevel(level)


@contextmanager
def quiet() -> Iterator[None]:
    """Use MLflow inside, in the main thread: neither its log lines nor its warnings are for our users."""
    load_mlflow()
    with warnings.catch_warnings(), silent():
        warnings.simplefilter("ignore")
        yield


def _check_writable(path: Path) -> None:
    """Ask SQLite before MLflow does, which would try for minutes to open what cannot be opened."""
    with closing(sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """One process at a time."""
    connection = exclusive(path, LOCK_SECONDS)
    if connection is None:
        raise sqlite3.OperationalError("another process has been creating the store for minutes")
    with closing(connection):
        yield
