"""``python -m adapt watch``: whether what a model of ``adapt fit`` is asked is still what it was made for."""

from argparse import ArgumentParser, Namespace

from adapt.app.commands.arguments import Plain
from adapt.app.commands.predict import check_csv, load
from adapt.app.incident import ON_ALARM, Registered, raise_alarm, sentence
from adapt.app.progress import line
from adapt.drift import FALSE_ALARMS
from adapt.errors import AdaptError
from adapt.own_data import Answer
from adapt.own_data.watching import Watching
from adapt.tracking.registry import registered

__all__ = ["add_options", "check_options", "main", "pinned", "watching"]


def main(arguments: list[str]) -> None:
    """Print how strange the examples of a log are.

    Raises:
        AdaptError: there is an alarm; no such model, or a log that cannot be read.
    """
    parser = Plain("watch", "Whether examples that came later are still like those of the fit.")
    parser.add_argument("model", help="a folder that `adapt fit` wrote, or models:/NAME@ALIAS")
    parser.add_argument("log", help="a file of examples in the order in which they came, or a folder")
    parser.add_argument("--labelled", action="store_true", help="the log has the right labels")
    add_options(parser)
    parser.add_argument("--note", metavar="FILE", help="write a note on an alarm there")
    given = parser.parse_args(arguments)
    check_options(given)
    check_csv(given.note, [given.log, *([given.usual] if given.usual else [])], "--note")
    model, found = pinned(given.model)
    watched = watching(load(model), given, given.labelled)
    watched.look(given.log, given.labelled, line)
    monitor = watched.monitor
    for name, evidence in monitor.evidence.items():
        print(f"{name}: evidence {evidence:.2f} (an alarm is at {monitor.limit:.2f})")
    if monitor.alarm is None:
        print(f"no alarm after {monitor.seen:,} examples")
        return
    done, _ = raise_alarm(model, found, watched, given.on_alarm, given.note)
    raise AdaptError(f"alarm: {sentence(monitor.alarm)}. {done}; docs/operation.md says what to look at")


def add_options(parser: ArgumentParser) -> None:
    """What `watch` and `serve` share."""
    parser.add_argument(
        "--usual", metavar="DATA", help="examples of which nothing is wrong (default: the model's own)"
    )
    parser.add_argument(
        "--false-alarms",
        type=float,
        default=FALSE_ALARMS,
        metavar="SHARE",
        help=f"the chance of an alarm, ever, if nothing changes (default: {FALSE_ALARMS})",
    )
    parser.add_argument(
        "--on-alarm",
        default=ON_ALARM[0],
        help="note, or rollback: the champion before this one, of a registered model",
    )


def check_options(given: Namespace) -> None:
    """Refuse what could not be done in the end.

    Raises:
        AdaptError: no such action, or a model without versions to go back to.
    """
    if given.on_alarm not in ON_ALARM:
        raise AdaptError(f"--on-alarm {given.on_alarm} is unknown: use {' or '.join(ON_ALARM)}")
    if given.on_alarm == "rollback" and not given.model.startswith("models:/"):
        raise AdaptError("--on-alarm rollback needs a registered model: models:/NAME@champion")


def pinned(model: str) -> tuple[str, Registered]:
    """The name of a model, and of one by its alias that of the version, which stays while it is watched."""
    if (found := registered(model)) is None:
        return model, None
    return f"models:/{found[0].name}/{found[1].number}", found


def watching(answer: Answer, given: Namespace, labelled: bool = False) -> Watching:
    """``answer`` watched as was typed."""
    return Watching(answer, usual=given.usual, labelled=labelled, false_alarms=given.false_alarms, say=line)
