"""What downstream developers touch: inputs and their errors, labels, saving and loading, the import."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor, nn

from adapt import AdaptError, FewShotAdapter
from adapt.adapter import Forward, identity_state, initial_state
from adapt.adapter.adapting import ONE_SHOT
from adapt.adapter.inputs import as_examples, as_targets
from adapt.backbones import FrozenBatchNorm, fingerprint
from adapt.inner import CrossEntropy, Descent, GaussNewton
from adapt.spaces import bias, film

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
    task = adapter.replace(solver=GaussNewton(steps=2)).fit(*support)
    assert not any(tensor.requires_grad for tensor in (task.z, task.head_state, *task.parameters.values()))


def test_one_shot_stays_at_the_start(adapter: FewShotAdapter, support: Support) -> None:
    x, y = support
    for chosen in ([0, 1, 2], [0, 1, 2, 3, 4]):  # one example of each class; one class with a single one
        task = adapter.fit(x[chosen], [y[i] for i in chosen])
        assert torch.equal(task.z, torch.zeros(3))
        assert task.trace.choice == ONE_SHOT
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
    losses = adapter.replace(solver=GaussNewton(steps=4)).fit(*support).trace.losses
    assert losses[-1] < losses[0]


def test_fewer_directions(adapter: FewShotAdapter, support: Support) -> None:
    for k in (0, 1, 3):
        few = adapter.replace(state=adapter.state.leading(k))
        assert torch.equal(few.state.basis, adapter.state.basis[:, :k])
        assert few.fit(*support).z.shape == (k,)
        assert len(few.state.learned.precision) == len(few.state.learned.rates) == k
    with pytest.raises(AdaptError, match=r"k=1: .* moves every parameter by itself, it has no leading"):
        identity_state(adapter.space).leading(1)
    for k in (-1, 4):
        with pytest.raises(AdaptError, match=rf"k={k}: this adapter has 3 directions, choose 0 … 3"):
            adapter.state.leading(k)


def test_identity_state_moves_every_parameter(adapter: FewShotAdapter, support: Support) -> None:
    state = identity_state(adapter.space)
    assert torch.equal(state.learned.precision, torch.zeros(adapter.space.size))
    task = adapter.replace(state=state, solver=Descent(steps=2)).fit(*support)
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
    adapter = FewShotAdapter(network, space, initial_state(space.initial, basis))
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
    "number": (lambda x: 3.0, r"x holds no examples"),
    "texts": (lambda x: ["a", "b"], r"x holds texts, but this backbone takes numbers"),
    "array of texts": (lambda x: np.array(["a"]), r"x holds texts, but this backbone takes numbers"),
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
    "number and None": ([1, None] * 4 + [2], r"y\[1\] is None: every example needs a label"),
    "bytes": ([b"a", b"b", b"c"] * 3, r"y holds labels of type bytes, such as y\[0\] = b'a': decode"),
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
    """Every label is found again by its column, and classes are sorted and distinct."""
    if any(isinstance(label, str) and label.endswith("\0") for label in labels):
        with pytest.raises(AdaptError, match="ends in a NUL character"):
            as_targets(labels, len(labels), LIKE, CrossEntropy())
        return
    if len(set(labels)) < 2:
        with pytest.raises(AdaptError, match="only the class"):
            as_targets(labels, len(labels), LIKE, CrossEntropy())
        return
    classes, targets = as_targets(labels, len(labels), LIKE, CrossEntropy())
    assert targets.sum(1).tolist() == [1] * len(labels)
    assert classes[targets.argmax(1).numpy()].tolist() == labels
    assert classes.tolist() == sorted(set(labels))
    assert targets.dtype == torch.float32
    with pytest.raises(AdaptError, match="one label per example"):
        as_targets(labels, len(labels) + 1, LIKE, CrossEntropy())


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
    elif x.dtype == np.uint8 and x.ndim == 4:
        pass  # pictures, see test_adapter_pictures.py
    else:
        taken = as_examples(x, x.shape[1:], LIKE)
        assert taken.dtype == torch.float32
        assert np.array_equal(taken.numpy(), as_float)
    assert np.array_equal(x, before, equal_nan=x.dtype.kind == "f")


def test_nothing_is_fitted_to_no_examples(adapter: FewShotAdapter, support: Support) -> None:
    for x in (support[0][:0], [], np.empty((0, 1, 16, 16))):
        with pytest.raises(AdaptError, match="x holds no examples: pass an array"):
            adapter.fit(x, [])


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
