"""``python -m adapt list``: the options of the config groups, each with the first line of its file."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from adapt.app.commands.arguments import Arguments
from adapt.app.config import config_folder
from adapt.app.progress import console
from adapt.app.reading import text_of
from adapt.errors import AdaptError

__all__ = ["config_folders", "groups", "main", "rows", "sentence"]


def main(arguments: list[str]) -> None:
    """Print the options of the groups in ``arguments``, of all if there is none.

    Raises:
        AdaptError: a group or a folder that does not exist.
    """
    parser = Arguments("list", "Experiments, backbones, task sources, methods and whatever else has a name.")
    parser.add_argument("group", nargs="*", help="for instance experiment, backbone, task, method")
    given = parser.parse_intermixed_args(arguments)
    known = groups(config_folders(given.config_dir))
    for name in given.group:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
            raise AdaptError(f"there is no group {name}: {hint}")
    for index, name in enumerate(dict.fromkeys(given.group or known)):
        if index:
            console.print()
        console.print(Text(f"{name}=", style="bold"))
        for row in rows({option: sentence(path) for option, path in known[name].items()}):
            console.print(row, soft_wrap=not console.is_terminal)


def config_folders(own: str | None) -> list[Path]:
    """Where configs are looked for, in the order that Hydra looks: ours first, then ``own``.

    Raises:
        AdaptError: there is no folder ``own``.
    """
    if own is not None and not Path(own).is_dir():
        raise AdaptError(f"--config-dir {own}: there is no such folder")
    return [config_folder(), *([Path(own)] if own is not None else [])]


def groups(folders: Sequence[Path]) -> dict[str, dict[str, Path]]:
    """Group → option → file, in the order of use: experiments first, then as ``config.yaml`` has them.

    >>> [*groups([config_folder()])][:3]
    ['experiment', 'backbone', 'space']
    >>> groups([config_folder()])["head"]["ridge"].name
    'ridge.yaml'
    """
    found: dict[str, dict[str, Path]] = {name: {} for name in ("experiment", *_in_use(folders[0]))}
    for folder in folders:
        for path in sorted(folder.glob("*/*.yaml")):
            if path.parent.name != "hydra":  # Hydra's own
                found.setdefault(path.parent.name, {}).setdefault(path.stem, path)
    return {name: dict(sorted(options.items())) for name, options in found.items() if options}


def _in_use(folder: Path) -> Iterator[str]:
    """Names of the groups in the defaults of ``config.yaml``."""
    for entry in OmegaConf.load(folder / "config.yaml").defaults:
        if isinstance(entry, DictConfig):
            yield from (str(name) for name in entry if "/" not in str(name) and "@" not in str(name))


def sentence(path: Path) -> str:
    """What a config file says of itself: its first comment, without the ``# @package`` of Hydra.

    >>> sentence(config_folder() / "space" / "full.yaml")
    'All parameters of the network.'
    """
    for line in text_of(path).splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            return line.lstrip("#").strip()
    return ""


def rows(lines: Mapping[str, str]) -> Iterator[RenderableType]:
    """Names and what is said of each: folded beside the names on a terminal, one line for each elsewhere, for
    ``grep``."""
    if console.is_terminal:
        table = Table(show_header=False, box=None, padding=(0, 0, 0, 2))
        for name, line in lines.items():
            table.add_row(Text(name, no_wrap=True), Text(line))
        yield table
        return
    width = max(map(len, lines), default=0)
    for name, line in lines.items():
        yield Text(f"  {name:{width}}  {line}".rstrip())
