"""The entry point: compose the config, run the stage, and turn mistakes into one clear line."""

import os
import sys
from collections.abc import Callable
from typing import NoReturn

import hydra
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from adapt.app.config import Config, config_folder
from adapt.errors import AdaptError
from tasks import TaskError

__all__ = ["main"]

#: What the user can mend.
MISTAKES = (AdaptError, TaskError, HydraException, OmegaConfBaseException)

ConfigStore.instance().store(name="schema", node=Config)


def main() -> None:
    """``python -m adapt`` and the console script ``adapt``: exit code 0, or 2 with one line for anything the
    user can mend."""
    os.environ.setdefault(
        "HYDRA_FULL_ERROR", "1"
    )  # let exceptions through to the handler below instead of Hydra's own report
    try:
        _entry()()
    except MISTAKES as error:
        _refuse(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _entry() -> Callable[[], object]:
    return hydra.main(version_base="1.3", config_path=str(config_folder()), config_name="config")(_task)


def _task(config: DictConfig) -> float | None:
    from adapt.app.run import (
        run,
    )  # imported here: --help and misspelt keys should not wait for torch and MLflow

    try:
        return run(config)
    except MISTAKES as error:
        _refuse(error)  # here already: Hydra would announce any exception of a job with a line of its own


def _refuse(error: Exception) -> NoReturn:
    print(f"error: {_one_line(error)}", file=sys.stderr)
    sys.exit(2)


def _one_line(error: Exception) -> str:
    """The message without Hydra's line breaks, indentation and full-key footers."""
    lines = [line.strip() for line in str(error).splitlines()]
    kept = [
        line
        for line in lines
        if line and not line.startswith(("full_key:", "object_type=", "reference_type="))
    ]
    return " ".join(kept) or type(error).__name__
