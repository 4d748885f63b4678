"""How old a result is: by how many commits since touched what its benchmark says that it depends on.

A benchmark declares at its top what it measures, ``DEPENDS = ("adapt/forward", …)``, files or folders below
the root of the repository; it is read without importing the benchmark. A page says the age that a result had
when the page was rendered: one that had to be of today would be out of date with every commit.
"""

import ast
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adapt.tracking.git import ask_git
from bench.lib.paths import ROOT

__all__ = ["age", "age_text", "depends", "git", "without_ages"]

TEXT = "; commits since then to what it measures: "


def depends(name: str, root: Path = ROOT) -> tuple[str, ...]:
    """What benchmark ``name`` declares; nothing if it declares nothing, or is no more."""
    path = root / "bench" / f"{name}.py"
    found = ast.parse(path.read_text(encoding="utf-8")).body if path.exists() else []
    for line in found:
        if isinstance(line, ast.Assign) and [ast.unparse(it) for it in line.targets] == ["DEPENDS"]:
            return ast.literal_eval(line.value)
    return ()


def git(*arguments: str, root: Path = ROOT) -> str | None:
    """What git says; None if it fails, or is not there."""
    return ask_git(*arguments, folder=root)


def age(commit: str | None, paths: Sequence[str], root: Path = ROOT) -> int | None:
    """Commits after ``commit`` that touched one of ``paths``; None if that is not known: outside a checkout,
    in a shallow one, and of a commit that is not in its history."""
    if not commit or not paths or git("rev-parse", "--is-shallow-repository", root=root) != "false":
        return None
    if git("merge-base", "--is-ancestor", commit, "HEAD", root=root) is None:
        return None
    found = git("rev-list", "--count", f"{commit}..HEAD", "--", *paths, root=root)
    return None if found is None else int(found)


def age_text(result: Mapping[str, Any], root: Path = ROOT) -> str:
    """To be put behind the commit of a result; what :func:`without_ages` takes away."""
    found = age(result["commit"], depends(result["name"], root), root)
    return f"{TEXT}{'unknown' if found is None else found}"


def without_ages(page: str) -> str:
    """``page`` with the ages blanked: they change with every commit, and a page need not."""
    return re.sub(rf"{re.escape(TEXT)}(\d+|unknown)", TEXT, page)
