"""`python -m tasks.audit digits size=28`: exit code 0, 1 if something must be mended, 2 for a mistake."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from tasks._cache import write_text
from tasks.readers.room import check_room
from tasks.readers.shown import plain
from tasks.source import TaskError, TaskWarning

from .check import SAMPLE, audit
from .named import make_source, parse
from .report import Report

__all__ = ["main", "write"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Audit the source that the command line names, write the report, print its table."""
    options = _parser().parse_intermixed_args(arguments)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TaskWarning)
        code = _audit(options)
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        print(f"warning: {plain(text)}", file=sys.stderr)  # they are on the card, too
    return code


def _audit(options: argparse.Namespace) -> int:
    try:
        check_room(options.out or Path("outputs") / "audit", f"--out {options.out}", TaskError)
        pairs = [_pair(text) for text in options.apart] if options.apart else None
        source = make_source(options.source.removeprefix("source="), parse(options.settings), options.allow)
        report = audit(source, apart=pairs, sample=options.sample, seed=options.seed)
        folder = options.out or Path("outputs") / "audit" / report.name
        write(report, folder)
    except TaskError as error:
        print(f"error: {plain(str(error))}", file=sys.stderr)
        return 2
    shown = [report.verdict(), *([report.table()] if report.findings else []), f"report  {folder}"]
    print(plain("\n".join(shown)))
    return 0 if report.ok else 1


def write(report: Report, folder: Path) -> None:
    """Write `report.md` and `report.json` into `folder`.

    Raises:
        TaskError: it cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "report.md", report.markdown())
        text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False) + "\n"
        write_text(folder / "report.json", text)
    except OSError as error:
        raise TaskError(f"the report cannot be written ({error}): choose another folder with --out") from None


def _pair(text: str) -> tuple[str, str]:
    one, sign, other = text.partition(":")
    if not (sign and one and other):
        raise TaskError(f"--apart {text} is no pair of splits: write it as support:query")
    return one, other


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tasks.audit",
        description="Look for leaks, repeats, conflicting labels, broken numbers and gaps in the card.",
    )
    parser.add_argument("source", help="digits, image_folder, tasks.ImageFolder, my_data.letters …")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="arguments of the source")
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="your own package that SOURCE is in: its code runs; may be given again",
    )
    parser.add_argument("--out", type=Path, help="folder of the report (default: outputs/audit/<name>)")
    parser.add_argument(
        "--apart",
        action="append",
        metavar="A:B",
        help="two splits that must have nothing in common; may be given again (default: by their names)",
    )
    parser.add_argument(
        "--sample", type=int, default=SAMPLE, help="read at most so many examples (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the sample (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
