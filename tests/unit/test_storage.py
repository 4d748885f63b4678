"""Adapters and fitted tasks on disk: bit-identical round trips, folders of format 1, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import adapt
from adapt import AdaptError, FewShotAdapter, FittedTask
from adapt.adapter import identity_state
from adapt.adapter.storage import FORMAT
from adapt.backbones import fingerprint
from adapt.forward.estimators import Exact, Gaussian
from adapt.heads import Direct, Head, Logistic, Prototype, Ridge
from adapt.inner import Auto, CrossEntropy, Descent, GaussNewton, Linearised, Solver, SquaredError
from tests.helpers import make_adapter, save_tiny, tensors_in, tiny_conv4

Support = tuple[Tensor, list[str]]

COMPONENTS: list[tuple[Solver, Head]] = [
    (GaussNewton(steps=2, damping=0.5), Logistic(l2=0.02, steps=6)),
    (Descent("sgd", lr=0.05, steps=3), Ridge(l2=0.2, scale=5.0)),
    (Descent("adam", lr=0.05, steps=2, gradient=Exact()), Prototype(temperature=0.2)),
    (Descent(gradient=Gaussian(tangents=3)), Logistic()),
    (Descent("momentum", 0.01, 3, momentum=0.5), Ridge(scale=2.0)),
    (Linearised(steps=3, damping=2.0, engine="reference"), Ridge()),
    (Auto(directions=(1, 3), strengths=(0.5, 2.0), folds=3, steps=2, enough=0.02), Logistic()),
]


@pytest.mark.parametrize(("solver", "head"), COMPONENTS, ids=lambda component: type(component).__name__)
def test_adapter_round_trip(adapter: FewShotAdapter, tmp_path: Path, solver: Solver, head: Head) -> None:
    made = adapter.replace(solver=solver, head=head, info={"title": "A | test", "training": {"seconds": 1.5}})
    made.save_pretrained(tmp_path / "it")
    for loaded in (
        adapt.load(tmp_path / "it", backbone=tiny_conv4()),
        FewShotAdapter.from_pretrained(str(tmp_path / "it"), backbone=tiny_conv4()),
    ):
        assert isinstance(loaded, FewShotAdapter)
        assert (loaded.solver, loaded.head) == (solver, head)
        assert (loaded.input_shape, loaded.info) == (made.input_shape, made.info)
        assert loaded.space.shapes == made.space.shapes
        assert all(torch.equal(a, b) for a, b in zip(loaded.state, made.state, strict=True))


@pytest.mark.parametrize(("solver", "head"), COMPONENTS, ids=lambda component: type(component).__name__)
def test_tasks_of_every_solver_and_head_come_back_bit_identical(
    adapter: FewShotAdapter, support: Support, tmp_path: Path, solver: Solver, head: Head
) -> None:
    made = adapter.replace(solver=solver, head=head, support_head=Ridge(l2=0.5))
    task = made.fit(*support)
    task.save_pretrained(tmp_path / "task")
    loaded = adapt.load(tmp_path / "task", backbone=tiny_conv4())
    assert (loaded.adapter.solver, loaded.adapter.head) == (solver, head)
    assert (loaded.adapter.support_head, loaded.adapter.loss) == (made.support_head, made.loss)
    assert torch.equal(loaded.logits(support[0]), task.logits(support[0]))
    assert torch.equal(loaded.z, task.z) and torch.equal(loaded.trace.losses, task.trace.losses)
    assert loaded.trace[1:] == task.trace[1:]
    assert torch.equal(loaded.adapter.fit(*support).z, task.z)


@pytest.mark.parametrize("solver", [GaussNewton(), Linearised(), Auto(), Descent()], ids=type)
@pytest.mark.parametrize("head", [Direct(), Ridge(scale=1.0)], ids=type)
def test_a_regression_comes_back_bit_identical(
    adapter: FewShotAdapter, support: Support, tmp_path: Path, solver: Solver, head: Head
) -> None:
    x, width = support[0], len(adapter.fit(*support).head_state) - 1
    y = torch.rand(9, width, generator=torch.Generator().manual_seed(0))
    made = adapter.replace(solver=solver, head=head, support_head=head, loss=SquaredError())
    made.save_pretrained(tmp_path / "adapter")
    again = adapt.load(tmp_path / "adapter", backbone=tiny_conv4())
    assert (again.loss, again.head, again.support_head, again.solver) == (SquaredError(), head, head, solver)
    task = made.fit(x, y)
    assert torch.equal(again.fit(x, y).z, task.z)
    task.save_pretrained(tmp_path / "task")
    loaded = adapt.load(tmp_path / "task", backbone=tiny_conv4())
    assert np.array_equal(loaded.predict(x), task.predict(x))
    assert loaded.classes_.shape == (0,) and loaded.score(x, y) == task.score(x, y)
    assert loaded.trace[1:] == task.trace[1:]
    assert "Classes:" not in (tmp_path / "task" / "README.md").read_text()


def test_why_nothing_was_adapted_is_kept(adapter: FewShotAdapter, support: Support, tmp_path: Path) -> None:
    task = adapter.fit(support[0][:3], support[1][:3])
    task.save_pretrained(tmp_path / "task")
    loaded = adapt.load(tmp_path / "task", backbone=adapter.backbone)
    assert loaded.trace.choice == task.trace.choice and "single example" in task.trace.choice


def test_a_diagonal_basis_and_frozen_directions_come_back(
    adapter: FewShotAdapter, support: Support, tmp_path: Path
) -> None:
    state = identity_state(adapter.space)
    precision = torch.linspace(-3, 3, adapter.space.size)
    precision[0], precision[1] = torch.inf, -torch.inf
    made = adapter.replace(state=state._replace(log_precision=precision, log_rates=precision.clamp(-1, 1)))
    made.save_pretrained(tmp_path / "it")
    loaded = adapt.load(tmp_path / "it", backbone=tiny_conv4())
    assert all(torch.equal(a, b) for a, b in zip(loaded.state, made.state, strict=True))
    task = loaded.fit(*support)
    assert torch.equal(task.z, made.fit(*support).z)
    assert task.z[0] == 0 and bool(task.z[1:].any())


# ------------------------------------------------------------------------------------------ format 1


def to_format_1(folder: Path, log_precision: float) -> None:
    """Rewrite a folder as version 0.1 would have written it."""
    config, tensors = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    tensors_in(folder).rename(tensors)
    written = json.loads(config.read_text())
    later = ("loss", "support_head", "choice", "log_precision", "log_rates", "tensors", "settings_sha256")
    config.write_text(json.dumps({k: v for k, v in written.items() if k not in later} | {"format": 1}))
    state = {name: tensor for name, tensor in load_file(tensors).items() if name not in later}
    save_file(state | {"log_damping": torch.tensor(log_precision)}, tensors)


def test_a_folder_of_format_1_predicts_as_its_equivalent(
    adapter: FewShotAdapter, support: Support, tmp_path: Path
) -> None:
    """One number λ for all directions became a precision of each, without further damping."""
    sharp = adapter.replace(state=adapter.state._replace(log_sharpness=torch.tensor(0.3)))
    sharp.save_pretrained(tmp_path / "it")
    to_format_1(tmp_path / "it", 0.7)
    loaded = adapt.load(tmp_path / "it", backbone=tiny_conv4())
    assert torch.allclose(loaded.state.learned.precision, torch.full((3,), 0.7).exp())
    assert loaded.state.learned.damping == 0
    assert loaded.state.learned.rates.tolist() == [1, 1, 1]
    by_hand = sharp.replace(state=sharp.state._replace(log_precision=torch.full((3,), 0.7)))
    ours, theirs = loaded.fit(*support), by_hand.fit(*support)
    assert torch.equal(ours.z, theirs.z) and bool(ours.z.any())
    assert not torch.equal(ours.z, sharp.fit(*support).z)
    assert np.array_equal(ours.predict_proba(support[0]), theirs.predict_proba(support[0]))
    loaded.save_pretrained(tmp_path / "new")
    assert json.loads((tmp_path / "new" / "adapter_config.json").read_text())["format"] == FORMAT


def test_a_task_of_format_1_predicts_as_before(
    adapter: FewShotAdapter, support: Support, tmp_path: Path
) -> None:
    task = adapter.fit(*support)
    task.save_pretrained(tmp_path / "task")
    to_format_1(tmp_path / "task", 0.0)
    loaded = adapt.load(tmp_path / "task", backbone=tiny_conv4())
    assert np.array_equal(loaded.predict_proba(support[0]), task.predict_proba(support[0]))
    assert torch.equal(loaded.z, task.z) and loaded.trace.choice == ""


def test_a_damaged_folder_of_format_1_is_named(adapter: FewShotAdapter, tmp_path: Path) -> None:
    adapter.save_pretrained(tmp_path / "it")
    to_format_1(tmp_path / "it", 0.0)
    tensors = tmp_path / "it" / "adapter_model.safetensors"
    save_file({name: tensor for name, tensor in load_file(tensors).items() if name != "log_damping"}, tensors)
    with pytest.raises(AdaptError, match=r"lacks 'log_\w+': it is not a complete adapter folder"):
        adapt.load(tmp_path / "it", backbone=adapter.backbone)


def test_the_shipped_adapter_loads() -> None:
    shipped = adapt.load("conv4_glyphs_film")
    assert shipped.state.log_precision.shape == shipped.state.log_rates.shape == (shipped.state.k,)
    assert isinstance(shipped, FewShotAdapter) and shipped.loss == CrossEntropy()


# ------------------------------------------------------------------------------------------ the folder


def test_folder_holds_data_and_a_card_never_pickle(
    adapter: FewShotAdapter, support: Support, tmp_path: Path
) -> None:
    adapter.save_pretrained(tmp_path / "adapter")
    adapter.fit(*support).save_pretrained(tmp_path / "task")
    for name in ("adapter", "task"):
        config = json.loads((tmp_path / name / "adapter_config.json").read_text())
        files = sorted(path.name for path in (tmp_path / name).iterdir())
        assert files == ["README.md", "adapter_config.json", config["tensors"]["file"]]
        assert (config["kind"], config["format"], config["library_version"]) == (
            name,
            FORMAT,
            adapt.__version__,
        )
        card = (tmp_path / name / "README.md").read_text()
        assert card.startswith("---\nlibrary_name: adaptive-behavior\n")
        assert "3 directions" in card and fingerprint(adapter.backbone)[:16] in card
    assert "Classes: ape, moth, zebra." in card


@pytest.mark.parametrize("labels", [["b", "a", "c"], [30, 10, 20], [True, False, True], [0.5, -0.5, 1e-3]])
def test_task_round_trip_is_bit_identical(
    adapter: FewShotAdapter, support: Support, tmp_path: Path, labels: list[Any]
) -> None:
    task = adapter.fit(support[0], labels * 3)
    task.save_pretrained(tmp_path / "task")
    loaded = adapt.load(tmp_path / "task", backbone=tiny_conv4())
    assert isinstance(loaded, FittedTask)
    assert np.array_equal(loaded.predict_proba(support[0]), task.predict_proba(support[0]))
    assert loaded.classes_.tolist() == task.classes_.tolist()
    assert loaded.classes_.dtype == task.classes_.dtype
    assert torch.equal(loaded.z, task.z)
    assert torch.equal(loaded.trace.losses, task.trace.losses)
    assert loaded.trace.forward_equivalents == task.trace.forward_equivalents
    loaded.save_pretrained(tmp_path / "again")
    again = adapt.load(tmp_path / "again", backbone=tiny_conv4())
    assert np.array_equal(again.predict_proba(support[0]), task.predict_proba(support[0]))


def test_a_one_shot_task_and_a_state_with_shared_tensors_can_be_saved(
    adapter: FewShotAdapter, support: Support, tmp_path: Path
) -> None:
    one = torch.tensor(0.0)
    shared = adapter.replace(state=adapter.state._replace(log_damping=one, log_sharpness=one))
    task = shared.fit(support[0][:3], support[1][:3])
    task.save_pretrained(tmp_path / "task")
    loaded = adapt.load(tmp_path / "task", backbone=adapter.backbone)
    assert np.array_equal(loaded.predict_proba(support[0]), task.predict_proba(support[0]))


def test_a_shipped_backbone_is_found_by_name(
    support: Support, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny(tmp_path / "small")
    monkeypatch.setattr("adapt.files.PRETRAINED", tmp_path)
    made = make_adapter(tiny_conv4()).replace(backbone_name="small")
    made.save_pretrained(tmp_path / "small_film")
    loaded = adapt.load("small_film")
    assert loaded.backbone_name == "small"
    ours, theirs = (it.fit(*support).predict_proba(support[0]) for it in (loaded, made))
    assert np.allclose(ours, theirs, atol=1e-5)  # what is loaded has another memory layout: other rounding


def test_a_backbone_of_ones_own_must_be_passed_and_be_the_same(
    adapter: FewShotAdapter, tmp_path: Path
) -> None:
    adapter.save_pretrained(tmp_path / "it")
    with pytest.raises(AdaptError, match=r"backbone of your own: pass it as adapt\.load\(folder, backbone="):
        adapt.load(tmp_path / "it")
    for other in (tiny_conv4(seed=1), tiny_conv4().double()):
        with pytest.raises(AdaptError, match=r"weights are not those .* was made for"):
            adapt.load(tmp_path / "it", backbone=other)


def test_what_cannot_be_saved_says_so_and_touches_nothing(
    adapter: FewShotAdapter, support: Support, tmp_path: Path
) -> None:
    class Mine(GaussNewton):
        pass

    adapter.save_pretrained(tmp_path / "it")
    before = {path.name: path.read_bytes() for path in (tmp_path / "it").iterdir()}
    for bad, message in (
        (
            adapter.replace(solver=Mine()),
            r"Mine cannot be saved: only auto, continuation, descent, gauss_newton",
        ),
        (adapter.replace(info={"loss": float("nan")}), r"cannot be written as JSON"),
        (adapter.replace(info={"weights": torch.ones(1)}), r"cannot be written as JSON"),
    ):
        with pytest.raises(AdaptError, match=message):
            bad.save_pretrained(tmp_path / "it")
    assert {path.name: path.read_bytes() for path in (tmp_path / "it").iterdir()} == before


BAD_CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown solver": (
        {"solver": {"name": "newton"}},
        r"names 'newton', .* known are auto, continuation, descent, gauss",
    ),
    "unknown head": ({"head": {"name": "svm"}}, r"names 'svm', .* known are direct, kernel_ridge"),
    "code for a head": ({"head": {"name": "os.system", "command": "true"}}, r"names 'os\.system'"),
    "space a string": ({"space": "film"}, r"wrong type .* damaged"),
    "space of another network": (
        {"space": {"name": "film", "parameters": ["layer9.bias"]}},
        r"space 'film' adapts layer9\.bias, which Conv4 does not have",
    ),
    "unknown estimator": (
        {"solver": {"name": "descent", "gradient": {"name": "sketch"}}},
        r"names 'sketch', .* known are exact, gaussian, orthogonal, rademacher, reverse, spsa",
    ),
    "unknown setting": ({"head": {"name": "ridge", "c": 1}}, r"'ridge' does not take these settings .*'c'"),
    "bad setting": ({"head": {"name": "ridge", "l2": -1}}, r"head.l2=-1: .*positive"),
    "setting of another type": (
        {"solver": {"name": "gauss_newton", "steps": "3"}},
        r"inner.steps='3' is no whole number",
    ),
    "solver a string": ({"solver": "gauss_newton"}, r"wrong type .* damaged"),
    "solver of no name": ({"solver": {}}, r"lacks 'name'"),
    "solver a list": ({"solver": {"name": ["descent"]}}, r"wrong type"),
    "no backbone": ({"backbone": None}, r"wrong type"),
    "shape a number": ({"input_shape": 3}, r"wrong type"),
    "later format": (
        {"format": FORMAT + 1},
        rf"has format {FORMAT + 1}; this version reads format {FORMAT}: update",
    ),
    "bad directions": ({"solver": {"name": "auto", "directions": [2, 1]}}, r"inner.directions=\(2, 1\)"),
    "directions a word": ({"solver": {"name": "auto", "directions": "ab"}}, r"'ab' is no list of numbers"),
    "directions a number": ({"solver": {"name": "auto", "directions": 3}}, r"inner.directions=3 is no list"),
    "unknown loss": (
        {"loss": {"name": "hinge"}},
        r"names 'hinge', .* known are cross_entropy, squared_error",
    ),
    "heads that do not fit": ({"loss": {"name": "squared_error"}}, r"head=Logistic classifies"),
    "no loss": ({"loss": None}, r"wrong type"),
    "not a task": ({"kind": "task"}, r"is not a complete fitted task \('classes'\)"),
}


@pytest.mark.parametrize(("changes", "message"), BAD_CONFIGS.values(), ids=BAD_CONFIGS.keys())
def test_configs_that_cannot_be_trusted_are_refused(
    adapter: FewShotAdapter, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    adapter.save_pretrained(tmp_path / "it")
    path = tmp_path / "it" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(AdaptError, match=message):
        adapt.load(tmp_path / "it", backbone=adapter.backbone)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model-*.safetensors"])
def test_missing_and_cut_files_are_named(
    adapter: FewShotAdapter, support: Support, tmp_path: Path, name: str
) -> None:
    adapter.fit(*support).save_pretrained(tmp_path / "it")
    (path,) = (tmp_path / "it").glob(name)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(AdaptError, match="damaged"):
        adapt.load(tmp_path / "it", backbone=adapter.backbone)
    path.unlink()
    with pytest.raises(AdaptError, match="does not exist"):
        adapt.load(tmp_path / "it", backbone=adapter.backbone)


def test_unknown_names_list_what_there_is() -> None:
    with pytest.raises(AdaptError, match=r"'no_such_adapter' is neither a folder nor a shipped artifact"):
        adapt.load("no_such_adapter")
