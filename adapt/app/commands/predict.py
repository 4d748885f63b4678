"""``python -m adapt predict``: what a model of ``adapt fit`` says of new examples."""

import errno
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

import adapt
from adapt.app.commands.arguments import Plain
from adapt.app.progress import line
from adapt.errors import AdaptError
from adapt.files import writing
from adapt.own_data import Answer, Predictions
from tasks.readers.shown import plain

__all__ = ["check_csv", "load", "main", "write"]


def main(arguments: list[str]) -> None:
    """Print a table of predictions, or write it.

    Raises:
        AdaptError: no such model, or examples that cannot be read.
    """
    parser = Plain("predict", "Labels (or values) of new examples, as CSV.")
    parser.add_argument("model", help="a folder that `adapt fit` wrote, or models:/NAME@ALIAS")
    parser.add_argument("data", nargs="+", help="pictures or folders of them, or CSV files")
    parser.add_argument("--csv", metavar="FILE", help="write there instead of printing")
    given = parser.parse_args(arguments)
    check_csv(given.csv, given.data)
    answer: Answer = load(given.model)
    found = answer.predict(given.data, line)
    if given.csv:
        write(found, given.csv)
    else:
        table = found.to_csv()
        sys.stdout.write(plain(table) if sys.stdout.isatty() else table)  # a program gets names as they are


def check_csv(file: str | None, data: Sequence[str]) -> None:
    """Refuse to write predictions over what they are made from.

    Raises:
        AdaptError: ``file`` is one of ``data``.
    """
    for name in data:
        if file is not None and _same(file, os.path.expanduser(name)):
            raise AdaptError(f"--csv {file} is what is read: name another file")


def _same(one: str, other: str) -> bool:
    with suppress(OSError):  # one of them is not there
        return os.path.samefile(one, other)
    return False


def write(predictions: Predictions, file: str) -> None:
    """Write a table of predictions.

    Raises:
        AdaptError: it cannot be written.
    """
    try:
        target = Path(file).expanduser()
        if not target.parent.is_dir():
            raise NotADirectoryError(errno.ENOENT, "there is no such folder")
        regular = not target.exists() or target.is_file()  # a pipe cannot be replaced
        with writing(target.resolve()) if regular else nullcontext(target) as path:
            path.write_text(predictions.to_csv(), encoding="utf-8", newline="")
    except OSError as error:
        raise AdaptError(f"--csv {file} cannot be written ({error.strerror}): name another file") from None
    line(f"predictions: {file}")


def load(model: str) -> Answer:
    """A model by its folder, or by its name in MLflow.

    Raises:
        AdaptError: there is none, or it was not made by ``adapt fit``.
    """
    return Answer.of(adapt.load(model), model)
