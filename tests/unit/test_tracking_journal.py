"""The journal of a run on disk, and the addresses of a store that was moved."""

from __future__ import annotations

import json
import math
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from adapt.tracking.journal import Journal, Operation
from adapt.tracking.locks import exclusive
from adapt.tracking.relocate import relocate
from adapt.tracking.replay import _merged
from tests.tracked import HEADER

Start = Callable[..., Journal]


@pytest.fixture
def start() -> Iterator[Callable[..., Journal]]:
    """``Journal.start``, closed after the test."""
    with ExitStack() as stack:
        yield lambda folder, header=HEADER: stack.enter_context(closing(Journal.start(folder, header)))


def metric(step: int, run: str = "") -> dict[str, Any]:
    return {"do": "metrics", "run": run, "points": [["loss", float(step), 0, step]]}


def test_what_is_appended_is_read_in_order_with_its_positions(start: Start, tmp_path: Path) -> None:
    journal = start(tmp_path)
    written = [metric(0), {"do": "text", "run": "", "content": "é\n \ud800", "path": "a"}, metric(1)]
    for operation in written:
        journal.append(operation)
    found = journal.read(0, 100)
    assert [operation for operation, _ in found[1:]] == written
    assert found[-1][1] == journal.size
    assert [operation for operation, _ in journal.read(found[1][1], 1)] == [written[1]]
    assert journal.read(journal.size, 9) == []
    journal.append(metric(math.nan))  # type: ignore[arg-type]
    assert math.isnan(journal.operations()[-1]["points"][0][1])


def test_half_a_line_is_dropped_and_a_damaged_one_is_named(start: Start, tmp_path: Path) -> None:
    journal = start(tmp_path)
    journal.append(metric(0))
    journal.close()
    path = tmp_path / "tracking" / "journal.jsonl"
    with path.open("ab") as file:
        file.write(b'nonsense\n{"do":"metr')
    again = start(tmp_path)
    again.append(metric(1))
    assert [operation["do"] for operation in again.operations()] == ["open", "metrics", "damaged", "metrics"]


def test_threads_append_whole_lines(start: Start, tmp_path: Path) -> None:
    journal = start(tmp_path)

    def work(run: str) -> None:
        for step in range(200):
            journal.append(metric(step, run))

    threads = [threading.Thread(target=work, args=(run,)) for run in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = journal.operations()[1:]
    for run in "abcd":
        assert [o["points"][0][3] for o in found if o["run"] == run] == list(range(200))


def test_a_journal_belongs_to_one_process(start: Start, tmp_path: Path) -> None:
    journal = start(tmp_path)
    folder = tmp_path / "tracking"
    assert Journal.found(folder) is None
    program = "import sys; from pathlib import Path; from adapt.tracking.journal import Journal\n"
    program += "sys.exit(Journal.found(Path(sys.argv[1])) is None)"
    assert subprocess.run([sys.executable, "-c", program, str(folder)]).returncode == 1
    journal.close()
    lock = exclusive(folder / "lock", 0.0)
    assert lock is not None
    lock.close()


def test_an_unfinished_journal_goes_on_and_another_one_is_put_aside(start: Start, tmp_path: Path) -> None:
    first = start(tmp_path)
    first.append({"do": "mark", "run": "", "name": "described"})
    first.close()
    again = start(tmp_path, {**HEADER, "time": 5})
    assert again.header["journal"] == first.header["journal"]
    assert again.marks == {"described"}
    again.close()
    other = start(tmp_path, {**HEADER, "name": "other"})
    assert other.header["journal"] != first.header["journal"]
    (aside,) = (tmp_path / "tracking").glob("*/journal.jsonl")
    assert json.loads(aside.read_text().splitlines()[0])["journal"] == first.header["journal"]
    assert (other.size, other.marks) == (len(json.dumps(other.header, separators=(",", ":"))) + 1, set())


def test_an_ending_counts_until_the_run_goes_on(start: Start, tmp_path: Path) -> None:
    journal = start(tmp_path)
    steps: list[tuple[Operation, str | None]] = [
        ({"do": "metrics", "run": "", "points": []}, None),
        ({"do": "end", "run": "method:head", "status": "FINISHED"}, None),  # that is a child
        ({"do": "end", "run": "", "status": "KILLED"}, "KILLED"),
        ({"do": "text", "run": ""}, "KILLED"),
        ({"do": "reopen", "run": ""}, None),
    ]
    for operation, ending in steps:
        journal.append(operation)
        assert (journal.ending, journal.complete) == (ending, False)
    journal.state.update(position=journal.size, over=True, status="FAILED")
    assert (journal.ending, journal.complete) == ("FAILED", True)


def test_files_are_found_where_they_are_now_or_as_copies(start: Start, tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    other.mkdir()
    (other / "adapter").mkdir()
    (other / "adapter" / "a.json").write_text("1")
    journal = start(run)
    (run / "figure.png").write_text("2")
    inside, outside = str(run / "figure.png"), str(other / "adapter")
    journal.append({"do": "files", "run": "", "paths": [inside, outside, str(other / "missing")]})
    journal.keep_files()
    journal.close()
    assert len(list((run / "tracking" / "files").iterdir())) == 1, "what is in the run's folder stays there"
    (other / "adapter" / "a.json").write_text("changed")
    run.rename(tmp_path / "moved")
    found = Journal.found(tmp_path / "moved" / "tracking")
    assert found is not None
    found.close()
    assert found.file(inside).read_text() == "2"
    assert (found.file(outside) / "a.json").read_text() == "1"


def test_the_store_is_found_where_it_was_moved_to_with_the_run(start: Start, tmp_path: Path) -> None:
    old = tmp_path / "old"
    journal = start(old / "outputs" / "run", {**HEADER, "root": str(old)})
    assert journal.root == old
    journal.close()
    old.rename(tmp_path / "new")
    found = Journal.found(tmp_path / "new" / "outputs" / "run" / "tracking")
    assert found is not None
    found.close()
    assert found.root == tmp_path / "new"


def test_metrics_that_follow_each_other_are_sent_at_once() -> None:
    ahead = [(metric(step), step + 1) for step in range(3)]
    merged, position = _merged([*ahead, ({"do": "end", "run": ""}, 9), (metric(4), 10)])
    assert (position, [point[3] for point in merged["points"]]) == (3, [0, 1, 2])
    merged, position = _merged([*ahead, (metric(7, "method:head"), 8)])
    assert position == 3, "of one run only"
    merged, position = _merged([(metric(step), step + 1) for step in range(1500)])
    assert (position, len(merged["points"])) == (1000, 1000), "what MLflow takes in one call"


def test_addresses_of_a_moved_store(tmp_path: Path) -> None:
    database, artifacts = tmp_path / "mlflow.db", tmp_path / "mlruns"
    old = "file:///gone/my%20work/mlruns"
    rows = [
        (0, "file:///gone/mlruns/0"),
        (1, f"{old}/toy"),
        (2, "s3://bucket/mlruns/x"),
        (3, "file:///gone/data/x"),
    ]
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE experiments (experiment_id INTEGER, artifact_location TEXT)")
        connection.execute("CREATE TABLE runs (artifact_uri TEXT)")
        connection.execute("CREATE TABLE model_versions (source TEXT)")
        connection.executemany("INSERT INTO experiments VALUES (?, ?)", rows)
        uris = [f"{old}/toy/a/artifacts", f"{old}2/toy/a", "s3://bucket/mlruns/x/a"]
        connection.executemany("INSERT INTO runs VALUES (?)", [(uri,) for uri in uris])
        connection.executemany(
            "INSERT INTO model_versions VALUES (?)", [(f"{old}/toy/models/m",), ("models:/m",)]
        )
    assert relocate(database, artifacts) == 3
    assert relocate(database, artifacts) == 0
    new = artifacts.as_uri()
    with closing(sqlite3.connect(database)) as connection:
        found = [row[0] for row in connection.execute("SELECT artifact_location FROM experiments")]
        assert found == [rows[0][1], f"{new}/toy", rows[2][1], rows[3][1]]
        assert [row[0] for row in connection.execute("SELECT artifact_uri FROM runs")] == [
            f"{new}/toy/a/artifacts",
            *uris[1:],
        ]
        assert [row[0] for row in connection.execute("SELECT source FROM model_versions")] == [
            f"{new}/toy/models/m",
            "models:/m",
        ]


def test_an_experiment_elsewhere_stays_there_but_that_of_a_copied_store_does_not(
    tmp_path: Path,
) -> None:
    database, artifacts, other = tmp_path / "mlflow.db", tmp_path / "mlruns", tmp_path / "other" / "mlruns"
    other.mkdir(parents=True)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE experiments (experiment_id INTEGER, artifact_location TEXT)")
        connection.execute("INSERT INTO experiments VALUES (1, ?)", (f"{other.as_uri()}/toy",))
    assert relocate(database, artifacts) == 0
    (artifacts / "toy").mkdir(parents=True)
    assert relocate(database, artifacts) == 1


def test_what_is_left_of_a_journal_that_was_sent(start: Start, tmp_path: Path) -> None:
    start(tmp_path / "finished").finish(resumable=False)
    assert list((tmp_path / "finished").iterdir()) == []
    killed = start(tmp_path / "killed")
    killed.append(metric(0))
    killed.state.update(over=True, status="KILLED")
    killed.finish(resumable=True)
    again = start(tmp_path / "killed")
    assert (again.operations(), again.complete) == ([killed.header], True)
    temporary = start(None)
    temporary.finish(resumable=True)
    assert not temporary.folder.parent.exists()


def test_a_finished_run_that_was_not_sent_is_neither_gone_on_with_nor_lost(
    start: Start, tmp_path: Path
) -> None:
    first = start(tmp_path)
    first.append({"do": "end", "run": "", "status": "FINISHED"})
    first.close()
    second = start(tmp_path)
    assert second.header["journal"] != first.header["journal"]
    second.finish(resumable=False)
    (left,) = tmp_path.rglob("journal.jsonl")
    assert json.loads(left.read_text().splitlines()[0])["journal"] == first.header["journal"]
