"""The example of a downstream developer runs as it stands, with nothing but what it says it needs."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from tests import processes

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "downstream.py"
SCALING = ROOT / "bench" / "results" / "scaling.json"


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


def test_federated_example_prints_the_errors_of_the_benchmark(tmp_path: Path) -> None:
    """With Flower in its environment, which cannot share ours (see docs/scaling.md)."""
    pytest.importorskip("flwr", reason="Flower has an environment of its own")
    done = processes.run([str(EXAMPLE.with_name("federated.py"))], tmp_path)
    assert done.returncode == 0, done.stderr
    printed = [float(it) for it in re.findall(r"\b0\.\d{4}\b", done.stdout)]
    rows = json.loads(SCALING.read_text(encoding="utf-8"))["rows"]
    measured = [row["value"] for row in rows if row["metric"] == "eval/mse" and "100 clients" in row["case"]]
    assert printed == pytest.approx(measured, abs=6e-5)
