"""Saved adapters and tasks that somebody or something has changed: they are refused with the one error of
this library, or they predict what they did. Nothing else comes out, and nothing hangs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import adapt
from adapt import AdaptError, FewShotAdapter, FittedTask
from adapt.adapter import initial_state
from adapt.heads import Direct, Head, KernelRidge, Logistic, Prototype, Ridge
from adapt.inner import Descent, SquaredError
from adapt.spaces import lora
from tests.damage import damage
from tests.helpers import make_adapter, tensors_in, tiny_conv4

CONFIG = "adapter_config.json"
X = torch.rand(6, 1, 16, 16, generator=torch.Generator().manual_seed(5))
Y = ["ape", "bee", "cat"] * 2
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
#: For ``k`` in the wrong place, sizes, names of files, and what breaks those who take JSON for harmless.
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 3, 10**18, 10**30, 0.5, -0.0, 1e308, "", "ape", "O", "V9", "<f8,<i4"),
    *("../x", "/etc/passwd", "a\0b", "x" * 300, "<U999999999", ">i4", "|S3", [], {}, [[]], [1, "a"]),
    *({"name": "exact"}, {"name": "ridge", "scale": 3.0}, ["bee", "ape", "cat"], [1, 2, 3], ["a", None]),
]


@pytest.fixture(scope="module")
def backbone() -> nn.Module:
    return tiny_conv4()


@pytest.fixture(scope="module")
def task(backbone: nn.Module) -> FittedTask:
    made = make_adapter(backbone).fit(X, Y, keep=True)
    assert bool(made.z.any())
    return made


@pytest.fixture(scope="module")
def chances(task: FittedTask) -> np.ndarray:
    return task.predict_proba(X)


@pytest.fixture(scope="module")
def saved(task: FittedTask, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The task as it is saved."""
    folder = tmp_path_factory.mktemp("saved") / "task"
    task.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def earlier(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The task as version 0.2 saved it: nothing has a hash."""
    folder = tmp_path_factory.mktemp("earlier") / "task"
    shutil.copytree(saved, folder)
    tensors_in(folder).rename(folder / "adapter_model.safetensors")
    config = json.loads((folder / CONFIG).read_text())
    del config["tensors"], config["settings_sha256"]
    (folder / CONFIG).write_text(json.dumps(config | {"format": 3}))
    return folder


@contextmanager
def restored(folder: Path) -> Iterator[None]:
    """What is done to ``folder`` is undone: hypothesis has one for all its examples."""
    before = {path: path.read_bytes() for path in folder.iterdir()}
    try:
        yield
    finally:
        shutil.rmtree(folder)
        folder.mkdir()
        for path, content in before.items():
            path.write_bytes(content)


def predicted(folder: Path, backbone: nn.Module) -> np.ndarray | None:
    """What the task in ``folder`` predicts; None if it is refused. Any other exception fails the test."""
    try:
        loaded = adapt.load(folder, backbone=backbone)
        if not isinstance(loaded, FittedTask):  # it was made an adapter
            loaded = loaded.fit(X, Y)
        assert [*loaded.predict(X)] and [*loaded.classes_] == sorted(loaded.classes_)
        return loaded.predict_proba(X)
    except AdaptError as error:
        assert len(str(error)) < 1000 and "\n" not in str(error)
        return None


# ------------------------------------------------------------------------------------------ the config


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to everything inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def with_change(config: Any, path: tuple[Any, ...], change: str, value: Any) -> Any:
    changed = json.loads(json.dumps(config))
    node = changed
    for key in path[:-1]:
        node = node[key]
    if change == "remove":
        del node[path[-1]]
    elif change == "add" and isinstance(node, dict):
        node["supports_regression"] = value
    else:
        node[path[-1]] = value
    return changed


def edit(data: st.DataObject, path: Path) -> tuple[Any, ...]:
    """Change one entry of a config; says how."""
    config = json.loads(path.read_text())
    where = data.draw(st.sampled_from([*places(config)]))
    change = data.draw(st.sampled_from(["replace", "replace", "remove", "add"]))
    value = data.draw(st.sampled_from(VALUES))
    path.write_text(json.dumps(with_change(config, where, change, value)))
    return where, change, value


@given(data=st.data())
@FEW
def test_a_changed_config_is_refused_or_predicts_the_same(
    data: st.DataObject, saved: Path, backbone: nn.Module, chances: np.ndarray
) -> None:
    with restored(saved):
        change = edit(data, saved / CONFIG)
        found = predicted(saved, backbone)
    assert found is None or np.array_equal(found, chances), change


@given(data=st.data())
@FEW
def test_a_changed_config_of_an_earlier_version_raises_nothing_else(
    data: st.DataObject, earlier: Path, backbone: nn.Module
) -> None:
    with restored(earlier):
        edit(data, earlier / CONFIG)
        predicted(earlier, backbone)


# ------------------------------------------------------------------------------------------ the tensors

CHANGES: dict[str, Callable[[Tensor], Tensor | None]] = {
    "removed": lambda _: None,
    "negated": lambda t: -t,
    "doubled": lambda t: 2 * t + 1,
    "of NaN": lambda t: torch.full_like(t, torch.nan),
    "of infinity": lambda t: torch.full_like(t, torch.inf),
    "of one number": lambda t: t.new_ones(1),
    "a scalar": lambda t: t.new_ones(()),
    "longer": lambda t: torch.cat([t, t]) if t.ndim else t.new_ones(2, 2),
    "empty": lambda t: t.new_zeros(0),
    "of another dimension": lambda t: t[None],
    "whole numbers": lambda t: t.nan_to_num().clamp(-9, 9).long(),
    "truths": lambda t: t > 0,
    "complex": lambda t: t.to(torch.complex64),
}
#: Values that an earlier version vouches for by nothing.
FREE = (
    *("head_state", "losses", "log_precision", "log_damping", "log_rates", "log_sharpness"),
    *("precision", "prior", "scales", "memory.base", "memory.columns", "memory.targets"),
)


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    tensors = {name: value.clone() for name, value in load_file(tensors_in(folder)).items()}
    save_file({n: v.contiguous() for n, v in change(tensors).items()}, tensors_in(folder))


def changed_tensor(name: str, change: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    def apply(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        new = CHANGES[change](tensors[name])
        return {key: value for key, value in {**tensors, name: new}.items() if value is not None}

    return apply


def same(a: np.ndarray | None, b: np.ndarray) -> bool:
    return a is None or np.array_equal(a, b)


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_tensor_is_refused(
    change: str, saved: Path, earlier: Path, backbone: nn.Module, chances: np.ndarray
) -> None:
    for name, before in load_file(tensors_in(saved)).items():
        new = CHANGES[change](before)
        if new is not None and new.shape == before.shape and torch.equal(new, before):
            continue  # −0 is 0
        with restored(saved):
            rewrite(saved, changed_tensor(name, change))
            assert predicted(saved, backbone) is None, name
        with restored(earlier):
            rewrite(earlier, changed_tensor(name, change))
            found = predicted(earlier, backbone)
        real = new is not None and new.is_floating_point() and change != "of NaN"
        fits = new is not None and (new.shape == before.shape or (name == "losses" and new.ndim == 1))
        if not (name in FREE and real and fits):
            assert found is None, name


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("precision", lambda a: -a, "'precision' is not symmetric and positive"),
        (
            "precision",
            lambda a: a + a.max() * torch.ones_like(a).triu(1),
            "'precision' is not symmetric and positive",
        ),
        ("precision", lambda a: torch.full_like(a, 2e9).fill_diagonal_(1e9), "'precision' is not symm"),
        ("precision", lambda a: torch.full_like(a, torch.inf).fill_diagonal_(1), "'precision' is not symm"),
        ("prior", lambda it: -it, "'prior' holds a negative precision"),
        ("scales", lambda it: it * torch.tensor([1, 0, 1]), "'scales' are not positive"),
        ("scales", lambda it: it * torch.tensor([1, 1, -1]), "'scales' are not positive"),
        ("memory.base", lambda it: it[:-1], "'memory' are not of the same examples"),
        ("memory.columns", lambda it: it[:, :-1], "'memory' are not of the same examples"),
        ("memory.targets", lambda it: it[:-1], "'memory' are not of the same examples"),
        ("memory.targets", lambda it: it[:, :-1], r"'memory.targets' is .* but real numbers \[any, 3\]"),
    ],
)
def test_what_is_of_no_gaussian_or_no_example_is_refused(
    name: str, change: Callable[[Tensor], Tensor], said: str, earlier: Path, backbone: nn.Module
) -> None:
    """Where no hash vouches for it."""
    with restored(earlier), pytest.raises(AdaptError, match=said):
        rewrite(earlier, lambda tensors: tensors | {name: change(tensors[name])})
        adapt.load(earlier, backbone=backbone)


def test_tensors_of_other_names_are_refused(saved: Path, earlier: Path, backbone: nn.Module) -> None:
    for folder in (saved, earlier):
        for extra in ("more", "parameters.nothing", "parameters.", "head_state.1"):
            with restored(folder), pytest.raises(AdaptError, match=r"holds a tensor|sha256|lacks"):
                rewrite(folder, lambda tensors, extra=extra: tensors | {extra: torch.ones(2)})  # type: ignore[misc]
                adapt.load(folder, backbone=backbone)


def test_tensors_of_another_task_are_refused(
    task: FittedTask, saved: Path, backbone: nn.Module, tmp_path: Path
) -> None:
    """Two files that do not belong together, each whole by itself."""
    task.adapter.fit(X.flip(0), Y).save_pretrained(tmp_path / "other")
    with restored(saved):
        shutil.copy(tensors_in(tmp_path / "other"), tensors_in(saved))
        with pytest.raises(AdaptError, match="is damaged: its sha256 is"):
            adapt.load(saved, backbone=backbone)


@given(data=st.data())
@FEW
def test_damaged_bytes_are_refused_or_predict_the_same(
    data: st.DataObject, saved: Path, backbone: nn.Module, chances: np.ndarray
) -> None:
    with restored(saved):
        path = data.draw(st.sampled_from([saved / CONFIG, tensors_in(saved)]))
        damage(data, path)
        assert same(predicted(saved, backbone), chances)


# ------------------------------------------------------------------------------------------ heads and spaces

HEADS: list[Head] = [Ridge(), KernelRidge(), Prototype(), Logistic()]


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_a_state_of_other_sizes_is_refused_of_every_head(
    head: Head, backbone: nn.Module, tmp_path: Path
) -> None:
    """Without a hash the width of features is known once the backbone has run."""
    made = make_adapter(backbone).replace(head=head).fit(X, Y)
    made.save_pretrained(tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text())
    file = tensors_in(tmp_path).rename(tmp_path / "adapter_model.safetensors")
    del config["tensors"], config["settings_sha256"]
    (tmp_path / CONFIG).write_text(json.dumps(config | {"format": 3}))
    assert np.array_equal(adapt.load(tmp_path, backbone=backbone).predict_proba(X), made.predict_proba(X))
    tensors = {name: value.clone() for name, value in load_file(file).items()}
    state = tensors["head_state"]
    for bad in (state[:1], state[:, :1], state[:, 1:], torch.cat([state, state], 1), state[0], state[None]):
        if isinstance(head, KernelRidge) and bad is state[:1]:
            continue
        save_file(tensors | {"head_state": bad.contiguous()}, file)
        found = predicted(tmp_path, backbone)
        assert found is None or (isinstance(head, KernelRidge) and bad.shape[1:] == state.shape[1:])


def test_a_merging_space_may_keep_its_own_tensors_or_those_it_makes(
    backbone: nn.Module, tmp_path: Path
) -> None:
    space = lora(backbone, rank=1)
    basis = torch.randn(space.size, 2, generator=torch.Generator().manual_seed(1)) * 0.1
    adapter = FewShotAdapter(backbone, space, initial_state(space.initial, basis))
    made = adapter.fit(X, Y)
    made.save_pretrained(tmp_path / "own")
    for value in made.parameters.values():
        value.mul_(1 + 1e-6)
    made.save_pretrained(tmp_path / "merged")
    for name in ("own", "merged"):
        folder = tmp_path / name
        adapted = [key for key in load_file(tensors_in(folder)) if key.startswith("parameters.")]
        assert (len(adapted) == len(space.shapes)) == (name == "own")
        rewrite(folder, lambda t, n=adapted[0]: {k: v for k, v in t.items() if k != n})  # type: ignore[misc]
        assert predicted(folder, backbone) is None


def test_a_regression_keeps_no_classes(backbone: nn.Module, tmp_path: Path) -> None:
    loss, direct = SquaredError(), Direct()
    adapter = make_adapter(backbone).replace(loss=loss, head=direct, support_head=direct)
    made = adapter.fit(X, torch.rand(6, 4))
    made.save_pretrained(tmp_path)
    assert np.array_equal(adapt.load(tmp_path, backbone=backbone).predict(X), made.predict(X))
    config = json.loads((tmp_path / CONFIG).read_text())
    for changes in ({"classes": ["a", "b"], "classes_dtype": "<U1"}, {"outputs": 0}, {"outputs": 2.0}):
        (tmp_path / CONFIG).write_text(json.dumps(config | changes))
        with pytest.raises(AdaptError, match=r"names 2 classes|outputs=0|wrong type"):
            adapt.load(tmp_path, backbone=backbone)


# ------------------------------------------------------------------------------------------ saving


def test_what_could_not_be_loaded_is_not_saved(backbone: nn.Module, tmp_path: Path) -> None:
    adapter = make_adapter(backbone)
    adapter.save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    diverged = adapter.state._replace(origin=adapter.state.origin * torch.nan)
    with pytest.raises(AdaptError, match=r"'origin' holds NaN or infinity: .* training diverged"):
        adapter.replace(state=diverged).save_pretrained(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_edited_config_loads_once_its_hash_is_removed(
    saved: Path, backbone: nn.Module, task: FittedTask
) -> None:
    config = json.loads((saved / CONFIG).read_text())
    with restored(saved):
        edited = config | {"classes": ["ant", "bee", "cat"]}
        (saved / CONFIG).write_text(json.dumps(edited))
        with pytest.raises(AdaptError, match=r"not as it was saved.* remove the entry 'settings_sha256'"):
            adapt.load(saved, backbone=backbone)
        del edited["settings_sha256"]
        (saved / CONFIG).write_text(json.dumps(edited))
        assert adapt.load(saved, backbone=backbone).classes_.tolist() == ["ant", "bee", "cat"]
        for free in ({"info": {"title": "mine"}}, {"library_version": "0"}, {"choice": "x"}):
            (saved / CONFIG).write_text(json.dumps(config | free))
            assert adapt.load(saved, backbone=backbone).predict(X).tolist() == task.predict(X).tolist()


def test_estimators_keep_their_place(backbone: nn.Module, tmp_path: Path) -> None:
    """A component inside a component is one of a kind, too."""
    make_adapter(backbone).replace(solver=Descent()).save_pretrained(tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text())
    del config["settings_sha256"]
    for gradient in (3, "exact", None, [], {"name": "ridge"}):
        (tmp_path / CONFIG).write_text(
            json.dumps(config | {"solver": {**config["solver"], "gradient": gradient}})
        )
        assert predicted(tmp_path, backbone) is None, gradient
