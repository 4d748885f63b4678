"""What is typed after the name of a command."""

import shlex
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import NoReturn

from adapt.app.progress import console
from adapt.errors import AdaptError

__all__ = ["Arguments", "say_taken"]


def say_taken(what: str, taken: Sequence[str], left: Sequence[str] = ()) -> None:
    """Show what of a file is run, since somebody else may have written it, and what of it is not."""
    lines = [f"{what}: {shlex.join(taken)}"]
    if left:
        lines.append(f"not taken over: {shlex.join(left)} (counts only when typed: add it if you want it)")
    for line in lines:
        console.print(line, soft_wrap=True, markup=False, highlight=False)


class Arguments(ArgumentParser):
    """Arguments of a command, with ``--config-dir`` as Hydra has it; a mistake is one line, not a page of
    usage."""

    def __init__(self, command: str, description: str) -> None:
        super().__init__(f"python -m adapt {command}", description=description)
        self.add_argument("--config-dir", "-cd", metavar="FOLDER", help="a folder of your own configs")

    def error(self, message: str) -> NoReturn:
        """
        Raises:
            AdaptError: always.
        """
        for action in self._actions:  # argparse takes what may be left out for required, if all of it was
            if action.nargs == "*":
                message = message.replace(f", {action.metavar or action.dest}", "")
        raise AdaptError(f"{message}: see {self.prog} --help")
