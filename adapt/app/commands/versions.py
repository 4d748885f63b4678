"""What `promote`, `rollback` and `history` share: their arguments, and the way into the registry."""

from argparse import Namespace
from collections.abc import Sequence

from omegaconf import DictConfig

from adapt.app.build import build
from adapt.app.commands.arguments import Arguments
from adapt.app.compose import compose_run
from adapt.errors import AdaptError
from adapt.tracking.registry import Registry, open_registry

__all__ = ["composed", "opened", "parse", "parser"]


def parser(command: str, description: str, more: str = "KEY=VALUE") -> Arguments:
    """A parser that knows the name of the model, and overrides; ``more``: what may follow the name."""
    made = Arguments(command, description)
    made.add_argument("name", nargs="?", metavar="NAME", help="the model, as register=NAME called it")
    made.add_argument(
        "more",
        nargs="*",
        metavar=more,
        help="overrides as in a run, for instance tracking.uri=http://localhost:5000",
    )
    return made


def parse(parser: Arguments, arguments: Sequence[str], *, version: bool = False) -> Namespace:
    """``arguments`` with ``name`` and ``overrides``, and with ``version`` (None if none was typed) if that is
    asked for.

    Raises:
        AdaptError: no name, or something that is none of these.
    """
    given = parser.parse_intermixed_args(arguments)
    typed = [*([] if given.name is None else [given.name]), *given.more]
    given.overrides = [word for word in typed if "=" in word]
    names = [word for word in typed if "=" not in word]
    if not names:
        raise AdaptError(f"which model? Name it as register=NAME did: {parser.prog} NAME")
    if len(names) > 1 + int(version):
        raise AdaptError(f"{names[-1]} is no override: write KEY=VALUE, as in tracking.root=FOLDER")
    given.name, given.version = names[0], names[1] if len(names) > 1 else None
    return given


def composed(overrides: Sequence[str], own: str | None) -> DictConfig:
    """The configuration with ``overrides``; ``own``: a folder of configs beside ours."""
    return compose_run(overrides, own).config


def opened(config: DictConfig, name: str) -> Registry:
    """The versions of ``name`` in the store of ``config``."""
    return open_registry(build(config.tracking, "tracking", config.allow), name)
