"""Somebody's own data → a fitted task: a folder of pictures, a file of texts or a table, and no config.

path → tasks.own (what is it?) → networks (which is there?) → head, trial (what pays?) → Answer, page
"""

from __future__ import annotations

import os
from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from typing import Any

from adapt.errors import AdaptError
from adapt.own_data.answer import Answer, Evaluation, Predictions, read
from adapt.own_data.fit import fit_data
from adapt.own_data.networks import NETWORKS
from tasks.own import kind_of

__all__ = [
    "NETWORKS",
    "Answer",
    "Evaluation",
    "Predictions",
    "fit_data",
    "fit_folder",
    "fit_table",
    "fit_texts",
]


def fit_folder(folder: str | os.PathLike[str], **settings: Any) -> Answer:
    """Pictures in one folder per class; ``settings`` as of :func:`fit_data`.

    Raises:
        AdaptError: they cannot be used.
    """
    path = _path(folder, "folder")
    _check_settings(settings)
    if path.exists() and not path.is_dir() and path.suffix.lower() != ".zip":
        raise AdaptError(f"{folder} is no folder: use fit_table or fit_texts")
    return fit_data(folder, **settings)


def fit_texts(
    file: str | os.PathLike[str], text: str | None = None, target: str | None = None, **settings: Any
) -> Answer:
    """A file with a column of texts and one of labels; None: found out by what stands in them.

    Raises:
        AdaptError: it cannot be used.
    """
    _check(file, "texts", target, text, settings)
    return fit_data(file, text=text, target=target, **settings)


def fit_table(file: str | os.PathLike[str], target: str | None = None, **settings: Any) -> Answer:
    """A table; ``target`` is the column that is predicted from the others: numbers, or classes.

    Raises:
        AdaptError: it cannot be used.
    """
    _check(file, "table", target, None, settings)
    return fit_data(file, target=target, **settings)


def _path(given: Any, what: str) -> Path:
    """The path of a file or folder, and not what it holds."""
    if not isinstance(given, str | os.PathLike):
        raise AdaptError(
            f"a {type(given).__name__} where the path of a {what} is expected: pass the path, or fit data in "
            "memory with adapt.sklearn.FewShotClassifier or FewShotRegressor"
        )
    return Path(given).expanduser()


def _check_settings(settings: dict[str, Any]) -> None:
    known = [*signature(fit_data).parameters][1:]
    for name in settings:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            fix = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
            raise AdaptError(f"there is no setting {name}: {fix}")


def _check(file: Any, kind: str, target: str | None, text: str | None, settings: dict[str, Any]) -> None:
    path = _path(file, "file")
    _check_settings(settings)
    found = read(lambda: kind_of(path, target, text, settings.get("encoding", "utf-8")))
    if found != kind:
        other = {"texts": "fit_texts", "table": "fit_table", "pictures": "fit_folder"}[found]
        hint = "" if kind == "table" else ", or name the column with text="
        raise AdaptError(f"{file} looks like {found}: use adapt.{other}{hint}")
