"""``python -m adapt history NAME``: the versions of a registered adapter, and which was champion when."""

from rich.table import Table
from rich.text import Text

from adapt.app.commands.versions import composed, opened, parse, parser
from adapt.app.progress import console
from adapt.tracking.registry import Version, explained

__all__ = ["main"]

HEADER = ("version", "aliases", "registered (UTC)", "validation", "gate", "run")
#: Tags of a version that hold its validation score, the first there is, and what is shown before it.
SCORES = {"validation_accuracy": "", "validation_mse": "MSE ", "validation_loss": "loss "}


def main(arguments: list[str]) -> None:
    """Print one row per version, newest first, and the champions in their order.

    Raises:
        AdaptError: no such model, or a store that cannot be read.
    """
    given = parse(parser("history", "Versions of a registered adapter, newest first."), arguments)
    registry = opened(composed(given.overrides, given.config_dir), given.name)
    with explained(f"model '{given.name}'"):
        versions, champions = registry.versions(), registry.champions()
    table = Table(title=given.name, title_justify="left")
    for name in HEADER:
        table.add_column(name, overflow="fold")
    for version in versions:
        table.add_row(*(Text(cell) for cell in _row(version)))
    console.print(table)
    console.print(f"champions, in order: {', '.join(champions) or 'none'}", markup=False)


def _row(version: Version) -> tuple[str, ...]:
    tags = version.tags
    score = next((f"{word}{float(tags[key]):.4g}" for key, word in SCORES.items() if key in tags), "–")
    gate = tags.get("gate", "–")
    if over := tags.get("gate_champion"):
        gate += f" against version {over}"
    if gate.startswith("refused") and (stopped := tags.get("gate_stopped")):
        gate += f" by {stopped}"
    if reason := tags.get("gate_reason"):
        gate += f": {reason}"
    if back := tags.get("rolled_back"):
        why = tags.get("rolled_back_reason")
        gate += f"; rolled back {back[:16].replace('T', ' ')}" + (f": {why}" if why else "")
    if alarm := tags.get("alarm"):
        gate += f"; alarm {alarm[:16].replace('T', ' ')}: {tags.get('alarm_reason', '–')}"
    when = version.created.strftime("%Y-%m-%d %H:%M")
    return version.number, ", ".join(version.aliases), when, score, gate, (version.run_id or "–")[:8]
