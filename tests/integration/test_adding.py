"""A new head, solver, source, space or method is one file, one row and one config.

Here they are added to a copy of the project, as docs/adding-a-method.md says, and are then proven,
configured, run and saved like all others.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "adding-a-method.md").read_text(encoding="utf-8")


class Added(NamedTuple):
    """``kind`` is the class; the block that begins with ``title`` goes to ``file``, the one that builds
    ``kind`` to ``config``, and ``row`` into the ``table`` of ``registry``, with the import."""

    kind: str
    title: str
    file: str
    config: str
    registry: str
    table: str
    row: str


ADDED = (
    Added(
        "NearestMedian",
        "Nearest class median",
        "adapt/heads/median.py",
        "conf/head/median.yaml",
        "adapt/heads/__init__.py",
        "HEADS: dict[str, type[Head]] = {",
        '"median": NearestMedian',
    ),
    Added(
        "Steepest",
        "Steepest descent with",
        "adapt/inner/steepest.py",
        "conf/inner/steepest.yaml",
        "adapt/inner/__init__.py",
        "SOLVERS: dict[str, type[Solver]] = {",
        '"steepest": Steepest',
    ),
    Added(
        "Stripes",
        "Stripes: sixteen orientations",
        "tasks/stripes.py",
        "conf/task/stripes.yaml",
        "tasks/__init__.py",
        "SOURCES: dict[str, Callable[..., AnySource]] = {",
        '"stripes": Stripes',
    ),
    Added(
        "NearestExample",
        "Nearest example on",
        "adapt/baselines/nearest.py",
        "conf/method/nearest.yaml",
        "adapt/baselines/__init__.py",
        "BASELINES: dict[str, type[Method]] = {",
        '"nearest": NearestExample',
    ),
    Added(
        "gains",
        "Gains of norms",
        "adapt/spaces/gains.py",
        "conf/space/gains.yaml",
        "adapt/spaces/__init__.py",
        "SPACES: dict[str, Callable[..., Space]] = {",
        '"gains": gains',
    ),
)
#: Of a method there is a second row: how it is tried.
TRIED = (
    "tests/conformance/tables.py",
    "\n\nMETHODS: dict[str, Method] = {",
    "NearestExample",
    '"nearest": NearestExample()',
)
#: What the page has no example of.
SPACE = '''
```python
"""Gains of norms only.

    y = γ ⊙ norm(x) + β ,   φ = all γ

Basu, Massiceti, Hu, Feizi (2024), *Strong Baselines for Parameter-Efficient Few-Shot Fine-Tuning*.
"""

from torch import nn

from adapt.spaces.base import Space, select
from adapt.spaces.roles import is_norm

__all__ = ["gains"]


def gains(backbone: nn.Module) -> Space:
    """The weight of every norm of ``backbone``."""
    wanted = lambda module, name: is_norm(module) and name == "weight"  # noqa: E731
    return select("gains", backbone, wanted, "use space=full", {})
```

```yaml
# Scales of norms only (Basu et al. 2024).
_target_: adapt.spaces.gains
_partial_: true
```
'''
RUN = (
    "experiment=quickstart", "head=median", "inner=steepest", "task=stripes", "task.tasks=2",
    "method=[nearest,forward]", "figures=false", "memory=false",
)  # fmt: skip
SAVE = """
import adapt, torch
from adapt.heads import HEADS
from adapt.inner import SOLVERS
made = adapt.load("conv4_glyphs_film").replace(head=HEADS["median"](0.2), solver=SOLVERS["steepest"](3))
made.save_pretrained("kept")
task = made.fit(torch.rand(6, 1, 32, 32), ["a", "b"] * 3)
task.save_pretrained("fitted")
again, x = adapt.load("kept"), torch.rand(4, 1, 32, 32)
assert (again.head, again.solver) == (made.head, made.solver)
assert (adapt.load("fitted").predict_proba(x) == task.predict_proba(x)).all()
"""


def block(language: str, part: str) -> str:
    """The block of the page, or of ours, that has ``part`` in it."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", PAGE + SPACE, re.DOTALL | re.MULTILINE)
    (found,) = (text for text in blocks if part in text)
    return found


def replace(file: Path, old: str, new: str) -> None:
    """Write ``new`` in place of the only ``old`` in ``file``."""
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{file} has {old!r} {text.count(old)} times"
    file.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with all of them."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("adapt", "tasks", "conf", "tests", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    for it in ADDED:
        (folder / it.file).write_text(block("python", f'"""{it.title}'), encoding="utf-8")
        (folder / it.config).write_text(block("yaml", f".{it.kind}\n"), encoding="utf-8")
        module = it.file.removesuffix(".py").replace("/", ".")
        replace(folder / it.registry, it.table, f"from {module} import {it.kind}\n{it.table}\n    {it.row},")
    file, table, kind, row = TRIED
    replace(folder / file, table, f"\nfrom adapt.baselines import {kind}{table}\n    {row},")
    return folder


def run(folder: Path, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_they_are_proven_by_every_check_of_their_kind(copy: Path) -> None:
    kinds = ("heads", "solvers", "solver_rules", "sources", "spaces", "methods", "conformance")
    files = [f"tests/conformance/test_{name}.py" for name in kinds]
    # And by what looks at every option, and at every space.
    files += ["tests/unit/test_listing.py", "tests/unit/test_spaces_saved.py"]
    output = run(
        copy,
        *(
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-k",
            "median or steepest or stripes or nearest or gains or registered or option or is_tried",
        ),
        *files,
    )
    passed = int(re.findall(r"(\d+) passed", output)[-1])
    assert passed >= 60, output


def test_they_are_written_as_all_others(copy: Path) -> None:
    ruff = Path(sys.executable).parent / "ruff"
    if not ruff.exists():
        pytest.skip("ruff is not installed")
    run(copy, "-m", "ruff", "check", *(it.file for it in ADDED))


def test_they_run_from_their_configs(copy: Path) -> None:
    assert "forward" in run(copy, "-m", "adapt", *RUN, "tracking=none")


def test_they_are_saved_and_loaded_by_name(copy: Path) -> None:
    run(copy, "-c", SAVE)
