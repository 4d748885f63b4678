"""``python -m adapt predict``: what a model of ``adapt fit`` says of new examples."""

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

import adapt
from adapt.app.commands.arguments import Plain
from adapt.app.progress import line
from adapt.errors import AdaptError
from adapt.files import meant, shipped, writing
from adapt.own_data import Answer, Predictions
from adapt.own_data.believed import believed
from tasks.readers.shown import plain

__all__ = ["check_csv", "check_model", "load", "main", "write"]

#: How the name of a model in MLflow begins.
URIS = ("models:", "runs:")


def main(arguments: list[str]) -> None:
    """Print a table of predictions, or write it.

    Raises:
        AdaptError: no such model, or examples that cannot be read.
    """
    parser = Plain("predict", "Labels (or values) of new examples, as CSV.")
    parser.add_argument("model", help="a folder that `adapt fit` wrote, or models:/NAME@ALIAS")
    parser.add_argument("data", nargs="+", help="pictures or folders of them, or CSV files")
    parser.add_argument("--csv", metavar="FILE", help="write there instead of printing")
    parser.add_argument(
        "--sets",
        type=float,
        metavar="SHARE",
        help="also all labels it may have, right in this share: 0.9",
    )
    parser.add_argument(
        "--reject",
        type=float,
        metavar="SHARE",
        help="also whether it is of no class, which this share of the classes' own is taken for: 0.05",
    )
    given = parser.parse_args(arguments)
    check_csv(given.csv, given.data)
    answer: Answer = load(given.model)
    if given.sets is None and given.reject is None:
        found = answer.predict(given.data, line)
    else:
        examples = answer.unlabelled(given.data, line)
        found = believed(answer, examples, coverage=given.sets, reject=given.reject, say=line)
    if given.csv:
        write(found, given.csv)
    else:
        table = found.to_csv()
        sys.stdout.write(plain(table) if sys.stdout.isatty() else table)  # a program gets names as they are


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
        target.parent.mkdir(parents=True, exist_ok=True)
        regular = not target.exists() or target.is_file()  # a pipe cannot be replaced
        with writing(target.resolve()) if regular else nullcontext(target) as path:
            path.write_text(predictions.to_csv(), encoding="utf-8", newline="")
    except OSError as error:
        raise AdaptError(f"--csv {file} cannot be written ({error.strerror}): name another file") from None
    line(f"predictions: {file}")


def check_csv(file: str | None, data: Sequence[str], option: str = "--csv") -> None:
    """Refuse before anything takes long what could not be written in the end; folders are made then.

    Raises:
        AdaptError: it is one of ``data``, a folder, or in what is none or may not be written to.
    """
    if file is None:
        return
    if any(_same(file, os.path.expanduser(name)) for name in data):
        raise AdaptError(f"{option} {file} is what is read: name another file")
    path = Path(file).expanduser()
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if path.is_dir():
        raise AdaptError(f"{option} {file} is a folder: name a file")
    if not above.is_dir() or not os.access(path if path.exists() else above, os.W_OK):
        why = "may not be written to" if above.is_dir() else "is no folder"
        raise AdaptError(f"{option} {file} cannot be written, {above} {why}: name another file")


def check_model(model: str) -> None:
    """Refuse the name of a folder that is not there, nor shipped.

    Raises:
        AdaptError: says which one may be meant, or how one is made.
    """
    path = Path(model)
    if model.startswith(URIS) or path.exists():
        return
    with suppress(AdaptError):
        shipped(model)
        return
    close = meant(path)
    fix = f"did you mean {close}?" if close else "`adapt fit DATA` makes one"
    raise AdaptError(f"there is no model {model}: {fix}")


def load(model: str) -> Answer:
    """A model by its folder, or by its name in MLflow.

    Raises:
        AdaptError: there is none, or it was not made by ``adapt fit``.
    """
    check_model(model)
    return Answer.of(adapt.load(model), model)
