"""Every benchmark runs in miniature, and the page made from the committed results is up to date."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "bench" / script), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits", "selection"])
def test_quick_run_writes_the_documented_form(name: str, tmp_path: Path) -> None:
    runs = ["--runs", str(tmp_path / "runs")] if name == "digits" else []
    done = run(f"{name}.py", "--quick", "--out", str(tmp_path), *runs)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / f"{name}.quick.json").read_text())
    assert {"name", "commit", "date", "device", "threads", "versions", "command", "rows"} <= set(result)
    assert result["rows"]
    for row in result["rows"]:
        assert {"case", "metric", "value", "unit", "ci95", "n", "goal", "higher_is_better"} <= set(row)


def test_results_page_is_what_the_committed_json_says() -> None:
    done = run("render.py", "--check")
    assert done.returncode == 0, done.stderr


def test_configs_hold_the_chosen_hyper_parameters() -> None:
    """The winners of bench/selection.py are what ``conf/`` runs with."""
    from hydra import compose, initialize_config_dir

    from adapt.app.config import config_folder
    from adapt.app.main import main as _  # noqa: F401 (registers the schema)

    rows = json.loads((ROOT / "bench/results/selection.json").read_text())["rows"]
    chosen = dict(row["case"].split(": ") for row in rows if row["note"] == "chosen")
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("config", ["experiment=quickstart"])
    method, inner = config.method, config.inner
    assert chosen["logistic"] == f"l2={method.logistic.head.l2}" == f"l2={config.head.l2}"
    assert chosen["ridge"] == f"l2={method.ridge.head.l2}"
    directions = 8 if method.forward.k is None else method.forward.k
    assert chosen["forward"] == f"steps={inner.steps} k={directions} damping={inner.damping}"
    assert chosen["backprop"] == f"lr={method.backprop.solver.lr} steps={method.backprop.solver.steps}"
    assert chosen["finetune"] == f"lr={method.finetune.lr} steps={method.finetune.steps}"
    assert chosen["retrain"] == f"lr={method.retrain.lr} batch={method.retrain.batch}"
