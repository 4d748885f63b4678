"""What is typed after the name of a command."""

import shlex
from argparse import ArgumentParser
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from adapt.app.progress import console
from adapt.errors import AdaptError

__all__ = ["Arguments", "Plain", "add_groups", "say_taken"]


def say_taken(what: str, taken: Sequence[str], left: Sequence[str] = ()) -> None:
    """Show what of a file is run, since somebody else may have written it, and what of it is not."""
    lines = [f"{what}: {shlex.join(taken)}"]
    if left:
        lines.append(f"not taken over: {shlex.join(left)} (counts only when typed: add it if you want it)")
    for line in lines:
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def add_groups(parser: ArgumentParser) -> None:
    """What ``fit`` and ``evaluate`` ask of groups."""
    parser.add_argument(
        "--group",
        metavar="COLUMN",
        action="append",
        default=[],
        help="does it do as well by all groups of this column? several times; of numbers: 'age<=25'",
    )
    parser.add_argument(
        "--max-gap",
        type=float,
        metavar="SHARE",
        help="refuse a model that is shown to do worse by a group than by all others by more than this",
    )


class Plain(ArgumentParser):
    """Arguments of a command; a mistake is one line, not a page of usage; options are not shortened."""

    def __init__(self, command: str, description: str) -> None:
        super().__init__(f"python -m adapt {command}", description=description, allow_abbrev=False)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As ever; of an option that is not known, the one that may be meant."""
        given, unknown = super().parse_known_args(args, namespace)
        options = [name for action in self._actions for name in action.option_strings]
        for name in unknown:
            if name.startswith("-") and (close := get_close_matches(name.partition("=")[0], options, n=1)):
                self.error(f"there is no option {name}: did you mean {close[0]}?")
        return given, unknown

    def error(self, message: str) -> NoReturn:
        """
        Raises:
            AdaptError: always.
        """
        for action in self._actions:  # argparse takes what may be left out for required, if all of it was
            if action.nargs == "*":
                message = message.replace(f", {action.metavar or action.dest}", "")
        raise AdaptError(message if message.endswith("?") else f"{message}: see {self.prog} --help")


class Arguments(Plain):
    """Arguments of a command that knows configs, with ``--config-dir`` as Hydra has it."""

    def __init__(self, command: str, description: str) -> None:
        super().__init__(command, description)
        self.add_argument("--config-dir", "-cd", metavar="FOLDER", help="a folder of your own configs")
