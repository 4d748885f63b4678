"""What a journal on disk may say: its lines and its state by kind and type, since anybody may have written
them, and a process may have died while it did."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tasks.readers.regular import read_regular

__all__ = ["DAMAGED", "operation_of", "state_of"]

TEXT = (str, type(None))
#: Keys of an operation, and of a state, and the types of what they hold; later versions may have others.
TYPES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(
        ("do", "run", "status", "path", "experiment", "root", "beside", "folder", "journal"), str
    ),
    **dict.fromkeys(("params", "tags"), dict),
    **dict.fromkeys(("points", "datasets", "paths"), list),
    **{"content": (str, dict), "name": TEXT, "uri": TEXT, "time": int, "temporary": bool},
}
STATE: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("over", "problem", "look", "released", "adopted"), bool),
    **dict.fromkeys(("status", "uri", "journal", "creating"), TEXT),
    **dict.fromkeys(("ended", "marks", "refused"), list),
    **{"position": int, "experiment": str, "runs": dict},
}
#: What each kind of operation needs, besides ``run``.
NEEDED: dict[str, tuple[str, ...]] = {
    "open": ("experiment", "name", "uri", "root", "tags"),
    "child": ("name", "tags", "time"),
    "metrics": ("points",),
    "params": ("params",),
    "tags": ("tags",),
    "inputs": ("datasets",),
    "text": ("content", "path"),
    "dict": ("content", "path"),
    "files": ("paths",),
    "model": ("paths", "name"),
    "mark": ("name",),
    "end": ("status",),
}
#: A line that says nothing; whoever sends the journal names it.
DAMAGED = {"do": "damaged", "run": ""}


def operation_of(line: bytes) -> dict[str, Any]:
    """The operation that a line of a journal is; :data:`DAMAGED` if it is none.

    >>> operation_of(b'{"do": "mark", "run": "", "name": "described"}')["name"]
    'described'
    >>> operation_of(b'{"do": "end", "run": "", "status": 3}')
    {'do': 'damaged', 'run': ''}
    """
    found = _object(line)
    if found is None or not isinstance(found.get("do"), str):
        return dict(DAMAGED)
    whole = _fits(found, TYPES) and {"run", *NEEDED.get(found["do"], ())} <= found.keys()
    whole = whole and all(isinstance(path, str) for path in found.get("paths", ()))
    whole = whole and all(isinstance(point, list) for point in found.get("points", ()))
    return found if whole else dict(DAMAGED)


def state_of(path: Path) -> dict[str, Any] | None:
    """What was noted of how far MLflow has got; None if that cannot be known."""
    with suppress(OSError):
        found = _object(read_regular(path))
        if found is None or not _fits(found, STATE) or found.get("position", 0) < 0:
            return None
        runs = [*found.get("runs", {}).values(), *found.get("ended", []), *found.get("marks", [])]
        return found if all(isinstance(text, str) for text in runs) else None
    return None


def _object(content: bytes) -> dict[str, Any] | None:
    with suppress(ValueError, RecursionError):
        found = json.loads(content)
        return found if isinstance(found, dict) else None
    return None


def _fits(found: Mapping[str, Any], types: Mapping[str, type | tuple[type, ...]]) -> bool:
    return all(isinstance(value, types.get(key, object)) for key, value in found.items())
