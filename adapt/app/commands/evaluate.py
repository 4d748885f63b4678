"""``python -m adapt evaluate``: how good a model of ``adapt fit`` is on labelled examples."""

from adapt.app.commands.arguments import Plain
from adapt.app.commands.predict import check_csv, load, write
from adapt.app.progress import line

__all__ = ["main"]

#: Kinds of mistakes that are listed.
MOST = 5


def main(arguments: list[str]) -> None:
    """Print the score, and the most frequent mistakes.

    Raises:
        AdaptError: no such model, or examples that cannot be read.
    """
    parser = Plain("evaluate", "How good a model is on labelled examples that it has not learned from.")
    parser.add_argument("model", help="a folder that `adapt fit` wrote, or models:/NAME@ALIAS")
    parser.add_argument("data", help="labelled examples, of the form that the model was fitted to")
    parser.add_argument("--csv", metavar="FILE", help="write the predictions")
    given = parser.parse_args(arguments)
    check_csv(given.csv)
    answer = load(given.model)
    found = answer.evaluate(given.data, line)
    for note in found.notes:
        line(f"note: {note}")
    print(found.score.sentence())
    for label, instead, count in found.mistakes[:MOST]:
        print(f"  {count} × {label} taken for {instead}")
    if given.csv:
        write(found.predictions, given.csv)
