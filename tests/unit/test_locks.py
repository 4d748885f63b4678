"""What is pinned, hashed, and listed with its licence is the same."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bench.pages.licences import PAGE, pinned, problem

ROOT = Path(__file__).parents[2]


class Hashed(NamedTuple):
    version: str
    condition: str
    hashes: list[str]


def hashed() -> dict[str, Hashed]:
    """By name, what requirements.lock has."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    found = {}
    for entry in re.split(r"\n(?=\S)", text):
        line, *rest = entry.splitlines()
        if not line.startswith("#"):
            pin, _, condition = line.removesuffix("\\").partition(";")
            name, _, version = pin.strip().partition("==")
            hashes = [part.strip(" \\") for part in rest]
            found[canonicalize_name(name)] = Hashed(version, condition, hashes)
    return found


def test_every_line_of_the_lock_has_hashes() -> None:
    for name, (version, _, hashes) in hashed().items():
        assert re.fullmatch(r"[\w.]+", version), name
        assert hashes and all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", it) for it in hashes), name


def test_the_lock_has_the_versions_that_are_tested() -> None:
    tested = {canonicalize_name(name): version for name, version in pinned().items()}
    for name, (version, condition, _) in hashed().items():
        # Not pinned is what other systems need, and the CUDA libraries of torch.
        expected = tested.get(name, version if "sys_platform" in condition else None)
        assert version == expected, f"{name}: run `make requirements.lock`"


def test_the_lock_is_what_experiments_need() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(it for e in ("experiments", "energy", "sweeps") for it in extras[e])]
    found = hashed()
    for requirement in map(Requirement, lines):
        version = found[canonicalize_name(requirement.name)].version
        assert requirement.specifier.contains(version), f"{requirement}: run `make requirements.lock`"


def test_the_page_of_licences_is_of_what_is_pinned() -> None:
    assert problem(PAGE.read_text(encoding="utf-8")) is None, "run `python -m bench.pages.licences`"


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (r"^\| torch \|.*\n", "", "torch is missing there"),
        (r"^(\| torch \|) \S+", r"\1 1.0", "torch is 1.0 there"),
        (r"^(\| hydra-core \| \S+ \|) MIT", r"\1 GPL", "hydra-core states MIT"),
        (r"^(\| torch \|)", r"| another | 1.0 | MIT | development |\n\1", "another is 1.0 there"),
        (r"(?s).*", "", "is missing there"),
    ],
)
def test_a_page_that_is_old_is_noticed(before: str, after: str, says: str) -> None:
    changed = re.sub(before, after, PAGE.read_text(encoding="utf-8"), count=1, flags=re.MULTILINE)
    assert says in (problem(changed) or "")
