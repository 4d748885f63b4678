"""Every benchmark runs in miniature, and the page made from the committed results is up to date."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench.lib.figures import memory_against_depth, training_curves
from bench.lib.models import MODELS, PLACEMENTS, network, objective, problem
from tests import processes

ROOT = Path(__file__).parents[2]
BENCHES = (
    "digits",
    "time_to_accuracy",
    "time_to_error",
    "selection",
    "pushforward",
    "gpu",
    "forward_vs_backprop",
    "inner_loops",
    "regression",
    "fields",
    "many_tasks",
    "scaling",
    "edge",
    "distil",
    "memory",
    "meta_training",
    "mixture",
    "one_shot",
    "physics",
    "conditions",
    "control",
    "episodes",
    "heads",
    "starts",
    "intents",
    "relations",
    "reviews",
    "posterior",
    "prompts",
    "vision",
    "tracking",
    "trust",
    "privacy",
    "corruptions",
    "attacks",
    "fairness",
    "drift",
    "volatility",
)


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return processes.run(["-m", f"bench.{name}", *arguments], ROOT)


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHES)
def test_quick_run_writes_the_documented_form(name: str, tmp_path: Path) -> None:
    kept = ["--runs", str(tmp_path / "runs")]
    special = {"digits": kept, "time_to_accuracy": kept, "time_to_error": kept, "gpu": ["--device", "cpu"]}
    done = run(name, "--quick", "--out", str(tmp_path), *special.get(name, []))
    assert done.returncode == 0, done.stderr
    (written,) = tmp_path.glob("*.quick.json")
    assert written.name.split(".")[0] == name
    result = json.loads(written.read_text())
    assert {"name", "commit", "date", "device", "threads", "versions", "command", "rows"} <= set(result)
    assert result["rows"]
    assert not result.get("errors"), result["errors"]
    for row in result["rows"]:
        assert {"case", "metric", "value", "unit", "ci95", "n", "goal", "higher_is_better"} <= set(row)


def test_figures_of_forward_vs_backprop() -> None:
    rows = [
        {"case": f"{kind}, depth {depth}", "metric": metric, "value": float(depth)}
        for kind in ("MLP of width 8", "CNN of 2 channels")
        for depth in (1, 4)
        for metric in ("cost/backprop", "memory/forward_gradient_mib", "memory/backprop_mib")
    ]
    curve = [[0.0, 0, 2.3, 0.1], [0.5, 10, 1.0, 0.6], [1.0, 20, 0.1, 0.9]]
    result = {"rows": rows, "curves": {"backprop": curve, "SPSA": curve[:2], "lost": curve[:1]}}
    seconds = training_curves(result).axes[0].lines
    assert [line.get_xdata().tolist() for line in seconds] == [[0.5, 1.0], [0.5]], (
        "nothing is drawn of what got lost"
    )
    memory = memory_against_depth(result).axes[0]
    assert [line.get_xdata().tolist() for line in memory.lines] == [[1, 4]] * 4
    assert memory.get_yscale() == "log"


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_networks_of_the_benchmarks(name: str) -> None:
    dtype = torch.float64 if name == "conv4" else torch.float32  # the others take long in double precision
    net = network(name, dtype)
    sizes = [net.spaces[placement].size for placement in PLACEMENTS]
    assert sizes[0] > sizes[1] > 0, "the last third is part of everywhere"
    assert set(net.spaces["last third"].shapes) < set(net.spaces["everywhere"].shapes)
    with torch.no_grad():
        expected = net.module(net.inputs)
        assert expected.shape == (25, 5)
        for placement in PLACEMENTS:
            f, z, tangents = problem(name, placement, 2, dtype)
            loss, phi = objective(name, placement, dtype)
            assert torch.equal(tangents, torch.eye(2, dtype=dtype))
            assert torch.allclose(f(z), expected, atol=1e-5)
            assert torch.allclose(loss(phi), torch.nn.functional.cross_entropy(expected, net.labels))
            moved = [f(z + direction) - expected for direction in tangents]
            assert all(difference.abs().max() > 1e-6 for difference in moved), placement


@pytest.mark.skipif(torch.cuda.is_available(), reason="it would measure")
def test_without_a_gpu_nothing_is_measured_and_that_is_no_error(tmp_path: Path) -> None:
    done = run("gpu", "--out", str(tmp_path))
    assert (done.returncode, list(tmp_path.iterdir())) == (0, [])
    assert "No GPU here: nothing was measured" in done.stdout


def test_gpu_benchmark_needs_nothing_but_the_core() -> None:
    """It is meant for machines on which nothing but torch, numpy and safetensors is installed."""
    others = "{'hydra', 'matplotlib', 'mlflow', 'PIL', 'rich', 'scipy', 'sklearn', 'timm', 'transformers'}"
    code = f"import sys; import bench.gpu; print(sorted({others} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_results_page_is_what_the_committed_json_says() -> None:
    done = run("render", "--check")
    assert done.returncode == 0, done.stderr


def test_files_can_be_run_as_well() -> None:
    """``python bench/render.py`` is what benchmarks were started by before they were modules."""
    done = processes.run(["bench/render.py", "--help"], ROOT)
    assert (done.returncode, done.stderr) == (0, "") and "python -m bench.render" in done.stdout


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
