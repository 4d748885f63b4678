"""How files of configs are read: only regular ones, as UTF-8 and YAML, and a mistake in one is one line."""

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from hydra._internal.config_repository import ConfigRepository
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult
from yaml import MarkedYAMLError

from adapt.files import reading
from tasks.readers.regular import read_regular

__all__ = ["checked_files", "text_of"]

#: Bytes of a file of configs: none that somebody wrote comes near.
LARGEST = 1 << 22
#: What files hold, by who reads which, and its text: whoever composes many configurations, as a search does,
#: waits for YAML most of the time. It is the text that counts: a file that was changed is read.
_PARSED: dict[tuple[str, ...], ConfigResult] = {}
#: Files that are kept; ours are fewer.
KEPT = 500


def text_of(path: Path) -> str:
    """The text of a file of configs.

    Raises:
        AdaptError: it is no regular file, too large, or not UTF-8.
    """
    with reading(path, "is no text in UTF-8", "save it as UTF-8"):
        return read_regular(path, LARGEST).decode("utf-8")


@contextmanager
def checked_files() -> Iterator[None]:
    """Inside, Hydra reads its files so."""
    # Hydra loads the class of its file sources a second time, as a plugin, so each is changed as it is made.
    initialize = ConfigRepository.initialize_sources

    def initialized(repository: ConfigRepository, search_path: Any) -> None:
        initialize(repository, search_path)
        for source in repository.sources:
            if source.scheme() == "file":
                source.load_config = partial(_load, source, source.load_config)  # type: ignore[method-assign]

    with mock.patch.object(ConfigRepository, "initialize_sources", initialized):
        yield


def _load(source: Any, load: Callable[[str], ConfigResult], config_path: str) -> ConfigResult:
    path = Path(os.path.realpath(os.path.join(source.path, source._normalize_file_name(config_path))))
    if not path.exists():
        return load(config_path)  # says so
    key = (source.provider, source.path, config_path, text_of(path))
    if key not in _PARSED:
        if len(_PARSED) == KEPT:
            _PARSED.clear()
        _PARSED[key] = _parsed(path, load, config_path)
    return copy.deepcopy(_PARSED[key])  # Hydra takes its list of defaults out


def _parsed(path: Path, load: Callable[[str], ConfigResult], config_path: str) -> ConfigResult:
    with reading(path, "is not valid YAML", "mend it"):
        try:
            return load(config_path)
        except HydraException as error:
            refused = error  # its own words
        except MarkedYAMLError as error:
            raise ValueError(_where(error)) from error
    raise refused


def _where(error: MarkedYAMLError) -> str:
    """What is wrong, and in which line."""
    mark = error.problem_mark or error.context_mark
    line = "" if mark is None else f"line {mark.line + 1}: "
    return line + (error.problem or error.context or "it cannot be understood")
