"""An MLflow database of SQLite: made beside its place and put there when it is whole, so that no process that
dies on the way leaves one that nothing can open.

MLflow's migrations take seconds and are not one transaction. What they leave half-made, as a `mlflow ui` that
was killed at its first start does, is recognised: without anything recorded in it, it is made anew.
"""

from __future__ import annotations

import glob
import os
import sqlite3
import time
import uuid
from contextlib import closing, suppress
from enum import Enum
from itertools import count
from pathlib import Path

from adapt.errors import AdaptError

__all__ = ["ensure", "file_of", "uri_of"]

#: Files that SQLite keeps beside a database: what is in them belongs to it, and to no other.
BESIDE = ("-journal", "-wal", "-shm")
#: Tables in which a store that nobody has used yet has rows.
FILLED = {"alembic_version", "experiments", "workspaces"}
TABLES = "SELECT name FROM sqlite_master WHERE type = 'table'"
#: A half-made database that has not changed for so long is left by a dead process: a step of MLflow's
#: migrations takes a fraction of a second.
STILL_SECONDS = 5.0
#: Seconds to wait for whoever writes.
BUSY_SECONDS = 120.0


class _Found(Enum):
    """What is in the place of a database."""

    NOTHING = "no file, or an empty one"
    WHOLE = "what MLflow can open, or will say why not"
    HALF = "tables of MLflow, not all of them or not their last form, and nothing recorded"


def file_of(uri: str) -> Path | None:
    """The SQLite file that a tracking URI names; None: it names something else."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    with suppress(ArgumentError):
        url = make_url(uri)
        if url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:"):
            return None if url.database.startswith("file:") else Path(url.database)
    return None


def uri_of(path: Path) -> str:
    """The URI of a SQLite file, by which :func:`file_of` finds it.

    Raises:
        AdaptError: SQLAlchemy has no word for a character in its path.
    """
    from sqlalchemy.engine import URL

    plain = f"sqlite:///{path}"
    for uri in (plain, URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)):
        if file_of(uri) == path:
            return uri
    raise AdaptError(f"{path} cannot be the place of a database: use a folder without ? and % in its path")


def ensure(path: Path, uri: str, artifacts: str) -> None:
    """Make the database ``path`` of ``uri``, unless it is there; the caller holds the lock of the store.

    Where a half-made one lies it is put aside, under a name that says so.

    Args:
        artifacts: where experiments without a place of their own keep theirs.

    Raises:
        AdaptError: what is there cannot be opened by this MLflow, and holds something.
        OSError: nothing can be written there.
        sqlite3.Error: likewise.
    """
    for left in path.parent.glob(f".{glob.escape(path.name)}.new-*"):  # of a process that died
        left.unlink(missing_ok=True)
    while (found := _look(path)) is not _Found.WHOLE:
        if found is _Found.HALF and not (_still(path) and _look(path) is found):
            continue  # an `mlflow ui` is at it, or has done it
        made = path.with_name(f".{path.name}.new-{uuid.uuid4().hex[:8]}")
        try:
            _make(made, uri, artifacts)
            if found is _Found.HALF:
                _put_aside(path)
            _place(made, path)
        finally:
            for suffix in ("", *BESIDE):
                Path(f"{made}{suffix}").unlink(missing_ok=True)


def _look(path: Path) -> _Found:
    if not path.exists() or not path.stat().st_size:
        return _Found.NOTHING
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
            connection.execute("BEGIN")  # one state, also if somebody writes
            tables = {name for (name,) in connection.execute(TABLES)}
            version = _version(connection) if "alembic_version" in tables else None
            used = {name for name in tables - FILLED if _has_rows(connection, name)}
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        raise AdaptError(
            f"{path} is no database that SQLite can read ({error}): move it away, or set tracking.root to "
            "another folder"
        ) from error
    return _judged(path, tables, version, used)


def _judged(path: Path, tables: set[str], version: str | None, used: set[str]) -> _Found:
    from mlflow.store.tracking.dbmodels.models import SqlRun

    versions, last = _migrations()
    if version is None and not tables & {"experiments", "runs"}:
        # Of another program: MLflow adds its tables to them.
        return _Found.WHOLE if used or tables else _Found.HALF
    if version == last and set(SqlRun.metadata.tables) <= tables:
        return _Found.WHOLE
    if not used and (version is None or version in versions):
        return _Found.HALF
    upgrade = f"copy it, then run `mlflow db upgrade {uri_of(path)}`"
    if version is not None and version not in versions:
        upgrade = "use the MLflow that made it"
    raise AdaptError(
        f"{path} is not as this MLflow needs it (its tables are of version {version}, not {last}: another "
        f"MLflow made it, or an upgrade was interrupted), and it is not empty: {upgrade}, or set "
        "tracking.root to another folder"
    )


def _migrations() -> tuple[set[str], str | None]:
    """The versions of MLflow's tables that it knows, and the last one."""
    import mlflow
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
    return {step.revision for step in script.walk_revisions()}, script.get_current_head()


def _version(connection: sqlite3.Connection) -> str | None:
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])


def _has_rows(connection: sqlite3.Connection, table: str) -> bool:
    quoted = table.replace('"', '""')
    return connection.execute(f'SELECT 1 FROM "{quoted}" LIMIT 1').fetchone() is not None


def _still(path: Path) -> bool:
    """Whether nobody writes to it any more; returns as soon as somebody does."""
    before, deadline = _stamp(path), time.monotonic() + STILL_SECONDS
    while time.monotonic() < deadline:
        time.sleep(min(0.1, STILL_SECONDS))
        if _stamp(path) != before:
            return False
    return True


def _stamp(path: Path) -> list[tuple[int, int] | None]:
    def of(file: Path) -> tuple[int, int] | None:
        with suppress(FileNotFoundError):
            found = file.stat()
            return found.st_mtime_ns, found.st_size
        return None

    return [of(path), *(of(Path(f"{path}{suffix}")) for suffix in BESIDE)]


def _make(path: Path, uri: str, artifacts: str) -> None:
    """A whole store in ``path``, with no connection to it left: it will have another name."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy.engine import make_url

    url = make_url(uri).set(database=str(path)).render_as_string(hide_password=False)
    SqlAlchemyStore(url, artifacts).engine.dispose()


def _put_aside(path: Path) -> None:
    """Rename a half-made database; its journals first, which must not be played into another one."""
    for number in count(1):
        aside = path.with_name(f"{path.name}.half-made-{number}")
        if not aside.exists():
            break
    for suffix in BESIDE:
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{aside}{suffix}")
    path.rename(aside)


def _place(made: Path, path: Path) -> None:
    """Give the database its name, unless another process has put one there meanwhile."""
    for suffix in BESIDE:
        if not path.exists():
            Path(f"{path}{suffix}").unlink(missing_ok=True)
    if path.exists() and not path.stat().st_size:
        made.replace(path)
        return
    try:
        os.link(made, path)
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        if not path.exists():
            made.rename(path)
