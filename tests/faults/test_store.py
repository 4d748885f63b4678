"""The MLflow store when whoever makes it dies on the way: it is made anew, and nothing recorded is lost."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from adapt.errors import AdaptError
from adapt.tracking import database, prepare_store, track
from tests.processes import Process
from tests.tracked import runs, settings

mlflow = pytest.importorskip("mlflow")
if sys.platform == "win32":
    pytest.skip("kills what it forks", allow_module_level=True)

#: MLflow on its own, as `mlflow ui` starts; it dies when it has sent so many statements.
MLFLOW = """
import os, signal, sys
import sqlalchemy
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
left = int(sys.argv[2])
@sqlalchemy.event.listens_for(sqlalchemy.engine.Engine, "before_cursor_execute")
def count(*_):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
SqlAlchemyStore(f"sqlite:///{sys.argv[1]}", "./mlruns")
"""
OURS = "from pathlib import Path; from adapt.tracking import prepare_store; prepare_store(Path.cwd())"
NAME, ASIDE = "mlflow.db", "mlflow.db.half-made-1"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "STILL_SECONDS", 0.05)


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch, empty_store: Path) -> list[Path]:
    """Stores are copies of an empty one, which saves seconds; the paths that were made."""
    made = list[Path]()

    def copy(path: Path, *_: object) -> None:
        made.append(path)
        shutil.copyfile(empty_store / NAME, path)

    monkeypatch.setattr(database, "_make", copy)
    return made


@pytest.fixture
def store(tmp_path: Path, empty_store: Path) -> Path:
    shutil.copyfile(empty_store / NAME, tmp_path / NAME)
    return tmp_path / NAME


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def works(uri: str) -> None:
    with track(settings(uri=uri), "works") as run:
        run.log_metrics({"a": 1.0})
    assert run.problem is None
    (found,) = runs(mlflow.MlflowClient(tracking_uri=uri), "works")
    assert (found.info.status, found.data.metrics) == ("FINISHED", {"a": 1.0})


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")} - {"mlruns"}


# ------------------------------------------------------------------------------------------------- killed


def test_a_process_that_is_killed_while_it_makes_the_store_leaves_none(
    tmp_path: Path, copied: list[Path]
) -> None:
    process = Process(["-c", OURS], tmp_path)
    half = list[Path]()
    while not half or half[0].stat().st_size < 100_000:
        half = [path for path in tmp_path.glob(f".{NAME}.new-*") if "-journal" not in path.name]
        assert process.poll(0.001) is None, process.said
    process.send(signal.SIGKILL)
    assert process.wait(60).returncode == -signal.SIGKILL
    assert not (tmp_path / NAME).exists() and half[0].exists()

    works(prepare_store(tmp_path))
    assert len(copied) == 1 and names(tmp_path) == {NAME}, "what was left is swept away"


@pytest.mark.parametrize("statements", [30, 800])
def test_what_an_mlflow_that_was_killed_left_is_put_aside(
    statements: int, tmp_path: Path, copied: list[Path]
) -> None:
    killed = Process(["-c", MLFLOW, str(tmp_path / NAME), str(statements)], tmp_path).wait(120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    half = (tmp_path / NAME).read_bytes()
    assert half

    works(prepare_store(tmp_path))
    assert {NAME, ASIDE} <= names(tmp_path) <= {NAME, ASIDE, f"{ASIDE}-journal"}
    assert (tmp_path / ASIDE).stat().st_size
    prepare_store(tmp_path)
    assert len(copied) == 1


def test_an_error_on_the_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, *_: object) -> None:
        path.write_text("half")
        raise OSError("the disk is full")

    monkeypatch.setattr(database, "_make", fail)
    with pytest.raises(AdaptError, match=r"cannot be written \(the disk is full\): set tracking\.root"):
        prepare_store(tmp_path)
    assert names(tmp_path) == set()


# ---------------------------------------------------------------------------------------------- half-made

HALF: dict[str, tuple[str, ...]] = {
    "an earlier version": ("UPDATE alembic_version SET version_num = 'cc1f77228345'",),
    "no version yet": ("DROP TABLE alembic_version",),
    "an empty version": ("DELETE FROM alembic_version",),
    "a table is missing": ("DROP TABLE trace_tags",),
    "a step was under way": (
        "UPDATE alembic_version SET version_num = 'cc1f77228345'",
        "CREATE TABLE _alembic_tmp_runs (a)",
        "DROP TABLE logged_model_tags",
    ),
    "of an experiment that has no runs": (
        "DROP TABLE trace_tags",
        "INSERT INTO experiments (name, lifecycle_stage) VALUES ('e', 'active')",
    ),
}


@pytest.mark.parametrize("statements", HALF.values(), ids=HALF)
def test_a_half_made_store_without_runs_is_made_anew(
    statements: tuple[str, ...], store: Path, copied: list[Path]
) -> None:
    change(store, *statements)
    before = store.read_bytes()

    works(prepare_store(store.parent))
    assert (store.parent / ASIDE).read_bytes() == before, "nothing is deleted"


def test_one_with_runs_is_one_clear_error(store: Path, copied: list[Path]) -> None:
    works(uri := f"sqlite:///{store}")
    change(store, *HALF["an earlier version"])
    before = store.read_bytes()

    with pytest.raises(AdaptError, match=r"is not empty: copy it, then run `mlflow db upgrade sqlite:"):
        prepare_store(store.parent)
    assert store.read_bytes() == before and not copied
    with (
        pytest.warns(match=r"mlflow db upgrade.*was kept") as told,
        track(settings(uri=uri), "later", folder=store.parent / "run"),
    ):
        pass
    assert len(told) == 1


def test_one_of_a_later_mlflow_is_left_alone(store: Path, copied: list[Path]) -> None:
    change(store, "UPDATE alembic_version SET version_num = 'later'")
    with pytest.raises(AdaptError, match=r"of version later, not \w+.*use the MLflow that made it"):
        prepare_store(store.parent)
    assert names(store.parent) == {NAME}


def test_a_database_of_something_else_is_neither_moved_nor_replaced(
    tmp_path: Path, copied: list[Path]
) -> None:
    path = tmp_path / NAME
    change(path, "CREATE TABLE notes (text)", "INSERT INTO notes VALUES ('mine')")
    works(prepare_store(tmp_path))  # as MLflow does it
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT text FROM notes").fetchall() == [("mine",)]
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(AdaptError, match="no database that SQLite can read"):
        prepare_store(tmp_path)
    assert names(tmp_path) == {NAME} and not copied


def test_an_empty_file_is_no_store_yet(tmp_path: Path, copied: list[Path]) -> None:
    (tmp_path / NAME).touch()
    works(prepare_store(tmp_path))
    assert names(tmp_path) == {NAME}


def test_the_journal_of_a_store_that_is_gone_is_not_played_into_the_new_one(
    tmp_path: Path, copied: list[Path]
) -> None:
    """A process was killed within a transaction, and its database was deleted or renamed without it."""
    killed = Process(["-c", MLFLOW, str(tmp_path / NAME), "800"], tmp_path).wait(120)
    assert killed.returncode == -signal.SIGKILL
    journal = tmp_path / f"{NAME}-journal"
    if not journal.exists():
        journal.write_bytes(bytes.fromhex("d9d505f920a163d7") + os.urandom(1016))
    (tmp_path / NAME).unlink()

    works(prepare_store(tmp_path))
    assert names(tmp_path) == {NAME}


@pytest.mark.parametrize("made", ["sqlite:///{}", "sqlite+pysqlite:///{}", "sqlite:///{}?timeout=30"])
def test_a_store_that_is_named_is_made_in_the_same_way(
    made: str, tmp_path: Path, empty_store: Path, copied: list[Path]
) -> None:
    uri = made.format(tmp_path / "sub" / "own.db")
    assert prepare_store(tmp_path, uri) == uri
    assert [path.parent for path in copied] == [tmp_path / "sub"] and names(tmp_path / "sub") == {"own.db"}
    assert not (tmp_path / NAME).exists()


# ----------------------------------------------------------------------------------------------- at once


@pytest.fixture
def another(
    tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Any]]:
    """Another MLflow, at work on the place; it goes on when it is told to."""
    go_on = threading.Event()
    path = tmp_path / NAME
    shutil.copyfile(empty_store / NAME, path)
    change(path, *HALF["a step was under way"])

    def work() -> None:
        for number in range(20):
            change(path, f"CREATE TABLE _alembic_tmp_{number} (a)")
            go_on.wait(0.02)
        shutil.copyfile(empty_store / NAME, tmp_path / "whole")
        (tmp_path / "whole").replace(path)  # its last step

    thread = threading.Thread(target=work)
    thread.start()
    monkeypatch.setattr(database, "STILL_SECONDS", 1.0)
    yield go_on.set
    go_on.set()
    thread.join()


def test_one_that_another_process_is_making_is_waited_for(
    tmp_path: Path, another: Callable[[], Any], copied: list[Path]
) -> None:
    works(prepare_store(tmp_path))
    assert not copied and names(tmp_path) == {NAME}


def test_one_that_another_process_has_made_meanwhile_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_store: Path
) -> None:
    def meanwhile(path: Path, *_: object) -> None:
        shutil.copyfile(empty_store / NAME, path)
        shutil.copyfile(empty_store / NAME, tmp_path / NAME)
        change(tmp_path / NAME, "INSERT INTO experiments (name, lifecycle_stage) VALUES ('theirs', 'active')")

    monkeypatch.setattr(database, "_make", meanwhile)
    client = mlflow.MlflowClient(tracking_uri=prepare_store(tmp_path))
    assert client.get_experiment_by_name("theirs") is not None
    assert names(tmp_path) == {NAME}
