"""``python -m adapt.tracking.sync [FOLDER …] [--uri URI]``: send what MLflow has not got yet.

A run whose server was slow or down leaves a journal in ``<run folder>/tracking``. This sends every such
journal below the folders (default: ``outputs``), as often as one likes: what was sent is not sent again.
A run that is still going on is left alone. A run whose process was killed becomes KILLED; if it is resumed
later, it goes on. A store in the working directory that was moved is put right.
Exit code 1: something remains.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adapt.tracking import trouble
from adapt.tracking.journal import FOLDER, JOURNAL, Journal
from adapt.tracking.replay import Player
from adapt.tracking.store import DATABASE, load_mlflow, prepare_store, silent
from tasks.readers.shown import plain

__all__ = ["Report", "main", "sync"]

#: Pauses between attempts at a store that is busy.
PAUSES = (1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Report:
    """What became of the journals below the folders.

    Attributes:
        sent: folders of journals of which MLflow has everything now, and had not before.
        running: folders of journals that a process still holds.
        remaining: folders of the others, with why they could not be sent.
        refused: what MLflow will never take, by folder of the journal; it counts as sent.
    """

    sent: tuple[Path, ...]
    running: tuple[Path, ...]
    remaining: dict[Path, str]
    refused: dict[Path, str]


def sync(folders: Sequence[Path], uri: str | None = None) -> Report:
    """Send all unfinished journals below ``folders``.

    Args:
        folders: of runs, or above them.
        uri: where to send them instead of where their runs wanted to; there they are sent as a whole.

    Raises:
        ImportError: MLflow is not installed.
    """
    load_mlflow()
    sent, running = list[Path](), list[Path]()
    remaining, refused = dict[Path, str](), dict[Path, str]()
    found = {path.parent for place in folders for path in place.rglob(JOURNAL) if FOLDER in path.parts}
    for folder in sorted(found):
        try:
            journal = Journal.found(folder)
        except (OSError, sqlite3.Error) as error:
            remaining[folder] = f"{folder / JOURNAL} cannot be read ({error}): mend it, or remove it"
            continue
        if journal is None:
            running.append(folder)
            continue
        if not journal.header:
            remaining[folder] = f"{folder / JOURNAL} is damaged: its first line cannot be read"
            journal.close()
        elif journal.complete:  # kept only so that its run can be resumed
            journal.close()
        else:
            player = Player(journal, uri)
            problem = _send(player)
            if problem is None:
                sent.append(folder)
                if player.refused is not None:
                    refused[folder] = player.refused
                journal.finish(resumable=journal.ending != "FINISHED" or journal.keep)
            else:
                remaining[folder] = problem
                journal.close()
    return Report(tuple(sent), tuple(running), remaining, refused)


def _send(player: Player) -> str | None:
    """Send everything; what went wrong, or None."""
    journal = player.journal
    if journal.ending is None:  # its process was killed: it was alive when it wrote last
        written = round(1000 * (journal.folder / JOURNAL).stat().st_mtime)
        journal.append({"do": "end", "run": "", "status": "KILLED", "time": written})
    pauses = [*PAUSES]
    while True:
        try:
            with silent():
                while player.step():
                    pass
            return None
        except Exception as error:
            if not pauses or not trouble.passing(error):
                return trouble.text(error)
            time.sleep(pauses.pop(0))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m adapt.tracking.sync", description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, help="of runs, or above them (default: outputs)")
    parser.add_argument("--uri", help="MLflow tracking URI instead of the one that the runs were sent to")
    options = parser.parse_args(arguments)
    if missing := [folder for folder in options.folders if not folder.is_dir()]:
        parser.error(f"{missing[0]} is not a folder: name those that hold runs")
    if Path(DATABASE).is_file():
        prepare_store(Path.cwd())  # tells a store that was moved where its artifacts are
    report = sync(options.folders or [Path("outputs")], options.uri)
    for folder, problem in report.remaining.items():
        print(plain(f"{folder}: not sent: {problem}"), file=sys.stderr)
    for folder, problem in report.refused.items():
        print(plain(f"{folder}: MLflow refused {problem}"), file=sys.stderr)
    print(f"{len(report.sent)} sent, {len(report.running)} still running, {len(report.remaining)} not sent")
    return 1 if report.remaining else 0


if __name__ == "__main__":
    sys.exit(main())
