"""The example of a downstream developer runs as it stands, with nothing but what it says it needs."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tests import processes

EXAMPLE = Path(__file__).parents[2] / "examples" / "downstream.py"


def test_downstream_example(tmp_path: Path) -> None:
    """Run elsewhere, so that nothing depends on the working directory; accuracy is far above chance (1/3)."""
    done = processes.run([str(EXAMPLE)], tmp_path)
    assert done.returncode == 0, done.stderr
    found = re.search(r"accuracy on (\d+) new images after 15 labelled ones: ([\d.]+)", done.stdout)
    assert found is not None, done.stdout
    assert int(found[1]) > 500
    assert float(found[2]) > 0.9
    assert "bit for bit" in done.stdout


def test_downstream_example_needs_torch_numpy_sklearn_and_us_only() -> None:
    source = EXAMPLE.read_text(encoding="utf-8")
    imported = set(re.findall(r"^(?:import|from) (\w+)", source, flags=re.MULTILINE))
    assert imported - set(sys.stdlib_module_names) == {"adapt", "numpy", "sklearn", "torch"}
