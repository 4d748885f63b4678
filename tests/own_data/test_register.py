"""A fitted task in MLflow: registered by ``adapt fit``, loaded and served by its name, queries only."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.processes import run

pytest.importorskip("mlflow")


def test_a_fitted_task_is_registered_and_answers(empty_store: Path, tmp_path: Path) -> None:
    import mlflow

    shutil.copytree(empty_store, tmp_path, dirs_exist_ok=True)
    rng = np.random.default_rng(0)
    rows = [
        f"{kind},{rng.normal(mean):.2f},{rng.normal(-mean):.2f}"
        for mean, kind in ((0, "a"), (6, "b"))
        for _ in range(20)
    ]
    (tmp_path / "table.csv").write_text("\n".join(["label,x,y", *rows]), encoding="utf-8")
    done = run(["-m", "adapt", "fit", "table.csv", "--register", "mine"], tmp_path)
    assert done.returncode == 0 and "registered: models:/mine/1" in done.stderr, done.stderr
    done = run(["-m", "adapt", "evaluate", "models:/mine@champion", "table.csv"], tmp_path)
    assert done.stdout.startswith("100.0 % right"), done.stderr
    done = run(["-m", "adapt", "fit", "table.csv", "--out", "other", "--register", "a/b"], tmp_path)
    assert done.returncode == 2 and not (tmp_path / "other").exists()

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    version = client.get_model_version_by_alias("mine", "champion")
    found = client.get_run(version.run_id)
    assert found.info.run_name == "table · head" and found.data.metrics["eval/accuracy"] == 1
    assert 0 <= found.data.metrics["trust/ece"] < 0.5
    served = mlflow.pyfunc.load_model(version.source)
    answer = served.predict({"query_x": np.zeros((2, 2), np.float32)})
    assert answer["classes"].tolist() == ["a", "b"] and answer["probabilities"].shape == (2, 2)
    with pytest.raises(mlflow.MlflowException, match="query_x"):
        served.unwrap_python_model().predict(None, {"support_x": [1]})
