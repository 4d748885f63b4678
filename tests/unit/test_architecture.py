"""The documents and the house agree: layers, packages, import contracts, links, configs."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from adapt.version import __version__

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted({*ROOT.glob("README.md"), *(ROOT / "docs").glob("*.md")})
CONFIGS = sorted((ROOT / "conf").rglob("*.yaml"))


def contract_layers() -> list[str]:
    """The layers of the import-linter contract, top first."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    (contract,) = (c for c in settings["contracts"] if c["type"] == "layers" and c["containers"] == ["adapt"])
    return list(contract["layers"])


def diagram() -> tuple[list[str], list[tuple[str, str]]]:
    """Nodes inside ``subgraph adapt``, in order, and all arrows of the Mermaid diagram."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```mermaid\n(.*?)```", text, re.DOTALL)
    (inside,) = re.findall(r"subgraph adapt\n(.*?)\n    end\n", block, re.DOTALL)
    nodes = re.findall(r'^\s+(\w+)\["', inside, re.MULTILINE)
    chains = [line.split("-->") for line in block.splitlines() if "-->" in line]
    return nodes, [(a.strip(), b.strip()) for chain in chains for a, b in pairwise(chain)]


def test_diagram_shows_the_layers_of_the_contract() -> None:
    nodes, arrows = diagram()
    layers = contract_layers()
    assert nodes == layers
    assert [arrow for arrow in arrows if arrow[1] != "tasks"] == [*pairwise(layers)], "does not point down"
    assert {a for a, b in arrows if b == "tasks"} <= set(layers)


def test_arrows_to_tasks_are_the_layers_that_import_it() -> None:
    importing = {
        path.relative_to(ROOT / "adapt").parts[0]
        for path in (ROOT / "adapt").rglob("*.py")
        if re.search(
            r"^\s*(from|import) tasks\b(?!\.readers)", path.read_text(encoding="utf-8"), re.MULTILINE
        )
    }
    assert {a for a, b in diagram()[1] if b == "tasks"} == importing


def test_every_package_is_a_layer() -> None:
    packages = {path.parent.name for path in (ROOT / "adapt").glob("*/__init__.py")}
    assert packages == set(contract_layers())


def test_import_contracts_are_kept() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_resolve(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    relative = [target.split("#")[0] for target in targets if not re.match(r"[a-z]+:|#", target)]
    assert [target for target in relative if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: str(config.relative_to(ROOT)))
def test_config_begins_by_saying_what_it_is(config: Path) -> None:
    lines = config.read_text(encoding="utf-8").splitlines()
    first = next(line for line in lines if not line.startswith("# @package"))  # Hydra wants that one on top
    assert re.match(r"# \S.*[.!?]$", first), f"begin {config.name} with a comment that says what it is"


def test_the_citation_is_of_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])
    assert project["version"] == __version__
