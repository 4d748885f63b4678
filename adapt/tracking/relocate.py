"""After a store's folder was moved or copied: its artifacts are where it is now.

MLflow records absolute addresses. In a store of ours, ``mlflow.db`` beside ``mlruns/``, the address of every
artifact is known from where the database is; so whoever opens it next puts them right.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlparse

__all__ = ["relocate"]

#: Where MLflow keeps addresses: table and column.
COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def relocate(database: Path, artifacts: Path) -> int:
    """Let everything below the folder that was ``artifacts`` before it was moved be below ``artifacts``.

    Other locations, such as a bucket that an experiment was given in the UI, stay. In a store that was not
    moved this is one query.

    Args:
        database: MLflow's SQLite file.
        artifacts: folder of that name, ``mlruns``, beside it; absolute.

    Returns:
        The number of addresses that were put right.
    """
    with closing(sqlite3.connect(database, timeout=60.0)) as connection, connection:
        found = connection.execute("SELECT artifact_location FROM experiments WHERE experiment_id != 0")
        locations = [location for (location,) in found if _root(location or "", artifacts.name)]
        roots = {_root(location, artifacts.name) for location in locations if _moved(location, artifacts)}
        changed = 0
        for root in sorted(filter(None, roots)):
            for table, column in _present(connection):
                done = connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE substr({column}, 1, ?) = ?",
                    (artifacts.as_uri(), len(root) + 1, len(root) + 1, f"{root}/"),
                )
                changed += done.rowcount
        return changed


def _root(location: str, name: str) -> str | None:
    """``file:///old/mlruns`` of ``file:///old/mlruns/<experiment>``; None for any other kind of address."""
    root, _, experiment = location.rpartition("/")
    parsed = urlparse(root)
    local = parsed.scheme == "file" and not parsed.netloc and experiment
    return root if local and unquote(parsed.path).rpartition("/")[2] == name else None


def _moved(location: str, artifacts: Path) -> bool:
    """Whether an experiment's artifacts are now below ``artifacts``: moved (the old folder is gone) or copied
    (there are two)."""
    root, _, experiment = location.rpartition("/")
    if root == artifacts.as_uri():
        return False
    return (artifacts / unquote(experiment)).is_dir() or not Path(unquote(urlparse(root).path)).exists()


def _present(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Of the columns, those that this version of MLflow has."""
    return [
        (table, column)
        for table, column in COLUMNS
        if column in {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
    ]
