"""What is typed after the name of a command."""

from argparse import ArgumentParser
from typing import NoReturn

from adapt.errors import AdaptError

__all__ = ["Arguments"]


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
        raise AdaptError(f"{message}: see {self.prog} --help")
