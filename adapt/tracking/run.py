"""A tracked run: opened before the work starts, so that a failure is visible; never the reason of one."""

from __future__ import annotations

import textwrap
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapt.compare import Comparison
from adapt.compare.verdict import verdict
from adapt.tracking import log
from adapt.tracking.params import clean_key, flatten, plain
from adapt.tracking.settings import DatasetInput, TrackingSettings
from adapt.tracking.store import open_experiment, prepare_store, quiet, ui_hint

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["Run", "TrackingWarning", "track"]

#: Metrics wait until there are so many of them, or for so many seconds.
BUFFER = 500
BUFFER_SECONDS = 10.0
#: An error of MLflow may quote a whole web page.
PROBLEM_LENGTH = 300


class TrackingWarning(UserWarning):
    """MLflow could not record (all of) a run; the work itself goes on."""


@contextmanager
def track(
    settings: TrackingSettings,
    name: str,
    *,
    tags: Mapping[str, str] | None = None,
    config: Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    datasets: Sequence[DatasetInput] = (),
) -> Iterator[Run]:
    """Open a run called ``name``, do the work inside, close it.

    The run ends FINISHED, FAILED with ``traceback.txt`` if the work raised, or KILLED if it was interrupted;
    the exception goes on. Trouble with MLflow ends the tracking with one :class:`TrackingWarning`, not the
    work.

    Args:
        settings: where to record.
        name: of the experiment that is run.
        tags: searchable facts, such as backbone, task and device.
        config: resolved, nested; becomes parameters and ``config.yaml``.
        overrides: what the user typed on top of the defaults.
        datasets: what the run reads.
    """
    run = Run(settings, name, tags or {}, config or {}, datasets)
    run._open(overrides)
    try:
        yield run
    except KeyboardInterrupt as error:
        run._close("KILLED", error)
        raise
    except BaseException as error:
        run._close("FAILED", error)
        raise
    run._close("FINISHED", None)


class Run:
    """What :func:`track` yields. Every method returns at once when tracking is off or has failed.

    Attributes:
        run_id: MLflow's id, None if nothing is recorded.
        problem: why tracking stopped, None if it did not.
    """

    def __init__(
        self,
        settings: TrackingSettings,
        name: str,
        tags: Mapping[str, str],
        config: Mapping[str, Any],
        datasets: Sequence[DatasetInput],
    ) -> None:
        self.run_id: str | None = None
        self.problem: str | None = None
        self._settings, self._name, self._datasets = settings, name, datasets
        self._tags = {"experiment": name, **tags}
        self._config = config
        self._client: MlflowClient | None = None
        self._experiment_id = ""
        self._waiting: list[log.Point] = []
        self._flushed = time.monotonic()

    @property
    def ui_hint(self) -> str | None:
        """Command or address that shows this run in the MLflow UI; None if nothing was recorded."""
        return self.run_id and ui_hint(self._settings, self._experiment_id, self.run_id)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Points of metric histories, buffered: written in batches, at the latest when the run closes."""
        now = log.milliseconds()

        def buffer(client: MlflowClient, run_id: str) -> None:
            self._waiting += [(clean_key(key), float(value), now, step) for key, value in metrics.items()]
            if len(self._waiting) >= BUFFER or time.monotonic() - self._flushed > BUFFER_SECONDS:
                self._flush(client, run_id)

        self._safely(buffer)

    def log_comparison(
        self, comparison: Comparison, *, files: Sequence[Path] = (), description: str | None = None
    ) -> None:
        """The tree: a child run per method; on this run ``compare/…`` metrics, the files, and a description.

        Args:
            comparison: what was measured.
            files: ``comparison.json``, ``comparison.md``, figures …, as they are on disk.
            description: shown above the run; default: the verdict.
        """

        def write(client: MlflowClient, run_id: str) -> None:
            found = {"device": comparison.device, "seed": str(comparison.seed)}
            note = {"mlflow.note.content": description or verdict(comparison)}
            log.log_batches(client, run_id, metrics=log.points(comparison.metrics()), tags={**found, **note})
            log.log_files(client, run_id, files)
            shared = {**self._tags, **found}
            log.log_children(client, run_id, comparison, shared, self._config, self._datasets)

        self._safely(write)

    def log_files(self, files: Sequence[Path]) -> None:
        """Upload files; figures go to ``figures/``."""
        self._safely(lambda client, run_id: log.log_files(client, run_id, files))

    def _open(self, overrides: Sequence[str]) -> None:
        if self._settings.enabled:
            self._attempt(self._create)
        self._safely(lambda client, run_id: self._describe(client, run_id, overrides))

    def _create(self) -> None:
        from mlflow import MlflowClient

        root = Path(self._settings.root)
        uri = prepare_store(root, self._settings.uri)
        self._client = MlflowClient(tracking_uri=uri)
        artifacts = root / "mlruns" if uri.startswith("sqlite:") else None
        experiment = self._settings.experiment or self._name
        self._experiment_id = open_experiment(self._client, experiment, artifacts)
        self._tags = {**log.source_tags(), **self._tags}
        run = self._client.create_run(self._experiment_id, tags=self._tags, run_name=self._name)
        self.run_id = run.info.run_id

    def _describe(self, client: MlflowClient, run_id: str, overrides: Sequence[str]) -> None:
        """How to repeat the run: written before the work, so that a failed run has it too."""
        tags = {"overrides": " ".join(overrides)} if overrides else {}
        log.log_batches(client, run_id, params=flatten(self._config), tags=tags)
        log.log_inputs(client, run_id, self._datasets)
        client.log_dict(run_id, plain(self._config), "config.yaml")
        client.log_text(run_id, "".join(f"{override}\n" for override in overrides), "overrides.txt")
        client.log_text(run_id, log.packages(), "packages.txt")

    def _flush(self, client: MlflowClient, run_id: str) -> None:
        waiting, self._waiting, self._flushed = self._waiting, [], time.monotonic()
        log.log_batches(client, run_id, metrics=waiting)

    def _close(self, status: str, error: BaseException | None) -> None:
        self._safely(self._flush)
        if error is not None:
            text = "".join(traceback.format_exception(error))
            self._safely(lambda client, run_id: client.log_text(run_id, text, "traceback.txt"))
        client, run_id, problem = self._client, self.run_id, self.problem
        if client is None or run_id is None:
            return

        def terminate() -> None:
            if problem is not None:
                client.set_tag(run_id, "tracking_problem", problem)
            client.set_terminated(run_id, status)

        # Also after a problem: a run that is over must not look as if it were still running.
        self._attempt(terminate)

    def _safely(self, write: Callable[[MlflowClient, str], object]) -> None:
        """Write to the run if there is one and tracking has not failed before."""
        client, run_id = self._client, self.run_id
        if client is not None and run_id is not None and self.problem is None:
            self._attempt(lambda: write(client, run_id))

    def _attempt(self, action: Callable[[], object]) -> None:
        """The one place where tracking meets the work: nothing that goes wrong here gets past it."""
        try:
            with quiet():
                action()
        except Exception as error:
            if self.problem is not None:
                return
            reason = f"{type(error).__name__}: {error}"
            self.problem = textwrap.shorten(reason, PROBLEM_LENGTH, placeholder=" …")
            with warnings.catch_warnings():
                # `-W error` must not end the work
                warnings.simplefilter("always", TrackingWarning)
                warnings.warn(
                    f"MLflow stopped recording this run: {self.problem}. The run itself goes on and "
                    "writes its results to its folder as always; tracking=none runs without MLflow.",
                    TrackingWarning,
                    stacklevel=2,
                )
