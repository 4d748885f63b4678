"""``python -m adapt predict``: what a model of ``adapt fit`` says of new examples."""

import sys

import adapt
from adapt.app.commands.arguments import Plain
from adapt.app.progress import line
from adapt.errors import AdaptError
from adapt.own_data import Answer, Predictions

__all__ = ["load", "main", "write"]


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
    answer: Answer = load(given.model)
    found = answer.predict(given.data, line)
    if given.csv:
        write(found, given.csv)
    else:
        sys.stdout.write(found.to_csv())


def write(predictions: Predictions, file: str) -> None:
    """Write a table of predictions.

    Raises:
        AdaptError: it cannot be written.
    """
    try:
        with open(file, "w", encoding="utf-8", newline="") as opened:
            opened.write(predictions.to_csv())
    except OSError as error:
        raise AdaptError(f"--csv {file} cannot be written ({error.strerror}): name another file") from None
    line(f"predictions: {file}")


def load(model: str) -> Answer:
    """A model by its folder, or by its name in MLflow.

    Raises:
        AdaptError: there is none, or it was not made by ``adapt fit``.
    """
    return Answer.of(adapt.load(model), model)
