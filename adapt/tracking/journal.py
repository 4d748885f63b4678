"""The journal of a run: everything it records, on disk before MLflow hears of it.

``<run folder>/tracking/`` holds ``journal.jsonl`` (one operation per line, appended), ``state.json`` (how far
MLflow has got, replaced atomically), ``files/`` (copies of what was not sent, if the run's end left any) and
``lock`` (held while a process writes or sends). A killed process leaves all of it, with half a line at the
end at worst.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sqlite3
import tempfile
import threading
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from adapt.errors import AdaptError
from adapt.files import sweep, write_text
from adapt.tracking.locks import exclusive
from adapt.tracking.written import operation_of, state_of
from tasks.readers.regular import regular_file

__all__ = ["FOLDER", "JOURNAL", "JOURNAL_TAG", "Journal", "Operation", "forget", "left"]

FOLDER, JOURNAL, STATE, LOCK, FILES = "tracking", "journal.jsonl", "state.json", "lock", "files"
#: Of which journal, and which of its runs, an MLflow run is: found by it if its id was not noted in time.
JOURNAL_TAG = "adapt.journal"

#: Bytes that are searched at once.
CHUNK = 1 << 16
#: What a state begins with, its lists by their kind.
BEGINS: dict[str, Any] = {"position": 0, "over": False, "status": None, "experiment": "", "problem": False}
LISTS: dict[str, Any] = {"runs": dict, "ended": list, "marks": list, "refused": list}

#: ``do`` says what, ``run`` to which of its runs ("" is the run itself); the rest depends on ``do``.
Operation = dict[str, Any]


class Journal:
    """Operations of one run, appended by any thread and read by whoever sends them.

    Attributes:
        folder: where it is.
        header: its first operation: id of the journal, where to send it, how to create the run.
        state: ``position`` (bytes that MLflow has), ``over`` and ``status`` (of the run's end),
            ``experiment`` and ``runs`` (MLflow's ids; of runs by our names), ``ended`` (names of runs that
            have ended), ``marks``, ``refused`` (what MLflow did not take), ``problem`` (a tag says so),
            ``look`` (MLflow may have runs that are not in ``runs``); written by :meth:`save`.
    """

    def __init__(self, folder: Path, lock: sqlite3.Connection | None) -> None:
        """Open what is in ``folder``, which holds a journal; half a line at its end is dropped."""
        self.folder = folder
        self._lock, self._writing = lock, threading.Lock()
        self._own = set[str]()  # paths that this process has named
        path = regular_file(folder / JOURNAL)  # to open a pipe would wait for its other end
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 (until close)
        self._file.truncate(_whole(path))
        found = self.read(0, 1)
        self.header: Operation = found[0][0] if found and found[0][0]["do"] == "open" else {}
        self.state = _state()
        known = state_of(folder / STATE)
        # Without it nobody knows what was sent; with it everything was sent of a journal that is shorter now.
        self.state |= {"look": len(self.read(0, 2)) > 1} if known is None else known
        self.state["position"] = min(self.state["position"], self.size)

    @classmethod
    def start(cls, run_folder: Path | None, header: Mapping[str, Any], run_id: str | None = None) -> Journal:
        """The journal of a run that begins, or goes on if it was interrupted there.

        Args:
            run_folder: the run's output folder; None: a temporary one.
            header: an earlier journal goes on only if it has the same ``experiment``, ``name`` and ``uri``,
                and one that ends FINISHED only if ``keep`` is true: then it is left, whatever its end, until
                :func:`forget` says that the run is over.
            run_id: MLflow's, of the run that goes on if there is no journal of it any more.

        Raises:
            OSError: nothing can be written there.
        """
        temporary = run_folder is None
        folder = (Path(tempfile.mkdtemp(prefix="adapt-")) if run_folder is None else run_folder) / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        lock = exclusive(folder / LOCK, 5.0)
        if lock is None:  # another process records a run into the same folder
            return cls.start(None, header)
        try:
            return cls._started(folder, lock, header, run_id, temporary)
        except BaseException:
            lock.close()
            raise

    @classmethod
    def _started(
        cls,
        folder: Path,
        lock: sqlite3.Connection,
        header: Mapping[str, Any],
        run_id: str | None,
        temporary: bool,
    ) -> Journal:
        if (folder / JOURNAL).exists():
            earlier = cls(folder, lock)
            same = all(earlier.header.get(key) == header[key] for key in ("experiment", "name", "uri"))
            if same and (header.get("keep") or earlier.ending != "FINISHED"):
                return earlier
            earlier.put_aside()
        run_folder = folder.parent.resolve()
        first = {"do": "open", "run": "", "journal": uuid.uuid4().hex, "folder": str(run_folder), **header}
        first |= {"beside": os.path.relpath(header["root"], run_folder), "temporary": temporary}
        (folder / STATE).unlink(missing_ok=True)  # of a journal that was being removed
        write_text(folder / JOURNAL, _line(first).decode())
        journal = cls(folder, lock)
        if run_id is not None:
            journal.state |= {"runs": {"": run_id}, "adopted": True}
        return journal

    @classmethod
    def found(cls, folder: Path) -> Journal | None:
        """The journal in ``folder``, to be sent; None while a process still holds it."""
        lock = exclusive(folder / LOCK, 0.0)
        return None if lock is None else cls(folder, lock)

    @property
    def size(self) -> int:
        """Bytes; ``state["position"]`` is there when MLflow has everything."""
        return (self.folder / JOURNAL).stat().st_size

    @property
    def complete(self) -> bool:
        """Whether the run is over and MLflow has everything."""
        return self.ending is not None and bool(self.state["position"] >= self.size)

    @property
    def ending(self) -> str | None:
        """How the run has ended, if it has, and has not gone on since: FINISHED, FAILED or KILLED."""
        status: str | None = self.state["status"] if self.state["over"] else None
        for operation, _ in self.read(self.state["position"], self.size):
            if operation["run"] == "" and operation["do"] in ("end", "reopen"):
                status = operation["status"] if operation["do"] == "end" else None
        return status

    @property
    def keep(self) -> bool:
        """Whether it is to be left when the run has finished, since its process may die before it says so."""
        return bool(self.header.get("keep")) and not self.state.get("released")

    @property
    def root(self) -> Path:
        """Folder of the MLflow store, also if it was moved together with the run's folder."""
        root = Path(self.header.get("root", "."))
        beside = self.folder.parent / self.header.get("beside", ".")
        return beside.resolve() if not root.exists() and beside.exists() else root

    @property
    def marks(self) -> set[str]:
        """What the run has recorded as a whole: it need not be recorded again when the run goes on."""
        unsent = self.read(self.state["position"], self.size)
        marks = {operation["name"] for operation, _ in unsent if operation["do"] == "mark"}
        return {*self.state["marks"], *marks}

    def append(self, operation: Operation) -> None:
        """Write one operation, whole or not at all; what it took is a few microseconds.

        Raises:
            OSError: the disk is full, say.
        """
        line = _line(operation)
        self._own.update(operation.get("paths", ()))
        with self._writing:
            start = os.fstat(self._file.fileno()).st_size
            if self._file.write(line) != len(line):
                self._file.truncate(start)
                raise OSError(f"{self.folder / JOURNAL} cannot be written: the disk is full")

    def read(self, position: int, most: int) -> list[tuple[Operation, int]]:
        """Up to ``most`` whole operations from ``position`` (bytes) on, each with the position after it."""
        operations: list[tuple[Operation, int]] = []
        with open(self.folder / JOURNAL, "rb") as file:
            file.seek(position)
            for line in file:
                if len(operations) == most or not line.endswith(b"\n"):
                    break
                position += len(line)
                operations.append((operation_of(line), position))
        return operations

    def operations(self) -> list[Operation]:
        """Everything that is there, sent or not."""
        return [operation for operation, _ in self.read(0, self.size)]

    def save(self) -> None:
        """Write :attr:`state`, so that another process could go on from here."""
        write_text(self.folder / STATE, json.dumps(self.state))

    def file(self, path: str) -> Path:
        """Where the file or folder that an operation calls ``path`` is now.

        Raises:
            AdaptError: it is neither of this process nor in the run's folder. Somebody else may have written
                the journal, and files are sent to where it says.
        """
        copied, found = self.folder / FILES / _short(path), Path(path)
        inside = Path(self.header.get("folder", "/nowhere"))
        if copied.exists():
            found = copied
        elif not found.exists() and found.is_relative_to(inside):  # the run's folder was moved
            found = self.folder.parent / found.relative_to(inside)
        if not self._may_send(path, found):
            raise AdaptError(f"{path} is neither in the folder of its run nor in the working directory")
        return found

    def _may_send(self, path: str, found: Path) -> bool:
        places = (self.folder.parent.resolve(), Path.cwd())
        # A folder is sent with what links in it lead to.
        files = (found, *found.rglob("*"))
        return path in self._own or all(
            any(file.resolve().is_relative_to(place) for place in places) for file in files
        )

    def keep_files(self) -> None:
        """Copy what unsent operations refer to outside of the run's folder: it may be gone by then."""
        for operation, _ in self.read(self.state["position"], self.size):
            for path in operation.get("paths", ()):
                source, copied = Path(path), self.folder / FILES / _short(path)
                inside = source.is_relative_to(self.folder.parent.resolve())
                if inside or copied.exists() or not source.exists() or not self._may_send(path, source):
                    continue
                copied.parent.mkdir(parents=True, exist_ok=True)
                (shutil.copytree if source.is_dir() else shutil.copy2)(source, copied)

    def finish(self, *, resumable: bool) -> None:
        """MLflow has everything: close the journal, and remove what a run that goes on does not need."""
        if resumable and not self.header.get("temporary"):
            head = _line(self.header)
            self.state["position"] = len(head)
            self._file.truncate(len(head))
            self.save()
            shutil.rmtree(self.folder / FILES, ignore_errors=True)
            self.close()
            return
        self.close()
        shutil.rmtree(self.folder / FILES, ignore_errors=True)
        for name in (JOURNAL, STATE, LOCK):
            (self.folder / name).unlink(missing_ok=True)
            sweep(self.folder, name, 0.0)  # nobody else has written here
        with suppress(OSError):  # the journal of an earlier run may be there
            self.folder.rmdir()
            if self.header.get("temporary"):
                self.folder.parent.rmdir()

    def close(self) -> None:
        """Release file and lock; what is on disk stays."""
        self._file.close()
        if self._lock is not None:
            self._lock.close()

    def put_aside(self) -> None:
        """Make room for the journal of another run; an incomplete one is kept where `sync` finds it."""
        complete, journal = self.complete, self.header.get("journal", uuid.uuid4().hex)
        self._file.close()
        aside = self.folder / ("earlier-" + re.sub(r"\W", "_", str(journal))[:8])
        for name in (JOURNAL, STATE, FILES):
            if (self.folder / name).exists():
                aside.mkdir(exist_ok=True)
                (self.folder / name).rename(aside / name)
        if complete:
            shutil.rmtree(aside)


def left(run_folder: Path) -> bool:
    """Whether there is a journal of a run in its folder."""
    return (run_folder / FOLDER / JOURNAL).is_file()


def forget(run_folder: Path) -> bool:
    """A run is over, and noted to be: remove its journal, or let who sends the rest of it remove it.

    Returns:
        Whether none is left.
    """
    if not left(run_folder):
        return True
    with suppress(OSError, sqlite3.Error):
        journal = Journal.found(run_folder / FOLDER)
        if journal is not None and journal.complete:
            journal.finish(resumable=False)
            return True
        if journal is not None:
            journal.state["released"] = True
            journal.save()
            journal.close()
    return False


def _state() -> dict[str, Any]:
    return {**BEGINS, **{key: kind() for key, kind in LISTS.items()}}


def _whole(path: Path) -> int:
    """Bytes of the lines that have an end; looked for from the end, since a journal may be long."""
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - CHUNK)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0


def _line(operation: Mapping[str, Any]) -> bytes:
    return json.dumps(operation, separators=(",", ":")).encode() + b"\n"


def _short(path: str) -> str:
    """A name for the copy of a file; the end stays, since MLflow shows it and its suffix says what it is."""
    return f"{hashlib.sha256(path.encode()).hexdigest()[:12]}/{Path(path).name}"
