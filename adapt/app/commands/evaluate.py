"""``python -m adapt evaluate``: how good a model of ``adapt fit`` is on labelled examples."""

from pathlib import Path

from adapt.app.commands.arguments import Plain, add_groups
from adapt.app.commands.predict import check_csv, load, write
from adapt.app.progress import line
from adapt.compare.groups import Groups
from adapt.errors import AdaptError
from adapt.own_data.groups import check_gap, divided, groups_of, refusal
from tasks.readers.shown import plain

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
    add_groups(parser)
    given = parser.parse_args(arguments)
    check_gap(given.max_gap, given.group)
    check_csv(given.csv, [given.data])
    answer = load(given.model)
    data = answer.read(given.data, labelled=True)
    by = divided(answer.reader, Path(given.data).expanduser(), data.examples, given.group)
    found = answer.evaluate_on(data, line)
    for note in found.notes:
        line(f"note: {note}")
    print(found.score.sentence())
    for label, instead, count in found.mistakes[:MOST]:
        print(plain(f"  {count} × {label} taken for {instead}"))
    groups = groups_of(by, found)
    for each in groups:
        print(plain(_said(each)))
    if given.csv:
        write(found.predictions, given.csv)
    if (unfair := refusal(groups, given.max_gap)) is not None:
        raise AdaptError(unfair)


def _said(groups: Groups) -> str:
    """A line for each group, the worst first."""
    lines = [f"by {groups.by}:"]
    for group in groups.groups:
        lines.append(f"  {group.name}: {group.score:.3g} ({group.low:.3g} to {group.high:.3g}), of {group.n}")
    if groups.parity is not None:
        odds = "" if groups.odds is None else f", equalised odds {groups.odds:.3g}"
        lines.append(f"  differences between groups: demographic parity {groups.parity:.3g}{odds}")
    return "\n".join(lines)
