"""A tracked run: opened before the work starts, so that a failure is visible; never the reason of one."""

from __future__ import annotations

import shlex
import sqlite3
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adapt.compare import Comparison
from adapt.compare.verdict import verdict
from adapt.interrupts import check, kind
from adapt.tracking import record, trouble
from adapt.tracking.journal import Journal, Operation
from adapt.tracking.replay import Player
from adapt.tracking.sender import Sender
from adapt.tracking.settings import DatasetInput, TrackingSettings
from adapt.tracking.store import load_mlflow, ui_hint
from adapt.tracking.system import SystemMetrics

__all__ = ["Run", "TrackingWarning", "track"]

#: How long who asks for MLflow's id of a run waits for it: a fresh store takes seconds, a server should not.
STORE_SECONDS, SERVER_SECONDS = 120.0, 10.0


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
    folder: Path | None = None,
    parent: str | None = None,
    keep: bool = False,
    run_id: str | None = None,
) -> Iterator[Run]:
    """Open a run called ``name``, do the work inside, close it.

    Everything is written to a journal first, in ``folder / "tracking"``, and sent to MLflow by a thread, so
    that no store and no server makes the work wait. If the journal of an interrupted run of that name is
    there, its MLflow run goes on. That of a finished run is removed when MLflow has everything, unless
    ``keep``.

    The run ends FINISHED, FAILED with ``traceback.txt`` if the work raised, or KILLED if it was interrupted;
    the exception goes on. Trouble with MLflow costs one :class:`TrackingWarning` at the end, not the work;
    ``python -m adapt.tracking.sync`` sends the rest later.

    Args:
        settings: where to record.
        name: of the experiment that is run.
        tags: searchable facts, such as backbone, task and device.
        config: resolved, nested; becomes parameters and ``config.yaml``.
        overrides: what the user typed on top of the defaults.
        datasets: what the run reads.
        folder: of the run's output; None: the journal is a temporary one, kept only if it could not be sent.
        parent: MLflow's id of the run that this one is part of.
        keep: the caller notes by itself whether a run is finished, and calls :func:`adapt.tracking.forget`
            when it is: until then its journal is kept, and its MLflow run goes on even if that had FINISHED.
        run_id: MLflow's id of the run that goes on, in case its journal is gone.
    """
    run = Run(settings, name, tags or {}, config or {}, datasets)
    try:
        run._open(lambda: run._start(overrides, folder, parent, keep, run_id))
        check()
        yield run
        check()  # what was swallowed on the way
    except BaseException as error:
        run._close("FAILED" if kind(error) is None else "KILLED", error)
        raise
    run._close("FINISHED", None)


class Run:
    """What :func:`track` yields. Every method returns at once, also when tracking is off or has failed.

    Attributes:
        resumed: whether an interrupted run goes on.
    """

    def __init__(
        self,
        settings: TrackingSettings,
        name: str,
        tags: Mapping[str, str],
        config: Mapping[str, Any],
        datasets: Sequence[DatasetInput],
    ) -> None:
        self.resumed = False
        self._settings, self._name, self._datasets = settings, name, datasets
        self._tags = {"experiment": name, **tags}
        self._config = config
        self._problem: str | None = None
        self._kept: Path | None = None  # the run's folder, if its journal could not be sent
        self._journal: Journal | None = None  # None: nothing is recorded (any more)
        self._player: Player | None = None
        self._sender: Sender | None = None
        self._system: SystemMetrics | None = None

    @property
    def run_id(self) -> str | None:
        """MLflow's id. It is waited for, at most some seconds; None if nothing is recorded, or nothing yet
        because of trouble with the store."""
        if self._sender is None:
            return None
        server = (self._settings.uri or "").startswith("http")
        return self._sender.wait_for_id(SERVER_SECONDS if server else STORE_SECONDS)

    @property
    def problem(self) -> str | None:
        """Why MLflow has not recorded something; None if there was no trouble so far."""
        if self._problem is None and self._sender is not None and self._sender.failure is not None:
            return trouble.text(self._sender.failure)
        return self._problem or (self._player.refused if self._player is not None else None)

    @property
    def ui_hint(self) -> str | None:
        """Command or address that shows this run in the MLflow UI; None if nothing was recorded."""
        if self._player is None or (run_id := self.run_id) is None:
            return None
        return ui_hint(self._settings, self._player.journal.state["experiment"], run_id)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Points of metric histories, sent in batches, at the latest when the run closes."""
        self._safely(lambda: [{"do": "metrics", "run": "", "points": record.points(metrics, step=step)}])

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Searchable facts that were not known at the start."""
        self._safely(lambda: [{"do": "tags", "run": "", "tags": {k: str(v) for k, v in tags.items()}}])

    def log_comparison(
        self,
        comparison: Comparison,
        *,
        files: Sequence[Path] = (),
        description: str | None = None,
        title: str = "",
    ) -> None:
        """The tree: a child run per method; on this run ``compare/…`` metrics, the files, and a description.

        A run that goes on, and had recorded its comparison already, does not record it again.

        Args:
            comparison: what was measured.
            files: ``comparison.json``, ``comparison.md``, figures …, as they are on disk.
            description: shown above the run; default: the verdict.
            title: begins the names of the children, before the method; empty: they are called as the methods.
        """

        def operations() -> Iterable[Operation]:
            if self._journal is None or "comparison" in self._journal.marks:
                return
            yield from record.comparison_operations(
                comparison,
                files=files,
                note=description or verdict(comparison),
                title=title,
                tags=self._tags,
                config=self._config,
                datasets=self._datasets,
            )
            yield {"do": "mark", "run": "", "name": "comparison"}

        self._safely(operations)

    def log_files(self, files: Sequence[Path]) -> None:
        """Upload files; figures go to ``figures/``."""
        self._safely(lambda: [{"do": "files", "run": "", "paths": [str(path.resolve()) for path in files]}])

    def log_model(self, folder: Path, registered_name: str | None = None) -> None:
        """Log the adapter in ``folder`` as a model, and make it a version of ``registered_name`` if given."""
        operation = {"do": "model", "run": "", "paths": [str(folder.resolve())], "name": registered_name}
        self._safely(lambda: [operation])

    def _open(self, start: Callable[[], None]) -> None:
        if self._settings.enabled:
            self._attempt(start)
        if self._journal is None:
            self._warn()

    def _start(
        self,
        overrides: Sequence[str],
        folder: Path | None,
        parent: str | None,
        keep: bool,
        run_id: str | None,
    ) -> None:
        load_mlflow()
        self._tags = {**record.source_tags(), **self._tags}
        header = {
            "uri": self._settings.uri,
            "root": str(Path(self._settings.root).resolve()),
            "experiment": self._settings.experiment or self._name,
            "name": self._name,
            "time": record.milliseconds(),
            "keep": keep,
            "tags": {**self._tags, **({"mlflow.parentRunId": parent} if parent else {})},
        }
        described = [*record.description(self._config, overrides, self._datasets)]
        described.append({"do": "mark", "run": "", "name": "described"})
        try:
            journal = Journal.start(folder, header, run_id)
        except (OSError, sqlite3.Error):  # nothing can be written, or locked, in the run's folder
            journal = Journal.start(None, header, run_id)
        self.resumed = bool(journal.state["position"] or journal.state["runs"]) or len(journal.read(0, 2)) > 1
        if self.resumed:
            journal.append({"do": "reopen", "run": ""})
        for operation in described if "described" not in journal.marks else []:
            journal.append(operation)
        self._journal, self._player = journal, Player(journal)
        self._sender = Sender(self._player)
        self._sender.start()
        if self._settings.system_metrics_seconds is not None:
            self._system = SystemMetrics(self.log_metrics, self._settings.system_metrics_seconds)
            self._system.start()

    def _close(self, status: str, error: BaseException | None) -> None:
        if self._system is not None:
            self._system.stop()
        if error is not None:
            text = "".join(traceback.format_exception(error))
            self._safely(lambda: [{"do": "text", "run": "", "content": text, "path": "traceback.txt"}])
        self._safely(lambda: [{"do": "end", "run": "", "status": status, "time": record.milliseconds()}])
        if self._journal is not None:
            self._attempt(lambda: self._finish(resumable=status != "FINISHED"))
            self._warn()

    def _finish(self, *, resumable: bool) -> None:
        journal, self._journal = self._journal, None
        if journal is None:
            return
        if self._sender is None:  # interrupted before it began
            journal.close()
            return
        if self._sender.close(self._settings.wait_seconds):
            journal.finish(resumable=resumable or journal.keep)
            return
        self._problem = self.problem or "the server is too slow"
        self._kept = journal.folder.parent
        journal.keep_files()
        if self._sender.done:
            journal.close()

    def _safely(self, operations: Callable[[], Iterable[Operation]]) -> None:
        """Append to the journal, if anything is recorded."""

        def append() -> None:
            for operation in operations():
                if self._journal is not None and self._sender is not None:
                    self._journal.append(operation)
                    self._sender.notify(urgent=operation["do"] != "metrics")

        if self._journal is not None:
            self._attempt(append)

    def _attempt(self, action: Callable[[], object]) -> None:
        """The one place where tracking meets the work: nothing that goes wrong here gets past it."""
        try:
            action()
        except Exception as error:
            self._problem = self._problem or trouble.text(error)

    def _warn(self) -> None:
        """Say what is missing, if anything is, and how to send it if it was kept."""
        problem, kept = self.problem, self._kept
        if problem is None:
            return
        send = f"`python -m adapt.tracking.sync {kept and shlex.quote(str(kept))}`"
        then = f"What is missing was kept: {send} sends it." if kept else ""
        with warnings.catch_warnings():
            # `-W error` must not end the work
            warnings.simplefilter("always", TrackingWarning)
            warnings.warn(
                f"MLflow has not recorded all of this run: {problem}. The run itself goes on and writes its "
                f"results to its folder as always; tracking=none runs without MLflow. {then}".rstrip(),
                TrackingWarning,
                stacklevel=2,
            )
