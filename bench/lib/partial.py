"""Finished parts of a benchmark that takes long: kept until its result is written, for one commit only."""

from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adapt.files import read_json, write_json
from adapt.tracking.git import git_state
from bench.lib.paths import ROOT
from bench.lib.record import Row

__all__ = ["Partial", "partial_option"]


def partial_option(parser: ArgumentParser, name: str) -> None:
    """``--partial FOLDER``."""
    default, what = (
        Path("outputs") / f"bench_{name}",
        "folder of finished parts, kept until the JSON is written",
    )
    parser.add_argument("--partial", type=Path, default=default, help=what)


@dataclass(frozen=True)
class Partial:
    """The parts in ``folder``; a miniature (``quick``) has none."""

    folder: Path
    commit: str | None
    quick: bool

    @classmethod
    def of(cls, arguments: Any) -> "Partial":
        state = git_state(ROOT)
        return cls(arguments.partial, state and state[0], arguments.quick)

    def read(self, name: str) -> dict[str, Any] | None:
        """Part ``name``, its ``rows`` as rows; None if there is none, or one of another commit."""
        path = self.folder / f"{name}.json"
        if self.quick or not path.exists() or (value := read_json(path))["commit"] != self.commit:
            return None
        print(f"{name}: kept from {path} (delete it to measure again)")
        return {**value["part"], "rows": [Row(**row) for row in value["part"]["rows"]]}

    def write(self, name: str, part: Mapping[str, Any]) -> None:
        if not self.quick:
            rest = {**part, "rows": [asdict(row) for row in part["rows"]]}
            write_json(self.folder / f"{name}.json", {"commit": self.commit, "part": rest})

    def clear(self, names: Sequence[str]) -> None:
        """After the result has been written."""
        if not self.quick:
            for name in names:
                (self.folder / f"{name}.json").unlink()
