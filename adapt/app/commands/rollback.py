"""``python -m adapt rollback NAME``: the champion is again the version that it was before."""

from adapt.app.commands.versions import composed, opened, parse, parser
from adapt.app.progress import console
from adapt.tracking.registry import explained

__all__ = ["main"]


def main(arguments: list[str]) -> None:
    """Move the alias back by one, and print from which version to which; again, by one more.

    Raises:
        AdaptError: there was no champion before, no such model, or a store that cannot be written.
    """
    made = parser("rollback", "Make the version champion that was it before; twice goes back twice.")
    made.add_argument("--reason", help="why, kept with the version that loses the title")
    given = parse(made, arguments)
    registry = opened(composed(given.overrides, given.config_dir), given.name)
    with explained(f"model '{given.name}'"):
        old, new = registry.roll_back(given.reason)
    console.print(f"{given.name}: champion is version {new} again, no longer {old}", markup=False)
