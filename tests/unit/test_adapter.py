"""What downstream developers touch: inputs and their errors, labels, saving and loading, the import."""

from __future__ import annotations

import doctest
import importlib
import json
import pkgutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor, nn

import adapt
from adapt import AdaptError, FewShotAdapter, FittedTask
from adapt.adapter import AdapterState, Forward, identity_state
from adapt.adapter.inputs import as_examples, as_labels
from adapt.adapter.storage import FORMAT
from adapt.backbones import FrozenBatchNorm, fingerprint, save_backbone
from adapt.forward.estimators import Exact, Gaussian
from adapt.heads import Head, Logistic, Prototype, Ridge
from adapt.inner import Descent, GaussNewton, Solver
from adapt.spaces import bias, film
from tests.helpers import SIDE, make_adapter, tiny_conv4

Support = tuple[Tensor, list[str]]
LIKE = torch.zeros(())

# --------------------------------------------------------------------------------------------- fitting


def test_fit_and_predict(adapter: FewShotAdapter, support: Support) -> None:
    x, y = support
    task = adapter.fit(x, y)
    assert task.classes_.tolist() == ["ape", "moth", "zebra"]
    proba = task.predict_proba(x)
    assert proba.shape == (9, 3) and proba.dtype == np.float32
    assert np.allclose(proba.sum(1), 1, atol=1e-5)
    assert task.predict(x).tolist() == [task.classes_[i] for i in proba.argmax(1)]
    assert task.score(x, y) == np.mean(task.predict(x) == np.array(y)) > 0.5
    assert task.z.shape == (3,) and bool(task.z.any())
    assert len(task.trace.losses) == 1
    assert task.trace.forward_equivalents == 4  # a value and three tangents


def test_neither_fitting_nor_predicting_changes_the_adapter(
    adapter: FewShotAdapter, support: Support
) -> None:
    before, state = fingerprint(adapter.backbone), [tensor.clone() for tensor in adapter.state]
    copy = support[0].clone()
    first = adapter.fit(*support)
    second = adapter.fit(*support)
    assert np.array_equal(first.predict_proba(copy), second.predict_proba(copy))
    assert fingerprint(adapter.backbone) == before
    assert all(torch.equal(a, b) for a, b in zip(adapter.state, state, strict=True))
    assert torch.equal(support[0], copy)


def test_adapting_needs_no_backward_pass(
    adapter: FewShotAdapter, support: Support, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a backward pass")

    for module, name in ((torch.autograd, "grad"), (torch.autograd, "backward"), (torch.Tensor, "backward")):
        monkeypatch.setattr(module, name, refuse)
    monkeypatch.setattr(torch.autograd.graph, "_engine_run_backward", refuse)
    task = adapter.with_(solver=GaussNewton(steps=2)).fit(*support)
    assert not any(tensor.requires_grad for tensor in (task.z, task.head_state, *task.parameters.values()))


def test_one_shot_stays_at_the_start(adapter: FewShotAdapter, support: Support) -> None:
    x, y = support
    for chosen in ([0, 1, 2], [0, 1, 2, 3, 4]):  # one example of each class; one class with a single one
        task = adapter.fit(x[chosen], [y[i] for i in chosen])
        assert torch.equal(task.z, torch.zeros(3))
        assert task.trace.losses.shape == (0,) and task.trace.forward_equivalents == 0
        starting = adapter.space.parameters(adapter.state.origin)
        assert all(torch.equal(task.parameters[name], starting[name]) for name in starting)
        assert task.predict_proba(x).shape == (9, 3)


@pytest.mark.parametrize(
    "labels",
    [["b", "a", "c"], [30, 10, 20], [-1.5, 2.5, 0.0], [True, False, True], ["", " ", "é∇"]],
    ids=["strings", "integers", "floats", "booleans", "odd strings"],
)
@pytest.mark.parametrize(
    "kind", [list, tuple, np.array, torch.tensor], ids=["list", "tuple", "array", "tensor"]
)
def test_labels_come_back_as_they_are(
    adapter: FewShotAdapter, support: Support, labels: list[Any], kind: Callable[[list[Any]], Any]
) -> None:
    if kind is torch.tensor and isinstance(labels[0], str):
        return  # there are no tensors of strings
    y = kind(labels * 3)
    task = adapter.fit(support[0], y)
    assert task.classes_.tolist() == sorted(set(labels))
    assert set(task.predict(support[0]).tolist()) <= set(labels)
    assert 0 <= task.score(support[0], y) <= 1


def test_object_arrays_of_strings_are_strings(adapter: FewShotAdapter, support: Support) -> None:
    """What a pandas column is."""
    x, y = support
    task = adapter.fit(x, np.array(y, dtype=object))
    assert task.classes_.dtype.kind == "U"
    assert task.score(x, np.array(y, dtype=object)) == task.score(x, y)


def test_numpy_and_torch_inputs_agree(adapter: FewShotAdapter, support: Support) -> None:
    x, y = support
    expected = adapter.fit(x, y).predict_proba(x)
    read_only = x.numpy().copy()
    read_only.flags.writeable = False
    flipped = np.ascontiguousarray(x.numpy()[..., ::-1])[..., ::-1]  # the same values, stored backwards
    variants: list[Any] = [x.numpy(), x.double(), read_only, flipped, x.numpy().astype(">f4"), x.tolist()]
    for variant in variants:
        assert np.array_equal(adapter.fit(variant, y).predict_proba(variant), expected)


def test_more_steps_lower_the_support_loss(adapter: FewShotAdapter, support: Support) -> None:
    losses = adapter.with_(solver=GaussNewton(steps=4)).fit(*support).trace.losses
    assert losses[-1] < losses[0]


def test_fewer_directions(adapter: FewShotAdapter, support: Support) -> None:
    for k in (0, 1, 3):
        few = adapter.with_(state=adapter.state.leading(k))
        assert torch.equal(few.state.basis, adapter.state.basis[:, :k])
        assert few.fit(*support).z.shape == (k,)
    for k in (-1, 4):
        with pytest.raises(AdaptError, match=rf"k={k}: this adapter has 3 directions, choose 0 … 3"):
            adapter.state.leading(k)


def test_identity_state_moves_every_parameter(adapter: FewShotAdapter, support: Support) -> None:
    state = identity_state(adapter.space)
    assert torch.equal(state.prior.precision, torch.zeros(adapter.space.size))
    task = adapter.with_(state=state, solver=Descent(steps=2)).fit(*support)
    moved = torch.cat([value.flatten() for value in task.parameters.values()])
    assert torch.allclose(moved, adapter.space.initial + task.z)


def test_moving_to_a_device_keeps_the_original(adapter: FewShotAdapter, support: Support) -> None:
    moved = adapter.to("cpu")
    assert moved is not adapter
    assert np.array_equal(
        moved.fit(*support).predict_proba(support[0]), adapter.fit(*support).predict_proba(support[0])
    )


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(4), nn.Dropout(0.5)], ids=["batch norm", "dropout"])
def test_a_network_in_training_mode_is_refused(layer: nn.Module) -> None:
    """It would be changed by every batch, or differ from call to call."""
    network = nn.Sequential(nn.Conv2d(1, 4, 3), layer, nn.Flatten())
    space = bias(network)
    with pytest.raises(AdaptError, match=r"backbone\.1 .* is in training mode.*call backbone\.eval\(\)"):
        FewShotAdapter(network.train(), space, identity_state(space))
    FewShotAdapter(network.eval(), space, identity_state(space))


def test_batch_norm_in_evaluation_mode_is_left_alone(support: Support) -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    ).eval()
    space, before = bias(network), fingerprint(network)
    basis = torch.eye(space.size)[:, :3]
    adapter = FewShotAdapter(
        network, space, AdapterState(space.initial, basis, torch.zeros(()), torch.zeros(()))
    )
    adapter.fit(*support).predict(support[0])
    assert fingerprint(network) == before


# ------------------------------------------------------------------------------------- faults in inputs


def broken(x: Tensor, value: float) -> Tensor:
    x = x.clone()
    x[3, 0, 2, 2] = value
    return x


FAULTY_X: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "NaN": (lambda x: broken(x, float("nan")), r"x\[3\] holds NaN or infinity: clean the data"),
    "infinity": (lambda x: broken(x, float("inf")), r"x\[3\] holds NaN or infinity"),
    "overflow": (lambda x: broken(x.double(), 1e300), r"x\[3\] holds NaN or infinity"),
    "no channel axis": (
        lambda x: x[:, 0],
        r"shape \(16, 16\) but this backbone takes \(1, 16, 16\): .*missing axis",
    ),
    "wrong size": (lambda x: x[..., :8], r"shape \(1, 16, 8\) but this backbone takes \(1, 16, 16\): resize"),
    "single example": (lambda x: x[0], r"shape \(16, 16\) but this backbone takes"),
    "none": (lambda x: x[:0], r"x holds no examples"),
    "number": (lambda x: 3.0, r"x holds no examples"),
    "text": (lambda x: np.array(["a"]), r"x must be an array or tensor of numbers, got ndarray"),
    "objects": (lambda x: np.array([None]), r"x must be an array or tensor of numbers"),
    "None": (lambda x: None, r"x must be an array or tensor of numbers, got NoneType"),
    "ragged": (lambda x: [[1.0], [1.0, 2.0]], r"x must be an array or tensor of numbers, got list"),
    "complex": (lambda x: x.to(torch.complex64), r"x holds complex numbers"),
}


@pytest.mark.parametrize(("make", "message"), FAULTY_X.values(), ids=FAULTY_X.keys())
def test_faulty_examples_are_named(
    adapter: FewShotAdapter, support: Support, make: Callable[[Tensor], Any], message: str
) -> None:
    task = adapter.fit(*support)
    x = make(support[0])
    for use in (lambda: adapter.fit(x, support[1]), lambda: task.predict(x), lambda: task.predict_proba(x)):
        with pytest.raises(AdaptError, match=message):
            use()


FAULTY_Y: dict[str, tuple[Any, str]] = {
    "too few": (["a", "b"], r"y has shape \(2,\) but x has 9 examples: pass one label per example"),
    "one-hot": (np.eye(9), r"y has shape \(9, 9\) but x has 9 examples"),
    "one class": (["only"] * 9, r"y holds only the class .*only.*: a task needs at least two"),
    "NaN": ([0.0] * 8 + [float("nan")], r"y holds NaN or infinity"),
    "string and number": (["a"] * 8 + [1], r"y mixes strings with 1 \(int\): use strings, or numbers"),
    "string and NaN": ([float("nan")] + ["a", "b"] * 4, r"y mixes strings with nan \(float\)"),
    "string and None": (["a", None] * 4 + ["b"], r"y mixes strings with None"),
    "number and None": ([1, None] * 4 + [2], r"y holds labels of type object"),
    "bytes": ([b"a", b"b", b"c"] * 3, r"y holds labels of type .*S1"),
    "complex": ([1j, 2j, 3j] * 3, r"y holds labels of type complex"),
    "ragged": ([[1], [1, 2]] * 4 + [[1]], r"y is a ragged nest of lists"),
    "set": ({"a", "b"}, r"y has shape \(\)"),
    "one string": ("abcabcabc", r"y has shape \(\)"),
    "None": (None, r"y has shape \(\)"),
}


@pytest.mark.parametrize(("y", "message"), FAULTY_Y.values(), ids=FAULTY_Y.keys())
def test_faulty_labels_are_named(adapter: FewShotAdapter, support: Support, y: Any, message: str) -> None:
    with pytest.raises(AdaptError, match=message):
        adapter.fit(support[0], y)


def test_score_wants_a_label_per_example(adapter: FewShotAdapter, support: Support) -> None:
    task = adapter.fit(*support)
    with pytest.raises(AdaptError, match=r"y has shape \(1,\) but x has 9 examples"):
        task.score(support[0], ["ape"])


LABELS = st.one_of(
    st.lists(st.text(max_size=3), min_size=2, max_size=12),
    st.lists(st.integers(-(2**40), 2**40), min_size=2, max_size=12),
    st.lists(st.booleans(), min_size=2, max_size=12),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=12),
)


@settings(max_examples=100, deadline=None)
@given(labels=LABELS)
def test_labels_survive_indexing(labels: list[Any]) -> None:
    """``classes[index]`` gives back every label, and classes are sorted and distinct."""
    # numpy strings cannot end in NUL
    labels = [label.rstrip("\0") if isinstance(label, str) else label for label in labels]
    if len(set(labels)) < 2:
        with pytest.raises(AdaptError, match="only the class"):
            as_labels(labels, len(labels))
        return
    classes, index = as_labels(labels, len(labels))
    assert classes[index.numpy()].tolist() == labels
    assert classes.tolist() == sorted(set(labels))
    assert index.dtype == torch.int64
    with pytest.raises(AdaptError, match="one label per example"):
        as_labels(labels, len(labels) + 1)


@settings(max_examples=100, deadline=None)
@given(
    x=hnp.arrays(
        dtype=st.sampled_from([np.dtype(kind) for kind in ("f4", "f8", "u1", "i8", "?", ">f8")]),
        shape=hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4),
    )
)
def test_examples_are_taken_or_refused_never_altered(x: np.ndarray) -> None:
    before = x.copy()
    with np.errstate(over="ignore"):
        as_float = x.astype(np.float32)
    if len(x) == 0 or not np.isfinite(as_float).all():
        with pytest.raises(AdaptError, match=r"no examples|NaN or infinity"):
            as_examples(x, None, LIKE)
    else:
        taken = as_examples(x, x.shape[1:], LIKE)
        assert taken.dtype == torch.float32
        assert np.array_equal(taken.numpy(), as_float)
    assert np.array_equal(x, before, equal_nan=x.dtype.kind == "f")


# ------------------------------------------------------------------------------------------ on disk


COMPONENTS: list[tuple[Solver, Head]] = [
    (GaussNewton(steps=2, damping=0.5), Logistic(l2=0.02, steps=6)),
    (Descent("sgd", lr=0.05, steps=3), Ridge(l2=0.2, scale=5.0)),
    (Descent("adam", lr=0.05, steps=2, gradient=Exact()), Prototype(temperature=0.2)),
    (Descent(gradient=Gaussian(tangents=3)), Logistic()),
]


@pytest.mark.parametrize(("solver", "head"), COMPONENTS, ids=lambda component: type(component).__name__)
def test_adapter_round_trip(adapter: FewShotAdapter, tmp_path: Path, solver: Solver, head: Head) -> None:
    made = adapter.with_(solver=solver, head=head, info={"title": "A | test", "training": {"seconds": 1.5}})
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


def test_folder_holds_data_and_a_card_never_pickle(
    adapter: FewShotAdapter, support: Support, tmp_path: Path
) -> None:
    adapter.save_pretrained(tmp_path / "adapter")
    adapter.fit(*support).save_pretrained(tmp_path / "task")
    for name in ("adapter", "task"):
        files = sorted(path.name for path in (tmp_path / name).iterdir())
        assert files == ["README.md", "adapter_config.json", "adapter_model.safetensors"]
        config = json.loads((tmp_path / name / "adapter_config.json").read_text())
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
    shared = adapter.with_(state=adapter.state._replace(log_damping=one, log_sharpness=one))
    task = shared.fit(support[0][:3], support[1][:3])
    task.save_pretrained(tmp_path / "task")
    loaded = adapt.load(tmp_path / "task", backbone=adapter.backbone)
    assert np.array_equal(loaded.predict_proba(support[0]), task.predict_proba(support[0]))


def test_a_shipped_backbone_is_found_by_name(
    support: Support, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_backbone(
        tmp_path / "small",
        tiny_conv4(),
        architecture="conv4",
        arguments={"width": 4},
        input_shape=(1, SIDE, SIDE),
        training={},
    )
    monkeypatch.setattr("adapt.files.PRETRAINED", tmp_path)
    made = make_adapter(tiny_conv4()).with_(backbone_name="small")
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
        (adapter.with_(solver=Mine()), r"Mine cannot be saved: only gauss_newton, descent"),
        (adapter.with_(info={"loss": float("nan")}), r"cannot be written as JSON"),
        (adapter.with_(info={"weights": torch.ones(1)}), r"cannot be written as JSON"),
    ):
        with pytest.raises(AdaptError, match=message):
            bad.save_pretrained(tmp_path / "it")
    assert {path.name: path.read_bytes() for path in (tmp_path / "it").iterdir()} == before


def test_saving_over_an_old_folder_never_mixes_the_two(
    adapter: FewShotAdapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted between two files, the folder is incomplete, not wrong."""
    adapter.save_pretrained(tmp_path / "it")

    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("adapt.adapter.storage.write_text", crash)
    with pytest.raises(KeyboardInterrupt):
        adapter.with_(state=adapter.state.leading(1)).save_pretrained(tmp_path / "it")
    with pytest.raises(AdaptError, match="not a complete artifact folder"):
        adapt.load(tmp_path / "it", backbone=adapter.backbone)


BAD_CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown solver": ({"solver": {"name": "newton"}}, r"names 'newton', .* known are gauss_newton, descent"),
    "unknown head": ({"head": {"name": "svm"}}, r"names 'svm', .* known are logistic, prototype, ridge"),
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
        r"does not take these settings",
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


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_missing_and_cut_files_are_named(
    adapter: FewShotAdapter, support: Support, tmp_path: Path, name: str
) -> None:
    adapter.fit(*support).save_pretrained(tmp_path / "it")
    path = tmp_path / "it" / name
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(AdaptError, match="damaged"):
        adapt.load(tmp_path / "it", backbone=adapter.backbone)
    path.unlink()
    with pytest.raises(AdaptError, match="does not exist"):
        adapt.load(tmp_path / "it", backbone=adapter.backbone)


def test_unknown_names_list_what_there_is() -> None:
    with pytest.raises(AdaptError, match=r"'no_such_adapter' is neither a folder nor a shipped artifact"):
        adapt.load("no_such_adapter")


# ------------------------------------------------------------------------------------------- the rest


def test_forward_method_uses_the_leading_directions(adapter: FewShotAdapter) -> None:
    from adapt.adapter import Context

    context = Context(adapter.backbone, adapter, lambda _: (torch.zeros(0), torch.zeros(0)), 0)
    with pytest.raises(AdaptError, match="k=4: this adapter has 3 directions"):
        Forward(k=4).prepare(context)


def test_film_of_the_tiny_network_is_what_tests_assume(backbone: nn.Module) -> None:
    norms = [module for module in backbone.modules() if isinstance(module, FrozenBatchNorm)]
    assert film(backbone).size == sum(2 * norm.weight.numel() for norm in norms)


HEAVY = (
    "hydra",
    "omegaconf",
    "mlflow",
    "matplotlib",
    "sklearn",
    "PIL",
    "rich",
    "tasks",
    "scipy",
    "pandas",
    "psutil",
)


def test_import_is_light() -> None:
    """`import adapt` loads none of what experiments need, unless torch itself does."""
    code = "import sys; {}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"

    def loaded(statement: str) -> set[str]:
        command = [sys.executable, "-c", code.format(statement)]
        return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())

    without, with_ = loaded("import torch, numpy, safetensors.torch"), loaded("import adapt")
    assert not (with_ - without) & set(HEAVY)
    assert not {
        name for name in with_ - without if name in sys.stdlib_module_names and name in ("pickle", "shelve")
    }


LIBRARY = ("adapter", "backbones", "baselines", "forward", "heads", "inner", "spaces")
MODULES = [
    found.name
    for part in LIBRARY
    for found in pkgutil.walk_packages(importlib.import_module(f"adapt.{part}").__path__, f"adapt.{part}.")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_threads_may_share_a_backbone(adapter: FewShotAdapter) -> None:
    """functional_call swaps tensors inside the shared module; concurrent calls must not see each other's."""
    from concurrent.futures import ThreadPoolExecutor

    generator = torch.Generator().manual_seed(0)
    shape = adapter.input_shape or (1, 16, 16)
    supports = [torch.rand(8, *shape, generator=generator) for _ in range(2)]
    fitted = [adapter.fit(x, [0, 1] * 4) for x in supports]
    expected = [task.logits(x) for task, x in zip(fitted, supports, strict=True)]
    before = fingerprint(adapter.backbone)

    def wrong(i: int) -> int:
        return sum(not torch.equal(fitted[i].logits(supports[i]), expected[i]) for _ in range(100))

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(wrong, (0, 1))) == [0, 0]
    assert fingerprint(adapter.backbone) == before
